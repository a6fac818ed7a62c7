"""Updates that must not be aggregated: what a device sends is not trusted."""

from __future__ import annotations

import numpy as np

from motley.aggregation.base import Array, Arrays


def refusal(update: Arrays, like: Arrays) -> str | None:
    """Why `update` must not be aggregated into a model like `like`, or None if it may."""
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


def _as_in(like: Array, array: Array) -> Array:
    """`array` in the type that the model will hold it in, where 1e300 may be infinite."""
    with np.errstate(over="ignore", invalid="ignore"):
        return array.astype(like.dtype, copy=False)


def _word(name: str) -> str:
    """A name that a device chose, fit for one line."""
    return name[:40] if name.isprintable() else ascii(name[:40])
