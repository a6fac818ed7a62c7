"""What is learned of devices: measured against their own profile, guessed from the others where nothing is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from factories import outcome, profile, task_figures
from hypothesis import given
from hypothesis import strategies as st

from motley.device import Outcome, RoundOutcome
from motley.knowledge import Knowledge
from motley.spec import MEMORY_FLOOR_BYTES

EXAMPLE_S = 0.005
"""Of the usual profile: 1 ms at the reference speed of 50, at a speed of 10."""


def known(*devices: str, **changes: Any) -> Knowledge:
    knowledge = Knowledge(task_figures())
    for device in devices:
        knowledge.join(profile(device, **changes))
    return knowledge


def trained(device: str, factor: float, **changes: Any) -> RoundOutcome:
    """100 examples in `factor` times what the profile lets expect."""
    wall_s = 100 * EXAMPLE_S * factor
    return outcome(device, **{"examples": 100, "wall_s": wall_s, "round_trip_s": wall_s + 0.02, **changes})


def test_before_the_first_round_the_profile_is_all_there_is() -> None:
    knowledge = known("a", down_bits_per_s=8e6, up_bits_per_s=4e6, latency_s=0.05)
    down_s, up_s = knowledge.transfer_s()
    assert knowledge.example_s().tolist() == [pytest.approx(EXAMPLE_S)]
    assert (down_s[0], up_s[0]) == (pytest.approx(1.06), pytest.approx(2.06))


def test_a_link_that_is_not_shaped_costs_next_to_nothing() -> None:
    down_s, up_s = known("a").transfer_s()
    assert down_s[0] == up_s[0] == pytest.approx(0.01)


def test_a_device_is_measured_against_its_own_profile() -> None:
    knowledge = known("a", "b")
    knowledge.learn(trained("a", 3.0))
    assert knowledge.example_s()[0] == pytest.approx(3 * EXAMPLE_S)


def test_those_who_were_never_tried_are_like_the_median_of_the_others() -> None:
    knowledge = known("a", "b", "c", "d")
    for device, factor in (("a", 1.0), ("b", 2.0), ("c", 30.0)):
        knowledge.learn(trained(device, factor))
    assert knowledge.example_s() / EXAMPLE_S == pytest.approx([1.0, 2.0, 30.0, 2.0])


def test_the_newest_weighs_three_tenths() -> None:
    knowledge = known("a")
    for factor in (1.0, 2.0):
        knowledge.learn(trained("a", factor))
    assert knowledge.example_s()[0] == pytest.approx(1.3 * EXAMPLE_S)


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=20))
def test_the_moving_average_stays_among_the_values_it_saw(factors: list[float]) -> None:
    knowledge = known("a")
    for factor in factors:
        knowledge.learn(trained("a", factor))
    learned = knowledge.example_s()[0] / EXAMPLE_S
    assert min(factors) * (1 - 1e-9) <= learned <= max(factors) * (1 + 1e-9)


def test_a_link_is_measured_by_the_bytes_that_really_travelled() -> None:
    """A quarter of a megabyte up in twice the time that it should take; so a whole one takes twice as long too."""
    knowledge = known("a", down_bits_per_s=8e6, up_bits_per_s=8e6)
    expected_s = (1.0 + 0.01) + (0.25 + 0.01)
    knowledge.learn(outcome("a", wall_s=1.0, round_trip_s=1.0 + 2 * expected_s, down_bytes=10**6, up_bytes=250_000))
    down_s, up_s = knowledge.transfer_s()
    assert (down_s[0], up_s[0]) == (pytest.approx(2.02), pytest.approx(2.02))


def test_late_work_teaches_as_much_as_work_in_time_and_failures_nothing_about_speed() -> None:
    knowledge = known("late", "lost", "killed")
    knowledge.learn(trained("late", 5.0, kind=Outcome.LATE))
    knowledge.learn(outcome("lost", Outcome.LATE, examples=0, wall_s=0.0, train_loss=None))
    knowledge.learn(trained("killed", 9.0, kind=Outcome.OUT_OF_MEMORY, batch_size=64))
    tried = knowledge.pool(np.ones(3, bool), 1).tried
    assert tried.tolist() == [True, False, False]
    assert knowledge.column("batch_limit").tolist() == [0, 0, 32]


def test_a_batch_limit_is_never_below_one() -> None:
    knowledge = known("a")
    knowledge.learn(outcome("a", Outcome.OUT_OF_MEMORY, batch_size=1))
    assert knowledge.column("batch_limit").tolist() == [1]


def test_a_device_that_is_killed_again_with_the_same_batch_is_cut_further() -> None:
    knowledge = known("a")
    for _ in range(3):
        knowledge.learn(outcome("a", Outcome.OUT_OF_MEMORY, batch_size=64))
    assert knowledge.column("batch_limit").tolist() == [8]


def test_losses_and_accuracy_are_the_last_reported() -> None:
    knowledge = known("a", "b")
    knowledge.learn(outcome("a", train_loss=0.5, squared_loss=0.75, accuracy=0.25))
    knowledge.learn(outcome("a", train_loss=0.4, squared_loss=None, accuracy=0.5))
    pool = knowledge.pool(np.ones(2, bool), 1)
    assert (pool.loss[0], pool.squared_loss[0], pool.accuracy[0]) == (0.4, 0.75, 0.5)
    assert np.isnan([pool.loss[1], pool.squared_loss[1], pool.accuracy[1]]).all()


def test_the_pool_is_what_a_policy_sees() -> None:
    knowledge = known("a", "b", examples=400)
    knowledge.select([1], 4)
    knowledge.look(np.array([True, True]))
    knowledge.look(np.array([True, False]))
    knowledge.set_battery("a", 0.5, charging=True)
    pool = knowledge.pool(np.array([True, False]), local_epochs=3)
    assert pool.free.tolist() == [True, False]
    assert pool.compute_s.tolist() == [pytest.approx(3 * 400 * EXAMPLE_S)] * 2
    assert pool.duration_s[0] == pytest.approx(6.02)
    assert (pool.selected.tolist(), pool.last_selected.tolist()) == ([0, 1], [0, 4])
    assert pool.ready.tolist() == [1.0, pytest.approx(2 / 3)]
    assert (pool.battery[0], pool.charging[0]) == (0.5, True)
    assert np.isnan(pool.battery[1])


@pytest.mark.parametrize("devices", [1, 2])
def test_to_look_at_the_pool_changes_nothing(devices: int) -> None:
    knowledge = known(*(f"client-{index}" for index in range(devices)))
    for _ in range(2):
        pool = knowledge.pool(np.ones(devices, bool), 1)
        assert not pool.tried.any()
        pool.selected[:] = 9
        pool.loss[:] = 9
    assert knowledge.column("selected").tolist() == [0] * devices


@pytest.mark.parametrize("kind", [Outcome.BATTERY_EMPTY, Outcome.TOO_HOT])
def test_a_device_that_stopped_rests_until_its_profile_says_otherwise(kind: Outcome) -> None:
    knowledge = known("a", "b")
    knowledge.learn(outcome("a", kind))
    assert knowledge.resting() == ["a"]
    knowledge.join(profile("a", resting=True))
    assert knowledge.resting() == ["a"]
    knowledge.join(profile("a"))
    assert knowledge.resting() == []


def test_a_device_that_comes_back_keeps_what_was_learned_and_renews_its_profile() -> None:
    knowledge = known("a", "b")
    knowledge.learn(trained("a", 3.0))
    assert knowledge.join(profile("a", gflops=20.0, battery_level=0.7, charging=True)) == 0
    assert (len(knowledge), knowledge.names) == (2, ["a", "b"])
    assert knowledge.example_s()[0] == pytest.approx(3 * EXAMPLE_S / 2)
    assert knowledge.column("battery")[0] == pytest.approx(0.7)
    assert knowledge.column("charging").tolist() == [True, False]


def test_the_state_comes_back_whole() -> None:
    first = known(*(f"client-{index}" for index in range(40)))
    first.learn(trained("client-3", 3.0, squared_loss=0.5))
    first.select([3, 5], 7)
    first.look(np.ones(40, bool))
    second = Knowledge(task_figures())
    second.restore(first.state())
    for knowledge in (first, second):
        knowledge.join(profile("one-more", examples=7))
        knowledge.learn(trained("client-3", 1.0))
    assert second.names == first.names
    assert second.row("one-more") == 40
    pools = [each.pool(np.ones(41, bool), 2) for each in (first, second)]
    for name, column in vars(pools[0]).items():
        np.testing.assert_array_equal(column, getattr(pools[1], name), err_msg=name)


@pytest.mark.parametrize(("width", "need_mb"), [(1.0, 4 + 8 * 1), (0.5, 1 + 8 * 0.5), (0.25, 0.25 + 8 * 0.25)])
def test_the_need_of_a_model_shrinks_with_the_square_and_its_activations_with_the_width(
    width: float, need_mb: float
) -> None:
    task = task_figures(model_bytes=10**6, bytes_per_example=10**6)
    assert task.need_bytes(width) == MEMORY_FLOOR_BYTES + need_mb * 10**6
