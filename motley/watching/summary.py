"""What is kept of a watch: mean and extremes of each figure, events, and what was missing. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from motley.resource_limits import LimitEvent, LimitKind, ResourceLimits
from motley.watching.figures import Figure, Unit, written
from motley.watching.view import kind_name

if TYPE_CHECKING:
    from rich.table import Table


@dataclass
class Tally:
    """Count, mean and extremes of one figure, without keeping its values."""

    label: str
    unit: Unit
    count: int = 0
    mean: float = 0.0
    least: float = math.inf
    peak: float = -math.inf

    def add(self, value: float) -> None:
        self.count += 1
        self.mean += (value - self.mean) / self.count
        self.least, self.peak = min(self.least, value), max(self.peak, value)


@dataclass
class Summary:
    """Grows with each sample; its size does not depend on how many there were."""

    samples: int = 0
    tallies: dict[str, Tally] = field(default_factory=dict)

    def add(self, figures: Iterable[Figure]) -> None:
        self.samples += 1
        for figure in figures:
            tally = self.tallies.setdefault(figure.key, Tally(figure.label, figure.unit))
            tally.add(figure.value)

    def as_json(
        self,
        duration_s: float,
        limits: ResourceLimits,
        events: Sequence[LimitEvent],
        missing: Mapping[str, str],
        governor: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """For `--json`: plain numbers, units in the names."""
        return {
            "samples": self.samples,
            "duration_s": round(duration_s, 3),
            "limits": {name: value for name, value in asdict(limits).items() if value is not None},
            "figures": {
                key: {"mean": tally.mean, "least": tally.least, "peak": tally.peak, "samples": tally.count}
                for key, tally in self.tallies.items()
            },
            "events": [{**asdict(event), "kind": event.kind.value} for event in events],
            "missing": dict(missing),
            "governor": None if governor is None else dict(governor),
        }


def summary_table(summary: Summary) -> Table:
    """Mean and peak of each figure, for the end of a watch."""
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("", no_wrap=True)
    for name in ("mean", "least", "peak"):
        table.add_column(name, justify="right", no_wrap=True, header_style="dim")
    for tally in summary.tallies.values():
        values = (tally.mean, tally.least, tally.peak)
        table.add_row(tally.label, *(written(value, tally.unit) for value in values))
    return table


def crossings_text(events: Sequence[LimitEvent]) -> str:
    """`crossed: memory 3 times, temperature once`; empty when nothing was."""
    counts = {kind: sum(event.crossed for event in events if event.kind is kind) for kind in LimitKind}
    parts = [f"{kind_name(kind)} {_times(count)}" for kind, count in counts.items() if count]
    return f"crossed: {', '.join(parts)}" if parts else ""


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
