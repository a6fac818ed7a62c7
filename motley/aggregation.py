"""Combine what devices learned. Arrays in, arrays out; no Flower, no PyTorch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[np.generic]]


def refusal(update: Arrays, like: Arrays) -> str | None:
    """Why `update` must not be aggregated into a model shaped `like`, or None if it may."""
    if set(update) != set(like):
        odd = sorted(set(update) ^ set(like))
        return f"arrays differ from the model's: {', '.join(_word(name) for name in odd[:3])}"
    for name, array in update.items():
        if array.shape != like[name].shape:
            return f"array '{name}' has shape {array.shape}, the model has {like[name].shape}"
        if not np.issubdtype(array.dtype, np.number) or np.iscomplexobj(array):
            return f"array '{name}' holds {array.dtype}, not numbers"
        if not np.all(np.isfinite(array)) or not np.all(np.isfinite(_as_in(like[name], array))):
            return f"array '{name}' holds values that are not finite"
    return None


def _as_in(like: NDArray[np.generic], array: NDArray[np.generic]) -> NDArray[np.generic]:
    """`array` in the type that the model will hold it in, where 1e300 may be infinite."""
    with np.errstate(over="ignore", invalid="ignore"):
        return array.astype(like.dtype, copy=False)


def _word(name: str) -> str:
    """A name that a device chose, fit for one line."""
    return name[:40] if name.isprintable() else ascii(name[:40])


def weighted_average(updates: Iterable[tuple[Arrays, float]], like: Arrays) -> dict[str, NDArray[np.generic]]:
    """FedAvg (McMahan et al., AISTATS 2017): Σ wᵢ·xᵢ / Σ wᵢ, array by array, in double precision.

    Weights are the examples really processed. Raises ValueError when they sum to zero or less;
    each result has the dtype of its array in `like`.
    """
    sums = {name: np.zeros(array.shape, np.float64) for name, array in like.items()}
    total = 0.0
    for update, weight in updates:
        total += weight
        for name, partial in sums.items():
            partial += weight * update[name].astype(np.float64)
    if total <= 0:
        raise ValueError(f"the weights sum to {total:g}; there is nothing to average")
    return {name: (partial / total).astype(like[name].dtype) for name, partial in sums.items()}


def jain_index(counts: Sequence[float]) -> float:
    """Jain's index of fairness, (Σx)²/(n·Σx²): 1 when all are equal, 1/n when one has everything.

    Jain, Chiu and Hawe, DEC-TR-301, 1984. An empty or all-zero input counts as fair.
    """
    squares = sum(value * value for value in counts)
    return 1.0 if not squares else sum(counts) ** 2 / (len(counts) * squares)
