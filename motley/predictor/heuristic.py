"""What a piece of work should take by the figures of device and task alone, as `motley.knowledge` has it. Pure.

Each target is a sum of terms that are 0 or more, each times a factor. The first tier has the factors below;
the second learns them. What an order and a step take besides their examples is no part of the first:
a recipe's time for an example has a step's share in it.
"""

from __future__ import annotations

import numpy as np

from motley.knowledge import REFERENCE_GFLOPS
from motley.predictor.cases import PARAMETER_BYTES, Cases
from motley.selection.base import Floats
from motley.spec import MEMORY_FLOOR_BYTES

FACTORS = {
    "train_s": (0.0, 0.0, 1.0),
    "transfer_s": (1.0, 1.0, 1.0),
    "memory_bytes": (1.0, 1.0, 1.0),
    "energy_wh": (1.0, 1.0),
}
"""Of the terms, where nothing was measured."""

UNSHAPED_BITS_PER_S = 1e9
"""Rate of a link that nothing slows down."""

_START_S, _STEP_S = 0.02, 0.0005
"""What an order and a step take on a reference core besides the examples."""
_TRANSFER_S = 0.02
_MODEL_COPIES = 4
_IDLE_W, _WORK_W = 1.0, 3.0


def training_terms(cases: Cases) -> Floats:
    """Seconds on the device, shape (n, 3): for the order, the steps, the examples; all scale with its speed."""
    slowness = REFERENCE_GFLOPS / np.maximum(cases["gflops"], 1e-6)
    example_s = cases["example_gflop"] / REFERENCE_GFLOPS
    return np.column_stack(
        [_START_S * slowness, _STEP_S * slowness * cases["steps"], example_s * slowness * cases["examples"]]
    )


def transfer_terms(cases: Cases) -> Floats:
    """Seconds between server and device, shape (n, 3): the latencies, the way down, the way up."""
    fixed_s = _TRANSFER_S + 2 * cases["latency_s"]
    down_s, up_s = (
        8 * cases[f"{way}_bytes"] / np.where(rate > 0, rate, UNSHAPED_BITS_PER_S)
        for way, rate in (("down", cases["down_bits_per_s"]), ("up", cases["up_bits_per_s"]))
    )
    return np.column_stack([fixed_s, down_s, up_s])


def memory_terms(cases: Cases) -> Floats:
    """Peak bytes, shape (n, 3): what is in use without it, the model with its copies, the examples in memory."""
    base = np.maximum(cases["memory_used_bytes"], MEMORY_FLOOR_BYTES)
    model = _MODEL_COPIES * PARAMETER_BYTES * cases["parameters"] * cases["width"] ** 2
    return np.column_stack([base, model, cases["example_bytes"] * cases["width"] * cases["physical_batch"]])


def energy_terms(seconds: Floats, train_s: Floats) -> Floats:
    """Watt-hours, shape (n, 2): what is drawn all the time, and what training draws on top."""
    return np.column_stack([_IDLE_W * seconds / 3600, _WORK_W * train_s / 3600])
