"""What every strategy keeps between samples, and how what it chooses for each kind of memory comes together. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from motley.governor.base import Adjustment, Load
from motley.governor.memory import Peaks, Pressure, observed, pressures
from motley.governor.rules import Effort, adjustment, next_effort
from motley.resource_limits import LimitKind, ResourceLimits
from motley.samples import Sample

Choice = tuple[int, str]
"""A batch size and why."""


@dataclass(frozen=True)
class Situation:
    """The limits, what memory was seen to do, and how hard the load may work."""

    limits: ResourceLimits
    peaks: Mapping[LimitKind, Peaks] = field(default_factory=dict)
    effort: Effort = field(default_factory=Effort)

    def seen(self, sample: Sample, load: Load, cut: float | None = None) -> tuple[Situation, list[Pressure]]:
        """The situation after one more sample, and each kind of memory that is known in it.

        cut: see `next_effort`.
        """
        known = pressures(sample, self.limits)
        news = {each.kind: observed(self.peaks.get(each.kind), each, load) for each in known}
        effort = next_effort(self.effort, sample, self.limits, load, cut)
        return replace(self, peaks={**self.peaks, **news}, effort=effort), known


def adjusted(
    before: Situation, sample: Sample, load: Load, batch_for: Callable[[Peaks, Pressure, Load], Choice]
) -> tuple[Situation, Adjustment]:
    """The situation after one more sample, and what follows where `batch_for` says what each kind of memory allows."""
    now, known = before.seen(sample, load)
    batch, why = smallest((batch_for(now.peaks[each.kind], each, load) for each in known), load)
    return now, adjustment(batch, why, now.effort, sample, now.limits, load)


def smallest(choices: Iterable[Choice], load: Load) -> Choice:
    """What all kinds of memory have room for; the present batch where nothing is known."""
    return min(choices, key=lambda choice: choice[0], default=(load.batch_size, ""))
