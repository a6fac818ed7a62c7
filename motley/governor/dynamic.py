"""`dynamic`: reacts to present use.

Choose it when memory changes for reasons that history does not tell, or when a state that is easy to
follow matters most. It acts on what is measured now: over `high` of the limit the batch is cut at once to what
would use `target`; below `low`, and only after whole steps at this size, it grows by a quarter. Memory
that jumps from below `high` past the limit within one step is not caught; `predictive` sees it come
when it grows, and `adaptive` remembers where it happened. The band between `low` and `high` keeps it
from swinging; it is proportional control with a dead zone (Åström and Murray, Feedback Systems, 2008,
section 1.4).
"""

from __future__ import annotations

from dataclasses import dataclass

from motley.governor.base import Adjustment, Load
from motley.governor.memory import Peaks, Pressure, lowered, raised
from motley.governor.rules import in_words
from motley.governor.situation import Choice, Situation, adjusted
from motley.resource_limits import ResourceLimits
from motley.samples import Sample


@dataclass(frozen=True)
class Dynamic:
    """The three marks are shares of the limit."""

    high: float = 0.85
    target: float = 0.75
    low: float = 0.65

    def start(self, limits: ResourceLimits, load: Load) -> Situation:
        return Situation(limits)

    def adjust(self, state: Situation, sample: Sample, load: Load) -> tuple[Situation, Adjustment]:
        return adjusted(state, sample, load, self._batch)

    def _batch(self, peaks: Peaks, pressure: Pressure, load: Load) -> Choice:
        target_bytes = self.target * pressure.limit_bytes
        if pressure.share > self.high:
            return lowered(peaks, load, pressure.used_bytes, target_bytes), in_words(
                "lowered", pressure, pressure.share
            )
        share = peaks.peak_bytes / pressure.limit_bytes
        if share < self.low and peaks.settled(load):
            return raised(peaks, load, peaks.peak_bytes, target_bytes), in_words("raised", pressure, share)
        return load.batch_size, ""
