"""`cooperative`: several components on one host keep to one budget.

Choose it where more than one process trains or serves on a host and together they may not use more than
a budget. Its limit is the share that a broker granted (`Load.grant`; see `motley.broker`), held against
the memory of this process rather than of the container. How to keep below that limit is up to the
strategy that it wraps. Without a grant it is that strategy and nothing else.

A share can shrink when another component starts, and the newcomer waits until the others have given
back what it is entitled to. The division is max-min fair (`motley.governor.sharing`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from motley.governor.adaptive import Adaptive
from motley.governor.base import Adjustment, Governor, Load
from motley.governor.memory import Peaks, host_pressure, observed
from motley.resource_limits import ResourceLimits
from motley.samples import Sample


@dataclass(frozen=True)
class CooperativeState:
    """What it keeps between samples."""

    inner: Any
    """The wrapped strategy's state."""
    peaks: Peaks | None = None
    """Of this process's memory."""


@dataclass(frozen=True)
class Cooperative:
    """inner: the strategy that keeps to the share. filled: how much of its limit that strategy uses in the end."""

    inner: Governor = field(default_factory=Adaptive)
    filled: float = 0.65

    def start(self, limits: ResourceLimits, load: Load) -> CooperativeState:
        return CooperativeState(self.inner.start(limits, load))

    def adjust(self, state: CooperativeState, sample: Sample, load: Load) -> tuple[CooperativeState, Adjustment]:
        if load.grant is not None:
            own, limit = sample.process_memory_bytes, max(1, load.grant.memory_bytes)
            sample = replace(sample, memory_bytes=own, memory_limit_bytes=limit)
        inner, adjustment = self.inner.adjust(state.inner, sample, load)
        pressure = host_pressure(sample, ResourceLimits())
        peaks = observed(state.peaks, pressure, load) if pressure else state.peaks
        if _waits_for_share(sample, load):
            reason = "; ".join(filter(None, [adjustment.reason, "waits for its share of the budget"]))
            adjustment = replace(adjustment, wait=True, reason=reason)
        return CooperativeState(inner, peaks), adjustment

    def wished_bytes(self, state: CooperativeState, load: Load) -> int | None:
        """The share with which the load could run at its largest batch; None until a step was seen.

        A component that needs little leaves the rest of the budget to the others.
        """
        peaks = state.peaks
        if peaks is None or not peaks.at_this_batch:
            return None
        grows = (peaks.peak_bytes - peaks.floor_bytes) / max(1, load.batch_size)
        return int((peaks.floor_bytes + grows * max(load.batch_size, load.most_batch_size)) / self.filled)


def _waits_for_share(sample: Sample, load: Load) -> bool:
    if load.grant is None or load.grant.final:
        return False
    return (sample.memory_bytes or 0) >= load.grant.memory_bytes
