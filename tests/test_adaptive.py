"""Motley's own policy, part by part, against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from factories import known, profile
from hypothesis import given
from hypothesis import strategies as st
from pools import pool, turn

from motley.aggregation import AGGREGATIONS, Terms, Update
from motley.aggregation.adaptive import SERVED
from motley.policies import AdaptiveOptions
from motley.selection import SELECTIONS
from motley.selection.adaptive import LEAD, MOST_BEHIND
from motley.selection.base import Picks
from motley.sizing import LEAST_STEPS, shared_time_s
from motley.spec import Training
from motley.workload import effective_steps, processed, quick_batch_size

MODEL = {"w": np.zeros(2, np.float32)}


def pick(made: object, count: int, **options: float) -> Picks:
    return SELECTIONS["adaptive"](made, turn(count, "adaptive", options=AdaptiveOptions(**options)))


def update(value: float, **changes: float) -> Update:
    known_: dict[str, float] = {"examples": 10, "steps": 4, "share": 0.5}
    return Update(delta={"w": np.full(2, value, np.float32)}, **{**known_, **changes})


def aggregate(updates: list[Update], state: object = None, **options: float) -> tuple[float, dict[str, object]]:
    terms = Terms(AdaptiveOptions(**options), 0.9, state or {})
    model, after = AGGREGATIONS["adaptive"](MODEL, updates, terms)
    return float(model["w"][0]), dict(after)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.integers(0, 40), st.floats(0, 1))
def test_nobody_gets_a_second_turn_while_another_waits_for_the_first(
    turns: list[int], count: int, value: float
) -> None:
    rows = pick(pool(len(turns), selected=turns), count, value=value).rows.tolist()
    near = [each for each in turns if each + 1 <= LEAD * (min(turns) + 1)]
    assert len(set(rows)) == min(count, len(near))
    behind = max(0, int(np.median(near)) - MOST_BEHIND)
    taken = [max(turns[row], behind) for row in rows]
    left = [max(each, behind) for row, each in enumerate(turns) if row not in rows]
    assert not taken or not left or max(taken) <= min(left)


def test_whoever_is_far_ahead_rests_until_the_others_have_caught_up() -> None:
    assert pick(pool(3, selected=[9, 2, 3], free=[1, 0, 1], at_work=[0, 1, 0]), 3).rows.tolist() == [2]
    assert pick(pool(2, selected=[9, 2], free=[1, 0], at_work=[0, 1]), 3).rest == "far ahead of others"


def test_nobody_waits_for_those_who_are_away_overdue_flat_or_new() -> None:
    assert pick(pool(2, selected=[9, 0], free=[1, 0]), 2).rows.tolist() == [0]
    assert pick(pool(2, selected=[9, 0], battery=[1.0, 0.01]), 2).rows.tolist() == [0]
    assert pick(pool(2, selected=[9, 0], free=[1, 0], at_work=[0, 1], ready=[1.0, 0.25]), 2).rows.tolist() == [0]


def test_within_a_turn_the_one_with_most_to_teach_comes_first() -> None:
    made = pool(3, squared_loss=[0.01, 4.0, 1.0], examples=[10, 10, 10])
    assert pick(made, 3, value=1.0).rows.tolist() == [1, 2, 0]


def test_a_device_that_is_seldom_there_comes_before_an_equal_one() -> None:
    assert pick(pool(2, ready=[1.0, 0.1]), 1, value=1.0).rows.tolist() == [1]


def test_below_the_floor_a_device_rests_unless_it_charges() -> None:
    made = pool(3, battery=[0.1, 0.1, np.nan], charging=[False, True, False])
    assert sorted(pick(made, 3).rows.tolist()) == [1, 2]
    assert len(pick(pool(1, battery=[0.1]), 1).rows) == 0


def test_an_update_weighs_its_data_and_loses_weight_with_age() -> None:
    """Shares 0.75 and 0.25, the second three versions old: weights 0.75 and 0.25·4^-½ = 0.125."""
    value, _ = aggregate([update(1.0, share=0.75), update(8.0, share=0.25, staleness=3)], averaging=0.0)
    assert value == pytest.approx((0.75 * 1 + 0.125 * 8) / 0.875)


def test_short_runs_are_scaled_up_and_long_ones_down() -> None:
    """Steps 1 and 9 about a mean of 5: at an exponent of ½ by √5 and by √(5/9)."""
    value, _ = aggregate([update(1.0, steps=1), update(1.0, steps=9)], normalisation=0.5, averaging=0.0)
    assert value == pytest.approx((5**0.5 + (5 / 9) ** 0.5) / 2)


def test_what_is_served_is_an_average_that_starts_short() -> None:
    """The past weighs min(0.9, 1/10) in the first version and min(0.9, 2/11) in the second."""
    first, state = aggregate([update(1.0)])
    assert first == 1.0
    assert state[SERVED]["w"][0] == pytest.approx(0.9)
    _, state = aggregate([update(1.0)], state)
    assert state[SERVED]["w"][0] == pytest.approx(2 / 11 * 0.9 + 9 / 11)
    assert SERVED not in aggregate([update(1.0)], averaging=0.0)[1]


@pytest.mark.parametrize(("steps", "momentum", "plain"), [(1, 0.9, 1.0), (3, 0.0, 3.0), (2, 0.5, 2.5), (3, 0.5, 4.25)])
def test_effective_steps(steps: int, momentum: float, plain: float) -> None:
    """With ρ = ½, three steps move 1 + 1.5 + 1.75."""
    assert effective_steps(steps, momentum) == pytest.approx(plain)


@pytest.mark.parametrize(("example_s", "batch"), [(0.176, 2), (0.001, 8), (0.0025, 2), (0.0024, 4), (0.0, 256)])
def test_batches_are_as_small_as_a_step_of_five_milliseconds_allows(example_s: float, batch: int) -> None:
    assert quick_batch_size(example_s, 2) == batch


@given(st.integers(1, 200), st.integers(1, 64), st.integers(0, 300))
def test_processed_counts_what_the_batches_hold(examples: int, batch: int, steps: int) -> None:
    sizes = [min(batch, examples - start) for start in range(0, examples, batch)]
    assert processed(examples, batch, steps) == sum(sizes[step % len(sizes)] for step in range(steps))


def shared(**training: object) -> float:
    """Of one device: 400 examples of 2 ms, so 0.8 s a pass; 0.02 s of transfers."""
    made = known(profile(gflops=25.0)).pool(np.ones(1, bool), int(training.get("local_epochs", 5)))
    return shared_time_s(made, Training(policy="adaptive", local_epochs=5, **training))


def test_an_order_takes_the_time_of_some_passes_of_a_median_device() -> None:
    assert shared() == pytest.approx(0.02 + 0.7 * 0.8)
    assert shared(options={"passes": 2.0}) == pytest.approx(0.02 + 2 * 0.8)


def test_a_pinned_batch_makes_it_longer_so_that_there_are_steps_enough() -> None:
    assert shared(batch_size=200) == pytest.approx(0.02 + LEAST_STEPS * 200 * 0.002)
