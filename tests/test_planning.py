"""A plan is a pure function: pinned values hold, the past is heeded, and everyone gets a reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from factories import MIB, known, outcome, profile
from hypothesis import given
from hypothesis import strategies as st

from motley.device import DeviceProfile, Outcome, RoundPlan
from motley.knowledge import Knowledge
from motley.planning import FIRST_PATIENCE_S, Situation, plan_round
from motley.policies import POLICIES
from motley.spec import MEMORY_FLOOR_BYTES, Training
from motley.workload import steps_for

devices = st.lists(st.integers(1, 60).map("client-{}".format), min_size=1, max_size=12, unique=True)
policies = st.sampled_from(sorted(POLICIES))


def _plan(
    knowledge: Knowledge,
    gone: Sequence[str] = (),
    count: int | None = None,
    number: int = 1,
    seed: int = 0,
    draw: int = 0,
    **training: Any,
) -> RoundPlan:
    free = np.array([name not in gone for name in knowledge.names])
    unavailable = {"not connected": list(gone)} if gone else {}
    wanted = len(knowledge) if count is None else count
    training = {"policy": "random", **training}
    return plan_round(Training(**training), seed, knowledge, Situation(number, wanted, free, unavailable, draw))


def _many(names: Sequence[str]) -> Knowledge:
    return known(*(profile(each) for each in names))


@given(devices, policies, st.integers(1, 12), st.data())
def test_everyone_has_a_reason_and_only_the_free_get_orders(
    names: list[str], policy: str, wanted: int, data: st.DataObject
) -> None:
    gone = data.draw(st.sets(st.sampled_from(names)))
    plan = _plan(_many(names), sorted(gone), wanted, policy=policy)
    ordered = [each.device for each in plan.orders]
    left_out = [device for others in plan.left_out.values() for device in others]
    assert len(ordered) == len(set(ordered))
    assert sorted(ordered + left_out) == sorted(names)
    assert not gone & set(ordered)
    assert list(plan.reasons) == ordered
    assert all([*plan.reasons.values(), *plan.left_out])
    assert plan.quorum == 0 if not ordered else 1 <= plan.quorum <= len(ordered)


@given(devices, st.integers(1, 12))
def test_random_asks_as_many_as_are_wanted(names: list[str], wanted: int) -> None:
    assert len(_plan(_many(names), count=wanted).orders) == min(wanted, len(names))


@given(devices, policies, st.integers(0, 9), st.integers(1, 50))
def test_the_same_inputs_give_the_same_plan(names: list[str], policy: str, seed: int, number: int) -> None:
    def once() -> RoundPlan:
        return _plan(_many(names), count=max(1, len(names) // 2), number=number, seed=seed, policy=policy)

    assert once() == once()


def test_rounds_seeds_and_the_plans_of_a_round_draw_differently() -> None:
    knowledge = _many([f"client-{index}" for index in range(20)])

    def drawn(**how: int) -> tuple[str, ...]:
        return tuple(each.device for each in _plan(knowledge, count=5, **how).orders)

    assert len({drawn(number=number) for number in range(1, 8)}) > 3
    assert len({drawn(seed=seed) for seed in range(8)}) > 3
    assert len({drawn(draw=draw) for draw in range(8)}) > 3


def test_nobody_free_gives_an_empty_plan() -> None:
    plan = _plan(_many(["client-1"]), ["client-1"])
    assert (plan.orders, plan.quorum, plan.reasons) == ((), 0, {})
    assert plan.left_out == {"not connected": ["client-1"]}


def test_a_hundred_thousand_devices_are_planned() -> None:
    knowledge = known(profile("client-0"))
    columns = {name: column.repeat(100_000) for name, column in knowledge.state()["columns"].items()}
    knowledge.restore({"names": [f"client-{index}" for index in range(100_000)], "columns": columns})
    plan = _plan(knowledge, count=100, policy="oort")
    assert len(plan.orders) == 130
    assert sum(map(len, plan.left_out.values())) == 99_870


def test_the_device_class_pins_over_the_fleet_and_both_over_the_automatic() -> None:
    knowledge = known(profile("free"), profile("pinned", pinned_batch_size=100, pinned_learning_rate=0.5))
    automatic = {each.device: each for each in _plan(knowledge).orders}
    fleetwide = {each.device: each for each in _plan(knowledge, batch_size=16, learning_rate=0.02).orders}
    assert (automatic["free"].batch_size, automatic["free"].learning_rate) == (32, pytest.approx(0.1))
    assert (fleetwide["free"].batch_size, fleetwide["free"].learning_rate) == (16, 0.02)
    for orders in (automatic, fleetwide):
        assert (orders["pinned"].batch_size, orders["pinned"].learning_rate) == (100, 0.5)


def test_out_of_memory_lowers_a_batch_that_is_not_pinned_and_the_rate_with_it() -> None:
    knowledge = known(profile("free", memory_bytes=1024 * MIB), profile("pinned", pinned_batch_size=32))
    for device in ("free", "pinned"):
        knowledge.learn(outcome(device, Outcome.OUT_OF_MEMORY, batch_size=32))
    free, pinned = _plan(knowledge).orders
    assert (free.batch_size, pinned.batch_size) == (16, 32)
    assert free.physical_batch == pinned.physical_batch == 16
    assert free.learning_rate == pytest.approx(0.1 * (16 / 32) ** 0.5)


def test_a_limit_above_the_batch_changes_nothing() -> None:
    knowledge = known(profile())
    knowledge.learn(outcome(kind=Outcome.OUT_OF_MEMORY, batch_size=1024))
    assert _plan(knowledge).orders[0].batch_size == 32


def test_steps_are_the_passes_over_the_device_s_examples() -> None:
    knowledge = known(profile("a", examples=400), profile("b", examples=33), profile("c", examples=5))
    orders = {each.device: each for each in _plan(knowledge, batch_size=32, local_epochs=3).orders}
    assert {name: each.steps for name, each in orders.items()} == {"a": 39, "b": 6, "c": 3}


PAST = {"client-1": (1.0, 2.0), "client-2": (9.0, 10.0)}
"""Two devices that trained for 1 s and 9 s on their 400 examples, and spent 1 s on the way."""

TWO = (profile("client-1"), profile("client-2"))


def test_the_deadline_waits_for_the_slowest_of_those_picked() -> None:
    plan = _plan(known(*TWO, **PAST))
    assert plan.deadline_s == pytest.approx(5 + 3 * 10)
    assert {each.deadline_s for each in plan.orders} == {plan.deadline_s}


def test_what_is_expected_is_what_was_measured_for_the_examples_ordered() -> None:
    """13 steps of 32 are one pass over 400 examples: the last batch is a half."""
    orders = {each.device: each for each in _plan(known(*TWO, **PAST)).orders}
    assert orders["client-1"].expected_s == pytest.approx(1 + 1.0)
    assert orders["client-2"].expected_s == pytest.approx(1 + 9.0)


def test_the_deadline_ignores_those_who_are_not_picked() -> None:
    plan = _plan(known(*TWO, **PAST), count=1, policy="fastest")
    assert plan.deadline_s == pytest.approx(5 + 3 * 2)


def test_one_unknown_device_means_patience_and_a_fixed_deadline_wins() -> None:
    knowledge = known(*TWO, **{"client-1": PAST["client-1"]})
    assert _plan(knowledge).deadline_s == FIRST_PATIENCE_S
    assert _plan(knowledge, deadline="30s").deadline_s == 30.0


def test_patience_with_the_unknown_grows_where_their_profile_says_that_they_are_slow() -> None:
    """400 examples of 1 ms, at a hundredth of the reference speed, are 40 s; the way is 0.02 s."""
    plan = _plan(known(profile(gflops=0.5)))
    assert plan.deadline_s == pytest.approx(10 * 40.02)


@pytest.mark.parametrize(("quorum", "replies"), [(1.0, 5), (0.5, 2), (0.8, 4), (0.01, 1)])
def test_the_quorum_is_a_share_of_the_orders_and_never_none(quorum: float, replies: int) -> None:
    assert _plan(_many([f"client-{index}" for index in range(5)]), quorum=quorum).quorum == replies


def test_a_policy_that_keeps_the_first_sets_the_quorum() -> None:
    plan = _plan(_many([f"client-{index}" for index in range(20)]), count=10, policy="over_commit")
    assert (len(plan.orders), plan.quorum) == (13, 10)


def test_fair_reads_the_turns_from_what_is_known() -> None:
    knowledge = known(*TWO)
    for number, row in ((1, 0), (2, 0), (3, 1)):
        knowledge.select([row], number)
    plan = _plan(knowledge, count=1, policy="fair")
    assert [each.device for each in plan.orders] == ["client-2"]
    assert list(plan.left_out.values()) == [["client-1"]]


STEP_S = {"client-1": 32 * 1.0 / 400, "client-2": 32 * 9.0 / 400}


def test_partial_work_stops_in_time_for_the_last_step_and_the_upload() -> None:
    """The way is 1 s, half of it back; a tenth more of that, and of a step, is kept."""
    plan = _plan(known(*TWO, **PAST), policy="fedprox", deadline="8s")
    for each in plan.orders:
        assert each.stop_after_s == pytest.approx(8 - 1.1 * (0.5 + STEP_S[each.device]))
    assert {each.steps for each in plan.orders} == {13}
    assert {each.proximal for each in plan.orders} == {0.01}
    assert plan.deadline_s == 8.0


def test_partial_work_without_a_deadline_ends_at_the_median_of_what_is_expected() -> None:
    plan = _plan(known(*TWO, **PAST), policy="fedprox")
    assert plan.deadline_s == pytest.approx((2 + 10) / 2)
    for each in plan.orders:
        assert each.stop_after_s == pytest.approx(6 - 1.1 * (0.5 + STEP_S[each.device]))


def test_whole_work_has_no_time_to_stop() -> None:
    orders = _plan(known(*TWO, **PAST), deadline="8s").orders
    assert {(each.stop_after_s, each.proximal) for each in orders} == {(None, 0.0)}


def test_the_file_s_proximal_term_goes_over_the_policy_s() -> None:
    assert _plan(known(*TWO), policy="fedprox", proximal=0.5).orders[0].proximal == 0.5
    assert _plan(known(*TWO), policy="random", proximal=0.5).orders[0].proximal == 0.5


rates = st.one_of(st.just(0.0), st.floats(1e4, 1e9))


@given(
    st.lists(
        st.builds(profile, examples=st.integers(1, 5000), gflops=st.floats(0.1, 500), up_bits_per_s=rates),
        min_size=1,
        max_size=6,
    ),
    st.floats(0.1, 1000),
)
def test_sized_work_fits_the_shared_time_and_leaves_no_room_for_a_step_more(
    profiles: list[DeviceProfile], time_s: float
) -> None:
    named = [DeviceProfile(**{**each.as_mapping(), "device": f"c-{row}"}) for row, each in enumerate(profiles)]
    knowledge = known(*named)
    sized = _plan(knowledge, local_work="sized", deadline=f"{time_s:.6f}s")
    down_s, up_s = knowledge.transfer_s()
    for each in sized.orders:
        row = knowledge.row(each.device)
        step_s = float(knowledge.example_s()[row]) * each.batch_size
        transfer_s = float(down_s[row] + up_s[row])
        most = steps_for(int(knowledge.column("examples")[row]), each.batch_size, 1)
        assert each.expected_s is not None
        assert 1 <= each.steps <= most
        assert each.steps == 1 or each.expected_s <= sized.deadline_s * (1 + 1e-9)
        assert each.steps == most or transfer_s + (each.steps + 1) * step_s > sized.deadline_s * (1 - 1e-9)


def test_sized_work_survives_a_device_that_says_it_took_no_time() -> None:
    knowledge = known(*TWO, **{"client-1": (0.0, 0.0), "client-2": (0.0, 0.0)})
    assert {each.steps for each in _plan(knowledge, local_work="sized", deadline="8s").orders} == {13}


@pytest.mark.parametrize(
    ("room_bytes", "width"),
    [(5 * 10**6, 1.0), (4 * 10**6, 1.0), (4 * 10**6 - 1, 0.5), (10**6, 0.5), (250_000, 0.25), (1, 1 / 16)],
)
def test_a_width_is_the_widest_that_fits_above_the_floor(room_bytes: int, width: float) -> None:
    """Four copies of a model of a megabyte, times the square of the width."""
    knowledge = known(profile(memory_bytes=MEMORY_FLOOR_BYTES + room_bytes))
    if room_bytes == 1:
        knowledge = known(profile(memory_bytes=MEMORY_FLOOR_BYTES + 4 * 10**6 // 256))
    assert _plan(knowledge, policy="heterofl").orders[0].width == width
    assert _plan(knowledge, policy="random").orders[0].width == 1.0
    assert _plan(knowledge, policy="random", width="auto").orders[0].width == width


@pytest.mark.parametrize(
    ("up_bits_per_s", "scheme"), [(0.0, "none"), (8e9, "none"), (8e6 / 2, "int8"), (8e6 / 40, "topk")]
)
def test_compression_follows_the_link(up_bits_per_s: float, scheme: str) -> None:
    """2 s of training and a model of a megabyte: up in nothing, a millisecond, 2 s or 40 s."""
    knowledge = known(profile(up_bits_per_s=up_bits_per_s))
    assert _plan(knowledge, compression="auto").orders[0].compression == scheme
    assert _plan(knowledge, compression="int8").orders[0].compression == "int8"
    assert _plan(knowledge).orders[0].compression == "none"


def test_buffered_pacing_has_patience_with_each_device() -> None:
    assert _plan(known(*TWO, **PAST), policy="fedbuff").deadline_s == pytest.approx(5 + 3 * 10)


def test_what_a_policy_remembers_comes_back_to_it() -> None:
    first = _plan(known(*TWO, **PAST), policy="oort", count=1)
    assert first.state
    free = np.ones(2, bool)
    situation = Situation(2, 1, free, state=first.state, last_round_s=4.0)
    second = plan_round(Training(policy="oort"), 0, known(*TWO, **PAST), situation)
    assert second.state.keys() == first.state.keys()
    assert second.state != first.state
