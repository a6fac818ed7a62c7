"""From limits to work: monotone, bounded, and right at the points that can be worked out by hand."""

from __future__ import annotations

import functools
import math
import random

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


@pytest.mark.parametrize(
    ("scaling", "batch", "rate"),
    [
        *(("sqrt", 32, 0.1), ("sqrt", 128, 0.2), ("sqrt", 8, 0.05)),
        *(("linear", 32, 0.1), ("linear", 128, 0.4), ("linear", 8, 0.025)),
        *(("none", 128, 0.1), ("none", 8, 0.1)),
    ],
)
def test_the_rate_follows_the_batch(scaling: workload.RateScaling, batch: int, rate: float) -> None:
    assert workload.scaled_rate(0.1, batch, scaling) == pytest.approx(rate)
    assert workload.scaled_rate(0.1, 2 * batch, scaling, reference_batch=64) == pytest.approx(rate)


def test_a_warm_up_goes_straight_from_the_reference_rate_to_the_scaled_one() -> None:
    rates = [workload.scaled_rate(0.1, 128, "linear", warm_up) for warm_up in (0.0, 0.5, 1.0)]
    assert rates == pytest.approx([0.1, 0.25, 0.4])


def test_only_a_linear_rate_warms_up_and_over_five_epochs() -> None:
    assert [workload.warm_up_share("linear", epochs) for epochs in (0, 1, 5, 50)] == pytest.approx([0, 0.2, 1, 1])
    assert workload.warm_up_share("sqrt", 0) == workload.warm_up_share("none", 0) == 1


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


@given(st.integers(1, 500), st.integers(1, 600), st.integers(1, 5000))
def test_steps_within_a_number_of_examples_are_as_many_as_fit(examples: int, batch: int, most: int) -> None:
    steps = workload.steps_within(examples, batch, most)
    assert steps == 1 or workload.processed(examples, batch, steps) <= most
    assert workload.processed(examples, batch, steps + 1) > most - batch


def line_of(base_mib: float, slope_mib: float, *batches: int, recipe_mib: float = 1.0) -> workload.MemoryModel:
    """A model that has measured peaks on a straight line."""
    model = workload.MemoryModel(base_mib * MIB, recipe_mib * MIB)
    for batch in batches:
        model = model.learned(batch, int((base_mib + slope_mib * batch) * MIB))
    return model


def test_before_any_measurement_the_recipe_s_figure_counts() -> None:
    """80 % of 512 MiB leave 209.6 MiB above 200; 208 is the next number of four binary digits."""
    assert workload.fitting_batch(line_of(200, 0), 512 * MIB) == 208


def test_the_first_pieces_are_one_example_and_an_eighth_of_what_is_expected() -> None:
    """One example shows that training takes 260 MiB before it begins, which leaves 149.6: 144, and 18."""
    assert workload.next_batch(line_of(200, 0), 512 * MIB) == 1
    assert workload.next_batch(line_of(260, 1, 1), 512 * MIB) == 18
    assert workload.next_batch(line_of(260, 1, 1, 18), 512 * MIB) == 36


def test_measurements_count_in_place_of_the_recipe() -> None:
    assert line_of(240, 3, 16).line() == pytest.approx(((240 + 2 * 16) * MIB, MIB))
    assert line_of(240, 3, 16, 32).line() == pytest.approx((240 * MIB, 3 * MIB))


def test_the_line_by_hand() -> None:
    """Points (1, 3), (3, 4) and (5, 8) that weigh 1 + 9/8, 3 and 5: means 289/81 and 467/81, slope 1381/1022."""
    model = workload.MemoryModel(0, 1).learned(1, 3).learned(3, 4).learned(5, 8)
    slope = 1381 / 1022
    assert model.line() == pytest.approx((467 / 81 - slope * 289 / 81, slope))


def test_what_was_measured_is_at_most_doubled_at_a_time() -> None:
    model = line_of(200, 0.125, 4, 8)
    assert workload.fitting_batch(model, 512 * MIB) == 1664
    assert workload.next_batch(model, 512 * MIB) == 16


def test_a_batch_of_little_memory_is_not_cut_even_where_nothing_is_free() -> None:
    assert workload.fitting_batch(line_of(300, 0, recipe_mib=1 / 16), 288 * MIB) == 8
    assert workload.fitting_batch(line_of(300, 4, 1, 2), 288 * MIB) == 1


def test_only_the_newest_measurement_of_a_size_counts_and_the_oldest_sizes_are_forgotten() -> None:
    model = line_of(200, 1, *range(1, 40)).learned(39, 300 * MIB).learned(39, 290 * MIB)
    assert [batch for batch, _ in model.points] == [1, *range(25, 40)]
    assert model.points[-1] == (39, 290 * MIB)


points = st.lists(st.tuples(st.integers(1, 2000), st.integers(1, 2**33)), max_size=20)
models = st.builds(
    lambda base, slope, measured: functools.reduce(
        lambda model, point: model.learned(*point), measured, workload.MemoryModel(base, slope)
    ),
    st.integers(0, 2**33),
    st.integers(1, 2**26),
    points,
)


@given(models, st.integers(1, 2**36), st.integers(1, 2**36))
def test_whatever_was_measured_more_memory_never_holds_less_and_more_examples_never_need_less(
    model: workload.MemoryModel, one: int, other: int
) -> None:
    base, slope = model.line()
    assert base >= -1e-6 * 2**33
    assert slope > 0
    less, more = (workload.fitting_batch(model, limit) for limit in sorted((one, other)))
    assert 1 <= less <= more <= workload.MAX_FITTING
    assert 1 <= workload.next_batch(model, one) <= workload.fitting_batch(model, one)


@given(st.floats(100, 1000), st.floats(0, 0.5), st.floats(1 / 8, 8), st.floats(1 / 6, 6), st.integers(0, 2**32 - 1))
def test_a_noisy_line_is_found_well_enough_to_fill_the_memory(
    base_mib: float, hidden: float, slope_mib: float, wrong: float, seed: int
) -> None:
    """A recipe that is wrong, memory that nobody foresaw, and peaks that are 2 % off, one way or the other.

    No piece is killed, and in the third order the peak is at 70 to 90 % of the limit.
    """
    rng, limit_mib = random.Random(seed), 2.5 * base_mib
    model = workload.MemoryModel(base_mib * MIB, wrong * slope_mib * MIB)
    for _ in range(3):
        peak_mib = largest = 0.0
        for _ in range(8):
            batch = workload.next_batch(model, int(limit_mib * MIB))
            needed_mib = (1 + hidden) * base_mib + slope_mib * batch
            assert needed_mib < limit_mib
            peak_mib = max(peak_mib, needed_mib * rng.uniform(0.98, 1.02))
            if batch >= largest:
                largest, model = batch, model.learned(batch, int(peak_mib * MIB))
    assert 0.7 * limit_mib <= peak_mib <= 0.9 * limit_mib


def test_a_small_batch_that_was_seen_to_fit_is_not_cut_by_a_line_through_noise() -> None:
    """At 8 examples 5 MiB more were in use than at 1; by that line not even one would fit."""
    noisy = workload.MemoryModel(280 * MIB, 64 * 1024).learned(1, 281 * MIB).learned(8, 286 * MIB)
    assert workload.fitting_batch(noisy, 288 * MIB) == 8
    assert workload.fitting_batch(noisy.learned(8, 288 * MIB), 288 * MIB) == 1
