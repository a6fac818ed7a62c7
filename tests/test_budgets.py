"""Months in a time zone, what is left of them, and when machines stop: hand-computed values and laws."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motley.budgets import (
    HOUR_S,
    Amount,
    Billing,
    Budget,
    Charge,
    Level,
    by_month,
    month_of,
    months_of,
    order_by_share_left,
    shortfall,
    standing,
)
from motley.shutdown import Nightly, Shutdown, parse_nightly, should_stop

BERLIN, UTC_ZONE = ZoneInfo("Europe/Berlin"), ZoneInfo("UTC")
ZONES = [UTC_ZONE, BERLIN, *map(ZoneInfo, ("America/New_York", "Asia/Kathmandu", "Pacific/Auckland", "Asia/Amman"))]
MOMENTS = st.floats(1.6e9, 2.2e9)


def at(text: str, zone: ZoneInfo = BERLIN, fold: int = 0) -> float:
    """A local time, such as '2026-03-29 01:30', in seconds since the epoch."""
    return datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold).timestamp()


# Months


@pytest.mark.parametrize(
    ("zone", "month", "hours"),
    [
        (UTC_ZONE, "2026-03", 744),
        (BERLIN, "2026-03", 743),
        (BERLIN, "2026-10", 745),
        (BERLIN, "2026-02", 672),
        (BERLIN, "2028-02", 696),
        (ZoneInfo("America/New_York"), "2026-11", 721),
        (ZoneInfo("Australia/Lord_Howe"), "2026-04", 720.5),
    ],
)
def test_a_month_is_as_long_as_it_really_is(zone: ZoneInfo, month: str, hours: float) -> None:
    found = month_of(at(f"{month}-15 12:00", zone), zone)
    assert (found.name, (found.end_s - found.start_s) / HOUR_S) == (month, hours)


def test_a_month_turns_at_local_midnight() -> None:
    turn = at("2026-12-01 00:00")
    assert datetime.fromtimestamp(turn, UTC) == datetime(2026, 11, 30, 23, tzinfo=UTC)
    assert [month_of(turn + each, BERLIN).name for each in (-0.001, 0)] == ["2026-11", "2026-12"]
    assert [month_of(turn + each, UTC_ZONE).name for each in (0, HOUR_S)] == ["2026-11", "2026-12"]


def test_a_year_turns_too() -> None:
    december = month_of(at("2026-12-31 23:59"), BERLIN)
    assert (december.name, december.end_s) == ("2026-12", at("2027-01-01 00:00"))


@given(MOMENTS, st.sampled_from(ZONES))
def test_every_moment_lies_in_its_month_and_months_follow_each_other(moment_s: float, zone: ZoneInfo) -> None:
    month = month_of(moment_s, zone)
    assert month.start_s <= moment_s < month.end_s
    following = month_of(month.end_s, zone)
    assert following.start_s == month.end_s
    assert following.name > month.name


@given(MOMENTS, st.floats(0, 1e7), st.sampled_from(ZONES))
def test_an_interval_is_split_without_loss(start_s: float, seconds: float, zone: ZoneInfo) -> None:
    parts = list(months_of(start_s, start_s + seconds, zone))
    assert math.fsum(part for _, part in parts) == pytest.approx(seconds, abs=1e-5)
    assert all(part > 0 for _, part in parts)
    assert [month.name for month, _ in parts] == sorted({month.name for month, _ in parts})


# Charges


@pytest.mark.parametrize(
    ("billing", "elapsed_s", "billed_s"),
    [
        (Billing(1, 60), 0, 60),
        (Billing(1, 60), 59.2, 60),
        (Billing(1, 60), 60.2, 61),
        (Billing(60, 60), 60, 60),
        (Billing(60, 60), 61, 120),
        (Billing(3600, 0), 1, 3600),
        (Billing(1, 0), 0, 0),
    ],
)
def test_time_is_rounded_as_the_provider_bills(billing: Billing, elapsed_s: float, billed_s: float) -> None:
    assert billing.billed_s(elapsed_s) == billed_s


@given(st.sampled_from([Billing(1, 60), Billing(60, 60), Billing(7, 0)]), st.floats(0, 1e6), st.floats(0, 1e6))
def test_who_runs_longer_never_pays_less(billing: Billing, one: float, other: float) -> None:
    shorter, longer = sorted((one, other))
    assert shorter <= billing.billed_s(shorter) <= billing.billed_s(longer)


def test_a_launch_over_the_turn_is_split_exactly() -> None:
    charge = Charge(at("2026-11-30 23:30"), 1.5 * HOUR_S, 2.0)
    assert by_month([charge, charge], BERLIN) == {"2026-11": Amount(1.0, 2.0), "2026-12": Amount(2.0, 4.0)}


@pytest.mark.parametrize(
    ("start", "end", "hours"),
    [("2026-03-29 01:30", "2026-03-29 03:30", 1), ("2026-10-25 01:30", "2026-10-25 03:30", 3)],
)
def test_a_night_in_which_clocks_change_counts_the_time_that_passed(start: str, end: str, hours: float) -> None:
    seconds = at(end) - at(start)
    month = start[:7]
    assert by_month([Charge(at(start), seconds, 1.0)], BERLIN) == {month: Amount(hours, hours)}


def test_the_turn_of_a_month_whose_clocks_changed_is_where_it_is() -> None:
    """From the night of the change to the turn of the month: 2 days and 22 hours by the clock, 1 hour less."""
    charge = Charge(at("2026-03-29 01:00"), at("2026-04-01 05:00") - at("2026-03-29 01:00"), 0.0)
    assert by_month([charge], BERLIN) == {"2026-03": Amount(70, 0), "2026-04": Amount(5, 0)}


# What fits


def november(hours: float, price: float = 1.0) -> Charge:
    return Charge(at("2026-11-10 08:00"), hours * HOUR_S, price)


@pytest.mark.parametrize(
    ("budget", "wanted", "reason"),
    [
        (Budget(BERLIN, hours=10), november(4), ""),
        (Budget(BERLIN, hours=10), november(4.1), "2026-11: 4.00 of 10 hours are left, 4.10 are needed"),
        (Budget(BERLIN, hours=10, stop_at=0.7), november(2), "2026-11: 1.00 of 10 hours are left, 2.00 are needed"),
        (Budget(BERLIN, usd=10, stop_at=0.7), november(2), "2026-11: $1.00 of $10 are left, $2.00 are needed"),
        (Budget(BERLIN, usd=8), november(1, 2.0), ""),
        (Budget(BERLIN, usd=8), november(1, 2.5), "2026-11: $2.00 of $8 are left, $2.50 are needed"),
        (Budget(BERLIN, hours=5), november(1), "2026-11: 0.00 of 5 hours are left, 1.00 are needed"),
        (Budget(BERLIN), november(1e6, 1e6), ""),
    ],
)
def test_what_fits_beside_six_hours_at_a_dollar(budget: Budget, wanted: Charge, reason: str) -> None:
    assert shortfall(budget, [november(6)], wanted) == reason


def test_a_budget_of_no_dollars_takes_what_is_free() -> None:
    free_only = Budget(BERLIN, usd=0)
    assert shortfall(free_only, [november(100, 0.0)], november(100, 0.0)) == ""
    assert shortfall(free_only, [], november(1, 0.01)) == "2026-11: $0.00 of $0 are left, $0.01 are needed"
    assert standing(free_only, [november(100, 0.0)], at("2026-11-20 00:00")).level is Level.OK


def test_a_month_that_has_room_does_not_help_the_next_one() -> None:
    budget, long = Budget(BERLIN, hours=10), Charge(at("2026-11-30 20:00"), 12 * HOUR_S, 0.0)
    assert shortfall(budget, [], long) == ""
    full = Charge(at("2026-12-01 09:00"), 5 * HOUR_S, 0.0)
    assert shortfall(budget, [full], long) == "2026-12: 5.00 of 10 hours are left, 8.00 are needed"
    assert shortfall(budget, [november(10)], Charge(at("2026-12-01 00:00"), 10 * HOUR_S, 0.0)) == ""


def test_ten_tenths_are_one() -> None:
    """Sums of floating-point numbers may be off by their last digits; a budget is still used up to the end."""
    tenths = [november(0.1, 3.0) for _ in range(9)]
    assert shortfall(Budget(BERLIN, hours=1, usd=3), tenths, november(0.1, 3.0)) == ""
    assert shortfall(Budget(BERLIN, hours=1, usd=3), tenths, november(0.101, 3.0)) != ""


@given(st.lists(st.tuples(MOMENTS, st.floats(0, 3e6), st.floats(0, 50)), max_size=12))
def test_what_is_let_in_one_by_one_never_exceeds_any_month(wishes: list[tuple[float, float, float]]) -> None:
    budget = Budget(BERLIN, hours=300, usd=900, stop_at=0.9)
    taken: list[Charge] = []
    for wish in wishes:
        if not shortfall(budget, taken, Charge(*wish)):
            taken.append(Charge(*wish))
    for used in by_month(taken, BERLIN).values():
        assert used.hours <= 270 * (1 + 1e-8)
        assert used.usd <= 810 * (1 + 1e-8)


@pytest.mark.parametrize(
    ("hours", "level", "share_left"),
    [
        (0, Level.OK, 0.9),
        (79, Level.OK, 0.11),
        (80, Level.WARNING, 0.1),
        (90, Level.STOPPED, 0.0),
        (95, Level.STOPPED, 0),
    ],
)
def test_levels_of_a_hundred_hours(hours: float, level: Level, share_left: float) -> None:
    now = standing(Budget(BERLIN, hours=100, stop_at=0.9), [november(hours)], at("2026-11-20 00:00"))
    assert (now.month, now.used.hours, now.level) == ("2026-11", hours, level)
    assert now.share_left == pytest.approx(share_left)
    assert now.left.hours == pytest.approx(max(0, 90 - hours))


def test_the_tighter_limit_counts() -> None:
    now = standing(Budget(BERLIN, hours=100, usd=10), [november(7)], at("2026-11-20 00:00"))
    assert (now.share_left, now.left) == (pytest.approx(0.3), Amount(93, 3))


def test_a_month_that_is_over_is_not_counted_any_more() -> None:
    assert standing(Budget(BERLIN, hours=5), [november(5)], at("2026-12-01 00:00")).share_left == 1
    assert standing(Budget(BERLIN, hours=5), [november(5)], at("2026-11-30 23:59")).share_left == 0


def test_accounts_stand_in_the_order_of_the_share_that_is_left() -> None:
    now = at("2026-11-20 00:00")
    standings = {
        "large": standing(Budget(BERLIN, hours=1000), [november(600)], now),
        "small": standing(Budget(BERLIN, hours=10), [november(2)], now),
        "own": standing(Budget(BERLIN), [november(1000)], now),
        "other": standing(Budget(BERLIN), [], now),
    }
    assert order_by_share_left(standings) == ["own", "other", "small", "large"]


# Scheduled shutdown


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("22:00-06:00", ["22:00", "23:59", "00:00", "05:59"], ["21:59", "06:00", "12:00"]),
        ("0:30-6:05", ["00:30", "06:04"], ["00:29", "06:05", "23:00"]),
    ],
)
def test_a_window_holds_its_start_and_not_its_end(text: str, inside: list[str], outside: list[str]) -> None:
    window = parse_nightly(text)
    assert all(window.holds(at(f"2026-11-10 {each}"), BERLIN) for each in inside)
    assert not any(window.holds(at(f"2026-11-10 {each}"), BERLIN) for each in outside)
    assert parse_nightly(str(window)) == window


@pytest.mark.parametrize("text", ["22-6", "24:00-06:00", "22:00-06:60", "22:00-22:00", "", 22, None])
def test_what_is_no_window(text: object) -> None:
    with pytest.raises(ValueError, match="write it like '22:00-06:00'"):
        parse_nightly(text)


def test_a_window_follows_the_local_clock_when_it_changes() -> None:
    """In UTC, 22:00 to 06:00 in Berlin is 21:00 to 05:00 before the change and 20:00 to 04:00 after it."""
    window = Nightly(22 * 60, 6 * 60)
    held = [window.holds(at(f"2026-03-{day} {hour}", UTC_ZONE), BERLIN) for day, hour in ((28, "20:30"), (29, "20:30"))]
    assert held == [False, True]
    assert [window.holds(at(f"2026-03-{day} 04:30", UTC_ZONE), BERLIN) for day in (28, 29)] == [True, False]


NOON = at("2026-11-10 12:00")


@pytest.mark.parametrize(
    ("rules", "launched_s", "last_busy_s", "reason"),
    [
        (Shutdown(BERLIN), 0.0, None, ""),
        (Shutdown(BERLIN, idle_s=900), NOON - 899, None, ""),
        (Shutdown(BERLIN, idle_s=900), NOON - 900, None, "idle for 15 minutes"),
        (Shutdown(BERLIN, idle_s=900), NOON - 9000, NOON - 10, ""),
        (Shutdown(BERLIN, idle_s=900), NOON - 9000, NOON - 1800, "idle for 30 minutes"),
        (Shutdown(BERLIN, idle_s=900), NOON - 100, NOON - 1800, ""),
        (Shutdown(BERLIN, nightly=Nightly(11 * 60, 13 * 60)), NOON, NOON, "the nightly shutdown, 11:00-13:00"),
        (Shutdown(BERLIN, nightly=Nightly(13 * 60, 11 * 60)), NOON, NOON, ""),
    ],
)
def test_why_a_machine_stops(rules: Shutdown, launched_s: float, last_busy_s: float | None, reason: str) -> None:
    assert should_stop(rules, launched_s, NOON, last_busy_s) == reason
