"""What follows from predictions: how work scales with its batch, where it runs best, what matters for its time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from motley.device import DeviceProfile, WorkOrder
from motley.knowledge import TaskFigures
from motley.predictor.cases import Case, Cases, Sample, targets
from motley.predictor.forest import FEATURES
from motley.predictor.model import Model
from motley.predictor.scoring import relative
from motley.selection.base import Floats
from motley.units import format_bytes
from motley.workload import processed, steps_for

_SHOWN = 500
_SHUFFLES = 3


@dataclass(frozen=True)
class BatchScaling:
    """The same examples in batches of several sizes, each field of shape (batches,)."""

    batches: Sequence[int]
    seconds: Floats
    memory_bytes: Floats
    time_factors: Floats
    """Seconds over those of the first batch."""
    memory_factors: Floats


@dataclass(frozen=True)
class Ranked:
    """One of several devices for a piece of work."""

    device: str
    seconds: float
    memory_bytes: float
    fits: bool
    """Its memory holds the upper end of the interval."""
    reason: str


def batch_scaling(
    model: Model, profile: DeviceProfile, order: WorkOrder, task: TaskFigures, batches: Sequence[int]
) -> BatchScaling:
    """How time and memory go with the batch, when the order's number of examples stays as it is."""
    examples = processed(profile.examples, max(1, min(order.batch_size, profile.examples)), order.steps)
    orders = [
        replace(order, batch_size=batch, steps=steps_for(examples, batch, 1), physical_batch=0) for batch in batches
    ]
    cases = [Case.of(profile, each, task)._replace(examples=float(examples)) for each in orders]
    answer = model.answer(Cases.of(cases))
    seconds, memory_bytes = answer["seconds"].value, answer["memory_bytes"].value
    return BatchScaling(batches, seconds, memory_bytes, seconds / seconds[0], memory_bytes / memory_bytes[0])


def best_platform(
    model: Model, candidates: Sequence[DeviceProfile], order: WorkOrder, task: TaskFigures
) -> list[Ranked]:
    """Candidates in order: those whose memory holds the work first, the quickest first among them."""
    answer = model.answer(Cases.of([Case.of(each, order, task) for each in candidates]))
    seconds, memory = answer["seconds"], answer["memory_bytes"]
    ranked = [
        _ranked(each, seconds.value[row], seconds.high[row], memory.value[row], memory.high[row], seconds.tier)
        for row, each in enumerate(candidates)
    ]
    return sorted(ranked, key=lambda each: (not each.fits, each.seconds, each.device))


def _ranked(
    profile: DeviceProfile, seconds: float, most_s: float, memory_bytes: float, most_bytes: float, tier: str
) -> Ranked:
    fits = bool(most_bytes <= profile.memory_bytes)
    need, limit = format_bytes(int(most_bytes)), format_bytes(profile.memory_bytes)
    reason = f"{seconds:.2f} s by {tier}, at most {most_s:.2f} s; needs up to {need} of {limit}"
    return Ranked(
        profile.device, float(seconds), float(memory_bytes), fits, reason if fits else f"may not fit: {reason}"
    )


def importance(model: Model, samples: Sequence[Sample], target: str = "seconds", seed: int = 0) -> Mapping[str, float]:
    """By how much the median relative error grows when a feature is shuffled among the samples; the largest first.

    Permutation importance (Breiman 2001; Fisher, Rudin and Dominici, JMLR 2019) of whatever tier answers, and
    not the impurity-based one of the forest: that one favours features of many values, knows nothing of the
    statistics, and tells what the trees used, not what the answer gains by it. Features that go together share
    their importance. Takes the newest 500 samples.
    """
    samples = [each for each in samples if not math.isnan(getattr(each, target))][-_SHOWN:]
    if not samples:
        return dict.fromkeys(FEATURES, 0.0)
    cases, measured, rng = (
        Cases.of([each.case for each in samples]),
        targets(samples)[target],
        np.random.default_rng(seed),
    )

    def error(columns: Mapping[str, Floats]) -> float:
        expected = model.values(Cases(cases.devices, cases.classes, columns), model.tier(target))[target]
        return float(np.median(relative(np.log(measured / expected))))

    before = error(cases.columns)
    gains = {
        name: float(np.mean([error({**cases.columns, name: rng.permutation(cases[name])}) for _ in range(_SHUFFLES)]))
        - before
        for name in FEATURES
    }
    return dict(sorted(gains.items(), key=lambda each: -each[1]))
