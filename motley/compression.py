"""Make updates small before they travel, and read them back with suspicion.

`int8` sends a byte an entry, `topk` only the entries that matter most, and `none` all of them as float32.
An encoded update is a dict of arrays that names its scheme by the arrays in it, so that it survives any
container of arrays; its size depends on the shapes alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from motley.aggregation import Arrays, refusal
from motley.aggregation.base import Array, Floats, as_type

Encoded = dict[str, Array]
Residual = Arrays

TOP_SHARE = 0.1
"""Share of the model's entries that `topk` sends."""

UPLOAD_SHARE = {"none": 1.0, "int8": 1 / 4, "topk": 1 / 32 + TOP_SHARE / 2}
"""Of an update's plain size: a byte an entry; a bit an entry and half precision for those that are sent."""

_SMALL_UPLOAD = 0.1
_LARGE_UPLOAD = 0.5
_INT8_BYTES, _INT8_SCALES = "int8.values", "int8.scales"
_TOPK_MASK, _TOPK_VALUES, _TOPK_SCALE = "topk.mask", "topk.values", "topk.scale"
_LEVELS = 127


def encode(delta: Arrays, scheme: str, residual: Residual | None = None) -> tuple[Encoded, Residual | None]:
    """`delta` as `scheme` sends it, and what `topk` left out, to be given back the next time.

    The residual of earlier updates is added first, whatever the scheme, so that a change of scheme
    loses nothing; one of other shapes, left by a model of another width, is dropped. Raises KeyError
    for an unknown scheme.
    """
    whole = _with(delta, residual)
    encoded = _ENCODERS[scheme](whole)
    return encoded, _left_over(whole, encoded) if scheme == "topk" else None


def decode(encoded: Arrays, like: Arrays) -> dict[str, Array]:
    """The update that `encoded` stands for, in the names, shapes and dtypes of `like`.

    Raises ValueError, with one line for the log, where it does not fit `like` or is damaged.
    """
    reader = _DECODERS.get(frozenset(encoded))
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            decoded = encoded if reader is None else reader(encoded, like)
            why = refusal(decoded, like)
            if why is None:
                return {name: as_type(decoded[name].astype(np.float64), each.dtype) for name, each in like.items()}
    except _Malformed as error:
        why = str(error)
    raise ValueError(why)


def encoded_bytes(shapes: Mapping[str, tuple[int, ...]], scheme: str) -> int:
    """Bytes of data that `encode` makes of arrays of these shapes. Raises KeyError for an unknown scheme."""
    entries = sum(math.prod(shape) for shape in shapes.values())
    return {
        "none": 4 * entries,
        "int8": entries + 4 * len(shapes),
        "topk": math.ceil(entries / 8) + 2 * kept_entries(entries) + 4,
    }[scheme]


def kept_entries(entries: int) -> int:
    """Entries that `topk` sends of a model with so many."""
    return math.ceil(TOP_SHARE * entries)


def choose(scheme: str, up_bits_per_s: float, model_bytes: int, compute_s: float) -> str:
    """`scheme` itself, or for `auto` what suits the link of a device that computes for `compute_s`.

    Nothing while the plain upload takes under a tenth of the time, `topk` where even a byte an entry would
    take over half of it, `int8` in between. A rate of 0 stands for a link that nothing slows down.
    """
    if scheme != "auto":
        return scheme
    plain_s = 8 * model_bytes / up_bits_per_s if up_bits_per_s > 0 else 0.0
    if plain_s <= _SMALL_UPLOAD * (plain_s + compute_s):
        return "none"
    int8_s = plain_s / 4
    return "topk" if int8_s > _LARGE_UPLOAD * (int8_s + compute_s) else "int8"


def _with(delta: Arrays, residual: Residual | None) -> dict[str, Floats]:
    whole = {name: array.astype(np.float64) for name, array in delta.items()}
    if residual is not None and all(
        name in residual and residual[name].shape == each.shape for name, each in whole.items()
    ):
        for name, array in whole.items():
            array += residual[name].astype(np.float64)
    return whole


def _encode_none(whole: Mapping[str, Floats]) -> Encoded:
    with np.errstate(over="ignore"):
        return {name: array.astype(np.float32) for name, array in whole.items()}


def _encode_int8(whole: Mapping[str, Floats]) -> Encoded:
    """Symmetric, to the nearest of 255 levels, with a scale for each array; arrays in order of name."""
    scales, values = [], []
    with np.errstate(invalid="ignore", over="ignore"):
        for name in sorted(whole):
            scale = np.float32(np.max(np.abs(whole[name]), initial=0.0) / _LEVELS)
            levels = np.rint(whole[name].ravel() / (scale or 1.0))
            values.append(np.clip(levels, -_LEVELS, _LEVELS).astype(np.int8))
            scales.append(scale)
    return {
        _INT8_BYTES: np.concatenate([*values, np.empty(0, np.int8)]),
        _INT8_SCALES: np.array(scales, dtype=np.float32),
    }


def _decode_int8(encoded: Arrays, like: Arrays) -> dict[str, Array]:
    values = _expected(encoded, _INT8_BYTES, np.int8, _entries(like))
    scales = _expected(encoded, _INT8_SCALES, np.float32, len(like))
    sizes = [like[name].size for name in sorted(like)]
    return _unflattened(values.astype(np.float64) * np.repeat(scales.astype(np.float64), sizes), like)


def _encode_topk(whole: Mapping[str, Floats]) -> Encoded:
    """The greatest tenth by magnitude over the whole model: a bit for each entry says which, float16 what.

    Sparsified SGD with memory (Stich, Cordonnier and Jaggi, NeurIPS 2018). A bit an entry is less than
    a 16-bit gap for one entry in ten, and no index can be out of range. Values are fractions of the greatest.
    """
    flat = _flattened(whole)
    taken = np.zeros(len(flat), dtype=bool)
    count = kept_entries(len(flat))
    taken[np.argpartition(np.abs(flat), len(flat) - count)[len(flat) - count :] if count else slice(0)] = True
    with np.errstate(invalid="ignore", over="ignore"):
        scale = np.float32(np.max(np.abs(flat), initial=0.0))
        values = (flat[taken] / (scale or 1.0)).astype(np.float16)
    return {_TOPK_MASK: np.packbits(taken), _TOPK_VALUES: values, _TOPK_SCALE: np.array([scale])}


def _decode_topk(encoded: Arrays, like: Arrays) -> dict[str, Array]:
    entries = _entries(like)
    mask = _expected(encoded, _TOPK_MASK, np.uint8, math.ceil(entries / 8))
    values = _expected(encoded, _TOPK_VALUES, np.float16, kept_entries(entries))
    scale = _expected(encoded, _TOPK_SCALE, np.float32, 1)
    bits = np.unpackbits(mask.astype(np.uint8)).astype(bool)
    if bits.sum() != len(values) or bits[entries:].any():
        raise _Malformed(f"array '{_TOPK_MASK}' marks {bits.sum()} of {entries} entries, not {len(values)}")
    flat = np.zeros(entries)
    flat[bits[:entries]] = values.astype(np.float64) * float(scale[0])
    return _unflattened(flat, like)


def _left_over(whole: Mapping[str, Floats], encoded: Encoded) -> Residual | None:
    """What the other side will not see, as float32; None where it is not finite and would spoil what follows."""
    if not np.isfinite(encoded[_TOPK_SCALE].astype(np.float64)).all():
        return None
    seen = _decode_topk(encoded, whole)
    return {name: (array - seen[name].astype(np.float64)).astype(np.float32) for name, array in whole.items()}


class _Malformed(Exception):
    """One line on what is wrong with an encoded update."""


def _expected(encoded: Arrays, name: str, dtype: type[np.generic], size: int) -> NDArray[np.generic]:
    array = encoded[name]
    if array.dtype != dtype or array.shape != (size,):
        wanted = f"{np.dtype(dtype)} of shape ({size},)"
        raise _Malformed(f"array '{name}' is {array.dtype} of shape {array.shape}, not {wanted}")
    if not np.all(np.isfinite(array.astype(np.float64))):
        raise _Malformed(f"array '{name}' holds values that are not finite")
    return array


def _entries(like: Arrays) -> int:
    return sum(array.size for array in like.values())


def _flattened(whole: Mapping[str, Floats]) -> Floats:
    return np.concatenate([*(whole[name].ravel() for name in sorted(whole)), np.empty(0)])


def _unflattened(flat: Floats, like: Arrays) -> dict[str, Array]:
    arrays: dict[str, Array] = {}
    start = 0
    for name in sorted(like):
        size = like[name].size
        arrays[name] = flat[start : start + size].reshape(like[name].shape)
        start += size
    return arrays


_ENCODERS: dict[str, Callable[[Mapping[str, Floats]], Encoded]] = {
    "none": _encode_none,
    "int8": _encode_int8,
    "topk": _encode_topk,
}
_DECODERS: dict[frozenset[str], Callable[[Arrays, Arrays], dict[str, Array]]] = {
    frozenset((_INT8_BYTES, _INT8_SCALES)): _decode_int8,
    frozenset((_TOPK_MASK, _TOPK_VALUES, _TOPK_SCALE)): _decode_topk,
}
SCHEMES = tuple(_ENCODERS)
