"""Frames arrive whole or not at all, however the socket cuts them."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.frames import Frames, pack, unpack

parts_of = st.lists(st.binary(max_size=200), max_size=6)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


@given(parts_of)
def test_what_is_packed_unpacks(parts: list[bytes]) -> None:
    assert unpack(pack(parts)) == parts
    assert unpack(memoryview(bytearray(pack(parts)))) == parts


@given(st.lists(parts_of, min_size=1, max_size=4), st.data())
def test_frames_come_out_whole_and_in_order_however_they_are_cut(
    frames: list[list[bytes]], data: st.DataObject
) -> None:
    stream = b"".join(map(pack, frames))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(stream) - 1), max_size=8))) if len(stream) > 1 else []
    ours, theirs = socket.socketpair()
    with ours, theirs:
        reader, read = Frames(ours), []
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            theirs.sendall(stream[start:end])
            new = reader.read()
            whole = sum(len(b"".join(map(pack, frames[: n + 1]))) <= end for n in range(len(frames)))
            read += new
            assert len(read) == whole
        assert read == frames


def test_a_part_of_a_frame_is_no_frame(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    frame, reader = pack([b"abc", b""]), Frames(ours)
    for byte in frame[:-1]:
        theirs.sendall(bytes([byte]))
        assert reader.read() == []
    theirs.sendall(frame[-1:])
    assert reader.read() == [[b"abc", b""]]


def test_a_closed_end_is_told(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    theirs.sendall(pack([b"x"])[:5])
    theirs.close()
    reader = Frames(ours)
    assert reader.read() == []
    with pytest.raises(EOFError, match="closed"):
        reader.read()
