"""`predictive`: acts on where memory is going, before it gets there.

Choose it when memory grows from step to step (longer sequences, caches, fragments) at a pace that a few
steps show. It fits a straight line by least squares to the peaks of the last steps at the present batch size and
looks `horizon_steps` ahead: when that is over `high` of the limit, the batch is cut to what would then
use `target`. Before it has seen `fewest_steps`, and for jumps, it reacts to present use as `dynamic`
does. On memory that does not grow the two behave alike.

The fit is ordinary least squares; Prometheus's `predict_linear` raises alerts the same way.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import linear_regression

from motley.governor.base import Adjustment, Load
from motley.governor.memory import Peaks, Pressure, lowered, raised
from motley.governor.rules import in_words
from motley.governor.situation import Choice, Situation, adjusted
from motley.resource_limits import ResourceLimits
from motley.samples import Sample


@dataclass(frozen=True)
class Predictive:
    """The three marks are shares of the limit; steps are those of the load."""

    horizon_steps: int = 6
    fewest_steps: int = 4
    high: float = 0.85
    target: float = 0.75
    low: float = 0.65

    def start(self, limits: ResourceLimits, load: Load) -> Situation:
        return Situation(limits)

    def adjust(self, state: Situation, sample: Sample, load: Load) -> tuple[Situation, Adjustment]:
        return adjusted(state, sample, load, self._batch)

    def _batch(self, peaks: Peaks, pressure: Pressure, load: Load) -> Choice:
        target_bytes = self.target * pressure.limit_bytes
        expected_bytes = max(pressure.used_bytes, forecast_bytes(peaks, load, self.horizon_steps, self.fewest_steps))
        share = expected_bytes / pressure.limit_bytes
        if share > self.high:
            why = in_words("lowered", pressure, pressure.share) + f", {100 * share:.0f} % ahead"
            return lowered(peaks, load, expected_bytes, target_bytes), why
        peak_bytes = max(expected_bytes, peaks.peak_bytes)
        if peak_bytes < self.low * pressure.limit_bytes and peaks.settled(load) and pressure.share <= 1:
            why = in_words("raised", pressure, peak_bytes / pressure.limit_bytes)
            return raised(peaks, load, peak_bytes, target_bytes), why
        return load.batch_size, ""


def forecast_bytes(peaks: Peaks, load: Load, horizon_steps: int, fewest_steps: int) -> float:
    """The peak to expect `horizon_steps` from now; 0 where too few steps were seen or nothing grows."""
    seen = peaks.at_this_batch
    if len(seen) < max(2, fewest_steps):
        return 0.0
    slope, start = linear_regression([each.step for each in seen], [each.peak_bytes for each in seen])
    return max(0.0, start + slope * (load.steps + horizon_steps)) if slope > 0 else 0.0
