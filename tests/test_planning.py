"""A plan is a pure function: pinned values hold, the past is heeded, and everyone gets a reason."""

from __future__ import annotations

from typing import Any

import pytest
from factories import MIB, profile
from hypothesis import given
from hypothesis import strategies as st

from motley.device import DeviceProfile, RoundPlan
from motley.planning import FIRST_DEADLINE_S, NO_HISTORY, DeviceHistory, plan_round
from motley.spec import POLICIES, Training

devices = st.lists(st.integers(1, 60).map("client-{}".format), min_size=1, max_size=12, unique=True)


def _plan(
    profiles: list[DeviceProfile],
    history: dict[str, DeviceHistory] | None = None,
    unavailable: dict[str, str] | None = None,
    number: int = 1,
    seed: int = 0,
    rate: float = 0.1,
    **training: Any,
) -> RoundPlan:
    known = {each.device: each for each in profiles}
    return plan_round(number, Training(**training), seed, rate, known, history or {}, unavailable or {})


@given(devices, st.sampled_from(POLICIES), st.integers(1, 12), st.data())
def test_everyone_has_a_reason_and_only_the_available_get_orders(
    names: list[str], policy: str, wanted: int, data: st.DataObject
) -> None:
    gone = data.draw(st.sets(st.sampled_from(names)))
    plan = _plan(
        [profile(each) for each in names],
        unavailable=dict.fromkeys(gone, "not connected"),
        policy=policy,
        devices_per_round=wanted,
    )
    ordered = [each.device for each in plan.orders]
    assert len(ordered) == len(set(ordered)) == min(wanted, len(names) - len(gone))
    assert not gone & set(ordered)
    assert plan.reasons.keys() == set(names)
    assert all(plan.reasons.values())
    assert {plan.reasons[each] for each in gone} <= {"not connected"}


@given(devices, st.sampled_from(POLICIES), st.integers(0, 9), st.integers(1, 50))
def test_the_same_inputs_give_the_same_plan(names: list[str], policy: str, seed: int, number: int) -> None:
    profiles = [profile(each) for each in names]

    def once(order: list[DeviceProfile]) -> RoundPlan:
        return _plan(order, number=number, seed=seed, policy=policy, devices_per_round=max(1, len(names) // 2))

    assert once(profiles) == once(profiles)
    assert once(profiles) == once(profiles[::-1])


def test_rounds_and_seeds_draw_differently() -> None:
    profiles = [profile(f"client-{index}") for index in range(20)]

    def drawn(number: int, seed: int) -> tuple[str, ...]:
        plan = _plan(profiles, number=number, seed=seed, devices_per_round=5)
        return tuple(each.device for each in plan.orders)

    assert len({drawn(number, 0) for number in range(1, 8)}) > 3
    assert len({drawn(1, seed) for seed in range(8)}) > 3


def test_nobody_free_gives_an_empty_plan() -> None:
    plan = _plan([profile("client-1")], unavailable={"client-1": "not connected"})
    assert (plan.orders, plan.quorum, plan.reasons) == ((), 0, {"client-1": "not connected"})


def test_the_device_class_pins_over_the_fleet_and_both_over_the_automatic() -> None:
    profiles = [profile("free"), profile("pinned", pinned_batch_size=100, pinned_learning_rate=0.5)]
    automatic = {each.device: each for each in _plan(profiles).orders}
    fleetwide = {each.device: each for each in _plan(profiles, batch_size=16, learning_rate=0.02).orders}
    assert (automatic["free"].batch_size, automatic["free"].learning_rate) == (32, pytest.approx(0.1))
    assert (fleetwide["free"].batch_size, fleetwide["free"].learning_rate) == (16, 0.02)
    for orders in (automatic, fleetwide):
        assert (orders["pinned"].batch_size, orders["pinned"].learning_rate) == (100, 0.5)


def test_out_of_memory_lowers_the_batch_even_a_pinned_one_and_the_rate_with_it() -> None:
    past = {"client-1": DeviceHistory(batch_limit=16)}
    free = _plan([profile(memory_bytes=1024 * MIB)], past).orders[0]
    pinned = _plan([profile(pinned_batch_size=256)], past).orders[0]
    assert free.batch_size == pinned.batch_size == 16
    assert free.learning_rate == pytest.approx(0.1 * (16 / 32) ** 0.5)


def test_a_limit_above_the_batch_changes_nothing() -> None:
    assert _plan([profile()], {"client-1": DeviceHistory(batch_limit=512)}).orders[0].batch_size == 32


def test_the_deadline_waits_for_the_slowest_of_those_picked() -> None:
    past = {"client-1": DeviceHistory(1, 2.0), "client-2": DeviceHistory(1, 10.0)}
    plan = _plan([profile("client-1"), profile("client-2")], past)
    assert plan.deadline_s == pytest.approx(5 + 3 * 10)
    assert {each.deadline_s for each in plan.orders} == {plan.deadline_s}
    assert [each.expected_s for each in plan.orders] == [2.0, 10.0]


def test_the_deadline_ignores_those_who_are_not_picked() -> None:
    past = {"client-1": DeviceHistory(1, 2.0), "client-2": DeviceHistory(1, 10.0)}
    plan = _plan([profile("client-1"), profile("client-2")], past, policy="fastest", devices_per_round=1)
    assert plan.deadline_s == pytest.approx(5 + 3 * 2)


def test_one_unknown_device_means_patience_and_a_fixed_deadline_wins() -> None:
    profiles, past = [profile("client-1"), profile("client-2")], {"client-1": DeviceHistory(1, 2.0)}
    assert _plan(profiles, past).deadline_s == FIRST_DEADLINE_S
    assert _plan(profiles, past, deadline="30s").deadline_s == 30.0


@pytest.mark.parametrize(("quorum", "replies"), [(1.0, 5), (0.5, 2), (0.8, 4), (0.01, 1)])
def test_the_quorum_is_a_share_of_the_orders_and_never_none(quorum: float, replies: int) -> None:
    assert _plan([profile(f"client-{index}") for index in range(5)], quorum=quorum).quorum == replies


def test_fair_reads_the_turns_from_the_history() -> None:
    past = {"client-1": DeviceHistory(selected=3), "client-2": DeviceHistory(selected=1)}
    plan = _plan([profile("client-1"), profile("client-2")], past, policy="fair", devices_per_round=1)
    assert [each.device for each in plan.orders] == ["client-2"]
    assert plan.reasons["client-1"] == "not picked by 'fair'"


@given(st.lists(st.floats(0.1, 1000), min_size=1, max_size=30))
def test_the_moving_average_stays_among_the_values_it_saw(seconds: list[float]) -> None:
    past = NO_HISTORY
    for value in seconds:
        past = DeviceHistory(expected_s=past.after_round_trip(value))
    assert min(seconds) * (1 - 1e-9) <= (past.expected_s or 0) <= max(seconds) * (1 + 1e-9)


def test_the_newest_round_trip_weighs_three_tenths() -> None:
    assert DeviceHistory(expected_s=10.0).after_round_trip(20.0) == pytest.approx(13.0)
