"""Byte strings over a socket, each with its length in front."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable

_LENGTH = struct.Struct("!Q")
_PIECE_BYTES = 1 << 20


def pack(parts: Iterable[bytes]) -> bytes:
    """Join `parts` into one frame that `unpack` takes apart, with its whole length in front."""
    body = b"".join(_LENGTH.pack(len(part)) + part for part in parts)
    return _LENGTH.pack(len(body)) + body


def unpack(frame: bytes | bytearray | memoryview) -> list[bytes]:
    """The parts of a whole frame."""
    parts, at = [], _LENGTH.size
    while at < len(frame):
        (length,) = _LENGTH.unpack_from(frame, at)
        at += _LENGTH.size
        parts.append(bytes(frame[at : at + length]))
        at += length
    return parts


class Frames:
    """The frames that arrive on a socket. What is left of one that has not arrived whole is kept."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._data = bytearray()

    def read(self) -> list[list[bytes]]:
        """Receive once; give the frames that are whole now. Raises EOFError when the other end is closed."""
        try:
            piece = self._channel.recv(_PIECE_BYTES)
        except ConnectionResetError:
            piece = b""
        if not piece:
            raise EOFError("the other end is closed")
        self._data += piece
        frames = []
        while (end := self._end()) is not None:
            with memoryview(self._data) as view:
                parts = unpack(view[:end])
            del self._data[:end]
            frames.append(parts)
        return frames

    def _end(self) -> int | None:
        """Where the first frame ends, if it is whole."""
        if len(self._data) < _LENGTH.size:
            return None
        end: int = _LENGTH.size + _LENGTH.unpack_from(self._data)[0]
        return end if len(self._data) >= end else None
