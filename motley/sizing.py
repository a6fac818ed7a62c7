"""What one device is asked to do: batch and learning rate together, steps, width and compression. Pure.

Whatever the fleet file pins stays as it is pinned. The rest follows from the device's limits and speed,
and with `sized` work from the time that all share.
"""

from __future__ import annotations

import numpy as np

from motley.compression import UPLOAD_SHARE, choose
from motley.device import WorkOrder
from motley.knowledge import Knowledge
from motley.local_work import Estimate, fixed_steps, sized_steps, stop_after_s
from motley.policies import AdaptiveOptions, FedProxOptions, options_as
from motley.selection.base import Pool
from motley.spec import FIT, Training
from motley.widths import fitting_width
from motley.workload import (
    MemoryModel,
    RateScaling,
    auto_batch_size,
    effective_steps,
    fitting_batch,
    processed,
    quick_batch_size,
    scaled_rate,
    warm_up_share,
)

LEAST_STEPS = 4
"""A run of fewer steps learns little for what its transfers cost."""


def shared_time_s(pool: Pool, training: Training) -> float:
    """The time of one order, the same for all.

    Long enough for a device of median speed to make `passes` over its examples, but not fewer than four
    steps, and not to spend more than half of it on transfers; no longer than the fixed work takes.
    """
    options = options_as(AdaptiveOptions, training.policy_options)
    batch = np.minimum(training.batch_size or options.smallest_batch, pool.examples)
    passes = np.maximum(options.passes, LEAST_STEPS * batch / np.maximum(pool.examples, 1))
    transfer_s = pool.download_s + pool.upload_s
    training_s = np.maximum(pool.compute_s * passes / training.local_epochs, transfer_s)
    return float(np.median(transfer_s + np.minimum(training_s, pool.compute_s)))


def order_for(
    training: Training, knowledge: Knowledge, row: int, estimate: Estimate, deadline_s: float, time_s: float | None
) -> WorkOrder:
    """The order for the device in `row`; `time_s` is what `partial` and `sized` work is cut to."""
    task, chosen = knowledge.task, training.chosen
    batch = _batch(training, knowledge, row, estimate)
    scaling = _scaling(training, knowledge, row)
    warm_up = _warm_up(training, knowledge, scaling)
    rate = _pinned_rate(training, knowledge, row) or scaled_rate(task.learning_rate, batch, scaling, warm_up)
    examples = int(knowledge.column("examples")[row])
    steps = fixed_steps(examples, batch, training.local_epochs)
    stop_s = None
    if chosen.local_work == "partial" and time_s is not None:
        stop_s = stop_after_s(time_s, estimate, batch)
    elif chosen.local_work == "sized" and time_s is not None:
        steps = sized_steps(estimate, batch, time_s, least=1, most=steps)
        if not _pinned_rate(training, knowledge, row):
            rate *= _gain(training, steps, task.momentum)
    work = processed(examples, batch, steps)
    up_rate = float(knowledge.column("up_bits_per_s")[row])
    compression = choose(chosen.compression, up_rate, task.model_bytes, estimate.example_s * work)
    return WorkOrder(
        device=knowledge.names[row],
        batch_size=batch,
        learning_rate=rate,
        steps=steps,
        deadline_s=deadline_s,
        expected_s=estimate.duration_s(work, _upload_share(knowledge, row, compression)),
        stop_after_s=stop_s,
        proximal=_proximal(training),
        width=_width(training, knowledge, row),
        compression=compression,
        fit=_fits_itself(training, knowledge, row),
        physical_batch=int(knowledge.column("batch_limit")[row]),
        rate_scaling=scaling,
        warm_up=warm_up,
    )


def _upload_share(knowledge: Knowledge, row: int, compression: str) -> float:
    """Of the time that a plain update takes; compression does nothing for the latency in it."""
    rate, nominal_s = (float(knowledge.column(name)[row]) for name in ("up_bits_per_s", "nominal_up_s"))
    plain_s = 8 * knowledge.task.model_bytes / rate if rate > 0 else 0.0
    return 1 - (1 - UPLOAD_SHARE[compression]) * plain_s / nominal_s


def _batch(training: Training, knowledge: Knowledge, row: int, estimate: Estimate) -> int:
    """What is pinned, or what the rules come to; that is no more than half of what a device was killed with.

    A pinned batch stays what it is; after a kill the device goes through it in smaller pieces.
    """
    pinned = int(knowledge.column("pinned_batch_size")[row]) or training.batch_size
    if pinned:
        return pinned
    examples, memory_bytes = int(knowledge.column("examples")[row]), int(knowledge.column("memory_bytes")[row])
    if _fits_itself(training, knowledge, row):
        batch = min(examples, _expected_fit(training, knowledge, row))
    else:
        batch = auto_batch_size(memory_bytes, examples)
        if training.chosen.local_work == "sized":
            smallest = options_as(AdaptiveOptions, training.policy_options).smallest_batch
            batch = min(batch, quick_batch_size(estimate.example_s, smallest))
    limit = int(knowledge.column("batch_limit")[row])
    return max(1, min(batch, limit) if limit else batch)


def _fits_itself(training: Training, knowledge: Knowledge, row: int) -> bool:
    """Whether the device finds its own batch."""
    return training.batch_size == FIT and not knowledge.column("pinned_batch_size")[row]


def _expected_fit(training: Training, knowledge: Knowledge, row: int) -> int:
    """What the device's memory should hold, as far as the recipe knows: where the device begins."""
    task, width = knowledge.task, _width(training, knowledge, row)
    model = MemoryModel(task.need_bytes(width), max(1.0, task.bytes_per_example * width))
    return fitting_batch(model, int(knowledge.column("memory_bytes")[row]))


def _scaling(training: Training, knowledge: Knowledge, row: int) -> RateScaling:
    if _pinned_rate(training, knowledge, row):
        return "none"
    return training.rate_scaling or "sqrt"


def _warm_up(training: Training, knowledge: Knowledge, scaling: RateScaling) -> float:
    """By the passes that the rounds before this one were planned to make."""
    if scaling != "linear":
        return 1.0
    rounds = int(knowledge.column("last_selected").max(initial=0))
    return warm_up_share(scaling, rounds * training.local_epochs)


def _pinned_rate(training: Training, knowledge: Knowledge, row: int) -> float:
    return float(knowledge.column("pinned_learning_rate")[row]) or training.learning_rate or 0.0


def _gain(training: Training, steps: int, momentum: float) -> float:
    """What makes each step of a run count alike, however short the run.

    Local momentum ρ starts anew in every order: τ steps move as far as a(τ) plain ones, which is τ for
    one step and τ/(1−ρ) for many. The rate is divided by a(τ)/τ, and raised to what lies between both
    ends, 1 and 1/(1−ρ), at the exponent `gain`.
    """
    gain = options_as(AdaptiveOptions, training.policy_options).gain
    return float((1 - momentum) ** -gain) * steps / effective_steps(steps, momentum)


def _proximal(training: Training) -> float:
    if training.proximal is not None:
        return training.proximal
    options = training.policy_options
    return options.mu if isinstance(options, FedProxOptions) else 0.0


def _width(training: Training, knowledge: Knowledge, row: int) -> float:
    """The widest model that fits; the whole where the policy knows no widths."""
    if training.chosen.width == "full":
        return 1.0
    return fitting_width(int(knowledge.column("memory_bytes")[row]), knowledge.task.need_bytes) or 1.0
