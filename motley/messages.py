"""Arrays to Flower's records and back.

Flower moves every array of a record as objects of their own, each with requests and database
transactions of its own: a small CNN makes 20 objects. Here a model travels as one array of bytes in the
safetensors format, which makes six, whatever the number of layers.
"""

from __future__ import annotations

import numpy as np
from flwr.app import Array, ArrayRecord
from numpy.typing import NDArray
from safetensors.numpy import load, save

from motley.aggregation import Arrays

PACKED = "safetensors"


def to_record(arrays: Arrays) -> ArrayRecord:
    """Arrays by name, packed into a record with one array of bytes."""
    blob = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    return ArrayRecord({PACKED: Array(np.frombuffer(blob, dtype=np.uint8))})


def to_arrays(record: ArrayRecord) -> dict[str, NDArray[np.generic]]:
    """The arrays of a record by name, whether packed or as Flower's own apps send them.

    Raises ValueError for a packed array that is not in the safetensors format.
    """
    if set(record) != {PACKED}:
        return {name: array.numpy() for name, array in record.items()}
    try:
        return load(record[PACKED].numpy().tobytes())
    except Exception as error:
        raise ValueError(f"the packed arrays can't be read: {error}") from None
