"""The registry in a running server: devices come, are reserved with each plan, given back with each reply, and go."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from factories import MIB, outcome, plan, profile
from hypothesis import given, settings
from hypothesis import strategies as st

from motley.clock import ManualClock
from motley.device import REPLY_GRACE_S, Outcome
from motley.registry import Amounts, Quota, Registry, Reservation
from server.resources import Registered, Unlimited

NEED = 400 * MIB


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1000.0)


@pytest.fixture
def registry(tmp_path: Path, clock: ManualClock) -> Iterator[Registry]:
    with closing(Registry(tmp_path / "history.db", clock)) as opened:
        yield opened


def registered(registry: Registry, *devices: str, run_id: str = "7") -> Registered:
    resources = Registered(registry, run_id, lambda width: int(NEED * width))
    for device in devices:
        resources.join(profile(device))
    return resources


def test_an_order_holds_the_cores_and_the_memory_that_it_needs(registry: Registry) -> None:
    resources = registered(registry, "a", "b")
    assert resources.admit(plan(1, "a")) == plan(1, "a")
    (held,) = registry.reservations()
    whole = profile("a")
    assert (held.device, held.task) == ("a", "7")
    assert held.needs == Amounts(whole.cpus, min(NEED, whole.memory_bytes))
    assert held.expires_s - held.granted_s == plan(1, "a").orders[0].deadline_s + REPLY_GRACE_S


def test_what_others_hold_is_left_out_with_what_is_short(registry: Registry) -> None:
    resources = registered(registry, "a", "b")
    other = registry.reserve("a", "another run", Amounts(profile("a").cpus), 60.0)
    assert isinstance(other, Reservation)
    admitted = resources.admit(plan(1, "a", "b", left_out={"busy": ["c"]}))
    assert [order.device for order in admitted.orders] == ["b"]
    assert admitted.reasons.keys() == {"b"}
    assert admitted.quorum == 1
    assert admitted.left_out["busy"] == ["c"]
    (reason,) = [reason for reason, devices in admitted.left_out.items() if list(devices) == ["a"]]
    assert reason.startswith("reserved by others: cores: ")


def test_a_reply_gives_back_and_tells_how_it_went(registry: Registry) -> None:
    resources = registered(registry, "a")
    before = registry.fitness(Amounts(0.1))["a"]
    resources.admit(plan(1, "a"))
    resources.settle("a", outcome("a", Outcome.CRASHED, examples=0, wall_s=0.0))
    assert registry.reservations() == []
    assert registry.fitness(Amounts(0.1))["a"] < before


def test_without_a_reply_the_lease_ends(registry: Registry, clock: ManualClock) -> None:
    resources = registered(registry, "a")
    resources.admit(plan(1, "a"))
    clock.sleep(plan(1, "a").orders[0].deadline_s + REPLY_GRACE_S + 1)
    assert registry.reservations() == []


def test_a_device_that_has_gone_is_not_there_until_it_is_back(registry: Registry) -> None:
    resources = registered(registry, "a", "b")
    resources.see(["a"])
    assert [order.device for order in resources.admit(plan(1, "a", "b")).orders] == ["a"]
    resources.see(["a", "b"])
    assert [order.device for order in resources.admit(plan(2, "b")).orders] == ["b"]


def test_a_run_that_starts_again_takes_back_what_it_held(registry: Registry) -> None:
    registered(registry, "a").admit(plan(1, "a"))
    again = registered(registry, "a")
    assert registry.reservations() == []
    assert [order.device for order in again.admit(plan(2, "a")).orders] == ["a"]


def test_a_device_of_another_speed_than_it_had_is_to_be_measured_anew(registry: Registry) -> None:
    resources = registered(registry, "a", "b")
    for seconds in (1.0, 1.0, 1.0, 1.0, *([4.0] * 8)):
        resources.settle("a", outcome("a", examples=400, wall_s=seconds))
        resources.settle("b", outcome("b", examples=400, wall_s=1.0))
    assert resources.due_for_profile() == ["a"]
    resources.see(["b"])
    assert resources.due_for_profile() == []
    resources.see(["a", "b"])
    resources.join(profile("a"))
    assert resources.due_for_profile() == []


def test_pauses_are_no_change_of_speed(registry: Registry) -> None:
    resources = registered(registry, "a")
    for paused_s in (0.0, 0.0, 0.0, *([9.0] * 8)):
        resources.settle("a", outcome("a", examples=400, wall_s=1.0 + paused_s, paused_s=paused_s))
    assert resources.due_for_profile() == []


@settings(max_examples=30, deadline=None)
@given(steps=st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.floats(0, 200)), max_size=30))
def test_whatever_happens_nothing_is_held_in_the_end(
    steps: list[tuple[str, bool, float]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    clock = ManualClock(1000.0)
    with closing(Registry(tmp_path_factory.mktemp("r") / "history.db", clock)) as registry:
        resources = registered(registry, "a", "b", "c")
        for number, (device, replies, waits_s) in enumerate(steps, 1):
            resources.admit(plan(number, device))
            clock.sleep(waits_s)
            if replies:
                resources.settle(device, outcome(device))
        clock.sleep(1000.0)
        assert registry.reservations() == []
        assert registry.audit() == []


def test_on_the_virtual_clock_everything_is_admitted() -> None:
    resources = Unlimited()
    resources.join(profile("a"))
    resources.see([])
    assert resources.admit(plan(1, "a")) == plan(1, "a")
    assert not resources.due_for_profile()


def test_a_quota_leaves_the_rest_of_a_class_to_others(tmp_path: Path, clock: ManualClock) -> None:
    with closing(Registry(tmp_path / "history.db", clock, {"fast": Quota(0.5)})) as registry:
        admitted = registered(registry, "a", "b", "c", "d").admit(plan(1, "a", "b", "c"))
    assert [order.device for order in admitted.orders] == ["a", "b"]
    assert any("quota of devices" in reason for reason in admitted.left_out)


def test_a_narrower_model_says_nothing_of_speed(registry: Registry) -> None:
    resources = registered(registry, "a")
    for width, seconds in ((1.0, 1.0), (1.0, 1.0), (1.0, 1.0), *([(0.5, 0.2)] * 8)):
        resources.settle("a", outcome("a", examples=400, wall_s=seconds, width=width))
    assert resources.due_for_profile() == []


def test_a_device_that_comes_back_holds_nothing(registry: Registry) -> None:
    resources = registered(registry, "a")
    resources.admit(plan(1, "a"))
    resources.join(profile("a"))
    assert registry.reservations() == []
