"""Heat and charge in closed form: against values worked out by hand, and against sums of small steps."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motley.device import Outcome
from motley.physics import (
    DAY_S,
    KELVIN_PER_WATT,
    LEAST_SPEED,
    TIME_CONSTANT_S,
    Body,
    Condition,
    Heating,
    approach,
    charging_s,
    is_charging,
    lasting_s,
    reaching_s,
)

WARM = Body(idle_w=0.0, busy_w=5.0, ambient_celsius=25.0, throttle_celsius=45.0, limit_celsius=60.0)
"""5 W would settle 40 K above the surroundings, at 65 °C; half of that is where it throttles."""

HOT = Heating(WARM, 25.0)
COOL = Heating(replace(WARM, busy_w=2.0), 25.0)
"""2 W settle at 41 °C, under the threshold."""

CLOSE = replace(WARM, ambient_celsius=40.0, throttle_celsius=41.0, limit_celsius=41.5)
"""A twentieth of the speed is a quarter of a watt, which settles at 42 °C, above the limit."""

FULL_S = TIME_CONSTANT_S * math.log(2)

bodies = st.builds(
    Body,
    idle_w=st.floats(0, 3),
    busy_w=st.floats(3, 20),
    ambient_celsius=st.floats(0, 30),
    throttle_celsius=st.floats(35, 60),
    limit_celsius=st.floats(60, 90),
)
heatings = st.builds(Heating, body=bodies, start_celsius=st.floats(0, 60))
seconds = st.floats(0, 1e6)


def test_a_device_runs_at_full_speed_until_it_is_hot() -> None:
    assert WARM.settled_celsius(5.0) == 65.0
    assert HOT.pieces[0].seconds == pytest.approx(FULL_S)
    assert HOT.celsius_after(FULL_S) == pytest.approx(45.0)
    assert HOT.elapsed_s(100.0) == 100.0


def test_then_at_the_share_that_holds_the_temperature() -> None:
    """20 K above the surroundings are 2.5 W of 5: half the speed."""
    assert WARM.held_speed == 0.5
    assert HOT.elapsed_s(FULL_S + 100) == pytest.approx(FULL_S + 200)
    assert HOT.celsius_after(10_000) == pytest.approx(45.0)
    assert HOT.limit_s == math.inf


def test_power_at_rest_heats_too() -> None:
    """Of the 2.5 W that hold the threshold one is drawn anyway; three quarters of the other four are left."""
    body = replace(WARM, idle_w=1.0)
    assert body.rest_celsius == 33.0
    assert body.held_speed == pytest.approx(1.5 / 4)


def test_a_start_above_the_threshold_throttles_at_once_and_cools_towards_it() -> None:
    hot = Heating(WARM, 50.0)
    assert (hot.elapsed_s(10.0), hot.work_s(10.0)) == (20.0, 5.0)
    assert hot.celsius_after(TIME_CONSTANT_S) == pytest.approx(45 + 5 / math.e)


def test_little_power_never_throttles() -> None:
    assert COOL.elapsed_s(1e6) == COOL.work_s(1e6) == 1e6
    assert COOL.celsius_after(TIME_CONSTANT_S) == pytest.approx(41 - 16 / math.e)


def test_where_the_least_speed_is_too_fast_the_limit_is_reached() -> None:
    """To 41 °C at full speed, then from 1 to half a K below 42 °C."""
    full_s = TIME_CONSTANT_S * math.log(40 / 39)
    assert CLOSE.held_speed == LEAST_SPEED
    assert Heating(CLOSE, 40.0).limit_s == pytest.approx(full_s + TIME_CONSTANT_S * math.log(2))
    assert Heating(CLOSE, 41.5).limit_s == 0.0


def test_a_threshold_at_the_limit_throttles_nothing() -> None:
    body = replace(WARM, limit_celsius=45.0)
    assert Heating(body, 25.0).limit_s == pytest.approx(FULL_S)
    assert body.resume_celsius == 35.0


def test_without_heat_nothing_throttles_and_nothing_is_too_hot() -> None:
    heating = Heating(Body(busy_w=1000.0), 33.0)
    assert (heating.elapsed_s(1e5), heating.work_s(1e5), heating.limit_s) == (1e5, 1e5, math.inf)


@given(heatings, seconds)
def test_time_and_work_are_each_other_s_inverse(heating: Heating, work_s: float) -> None:
    assert heating.work_s(heating.elapsed_s(work_s)) == pytest.approx(work_s, rel=1e-9, abs=1e-9)
    assert heating.elapsed_s(heating.work_s(work_s)) == pytest.approx(work_s, rel=1e-9, abs=1e-9)


@given(heatings, seconds)
def test_work_takes_its_time_or_longer(heating: Heating, work_s: float) -> None:
    assert work_s <= heating.elapsed_s(work_s) <= work_s / LEAST_SPEED * (1 + 1e-9)


@given(heatings, seconds, seconds)
def test_more_work_takes_longer(heating: Heating, one: float, other: float) -> None:
    less, more = sorted((one, other))
    assert heating.elapsed_s(less) <= heating.elapsed_s(more)


@given(heatings, st.floats(0.001, 1e5))
def test_the_limit_is_reached_when_the_temperature_says_so(heating: Heating, before_s: float) -> None:
    limit = heating.body.limit_celsius
    if heating.limit_s < math.inf:
        assert heating.celsius_after(heating.limit_s) == pytest.approx(max(limit, heating.start_celsius))
        before_s = min(before_s, heating.limit_s)
    assert heating.celsius_after(before_s) <= max(limit, heating.start_celsius) + 1e-6


@given(heatings, st.floats(0, 2000))
def test_small_steps_add_up_to_the_closed_formulas(heating: Heating, elapsed_s: float) -> None:
    """A device that looks at its temperature before each step and runs at the speed of that moment."""
    body, steps = heating.body, 4000
    step_s = elapsed_s / steps
    condition, work_s, used_wh = Condition(0.0, heating.start_celsius, math.inf), 0.0, 0.0
    for _ in range(steps):
        speed = body.speed(condition.celsius)
        condition = body.advance(condition, body.power_w(speed), step_s)
        work_s, used_wh = work_s + speed * step_s, used_wh + body.power_w(speed) * step_s / 3600
    assert condition.celsius == pytest.approx(heating.celsius_after(elapsed_s), abs=0.3)
    assert work_s == pytest.approx(heating.work_s(elapsed_s), rel=0.02, abs=4.0)
    assert used_wh == pytest.approx(body.energy_wh(elapsed_s, work_s), rel=1e-6)


def test_a_device_cools_by_a_factor_of_e_in_each_time_constant() -> None:
    assert approach(45.0, 25.0, 0.0) == 45.0
    assert approach(45.0, 25.0, TIME_CONSTANT_S) == pytest.approx(25 + 20 / math.e)
    assert approach(45.0, 25.0, 1e6) == pytest.approx(25.0)


@given(st.floats(0, 100), st.floats(0, 100), st.floats(0, 100))
def test_a_target_is_reached_when_newton_s_law_says_so(start: float, end: float, target: float) -> None:
    at_s = reaching_s(start, end, target)
    if at_s < math.inf:
        assert approach(start, end, at_s) == pytest.approx(target, abs=1e-6)
    else:
        assert not min(start, end) + 1e-9 < target < max(start, end) - 1e-9


def test_charge_is_power_times_time() -> None:
    body = Body(idle_w=1.0, busy_w=10.0, capacity_wh=2.0, charge_w=6.0, charging_share=0.5, charging_from=0.5)
    fresh = body.fresh(0.5)
    assert (fresh.charge_wh, body.level(fresh)) == (1.0, 0.5)
    assert body.advance(fresh, 10.0, 180.0).charge_wh == pytest.approx(0.5)
    assert body.advance(fresh, 10.0, 3600.0).charge_wh == 0.0
    noon = replace(fresh, at_s=DAY_S / 2)
    assert body.advance(noon, 1.0, 360.0).charge_wh == pytest.approx(1.5)
    assert body.advance(noon, 1.0, 3600.0).charge_wh == 2.0
    assert Body().level(Body().fresh(1.0)) == -1.0


def test_a_device_rests_at_its_floor_unless_it_charges() -> None:
    body = Body(capacity_wh=10.0, floor=0.2, charging_share=0.5, charging_from=0.5)
    low, noon_s = Condition(0.0, 33.0, 2.0), DAY_S / 2
    assert body.stops(low) is body.rests(low) is Outcome.BATTERY_EMPTY
    assert body.rests(replace(low, charge_wh=2.1)) is None
    assert body.rests(replace(low, at_s=noon_s)) is None
    assert body.words(Outcome.BATTERY_EMPTY, 33.0) == "charge fell to 20%, where the device rests"


def test_what_was_too_hot_has_to_cool_before_it_begins_again() -> None:
    """It runs at 45 °C and stops at 60; from there half-way back is where it may begin."""
    condition, seen = Condition(0.0, 45.0, math.inf), []
    for celsius in (59.0, 60.0, 59.0, 52.5, 52.4, 59.0):
        condition = WARM.drained(condition, 1.0, 0.0, celsius)
        seen.append((WARM.stops(condition) is None, WARM.rests(condition) is None))
    assert seen == [(True, True), (False, False), (True, False), (True, False), (True, True), (True, True)]
    assert "60 °C; the device rests until it is below 52.5 °C" in WARM.words(Outcome.TOO_HOT, 60.0)


@given(bodies)
def test_a_device_that_is_cool_at_rest_can_always_begin_again(body: Body) -> None:
    rested = body.advance(Condition(0.0, body.limit_celsius, math.inf, overheated=True), body.idle_w, 1e6)
    assert (body.rests(rested) is None) == (body.rest_celsius < body.limit_celsius)


@given(bodies, st.floats(0, 120))
def test_the_speed_is_a_share_and_falls_with_the_temperature(body: Body, celsius: float) -> None:
    assert LEAST_SPEED <= body.speed(celsius) <= 1
    assert body.speed(celsius + 1) <= body.speed(celsius)
    held_w = body.power_w(body.held_speed)
    if LEAST_SPEED < body.held_speed < 1:
        assert body.ambient_celsius + KELVIN_PER_WATT * held_w == pytest.approx(body.throttle_celsius)


def test_a_charge_lasts_until_the_powers_have_used_it_up() -> None:
    """36 J at 2 W for 10 s, then the other 16 at 4 W."""
    powers = [(10.0, 2.0), (100.0, 4.0)]
    assert lasting_s(powers, 0.01) == pytest.approx(14.0)
    assert lasting_s(powers, 420 / 3600) == math.inf
    assert lasting_s(powers, math.inf) == math.inf
    assert lasting_s([(5.0, 0.0), (1.0, 1.0)], 0.0) == 5.0


def test_the_window_of_a_quarter_of_the_day_that_opens_at_noon() -> None:
    hour_s = DAY_S / 24
    window = {"share": 0.25, "begins": 0.5}
    assert [is_charging(hour * hour_s, **window) for hour in (0, 11, 12, 17, 18, 23, 36)] == [
        *(False, False, True, True, False, False),
        True,
    ]
    assert charging_s(0, 24 * hour_s, **window) == pytest.approx(6 * hour_s)
    assert charging_s(10 * hour_s, 13 * hour_s, **window) == pytest.approx(hour_s)
    assert charging_s(17 * hour_s, 37 * hour_s, **window) == pytest.approx(2 * hour_s)
    assert charging_s(0, 11 * hour_s, **window) == pytest.approx(0.0, abs=1e-6)


@given(st.floats(0, 5 * DAY_S), st.floats(0, 5 * DAY_S), st.floats(0, 1), st.floats(0, 1))
def test_charging_time_is_the_sum_over_small_steps(one: float, other: float, share: float, begins: float) -> None:
    start_s, end_s = sorted((one, other))
    steps = 2000
    step_s = (end_s - start_s) / steps
    counted = sum(is_charging(start_s + (index + 0.5) * step_s, share, begins) for index in range(steps))
    assert charging_s(start_s, end_s, share, begins) == pytest.approx(counted * step_s, abs=12 * step_s + 1e-6)


@given(st.floats(0, 5 * DAY_S), st.floats(0, 5 * DAY_S), st.floats(0, 5 * DAY_S), st.floats(0, 1), st.floats(0, 1))
def test_spans_add_up(one: float, two: float, three: float, share: float, begins: float) -> None:
    start_s, middle_s, end_s = sorted((one, two, three))
    parts = charging_s(start_s, middle_s, share, begins) + charging_s(middle_s, end_s, share, begins)
    assert charging_s(start_s, end_s, share, begins) == pytest.approx(parts, abs=1e-6)
