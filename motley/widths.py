"""Narrower models for devices that can't hold the whole (HeteroFL: Diao, Ding and Tarokh, ICLR 2021).

A device of width ½ trains the leading half of each layer's channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from motley.aggregation.base import Array, Arrays, leading

WIDTHS = (1.0, 1 / 2, 1 / 4, 1 / 8, 1 / 16)
"""Shares of the hidden channels that a device may hold, the widest first."""


def narrow(arrays: Arrays, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
    """The leading entries of each array, as views of the narrower model's `shapes`.

    Raises ValueError where a shape does not lie within its array.
    """
    return {name: _leading(name, array, shapes[name]) for name, array in arrays.items()}


def _leading(name: str, array: Array, shape: tuple[int, ...]) -> Array:
    if len(shape) != array.ndim or any(own > whole for own, whole in zip(shape, array.shape, strict=True)):
        raise ValueError(f"shape {shape} of array '{name}' does not lie within the model's {array.shape}")
    part: Array = array[leading(shape)]
    return part


def fitting_width(memory_bytes: int, need_bytes: Callable[[float], int]) -> float | None:
    """The widest of WIDTHS whose need fits into the memory; None where not even the narrowest does."""
    return next((width for width in WIDTHS if need_bytes(width) <= memory_bytes), None)
