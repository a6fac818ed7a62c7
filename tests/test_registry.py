"""The registry: what is granted, refused and given back, and what it says of the fleet."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from factories import MIB, ROOT, profile
from hypothesis import given
from hypothesis import strategies as st

from motley.clock import ManualClock
from motley.errors import InputError
from motley.history import History
from motley.registry import (
    Amounts,
    Capacity,
    News,
    Quota,
    Reassessment,
    Refusal,
    Registration,
    Registry,
    Request,
    Reservation,
    Short,
    registration_of,
)
from motley.registry.drift import Drift
from motley.registry.registry import BUSY_S

PHONE = Capacity(2.0, 1024 * MIB)
SERVER = Capacity(8.0, 64 * 1024 * MIB, 2, 16 * 1024 * MIB, disk_bytes=1024 * MIB, bits_per_s=1e9)
DAY_S = 24 * 3600.0


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1000.0)


@pytest.fixture
def registry(tmp_path: Path, clock: ManualClock) -> Iterator[Registry]:
    """With one phone, p1, and one server, s1."""
    opened = Registry(tmp_path / "store.db", clock)
    opened.register("p1", "phone", PHONE, 10.0)
    opened.register("s1", "server", SERVER, 100.0)
    yield opened
    assert opened.audit() == []
    opened.close()


def granted(answer: Reservation | Refusal) -> Reservation:
    assert isinstance(answer, Reservation), str(answer)
    return answer


def refused(answer: Reservation | Refusal) -> Refusal:
    assert isinstance(answer, Refusal)
    return answer


# Reservations


def test_a_reservation_says_what_it_holds_and_until_when(registry: Registry) -> None:
    needs = Amounts(1.5, 800 * MIB)
    held = granted(registry.reserve("p1", "digits", needs, 60.0))
    assert held == Reservation(held.reservation_id, "p1", "digits", needs, 1000.0, 1060.0)
    assert registry.reservations() == [held]


def test_a_refusal_names_everything_that_is_short(registry: Registry) -> None:
    granted(registry.reserve("p1", "digits", Amounts(1.5, 824 * MIB), 60.0))
    answer = refused(registry.reserve("p1", "digits", Amounts(1.0, 512 * MIB), 60.0))
    assert str(answer) == "p1 for 'digits': cores: 1 asked, 0.5 free; memory: 512m asked, 200m free"


@pytest.mark.parametrize(
    ("needs", "said"),
    [
        (Amounts(accelerators=3), "accelerators: 3 asked, 2 free"),
        (Amounts(accelerators=1, accelerator_memory_bytes=17 * 1024 * MIB), "accelerator memory: 17g asked, 16g free"),
        (Amounts(disk_bytes=2048 * MIB), "disk: 2g asked, 1g free"),
        (Amounts(bits_per_s=2e9), "network: 2gbit asked, 1gbit free"),
        (Amounts(cpus=8.5), "cores: 8.5 asked, 8 free"),
    ],
)
def test_each_resource_is_counted(registry: Registry, needs: Amounts, said: str) -> None:
    assert [str(each) for each in refused(registry.reserve("s1", "t", needs, 60.0)).shortages] == [said]


def test_accelerators_are_taken_whole(registry: Registry) -> None:
    one = Amounts(accelerators=1, accelerator_memory_bytes=MIB)
    for _ in range(2):
        granted(registry.reserve("s1", "t", one, 60.0))
    assert [each.what for each in refused(registry.reserve("s1", "t", one, 60.0)).shortages] == [Short.ACCELERATORS]


def test_what_is_not_known_is_not_limited(registry: Registry) -> None:
    granted(registry.reserve("p1", "t", Amounts(disk_bytes=10**15, bits_per_s=1e12), 60.0))


@pytest.mark.parametrize(("device", "why"), [("p9", "device: not registered"), ("p1", "device: not connected")])
def test_nothing_is_granted_on_a_device_that_is_not_there(registry: Registry, device: str, why: str) -> None:
    registry.depart(["p1", "never seen"])
    assert [str(each) for each in refused(registry.reserve(device, "t", Amounts(1), 60.0)).shortages] == [why]


def test_a_device_that_is_heard_of_again_is_there_again(registry: Registry) -> None:
    registry.depart(["p1"])
    registry.update("p1")
    granted(registry.reserve("p1", "t", Amounts(1), 60.0))


def test_what_is_released_is_free_once(registry: Registry) -> None:
    held = granted(registry.reserve("p1", "t", Amounts(2), 60.0))
    refused(registry.reserve("p1", "t", Amounts(2), 60.0))
    assert registry.release(held.reservation_id)
    granted(registry.reserve("p1", "t", Amounts(2), 60.0))
    assert not registry.release(held.reservation_id)
    refused(registry.reserve("p1", "t", Amounts(2), 60.0))


def test_a_lease_ends_by_itself_at_its_time_and_not_before(registry: Registry, clock: ManualClock) -> None:
    held = granted(registry.reserve("p1", "t", Amounts(2), 60.0))
    clock.sleep(59.9)
    refused(registry.reserve("p1", "t", Amounts(2), 60.0))
    clock.sleep(0.1)
    assert registry.reservations() == []
    granted(registry.reserve("p1", "t", Amounts(2), 60.0))
    assert not registry.release(held.reservation_id)


def test_a_lease_that_is_renewed_lasts_from_then_on(registry: Registry, clock: ManualClock) -> None:
    held = granted(registry.reserve("p1", "t", Amounts(2), 60.0))
    clock.sleep(50)
    assert registry.renew(held.reservation_id, 60.0)
    clock.sleep(59)
    assert [each.expires_s for each in registry.reservations()] == [1110.0]
    clock.sleep(1)
    assert not registry.renew(held.reservation_id, 60.0)
    assert registry.reservations() == []


def test_a_batch_grants_what_fits_in_its_order(registry: Registry) -> None:
    wanted = [Request(device, "t", Amounts(1.5), 60.0) for device in ("p1", "p9", "p1", "s1")]
    answers = registry.reserve_many(wanted)
    assert [isinstance(each, Reservation) for each in answers] == [True, False, False, True]
    held = [each.reservation_id for each in answers if isinstance(each, Reservation)]
    assert registry.renew_many([*held, 99], 10.0) == 2
    assert registry.release_many([*held, held[0], 99]) == 2


def test_a_task_gives_back_all_that_it_holds_and_nothing_else(registry: Registry) -> None:
    for task, device in (("a", "p1"), ("a", "s1"), ("b", "s1")):
        granted(registry.reserve(device, task, Amounts(1), 60.0))
    assert registry.release_task("a") == 2
    assert [(each.task, each.device) for each in registry.reservations()] == [("b", "s1")]


def test_reservations_are_found_by_task_and_by_device(registry: Registry) -> None:
    needs = Amounts(1, MIB, 1, 4 * MIB, 5 * MIB, 6.0)
    held = [granted(registry.reserve("s1", task, needs, 60.0)) for task in "ab"]
    granted(registry.reserve("p1", "a", Amounts(1), 60.0))
    assert registry.reservations(device="s1") == held
    assert registry.reservations(task="a", device="s1") == held[:1]


def test_reservations_outlast_a_restart_and_their_numbers_are_not_given_again(
    tmp_path: Path, clock: ManualClock
) -> None:
    for number in (1, 2):
        registry = Registry(tmp_path / "store.db", clock)
        if number == 1:
            registry.register("p1", "phone", PHONE)
        assert len(registry.reservations()) == number - 1
        kept = granted(registry.reserve("p1", "t", Amounts(1), 60.0))
        assert kept.reservation_id == number
        registry.close()
    registry = Registry(tmp_path / "store.db", clock)
    registry.release_many([1, 2])
    assert granted(registry.reserve("p1", "t", Amounts(1), 60.0)).reservation_id == 3


def test_a_device_that_shrinks_keeps_what_is_reserved_and_gets_nothing_more(tmp_path: Path, clock: ManualClock) -> None:
    registry = Registry(tmp_path / "store.db", clock)
    registry.register("p1", "phone", PHONE)
    held = granted(registry.reserve("p1", "t", Amounts(1.5), 60.0))
    registry.register("p1", "tablet", Capacity(1.0, MIB))
    assert registry.audit() == [
        "device p1: more of something is reserved than it has; of cores, 1500000 of 1000000 millionths"
    ]
    answer = refused(registry.reserve("p1", "t", Amounts(0.1), 60.0))
    assert str(answer.shortages[0]) == "cores: 0.1 asked, 0 free"
    assert registry.snapshot(window_s=10).classes["tablet"].utilisation <= 1
    assert registry.release(held.reservation_id)
    assert registry.audit() == []
    granted(registry.reserve("p1", "t", Amounts(1), 60.0))


def test_the_registry_shares_its_file_with_the_history(tmp_path: Path, clock: ManualClock) -> None:
    history = History(tmp_path / "store.db")
    registry = Registry(tmp_path / "store.db", clock)
    history.see_device("7", profile("p1"), 1.0)
    registry.register_many(map(registration_of, history.profiles("7")))
    assert registry.snapshot().classes["fast"].cpus == 0.5
    assert History(tmp_path / "store.db").profiles("7") == [profile("p1")]


@given(st.lists(st.floats(0.001, 3.0), min_size=1, max_size=20))
def test_nothing_is_left_over_when_fractions_of_cores_are_given_back(shares: list[float]) -> None:
    """Sums of floats would not come back to exactly 0."""
    registry = Registry(Path(":memory:"), ManualClock())
    registry.register("p1", "phone", Capacity(math.fsum(shares) + 1e-3, MIB))
    held = [granted(registry.reserve("p1", "t", Amounts(each), 60.0)) for each in shares]
    registry.release_many(each.reservation_id for each in held)
    assert registry.snapshot().classes["phone"].reserved_cpus == 0.0
    registry.close()


def test_threads_share_one_registry_and_never_get_more_than_there_is(tmp_path: Path, clock: ManualClock) -> None:
    registry = Registry(tmp_path / "store.db", clock)
    registry.register("p1", "phone", Capacity(5.0, MIB))
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: registry.reserve("p1", "t", Amounts(1), 60.0), range(40)))
    assert sum(isinstance(each, Reservation) for each in answers) == 5
    assert registry.audit() == []


# Quotas


@pytest.fixture
def phones(tmp_path: Path, clock: ManualClock) -> Registry:
    """Five phones of two cores: a task may hold 2 of them, and 3 of their 10 cores."""
    registry = Registry(tmp_path / "store.db", clock, {"phone": Quota(devices=0.5, cores=0.3)})
    registry.register_many([Registration(f"p{number}", "phone", PHONE) for number in range(5)])
    return registry


def test_a_task_gets_its_share_of_the_devices_of_a_class(phones: Registry) -> None:
    for device in ("p0", "p1", "p1"):
        granted(phones.reserve(device, "a", Amounts(0.5), 60.0))
    answer = refused(phones.reserve("p2", "a", Amounts(0.5), 60.0))
    assert str(answer) == "p2 for 'a': quota of devices: 1 asked, 0 free"
    granted(phones.reserve("p2", "b", Amounts(0.5), 60.0))


def test_a_task_gets_its_share_of_the_cores_of_a_class(phones: Registry) -> None:
    granted(phones.reserve("p0", "a", Amounts(2), 60.0))
    answer = refused(phones.reserve("p1", "a", Amounts(1.5), 60.0))
    assert str(answer) == "p1 for 'a': quota of cores: 1.5 asked, 1 free"
    granted(phones.reserve("p1", "a", Amounts(1), 60.0))


def test_what_is_given_back_counts_no_more_for_a_quota(phones: Registry, clock: ManualClock) -> None:
    first = [granted(phones.reserve(device, "a", Amounts(1), 60.0)) for device in ("p0", "p1")]
    phones.release(first[0].reservation_id)
    granted(phones.reserve("p2", "a", Amounts(1), 60.0))
    clock.sleep(60)
    assert all(isinstance(phones.reserve(device, "a", Amounts(1), 60.0), Reservation) for device in ("p3", "p4"))
    assert phones.audit() == []


def test_one_device_is_always_allowed(tmp_path: Path, clock: ManualClock) -> None:
    registry = Registry(tmp_path / "store.db", clock, {"phone": Quota(0.1, 0.1)})
    registry.register("p0", "phone", PHONE)
    granted(registry.reserve("p0", "a", Amounts(1), 60.0))
    granted(registry.reserve("p0", "a", Amounts(1), 60.0))


def test_devices_that_are_gone_do_not_count_for_a_quota(phones: Registry) -> None:
    phones.depart(["p3", "p4"])
    granted(phones.reserve("p0", "a", Amounts(0.1), 60.0))
    refused(phones.reserve("p1", "a", Amounts(0.1), 60.0))


def test_a_class_that_shrinks_below_a_quota_refuses_only_what_would_add_to_it(phones: Registry) -> None:
    for device, cores in (("p0", 1), ("p1", 2)):
        granted(phones.reserve(device, "a", Amounts(cores), 60.0))
    phones.depart(["p2", "p3", "p4"])
    granted(phones.reserve("p0", "a", Amounts(memory_bytes=MIB), 60.0))
    answer = refused(phones.reserve("p0", "a", Amounts(1), 60.0))
    assert str(answer) == "p0 for 'a': quota of cores: 1 asked, 0 free"


def test_a_quota_holds_within_a_batch(phones: Registry) -> None:
    answers = phones.reserve_many([Request(f"p{number}", "a", Amounts(0.5), 60.0) for number in range(5)])
    assert [isinstance(each, Reservation) for each in answers] == [True, True, False, False, False]


def test_reservations_follow_the_class_in_which_they_were_granted(phones: Registry) -> None:
    held = granted(phones.reserve("p0", "a", Amounts(0.5), 60.0))
    phones.register("p0", "tablet", PHONE)
    granted(phones.reserve("p0", "a", Amounts(0.5), 60.0))
    assert phones.audit() == []
    phones.release(held.reservation_id)
    assert phones.audit() == []


# Utilisation


def test_utilisation_over_a_window_by_hand(registry: Registry, clock: ManualClock) -> None:
    """One of two cores for 60 s of 300 s is a tenth; with the server's eight cores idle, a fiftieth of all."""
    granted(registry.reserve("p1", "t", Amounts(1), 60.0))
    clock.sleep(300)
    use = registry.utilisation(300)
    assert use.classes == {"phone": pytest.approx(0.1), "server": 0.0}
    assert use.whole == pytest.approx(60 / 3000)
    assert registry.utilisation(240).whole == 0


def test_a_class_that_is_younger_than_the_window_counts_from_its_birth(registry: Registry, clock: ManualClock) -> None:
    granted(registry.reserve("p1", "t", Amounts(2), 600.0))
    clock.sleep(3)
    assert registry.utilisation(300).classes["phone"] == 1.0


def test_a_reported_load_counts_for_a_while_and_never_twice(registry: Registry, clock: ManualClock) -> None:
    granted(registry.reserve("p1", "t", Amounts(1), 1000.0))
    registry.update("p1", busy_cpus=1.5)
    clock.sleep(BUSY_S)
    assert registry.utilisation(BUSY_S).classes["phone"] == pytest.approx(0.75)
    clock.sleep(BUSY_S)
    assert registry.utilisation(BUSY_S).classes["phone"] == pytest.approx(0.5)


def test_devices_that_are_gone_offer_no_cores(registry: Registry, clock: ManualClock) -> None:
    registry.register("p2", "phone", PHONE)
    granted(registry.reserve("p1", "t", Amounts(2), 1000.0))
    registry.depart(["p2"])
    clock.sleep(50)
    assert registry.utilisation(50).classes["phone"] == 1.0


def test_what_is_older_than_a_day_is_struck_out_but_the_last_day_is_known(
    registry: Registry, clock: ManualClock, tmp_path: Path
) -> None:
    for _ in range(60):
        registry.release(granted(registry.reserve("p1", "t", Amounts(2), 7200.0)).reservation_id)
        clock.sleep(1800)
        registry.reserve("p1", "t", Amounts(2), 1800.0)
        clock.sleep(1800)
    assert registry.utilisation(DAY_S).classes["phone"] == pytest.approx(0.5)
    with closing(sqlite3.connect(tmp_path / "store.db")) as db:
        oldest_s = db.execute("SELECT MIN(at_s) FROM registry_usage WHERE device_class = 'phone'").fetchone()[0]
    assert clock.now_s() - DAY_S - 3600 <= oldest_s <= clock.now_s() - DAY_S


steps = st.lists(st.tuples(st.integers(1, 20), st.integers(1, 90), st.integers(0, 40)), min_size=1, max_size=12)


@given(steps, st.integers(1, 40))
def test_utilisation_is_that_of_the_intervals(steps: list[tuple[int, int, int]], window: int) -> None:
    """Against the plain sum of overlaps, with windows that begin at bounds of buckets, where it is exact."""
    clock = ManualClock(1000.0)
    registry = Registry(Path(":memory:"), clock)
    registry.register("p1", "phone", Capacity(100.0, MIB))
    intervals = []
    for cores, lease_s, pause_s in steps:
        held = granted(registry.reserve("p1", "t", Amounts(cores / 4), lease_s))
        intervals.append((cores / 4, held.granted_s, held.expires_s))
        clock.sleep(pause_s)
    clock.sleep(-clock.now_s() % 10)
    now_s, start_s = clock.now_s(), max(1000.0, clock.now_s() - 10.0 * window)
    used = sum(cores * max(0.0, min(end, now_s) - max(begin, start_s)) for cores, begin, end in intervals)
    expected = used / (100 * (now_s - start_s)) if now_s > start_s else 0.0
    assert registry.utilisation(10.0 * window).whole == pytest.approx(expected, abs=1e-9)
    registry.close()


# Reassessment


def test_a_device_whose_speed_departs_is_due_until_it_is_back_or_profiled_anew(registry: Registry) -> None:
    def due_after(*speeds: float) -> list[str]:
        for speed in speeds:
            registry.update("p1", speed=speed)
        return registry.due_for_profile()

    assert due_after(100, 100, 100) == []
    assert due_after(70, 70) == [], "a factor of 1.18"
    assert due_after(20, 20, 20) == ["p1"]
    assert due_after(100) == ["p1"], "a factor of 1.75 is too much, "
    assert due_after(100, 100) == ["p1"], "and 1.27 is not near enough"
    assert due_after(100) == []
    assert due_after(20, 20) == ["p1"]
    registry.register("p1", "phone", PHONE, 4.0)
    assert due_after(20, 20, 20) == []


def test_a_device_may_also_have_become_faster(registry: Registry) -> None:
    for speed in (10, 10, 10, 40):
        registry.update("p1", speed=speed)
    assert registry.due_for_profile() == ["p1"]


def test_an_old_profile_is_due_where_the_device_is_connected(registry: Registry, clock: ManualClock) -> None:
    clock.sleep(DAY_S - 1)
    registry.update("p1")
    assert registry.due_for_profile() == []
    clock.sleep(1)
    registry.depart(["s1"])
    assert registry.due_for_profile() == ["p1"]


def test_drift_by_hand() -> None:
    rules = Reassessment(reference_samples=2, newest=0.5)
    drift = Drift().after(10, rules).after(20, rules)
    assert drift == Drift(2, 15.0, 15.0)
    assert drift.after(5, rules) == Drift(3, 15.0, 10.0, departs=False), "a factor of 1.5 is not more than it"
    assert drift.after(4, rules) == Drift(3, 15.0, 9.5, departs=True)
    assert drift.after(4, rules).after(16, rules) == Drift(4, 15.0, 12.75, departs=False)


# The fleet in figures


def test_fitness_follows_load_speed_reliability_and_battery(registry: Registry) -> None:
    for name in ("busy", "slow", "flaky", "empty", "gone", "good"):
        registry.register(name, "phone", PHONE, 10.0, battery_level=1.0)
    registry.reserve("busy", "t", Amounts(1), 60.0)
    registry.register("slow", "phone", PHONE, 2.0, battery_level=1.0)
    registry.update("flaky", succeeded=False)
    registry.update("empty", battery_level=0.0)
    registry.depart(["gone"])
    scores = registry.fitness(Amounts(1, 512 * MIB))
    assert scores["good"] > max(scores[name] for name in ("busy", "slow", "flaky"))
    assert scores["empty"] == scores["gone"] == 0
    assert registry.fitness(Amounts(3))["good"] == 0


def test_a_device_that_became_slow_is_less_fit_than_its_profile_says(registry: Registry) -> None:
    registry.register("p2", "phone", PHONE, 10.0)
    for speed in (10, 10, 10, 1, 1, 1):
        registry.update("p2", speed=speed)
        registry.update("p1", speed=10)
    scores = registry.fitness(Amounts(1))
    assert scores["p2"] < scores["p1"]


def test_old_failures_fade(registry: Registry) -> None:
    registry.register("p2", "phone", PHONE, 10.0)
    registry.update("p1", succeeded=False)
    for _ in range(200):
        registry.update_many([News("p1", succeeded=True), News("p2", succeeded=True)])
    scores = registry.fitness(Amounts(1))
    assert scores["p1"] == pytest.approx(scores["p2"], rel=1e-3)


def test_a_snapshot_counts_devices_amounts_and_refusals(registry: Registry, clock: ManualClock) -> None:
    registry.register_many([Registration(name, "phone", PHONE) for name in ("p2", "p3", "p4")])
    registry.depart(["p4"])
    clock.sleep(600)
    registry.update_many([News("p1"), News("p2")])
    granted(registry.reserve("p1", "t", Amounts(0.5, 24 * MIB), 60.0))
    registry.reserve_many([Request(name, "t", Amounts(3, 1), 60.0) for name in ("p1", "p2", "p9")])
    seen = registry.snapshot()
    phone = seen.classes["phone"]
    assert phone.states == {"free": 1, "reserved": 1, "silent": 1, "gone": 1}
    assert (phone.cpus, phone.reserved_cpus) == (6.0, 0.5)
    assert (phone.memory_bytes, phone.reserved_memory_bytes) == (3072 * MIB, 24 * MIB)
    assert seen.classes["server"].accelerators == 2
    assert seen.refusals == {("phone", Short.CORES): 2, ("", Short.NOT_REGISTERED): 1}
    assert (seen.at_s, seen.reservations) == (1600.0, 1)


def test_devices_long_gone_are_forgotten_unless_they_hold_something(registry: Registry, clock: ManualClock) -> None:
    granted(registry.reserve("p1", "t", Amounts(1), 2 * DAY_S))
    registry.register("p2", "phone", PHONE)
    registry.depart(["p1", "p2"])
    clock.sleep(DAY_S)
    assert registry.forget() == 1
    clock.sleep(DAY_S)
    assert registry.forget() == 1
    assert registry.snapshot().classes.keys() == {"server"}


def test_a_profile_becomes_a_registration() -> None:
    said = profile("p1", cpus=1.5, memory_bytes=MIB, gflops=7.0, battery_level=0.5, charging=True)
    assert registration_of(said) == Registration("p1", "fast", Capacity(1.5, MIB), 7.0, 0.5, True)
    shaped = profile("p1", down_bits_per_s=8e6, up_bits_per_s=2e6, accelerators=1)
    assert registration_of(shaped).capacity == Capacity(0.5, 512 * MIB, 1, bits_per_s=2e6)


# What can't be used


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Amounts(cpus=-1.0), "cpus -1.0"),
        (lambda: Amounts(cpus=math.nan), "cpus nan"),
        (lambda: Capacity(1.0, 2**60), "memory_bytes 1152921504606846976"),
        (lambda: Amounts(accelerator_memory_bytes=5), "without accelerators"),
        (lambda: Request("p1", "t", Amounts(), 0.0), "a lease of 0.0 s"),
        (lambda: Request("p1", "t", Amounts(), math.inf), "a lease of inf s"),
        (lambda: Quota(devices=0.0), "a quota of 0.0 of the devices"),
        (lambda: Quota(cores=1.5), "a quota of 1.5 of the cores"),
        (lambda: News("p1", busy_cpus=-1.0), "'p1' reports -1.0 busy cores"),
        (lambda: News("p1", battery_level=7.0), "'p1' has a battery level of 7.0"),
        (lambda: Registration("p1", "phone", PHONE, math.inf), "'p1' has a speed of inf GFLOPS"),
        (lambda: Reassessment(1.2, 1.5), "from a factor of 1.2 until 1.5"),
        (lambda: Reassessment(newest=0.0), "with newest 0.0"),
        (lambda: Drift().after(0.0, Reassessment()), "a speed of 0.0"),
    ],
)
def test_bad_values_are_named(make: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        make()


def test_news_of_an_unknown_device_is_refused_and_nothing_of_the_batch_is_kept(registry: Registry) -> None:
    with pytest.raises(InputError, match="device 'p9' is not registered; register it"):
        registry.update_many([News("p1", busy_cpus=2.0), News("p9")])
    assert registry.utilisation(10).whole == 0


def test_the_page_shows_a_program_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "registry.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    values: dict[str, Any] = {}
    exec(page.split("```python\n")[1].split("```")[0], values)
    assert values["answer"].device == "phone-1"
    assert values["registry"].reservations() == []
