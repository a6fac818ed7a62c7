"""`adaptive`: learns what the workload takes, and probes for the most that fits.

Choose it for work that runs long enough to be learned: in the end it leaves the least memory unused, and
it does not soon repeat a size that was too large. Over `high` of the limit the batch is halved, else it
grows by a fixed amount: additive increase and multiplicative decrease, which converges and is fair to
others that do the same (Chiu and Jain, Analysis of the Increase and Decrease Algorithms for Congestion
Avoidance, 1989). Duty cycle under CPU and power limits follows the same law. Two things keep it from the
usual saw-tooth: memory per example, learned by recursive least squares, says beforehand whether a
larger batch fits under `target`; and a size that was too large is not tried again for `remember_steps`,
unless the limit has risen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from motley.governor.base import Adjustment, Load
from motley.governor.learning import Line
from motley.governor.memory import Pressure
from motley.governor.rules import adjustment, in_words
from motley.governor.situation import Choice, Situation, smallest
from motley.resource_limits import LimitKind, ResourceLimits
from motley.samples import Sample


@dataclass(frozen=True)
class AdaptiveState:
    """What it keeps between samples."""

    now: Situation
    lines: Mapping[LimitKind, Line] = field(default_factory=dict)
    """Peak bytes of a step against the batch as a share of the largest."""
    too_large: int | None = None
    """The smallest batch size that was over of late."""
    too_large_step: int = 0
    too_large_limit_bytes: int = 0
    """The limit that it was too large for."""


@dataclass(frozen=True)
class Adaptive:
    """high, target: shares of the limit. grow: share of the largest batch that is added at a time."""

    high: float = 0.88
    target: float = 0.8
    cut: float = 0.5
    grow: float = 1 / 16
    remember_steps: int = 100

    def start(self, limits: ResourceLimits, load: Load) -> AdaptiveState:
        return AdaptiveState(Situation(limits))

    def adjust(self, state: AdaptiveState, sample: Sample, load: Load) -> tuple[AdaptiveState, Adjustment]:
        now, known = state.now.seen(sample, load, self.cut)
        state = replace(state, now=now, lines={**state.lines, **_learned(state, now, known, load)})
        for each in known:
            state = self._remembered(state, each, load)
        batch, why = smallest((self._batch(state, each, load) for each in known), load)
        return state, adjustment(batch, why, now.effort, sample, now.limits, load)

    def _remembered(self, state: AdaptiveState, pressure: Pressure, load: Load) -> AdaptiveState:
        if pressure.share > self.high:
            smallest = min(load.batch_size, state.too_large or load.batch_size)
            return replace(
                state, too_large=smallest, too_large_step=load.steps, too_large_limit_bytes=pressure.limit_bytes
            )
        long_ago = load.steps - state.too_large_step >= self.remember_steps
        no_longer = pressure.limit_bytes > state.too_large_limit_bytes
        return replace(state, too_large=None) if long_ago or no_longer else state

    def _batch(self, state: AdaptiveState, pressure: Pressure, load: Load) -> Choice:
        if pressure.share > self.high:
            return int(self.cut * load.batch_size), in_words("lowered", pressure, pressure.share)
        more = load.batch_size + max(1, int(self.grow * load.most_batch_size))
        if state.too_large is not None:
            more = min(more, state.too_large - 1)
        if more <= load.batch_size or not state.now.peaks[pressure.kind].settled(load):
            return load.batch_size, ""
        share = _expected_bytes(state, pressure.kind, more, load) / pressure.limit_bytes
        if share > self.target:
            return load.batch_size, ""
        return more, in_words("raised", pressure, share) + " then"


def _learned(before: AdaptiveState, now: Situation, known: Sequence[Pressure], load: Load) -> dict[LimitKind, Line]:
    """With the last step's peak when that step has just ended; at first, with what is held without a batch."""
    lines = {}
    for kind in (each.kind for each in known):
        peaks, line = now.peaks[kind], before.lines.get(kind)
        if line is None:
            lines[kind] = Line().learned(0.0, peaks.floor_bytes)
        elif peaks.done and peaks.done[-1:] != before.now.peaks[kind].done[-1:]:
            ended = peaks.done[-1]
            lines[kind] = line.learned(ended.batch_size / max(1, load.most_batch_size), ended.peak_bytes)
    return lines


def _expected_bytes(state: AdaptiveState, kind: LimitKind, batch_size: int, load: Load) -> float:
    """By the line, but within what was seen: no less than the present batch takes, and no more than in proportion."""
    peaks = state.now.peaks[kind]
    by_line = state.lines[kind].at(batch_size / max(1, load.most_batch_size))
    in_proportion = peaks.floor_bytes + (peaks.peak_bytes - peaks.floor_bytes) * batch_size / max(1, load.batch_size)
    return max(peaks.peak_bytes, min(by_line, in_proportion))
