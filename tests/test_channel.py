"""What goes into one end of a channel comes out of the other, whatever way it took."""

from __future__ import annotations

import os
from collections.abc import Iterator
from multiprocessing import Pipe
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from motley.training import channel
from motley.training.channel import Channel, new_blocks

Ends = tuple[Channel, Channel]


def ends() -> Iterator[Ends]:
    (one, other), blocks = Pipe(), new_blocks()
    try:
        yield Channel(one, blocks, is_parent=True, keeps=True), Channel(other, blocks, is_parent=False, keeps=False)
    finally:
        os.close(blocks)
        one.close()
        other.close()


@pytest.fixture
def pair() -> Iterator[Ends]:
    yield from ends()


@pytest.fixture
def small_pair(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ends]:
    monkeypatch.setattr(channel, "BLOCK_BYTES", 2 * os.sysconf("SC_PAGE_SIZE"))
    yield from ends()


def through(pair: Ends, message: Any) -> Any:
    """What the parent gets back from an end that sends back what it got."""
    parent, child = pair
    parent.send(message)
    child.send(child.receive())
    return parent.receive()


@given(st.lists(arrays(st.sampled_from([np.float32, np.int64, np.bool_]), array_shapes(min_side=0, max_side=9))))
def test_arrays_come_back_as_they_went(sent: list[np.ndarray[Any, Any]]) -> None:
    for pair in ends():
        back = through(pair, {"arrays": sent, "text": "as it is"})
        assert back["text"] == "as it is"
        for one, other in zip(sent, back["arrays"], strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)


def test_an_array_that_is_no_whole_piece_of_memory_comes_back_too(pair: Ends) -> None:
    whole = np.arange(12.0).reshape(3, 4)
    for part in (whole.T, whole[:, ::2], np.asfortranarray(whole)):
        np.testing.assert_array_equal(through(pair, part), part)


def test_what_does_not_fit_into_the_block_goes_through_the_pipe(small_pair: Ends) -> None:
    sent = [np.full(size, size % 256, np.uint8) for size in (5000, 3500, 3000, 10)]
    for one, other in zip(sent, through(small_pair, sent), strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_one_end_keeps_outlasts_the_next_message(pair: Ends) -> None:
    parent, child = pair
    child.send(np.zeros(100))
    first = parent.receive()
    child.send(np.ones(100))
    parent.receive()
    assert not first.any()
    first += 1


def test_one_array_sent_twice_is_one_array_still(pair: Ends) -> None:
    array = np.arange(1000)
    one, other = through(pair, [array, array])
    assert one is other


def test_the_end_of_the_other_end_is_noticed(pair: Ends) -> None:
    parent, child = pair
    child.pipe.close()
    with pytest.raises(EOFError):
        parent.receive()
