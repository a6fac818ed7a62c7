"""Between two processes on one machine: objects travel pickled through a pipe, their arrays in shared memory.

A pipe copies an array four times and in small pieces; through shared memory it is copied once or twice.
"""

from __future__ import annotations

import mmap
import os
import pickle
import tempfile
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

BLOCK_BYTES = 256 * 2**20
"""For the arrays of one message; what does not fit goes through the pipe. Memory is taken up as it is used."""

_ALIGNMENT = 64


def new_blocks() -> int:
    """The descriptor of memory for a pair of channels, one block for each direction."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("motley-training")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, 2 * BLOCK_BYTES)
    return descriptor


class Channel:
    """One end of a pipe with two blocks of shared memory.

    The ends take turns: whoever has sent may not send again before it has received. Arrays that an end
    `keeps` are copied out of the block; others are good until it sends.
    """

    def __init__(self, pipe: Connection, blocks: int, is_parent: bool, keeps: bool) -> None:
        self.pipe = pipe
        self._keeps = keeps
        halves = [memoryview(mmap.mmap(blocks, BLOCK_BYTES, offset=half * BLOCK_BYTES)) for half in (0, 1)]
        self._out, self._in = halves if is_parent else halves[::-1]

    def send(self, message: Any) -> None:
        """Raises OSError when the other end is gone, and what pickle raises for what can't be pickled."""
        buffers: list[memoryview] = []
        free = BLOCK_BYTES

        def goes_along(buffer: pickle.PickleBuffer) -> bool:
            nonlocal free
            raw = buffer.raw()
            if _aligned(raw.nbytes) <= free:
                free -= _aligned(raw.nbytes)
                buffers.append(raw)
                return False
            return True

        pickled = pickle.dumps(message, protocol=5, buffer_callback=goes_along)
        start = 0
        for raw in buffers:
            self._out[start : start + raw.nbytes] = raw
            start += _aligned(raw.nbytes)
        self.pipe.send_bytes(pickle.dumps([raw.nbytes for raw in buffers]))
        self.pipe.send_bytes(pickled)

    def receive(self) -> Any:
        """Wait for a message. Raises EOFError or OSError when the other end is gone."""
        sizes: Sequence[int] = pickle.loads(self.pipe.recv_bytes())
        pickled, start, buffers = self.pipe.recv_bytes(), 0, []
        for size in sizes:
            raw = self._in[start : start + size]
            buffers.append(bytearray(raw) if self._keeps else raw)
            start += _aligned(size)
        return pickle.loads(pickled, buffers=buffers)


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
