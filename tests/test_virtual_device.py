"""The model of one device: durations worked out by hand, and each way in which an order may end."""

from __future__ import annotations

import math
from typing import Any

import pytest
from factories import MIB, fleet, task_figures
from hypothesis import given
from hypothesis import strategies as st

from motley.device import Outcome
from motley.knowledge import REFERENCE_GFLOPS, Knowledge
from motley.physics import TIME_CONSTANT_S
from motley.simulation.device import Demand, VirtualDevice
from motley.spec import MEMORY_FLOOR_BYTES

STEADY = {"cpus": 0.5, "memory": "512m", "compute_variation": 0.0}
"""Half a core that always takes as long; of a task of 1 ms an example, so 2 ms here."""

TRAIN = Demand("train", "train/1/0", down_bytes=10**6, up_bytes=500_000, batch_size=50, steps=10)
"""500 examples: a second of work."""


def device(seed: int = 1, examples: int = 300, task: dict[str, Any] | None = None, **spec: Any) -> VirtualDevice:
    made = next(fleet(classes={"a": {**STEADY, **spec}}).devices())
    return VirtualDevice(made, examples, task_figures(**(task or {})), seed)


def battery(capacity: str = "1wh", **changes: Any) -> dict[str, Any]:
    return {"capacity": capacity, "level": 0.5, "floor": 0.2, **changes}


def demand(**changes: Any) -> Demand:
    return Demand(**{**vars(TRAIN), **changes})


def test_work_takes_examples_times_milliseconds_over_cores() -> None:
    course = device().course(TRAIN, 0.0)
    assert course.compute_s == pytest.approx(500 * 0.001 / 0.5)
    assert (course.download_s, course.upload_s, course.steps, course.failure) == (0.0, 0.0, 10, None)
    assert device(ms_per_example=20.0).course(TRAIN, 0.0).compute_s == pytest.approx(20.0)


def test_the_way_takes_bits_over_rate_and_the_latency() -> None:
    link = {"down": "8mbit", "up": "2mbit", "latency": "50ms"}
    course = device(network=link).course(TRAIN, 0.0)
    assert course.download_s == pytest.approx(0.05 + 1.0)
    assert course.upload_s == pytest.approx(0.05 + 2.0)
    assert course.total_s == pytest.approx(1.05 + 1.0 + 2.05)


def test_a_query_takes_the_way_alone_and_an_evaluation_a_third_of_a_pass() -> None:
    one = device(network={"latency": "50ms"})
    assert one.course(Demand("query", "q"), 0.0).total_s == pytest.approx(0.1)
    evaluation = one.course(Demand("evaluate", "e"), 0.0)
    assert evaluation.compute_s == pytest.approx(300 * 0.002 / 3)
    assert evaluation.steps == 0


def test_the_profile_says_what_planning_expects() -> None:
    """From profile to estimate and back: without surprises a device takes just as long as is expected."""
    one = device(network={"down": "8mbit", "up": "4mbit", "latency": "20ms"}, examples=400, batch_size=16)
    profile = one.profile(0.0)
    assert profile.gflops == pytest.approx(REFERENCE_GFLOPS / 2)
    assert (profile.device, profile.examples, profile.pinned_batch_size) == ("client-1", 400, 16)
    knowledge = Knowledge(task_figures())
    knowledge.join(profile)
    assert knowledge.example_s()[0] == pytest.approx(one.example_s)
    down_s, up_s = (float(each[0]) for each in knowledge.transfer_s())
    course = one.course(demand(up_bytes=10**6), 0.0)
    assert (down_s, up_s) == (pytest.approx(course.download_s + 0.01), pytest.approx(course.upload_s + 0.01))


def test_equal_work_varies_a_little_and_a_link_more() -> None:
    link = {"down": "8mbit", "variation": 0.4}
    one = device(compute_variation=0.02, network=link)
    courses = [one.course(demand(key=f"train/{number}"), 0.0) for number in range(2000)]
    work = [each.compute_s for each in courses]
    rates = [8 * 10**6 / each.download_s for each in courses]
    mean = sum(work) / len(work)
    assert mean == pytest.approx(1.0, rel=0.01)
    assert math.sqrt(sum((each - mean) ** 2 for each in work) / len(work)) == pytest.approx(0.02, rel=0.1)
    mean = sum(rates) / len(rates)
    assert mean == pytest.approx(8e6, rel=0.05)
    assert math.sqrt(sum((each - mean) ** 2 for each in rates) / len(rates)) / mean == pytest.approx(0.4, rel=0.1)


@given(st.integers(0, 100), st.text(max_size=10), st.integers(0, 5))
def test_variations_are_a_function_of_seed_and_message(seed: int, key: str, others: int) -> None:
    spec = {"compute_variation": 0.5, "network": {"down": "8mbit", "up": "8mbit", "variation": 0.4}}
    one, other = device(seed, **spec), device(seed, **spec)
    for number in range(others):
        other.course(demand(key=f"other/{number}"), 0.0)
    assert one.course(demand(key=key), 0.0) == other.course(demand(key=key), 0.0)


def test_partial_work_stops_after_the_step_in_which_its_time_ends() -> None:
    """A step takes 0.1 s and the download 1 s."""
    one = device(network={"down": "8mbit"})
    assert one.course(demand(stop_after_s=1.45), 0.0).steps == 5
    assert one.course(demand(stop_after_s=1.45), 0.0).compute_s == pytest.approx(0.5)
    assert one.course(demand(stop_after_s=0.5), 0.0).steps == 1
    assert one.course(demand(stop_after_s=100.0), 0.0).steps == 10


def test_what_does_not_fit_into_memory_ends_a_tenth_into_the_work() -> None:
    """Four copies of the model, and batches of 8 and 50 of 2 MiB each: 116 of them over the floor."""
    task = {"model_bytes": 0, "bytes_per_example": 2 * MIB}
    enough = MEMORY_FLOOR_BYTES // MIB + 116
    fits, small = (device(task=task, memory=f"{mib}m", network={"down": "8mbit"}) for mib in (enough, enough - 1))
    assert fits.peak_memory_bytes(TRAIN) == enough * MIB
    assert fits.course(TRAIN, 0.0).failure is None
    killed = small.course(TRAIN, 0.0)
    assert (killed.failure, killed.steps) == (Outcome.OUT_OF_MEMORY, 0)
    assert killed.reason == f"needs {enough} MiB, has {enough - 1}"
    assert (killed.total_s, killed.compute_s) == (pytest.approx(1.1), pytest.approx(0.1))
    assert small.course(demand(batch_size=42), 0.0).failure is None
    assert small.course(demand(physical_batch=42), 0.0).failure is None


def test_a_narrower_model_fits_where_the_whole_does_not() -> None:
    task, memory = {"model_bytes": 64 * MIB}, f"{MEMORY_FLOOR_BYTES // MIB + 64}m"
    assert device(task=task, memory=memory).course(TRAIN, 0.0).failure is Outcome.OUT_OF_MEMORY
    assert device(task=task, memory=memory).course(demand(width=0.5), 0.0).failure is None


def test_energy_is_power_times_time() -> None:
    """36 s of work at 10 W, 36 s on the way at 1 W."""
    one = device(power={"idle": "1w", "busy": "10w"}, network={"down": "1mbit", "up": "1mbit"}, cpus=1.0)
    course = one.course(demand(steps=720, up_bytes=3_500_000), 0.0)
    assert (course.compute_s, course.download_s + course.upload_s) == (pytest.approx(36.0), pytest.approx(36.0))
    assert one.energy_wh(course) == pytest.approx(0.11)


def test_a_battery_drains_while_its_device_waits_and_while_it_works() -> None:
    one = device(battery=battery(), power={"idle": "1w", "busy": "10w"})
    assert one.battery_level(0.0) == 0.5
    assert one.battery_level(360.0) == pytest.approx(0.5 - 0.1)
    one.course(demand(steps=360), 360.0)
    assert one.battery_level(360.0 + 36.0) == pytest.approx(0.4 - 0.1)
    assert device().battery_level(0.0) == -1.0


def test_a_battery_is_never_below_empty_or_above_full() -> None:
    assert device(battery=battery(), power={"idle": "10w", "busy": "10w"}).battery_level(1e6) == 0.0
    assert device(battery=battery(charging=True, charge="20w")).battery_level(1e6) == 1.0


def test_a_charging_device_gains_what_flows_in_less_what_it_draws() -> None:
    one = device(battery=battery("10wh", charging=True, charge="6w"), power={"idle": "1w", "busy": "4w"})
    assert one.battery_level(3600.0) == pytest.approx(0.5 + (6 - 1) / 10)
    assert one.profile(3600.0).charging


def test_work_that_would_drain_the_battery_ends_where_the_device_rests() -> None:
    """0.3 Wh are left above the floor, and 144 s at 10 W need 0.4: it ends after three quarters."""
    one = device(battery=battery(), power={"idle": "1w", "busy": "10w"})
    course = one.course(demand(steps=1440), 0.0)
    assert (course.failure, course.steps) == (Outcome.BATTERY_EMPTY, 0)
    assert course.reason == "charge fell to 20%, where the device rests"
    assert course.total_s == pytest.approx(108.0)
    assert one.battery_level(108.0) == pytest.approx(0.2)
    assert not one.is_awake(108.0)


def test_a_device_that_charges_works_on_at_any_level() -> None:
    one = device(battery=battery(level=0.1, charging=True), power={"idle": "1w", "busy": "10w"})
    assert one.is_awake(0.0)
    assert one.course(demand(steps=1440), 0.0).failure is None


def test_a_device_below_its_floor_rests_even_where_the_order_needs_nothing() -> None:
    one = device(battery=battery(level=0.1), power={"idle": "0w", "busy": "0w"})
    assert not one.is_awake(0.0)
    assert one.course(TRAIN, 0.0).failure is Outcome.BATTERY_EMPTY
    assert one.course(Demand("query", "q"), 0.0).total_s == 0.0


def test_a_device_charges_for_its_share_of_each_day() -> None:
    one = device(battery=battery("1000wh", charging_share=0.25, charge="10w"), power={"idle": "0w", "busy": "0w"})
    hours = [one.is_charging(hour * 3600.0) for hour in range(24)]
    assert sum(hours) == 6
    assert one.battery_level(86_400.0) == pytest.approx(0.5 + 60 / 1000)


def test_heat_slows_long_work_down_and_cools_off_again() -> None:
    """5 W settle at 65 °C; at 45 °C, after 125 s, half the speed is what holds."""
    spec = {"heat": {"ambient_celsius": 25.0, "throttle_celsius": 45.0}, "power": {"idle": "0w", "busy": "5w"}}
    full_s = TIME_CONSTANT_S * math.log(2)
    one = device(**spec)
    first = one.course(demand(steps=2000), 0.0)
    assert first.compute_s == pytest.approx(full_s + 2 * (200 - full_s))
    again = one.course(demand(steps=100), first.total_s)
    assert again.compute_s == pytest.approx(20.0)
    rested = one.course(demand(steps=100), first.total_s + again.total_s + 3600)
    assert rested.compute_s == pytest.approx(10.0)
    assert device(power=spec["power"]).course(demand(steps=2000), 0.0).compute_s == pytest.approx(200.0)


def test_a_throttled_device_draws_less() -> None:
    """125 s at 5 W, then 300 s at the 2.5 that hold the threshold."""
    spec = {"heat": {"ambient_celsius": 25.0, "throttle_celsius": 45.0}, "power": {"idle": "0w", "busy": "5w"}}
    one, full_s = device(**spec), TIME_CONSTANT_S * math.log(2)
    course = one.course(demand(steps=round(10 * (full_s + 150))), 0.0)
    assert one.energy_wh(course) == pytest.approx((5 * full_s + 2.5 * (course.compute_s - full_s)) / 3600)
    assert course.compute_s == pytest.approx(full_s + 300, abs=0.2)


SCORCHED = {
    "heat": {"ambient_celsius": 25.0, "throttle_celsius": 45.0, "limit_celsius": 45.0},
    "power": {"idle": "0w", "busy": "5w"},
    "network": {"latency": "1s"},
}
"""A threshold at the limit throttles nothing: 45 °C after 125 s of work. Below 35 it may begin again."""


def test_work_that_would_reach_the_limit_ends_there() -> None:
    full_s = TIME_CONSTANT_S * math.log(2)
    one = device(**SCORCHED)
    course = one.course(demand(steps=2000), 0.0)
    assert (course.failure, course.steps) == (Outcome.TOO_HOT, 0)
    assert course.reason == "45.0 °C with a limit of 45 °C; the device rests until it is below 35.0 °C"
    assert (course.download_s, course.compute_s) == (1.0, pytest.approx(full_s))
    assert one.energy_wh(course) == pytest.approx(5 * full_s / 3600)
    assert device(**SCORCHED).course(demand(steps=1200), 0.0).failure is None


def test_a_device_that_was_too_hot_takes_no_work_until_it_has_cooled() -> None:
    one = device(**SCORCHED)
    ended_s = one.course(demand(steps=2000), 0.0).total_s
    assert one.profile(ended_s).resting
    assert one.is_awake(ended_s)
    assert one.course(Demand("query", "q"), ended_s).failure is None
    refused = one.course(demand(steps=1), ended_s + 5)
    assert (refused.failure, refused.total_s) == (Outcome.TOO_HOT, 0.0)
    cooled_s = ended_s + 5 + TIME_CONSTANT_S * math.log(2)
    assert not one.profile(cooled_s).resting
    assert one.course(demand(steps=100), cooled_s).failure is None


def test_whichever_comes_first_ends_the_work() -> None:
    """125 s at 5 W are 0.17 Wh, and the device starts with 0.3 above its floor, or with 0.1."""
    full, low = (
        device(**SCORCHED, battery=battery(level=level)).course(demand(steps=2000), 0.0) for level in (0.5, 0.3)
    )
    assert full.failure is Outcome.TOO_HOT
    assert low.failure is Outcome.BATTERY_EMPTY
    assert low.total_s == pytest.approx(1 + 72.0)


def test_hot_surroundings_heat_a_device_to_its_limit_at_the_lowest_speed() -> None:
    """At rest 1 W holds it at 48 °C, above the threshold: a twentieth of the speed, and 49.2 °C in the end."""
    heat = {"ambient_celsius": 40.0, "throttle_celsius": 45.0, "limit_celsius": 49.0}
    one = device(heat=heat, power={"idle": "1w", "busy": "4w"})
    course = one.course(demand(steps=1000), 0.0)
    assert course.failure is Outcome.TOO_HOT
    assert course.total_s == pytest.approx(TIME_CONSTANT_S * math.log(1.2 / 0.2))


def test_a_device_at_its_floor_says_that_it_rests() -> None:
    window = {"charging_share": 0.25, "charging_from": 0.5}
    one = device(battery=battery(level=0.15, **window), power={"idle": "0w", "busy": "0w"})
    profiles = [one.profile(hour * 3600.0) for hour in (0, 13)]
    assert [(each.resting, each.charging) for each in profiles] == [(True, False), (False, True)]


def test_a_hot_device_does_fewer_steps_in_its_time() -> None:
    spec = {"heat": {"ambient_celsius": 25.0, "throttle_celsius": 45.0}, "power": {"idle": "0w", "busy": "5w"}}
    one = device(**spec)
    end_s = one.course(demand(steps=2000), 0.0).total_s
    assert one.course(demand(steps=2000, stop_after_s=10.0), end_s).steps == 50
    assert device().course(demand(steps=2000, stop_after_s=10.0), 0.0).steps == 100
