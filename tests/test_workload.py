"""From limits to work: monotone, bounded, and right at the points that can be worked out by hand."""

from __future__ import annotations

import math

import pytest
from factories import MIB
from hypothesis import given
from hypothesis import strategies as st

from motley import workload
from motley.spec import MEMORY_FLOOR_BYTES

memories = st.integers(1, 64 * 1024**3)
examples_held = st.integers(1, 100_000)


@given(memories, examples_held)
def test_an_auto_batch_is_a_power_of_two_within_bounds(memory: int, examples: int) -> None:
    batch = workload.auto_batch_size(memory, examples)
    assert workload.MIN_BATCH <= batch <= workload.MAX_BATCH
    assert batch & (batch - 1) == 0
    assert batch <= max(workload.MIN_BATCH, examples / 4)


@given(memories, memories, examples_held)
def test_more_memory_never_means_a_smaller_batch(one: int, other: int, examples: int) -> None:
    less, more = sorted((one, other))
    assert workload.auto_batch_size(less, examples) <= workload.auto_batch_size(more, examples)


@pytest.mark.parametrize(
    ("headroom_mib", "examples", "batch"),
    [
        *((128, 10_000, 32), (256, 10_000, 64), (255, 10_000, 32), (64, 10_000, 16), (1, 10_000, 8)),
        *((-100, 10_000, 8), (9_000, 10_000, 256), (9_000, 400, 64), (9_000, 3, 8)),
    ],
)
def test_the_batch_doubles_with_the_headroom(headroom_mib: int, examples: int, batch: int) -> None:
    assert workload.auto_batch_size(MEMORY_FLOOR_BYTES + headroom_mib * MIB, examples) == batch


def test_the_rate_grows_with_the_square_root_of_the_batch() -> None:
    assert workload.auto_learning_rate(0.1, 32) == pytest.approx(0.1)
    assert workload.auto_learning_rate(0.1, 128) == pytest.approx(0.2)
    assert workload.auto_learning_rate(0.1, 8) == pytest.approx(0.05)


@given(st.integers(1, 4096), st.integers(1, 4096), st.integers(0, 2**32), st.integers(1, 2**22))
def test_a_fitting_batch_fits_and_could_not_be_doubled(wanted: int, examples: int, free: int, each: int) -> None:
    batch = workload.fitting_batch_size(wanted, examples, free, each)
    start = min(wanted, examples)
    assert 1 <= batch <= start
    assert batch == 1 or batch * each <= free
    before = next((start >> shift for shift in range(13) if start >> (shift + 1) == batch), None)
    assert batch == start or (before is not None and before * each > free)


@pytest.mark.parametrize(
    ("cpus", "cores", "threads"), [(None, 8, 8), (0.15, 8, 1), (1.9, 8, 1), (2.0, 8, 2), (16.0, 8, 8), (None, 0, 1)]
)
def test_threads_follow_the_quota(cpus: float | None, cores: int, threads: int) -> None:
    assert workload.threads_for(cpus, cores) == threads


@given(st.integers(1, 5000), st.integers(1, 300), st.integers(1, 5))
def test_steps_see_every_example_in_every_epoch(examples: int, batch: int, epochs: int) -> None:
    steps = workload.steps_for(examples, batch, epochs)
    assert steps * batch >= epochs * examples
    assert steps == epochs * math.ceil(examples / batch)
