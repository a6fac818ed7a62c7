"""From limits to work: batch size, learning rate and threads for one device. Pure.

Choose pinned values in the fleet file to switch these rules off. What fits into a device's memory is
learned on the device, see `MemoryModel`; everything else follows from limits alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from motley.spec import MEMORY_FLOOR_BYTES

RateScaling = Literal["sqrt", "linear", "none"]

REFERENCE_BATCH = 32
"""The batch size at which a task's own learning rate is right."""

MIN_BATCH, MAX_BATCH = 8, 256
MAX_FITTING = 65536
"""The largest batch that the rule `fit` comes to, whatever the memory."""

SHORTEST_STEP_S = 0.005
"""Below this, a step of a small model is mostly overhead."""
WARM_UP_EPOCHS = 5.0
_HEADROOM_FOR_REFERENCE = 128 * 1024**2


def auto_batch_size(memory_bytes: int, examples: int) -> int:
    """A power of two that grows with the memory above the floor, and leaves four steps an epoch.

    32 at 128 MiB of headroom, doubled with each doubling of it; within 8 and 256, and at most a
    quarter of the device's examples, so that a small shard still makes several steps.
    """
    headroom = max(memory_bytes - MEMORY_FLOOR_BYTES, 1)
    by_memory = REFERENCE_BATCH * headroom / _HEADROOM_FOR_REFERENCE
    wanted = min(by_memory, MAX_BATCH, examples / 4)
    return 1 << int(math.log2(max(wanted, MIN_BATCH)))


def scaled_rate(
    reference_rate: float,
    batch_size: int,
    scaling: RateScaling = "sqrt",
    warm_up: float = 1.0,
    reference_batch: int = REFERENCE_BATCH,
) -> float:
    """A rate that is right at `reference_batch`, for another batch; `warm_up` of the way there, 0–1.

    `sqrt` is the default: it keeps the variance of an update and needs no warm-up (Krizhevsky, "One weird
    trick for parallelizing convolutional neural networks", 2014). `linear` keeps the mean of an update and
    diverges early in a run without a warm-up (Goyal et al., "Accurate, Large Minibatch SGD", 2017).
    `none` is for rates that are pinned.
    """
    ratio = batch_size / reference_batch
    factor = {"sqrt": math.sqrt(ratio), "linear": ratio, "none": 1.0}[scaling]
    return reference_rate * (1 + (factor - 1) * warm_up)


def warm_up_share(scaling: RateScaling, epochs_done: float) -> float:
    """How far the warm-up has come, 0–1: a straight line over the first five epochs, for `linear` alone.

    Epochs of the whole run, not steps of one order: each order goes on from a model that is past its
    warm-up, and an order has few steps (Goyal et al., 2017, section 2.2).
    """
    return min(1.0, epochs_done / WARM_UP_EPOCHS) if scaling == "linear" else 1.0


def quick_batch_size(example_s: float, smallest: int) -> int:
    """The smallest batch, by powers of two from `smallest`, whose step is more than overhead.

    Where a device takes long for each example, many steps of few examples learn more in the same time
    than few steps of many.
    """
    batch = smallest
    while batch < MAX_BATCH and batch * example_s < SHORTEST_STEP_S:
        batch *= 2
    return batch


def effective_steps(steps: int, momentum: float) -> float:
    """As how many plain steps a run of SGD with momentum ρ moves: [τ − ρ(1 − ρ^τ)/(1 − ρ)]/(1 − ρ).

    FedNova, Wang et al., NeurIPS 2020, section 4.
    """
    if not momentum:
        return float(steps)
    return (steps - momentum * (1 - momentum**steps) / (1 - momentum)) / (1 - momentum)


def fitting_batch_size(wanted: int, examples: int, free_bytes: int, bytes_per_example: int) -> int:
    """The largest power-of-two share of `wanted` whose activations fit into `free_bytes`; at least 1."""
    batch = max(1, min(wanted, examples))
    while batch > 1 and batch * bytes_per_example > free_bytes:
        batch //= 2
    return batch


def threads_for(cpus: float | None, host_cores: int) -> int:
    """Threads for numeric libraries: whole cores of the quota, at least one.

    A pool sized by the host's cores thrashes under a smaller quota.
    """
    if cpus is None:
        return max(1, host_cores)
    return max(1, min(host_cores, math.floor(cpus)))


def steps_for(examples: int, batch_size: int, epochs: int) -> int:
    """Optimiser steps that `epochs` passes over `examples` take."""
    return epochs * math.ceil(examples / batch_size)


def processed(examples: int, batch_size: int, steps: int) -> int:
    """Examples that `steps` steps process: each pass ends with what is left over, which may be a smaller batch."""
    passes, rest = divmod(steps, math.ceil(examples / batch_size))
    return passes * examples + min(rest * batch_size, examples)


def steps_within(examples: int, batch_size: int, most: int) -> int:
    """The most steps that process no more than `most` examples, but at least one; see `processed`."""
    passes, rest = divmod(most, examples)
    return max(1, passes * math.ceil(examples / batch_size) + rest // batch_size)


MEMORY_SHARE = 0.8
"""Of the memory limit that a batch may fill; the rest is for what no model foresees."""

_MOST_POINTS = 16
_GROWTH = 2
_LEAST_SLOPE = 1 / 64
_WEIGHT_OF_SMALLEST = 1 / 8
_FIRST_SHARE = 1 / 8
_WORTH_CUTTING_BYTES = 512 * 1024
_KEPT_BITS = 4


@dataclass(frozen=True)
class MemoryModel:
    """Peak memory of a device as a straight line over the physical batch, learned from what it measured."""

    base_bytes: float
    """In use without any examples, as it was before training."""
    bytes_per_example: float
    """What each example adds, as the task's recipe says; above 0. The slope until two sizes were measured."""
    points: tuple[tuple[int, int], ...] = ()
    """Physical batch and peak in bytes, one point a size, the newest last."""
    killed: int = 0
    """The smallest physical batch during which the kernel killed the task; 0 where it never did."""

    @property
    def largest(self) -> int:
        """The largest physical batch that was measured; 0 where none was."""
        return max((batch for batch, _ in self.points), default=0)

    def proven(self, limit_bytes: int) -> int:
        """The largest physical batch of half a MiB by the recipe that was measured below the limit; 0 for none."""
        most = _WORTH_CUTTING_BYTES / self.bytes_per_example
        return max((batch for batch, peak in self.points if batch <= most and peak < limit_bytes), default=0)

    def learned(self, batch: int, peak_bytes: int) -> MemoryModel:
        """The same with one more measurement, which replaces an older one of the same size."""
        first, *others = [*(each for each in self.points if each[0] != batch), (batch, peak_bytes)]
        return replace(self, points=(first, *others[-_MOST_POINTS + 1 :]))

    def after_kill(self, batch: int) -> MemoryModel:
        """The same after a kill at this batch, whose peak nobody has seen: from now on at most half of it fits."""
        return replace(self, killed=min(self.killed or batch, batch))

    def line(self) -> tuple[float, float]:
        """Base and slope in bytes, the slope above 0 and the base not below.

        Least squares in which a point weighs as much as its batch: large batches are nearest to the
        limit, and stand out of the noise. The smallest weighs an eighth of all points on top, so that
        sizes which differ by no more than noise don't turn the line.
        """
        if not self.points:
            return self.base_bytes, self.bytes_per_example
        points = [*self.points, min(self.points)]
        weights = [float(batch) for batch, _ in self.points]
        weights.append(_WEIGHT_OF_SMALLEST * sum(weights))
        mean_batch, mean_peak = (_dot(weights, each) / sum(weights) for each in zip(*points, strict=True))
        pulls = [weight * (batch - mean_batch) for weight, (batch, _) in zip(weights, points, strict=True)]
        slope = self.bytes_per_example
        if len(self.points) > 1:
            slope = _dot(pulls, [peak for _, peak in points]) / _dot(pulls, [batch for batch, _ in points])
        slope = min(max(slope, _LEAST_SLOPE * self.bytes_per_example), mean_peak / mean_batch)
        return mean_peak - slope * mean_batch, slope

    def peak_bytes(self, batch: int) -> float:
        """What a physical batch is expected to need."""
        base, slope = self.line()
        return base + slope * batch


def fitting_batch(model: MemoryModel, limit_bytes: int, share: float = MEMORY_SHARE) -> int:
    """The largest physical batch whose peak is expected to stay within `share` of the limit; at least 1.

    Rounded down to four binary digits, so that noise does not change it from round to round. A batch
    that takes less than half a MiB fits always, and one that should take no more by the recipe does where it
    was measured to: to cut it would gain nothing.
    """
    base, slope = model.line()
    free_bytes = max(share * limit_bytes - base, _WORTH_CUTTING_BYTES)
    fitting = max(free_bytes / slope, model.proven(limit_bytes), 1)
    most = max(1, model.killed // 2) if model.killed else MAX_FITTING
    return _rounded_down(int(min(fitting, most)))


def next_batch(model: MemoryModel, limit_bytes: int, share: float = MEMORY_SHARE) -> int:
    """The physical batch to try next, on the way to the fitting one.

    First a single example, which shows what training takes by itself; then an eighth of what the recipe
    lets us expect, so that a recipe that is wrong by a factor of eight does no harm; then no more than
    twice what was measured.
    """
    fitting = fitting_batch(model, limit_bytes, share)
    if not model.points:
        return 1
    if len(model.points) > 1:
        return min(fitting, _GROWTH * model.largest)
    worth_cutting = int(_WORTH_CUTTING_BYTES / model.bytes_per_example)
    return min(fitting, max(_GROWTH * model.largest, worth_cutting, int(fitting * _FIRST_SHARE)))


def _rounded_down(batch: int) -> int:
    shift = max(0, batch.bit_length() - _KEPT_BITS)
    return batch >> shift << shift


def _dot(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))
