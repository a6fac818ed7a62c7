"""Memory against its limit: what is tight, what a step takes at its peak, and which batch would fit. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from motley.governor.base import Load
from motley.resource_limits import LimitKind, ResourceLimits
from motley.samples import Sample

KEPT_STEPS = 12
SETTLED_STEPS = 2
SETTLED_SAMPLES = 4


@dataclass(frozen=True)
class Pressure:
    """The use of one kind of memory and its limit, both in bytes; the limit is positive."""

    kind: LimitKind
    used_bytes: int
    limit_bytes: int

    @property
    def share(self) -> float:
        return self.used_bytes / self.limit_bytes


def pressures(sample: Sample, limits: ResourceLimits) -> list[Pressure]:
    """That of the host's memory and that of the GPU that is nearest to its limit, as far as they are known."""
    return [each for each in (host_pressure(sample, limits), _gpu_pressure(sample, limits)) if each]


def host_pressure(sample: Sample, limits: ResourceLimits) -> Pressure | None:
    """Against the smaller one of the device's own limit and the kernel's.

    Where nothing limits the container, the device's own limit is about the process, and counts alone.
    """
    used = sample.governed_memory_bytes
    if limits.memory_bytes is None:
        return _pressure(LimitKind.MEMORY, sample.memory_bytes, sample.memory_limit_bytes)
    if used != sample.memory_bytes:
        return _pressure(LimitKind.MEMORY, used, limits.memory_bytes)
    return _pressure(LimitKind.MEMORY, used, limits.memory_bytes, sample.memory_limit_bytes)


def _gpu_pressure(sample: Sample, limits: ResourceLimits) -> Pressure | None:
    each = [
        _pressure(LimitKind.GPU_MEMORY, gpu.memory_bytes, limits.gpu_memory_bytes, gpu.memory_total_bytes)
        for gpu in sample.gpus
    ]
    return max(filter(None, each), key=lambda pressure: pressure.share, default=None)


def _pressure(kind: LimitKind, used_bytes: int | None, *limits_bytes: int | None) -> Pressure | None:
    limits = [limit for limit in limits_bytes if limit is not None and limit > 0]
    return Pressure(kind, used_bytes, min(limits)) if used_bytes is not None and limits else None


@dataclass(frozen=True)
class StepPeak:
    """The most memory that was seen during one step."""

    step: int
    batch_size: int
    peak_bytes: int


@dataclass(frozen=True)
class Peaks:
    """What was seen of one kind of memory: the least ever, and the peak of each of the last steps."""

    floor_bytes: int
    """The least ever seen: what the process holds without a batch, or a little more."""
    now: StepPeak
    """The step that goes on, so far."""
    first_step: int
    """The first one at the present batch size."""
    samples: int
    """Since then."""
    done: tuple[StepPeak, ...] = ()

    def settled(self, load: Load) -> bool:
        """Was enough seen at this batch size to trust the peak?"""
        return load.steps - self.first_step >= SETTLED_STEPS and self.samples >= SETTLED_SAMPLES

    @property
    def at_this_batch(self) -> tuple[StepPeak, ...]:
        """The last done steps of the present batch size."""
        return tuple(each for each in self.done if each.step >= self.first_step)

    @property
    def peak_bytes(self) -> int:
        return max(each.peak_bytes for each in (*self.at_this_batch, self.now))

    def fitting(self, batch_size: int, peak_bytes: float, target_bytes: float) -> float:
        """The batch whose peak would be `target_bytes` when that of `batch_size` is `peak_bytes`; at least 0.

        A straight line through the floor: exact for memory that grows in proportion to the batch,
        and cautious where the true floor is higher. Infinite where no growth was seen.
        """
        slope = (peak_bytes - self.floor_bytes) / max(1, batch_size)
        return max(0.0, (target_bytes - self.floor_bytes) / slope) if slope > 0 else math.inf


def observed(peaks: Peaks | None, pressure: Pressure, load: Load) -> Peaks:
    """What is known after one more sample; `peaks` is None before the first."""
    used = pressure.used_bytes
    now = StepPeak(load.steps, load.batch_size, used)
    if peaks is None:
        return Peaks(used, now, load.steps, 1)
    peaks = replace(peaks, floor_bytes=min(peaks.floor_bytes, used), samples=peaks.samples + 1)
    if (now.step, now.batch_size) == (peaks.now.step, peaks.now.batch_size):
        return replace(peaks, now=replace(now, peak_bytes=max(peaks.now.peak_bytes, used)))
    done = (*peaks.done, peaks.now)[-KEPT_STEPS:] if now.step > peaks.now.step else peaks.done
    if now.batch_size == peaks.now.batch_size:
        return replace(peaks, now=now, done=done)
    return replace(peaks, now=now, done=done, first_step=now.step, samples=1)


def raised(peaks: Peaks, load: Load, peak_bytes: float, target_bytes: float) -> int:
    """A quarter more examples, at least one, as far as they are expected to fit; never fewer than now."""
    more = load.batch_size + max(1, load.batch_size // 4)
    return max(load.batch_size, math.floor(min(more, peaks.fitting(load.batch_size, peak_bytes, target_bytes))))


def lowered(peaks: Peaks, load: Load, peak_bytes: float, target_bytes: float) -> int:
    """The batch that is expected to fit; at least one example fewer than now.

    In proportion to the use as long as nothing is known of what is held without a batch.
    """
    fewer = min(load.batch_size - 1, peaks.fitting(load.batch_size, peak_bytes, target_bytes))
    in_proportion = load.batch_size * target_bytes / max(1.0, peak_bytes)
    return math.floor(fewer if peak_bytes > peaks.floor_bytes else min(fewer, in_proportion))


def within(batch_size: float, load: Load) -> int:
    """The nearest whole batch that the load allows."""
    return min(max(math.floor(batch_size), load.least_batch_size), max(load.most_batch_size, load.least_batch_size))
