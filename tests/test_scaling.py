"""When a fleet grows and shrinks: the load, its trend, the recommendation and its reason, and who goes first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from factories import ROOT, fleet_data
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from motley.errors import FleetFileError, InputError
from motley.fleetfile import parse_fleet
from motley.scaling import (
    Candidate,
    Cause,
    Forecast,
    Kind,
    Load,
    Recommendation,
    forecast,
    kept,
    mean_demand,
    recommend,
    stop_order,
    wanted,
)
from motley.scaling.load import t_quantile
from motley.scaling_spec import Scaling
from motley.spec import Fleet

NOW_S = 10_000.0


def rules(**changes: Any) -> Scaling:
    return Scaling.model_validate({"device_class": "fast", "max": 100, **changes})


def constant(demand: float, present: int = 8, seconds: float = 600.0, step_s: float = 15.0) -> list[Load]:
    """Samples of an unchanging load up to now."""
    count = round(seconds / step_s)
    return [Load(NOW_S - seconds + step * step_s, demand, present) for step in range(count + 1)]


def sloping(start: float, slope_per_s: float, noise: Sequence[float] = (0.0,)) -> list[Load]:
    """Samples over 600 s, every 15 s, that end now at `start` + slope × 600."""
    return [
        Load(NOW_S - 600 + 15 * step, start + slope_per_s * 15 * step + noise[step % len(noise)], 8)
        for step in range(41)
    ]


def launched(count: int, **facts: Any) -> list[Candidate]:
    return [Candidate(f"added-{number}", **facts) for number in range(count)]


def advice(loads: Sequence[Load], count: int = 8, last_change_s: float | None = None, **changes: Any) -> Recommendation:
    return recommend(rules(**changes), loads, count, launched(count), last_change_s, NOW_S)


# Load


def test_mean_demand_is_weighted_by_time() -> None:
    loads = [Load(0, 1, 4), Load(100, 3, 4), Load(150, 2, 4, queued=4)]
    assert mean_demand(loads, 200, 200) == pytest.approx((100 * 1 + 50 * 3 + 50 * 6) / 200)
    assert mean_demand(loads, 200, 100) == pytest.approx((50 * 3 + 50 * 6) / 100)
    assert mean_demand(loads, 200, 25) == pytest.approx(6)


def test_a_window_that_is_not_covered_has_no_mean() -> None:
    assert mean_demand([Load(1, 1, 1)], 200, 200) is None
    assert mean_demand([], 200, 200) is None


def test_samples_that_say_nothing_of_the_retention_are_dropped() -> None:
    loads = [Load(at_s, 1, 1) for at_s in (0, 10, 20, 30)]
    assert [each.at_s for each in kept(loads, 40, 15)] == [20, 30]
    assert [each.at_s for each in kept(loads, 40, 100)] == [0, 10, 20, 30]


def test_a_straight_line_is_followed_exactly() -> None:
    found = forecast(sloping(2.0, 0.01), NOW_S, 300, 120)
    assert found is not None
    assert [found.demand, found.low, found.high] == pytest.approx([9.2, 9.2, 9.2])


def test_a_forecast_by_hand() -> None:
    """y = 0, 1, …: at x = −7 … 0 the values 1, 0, 1, 0 … have slope −1/21 and mean 0.5."""
    loads = [Load(step - 7, 1 - step % 2, 8) for step in range(8)]
    found = forecast(loads, 0, 7, 3.5)
    assert found is not None
    slope = -1 / 21
    demand = 0.5 + slope * 7
    squares = 8 * 0.25 - slope**2 * 42
    error = math.sqrt(squares / 6 * (1 + 1 / 8 + 49 / 42))
    assert found.demand == pytest.approx(demand)
    assert found.low == 0
    assert found.high == pytest.approx(demand + 1.4398 * error, rel=0.01)


@pytest.mark.parametrize(("freedom", "value"), [(4, 1.5332), (6, 1.4398), (10, 1.3722), (18, 1.3304), (60, 1.2958)])
def test_quantiles_of_t(freedom: int, value: float) -> None:
    assert t_quantile(0.9, freedom) == pytest.approx(value, rel=0.002)


@pytest.mark.parametrize(
    ("loads", "ahead_s"), [(sloping(2, 0.01), 0.0), (constant(3)[-7:], 60.0), ([Load(NOW_S, 2, 8)] * 9, 60.0)]
)
def test_there_is_no_forecast_without_a_trend(loads: list[Load], ahead_s: float) -> None:
    assert forecast(loads, NOW_S, 300, ahead_s) is None


# The recommendation


def test_above_up_as_many_are_added_as_bring_it_to_target() -> None:
    found = advice(constant(6.88))
    assert (found.kind, found.cause, found.add) == (Kind.UP, Cause.ABOVE_UP, 2)
    assert found.text == "utilisation 0.86 over 300 s is above 0.8: 2 more bring it to 0.69"
    assert found.utilisation == pytest.approx(0.86)


def test_devices_that_are_wanted_and_not_there_count() -> None:
    loads = [replace(each, queued=2.0) for each in constant(2.0, present=2)]
    found = advice(loads, count=2)
    assert found.add == math.ceil(4 / 0.7) - 2
    assert found.text.startswith("utilisation 2.00 over 300 s is above 0.8: 4 more bring it to 0.67")


def test_below_down_the_first_in_order_are_stopped() -> None:
    found = advice(constant(1.5))
    assert (found.kind, found.cause) == (Kind.DOWN, Cause.BELOW_DOWN)
    assert found.stop == tuple(f"added-{number}" for number in range(5))
    assert found.text == "utilisation 0.19 over 300 s is below 0.3: 5 fewer bring it to 0.50"


@pytest.mark.parametrize("demand", [2.4, 4.0, 6.4])
def test_nothing_happens_in_between(demand: float) -> None:
    found = advice(constant(demand))
    assert (found.kind, found.cause) == (Kind.HOLD, Cause.IN_BAND)
    assert found.text == f"utilisation {demand / 8:.2f} over 300 s is between 0.3 and 0.8"


def test_a_load_that_rises_is_met_before_it_is_there() -> None:
    found = advice(sloping(2.0, 0.007))
    assert (found.kind, found.cause) == (Kind.UP, Cause.FORECAST)
    assert found.add == math.ceil((2 + 0.007 * 720) / 0.7) - 8
    assert found.text == (
        "utilisation 0.64 over 300 s, but 120 s from now it will be 0.88 (0.88 to 0.88), above 0.8: "
        "3 more bring it to 0.64"
    )
    assert advice(sloping(2.0, 0.007), forecast="0s").kind is Kind.HOLD


def test_noise_is_no_trend() -> None:
    noise = (0.0, 3.0, -2.5, 1.0, -3.0, 2.0, 0.5, -1.0)
    assert advice(sloping(4.0, 0.001, noise)).kind is Kind.HOLD


def test_a_low_load_that_rises_is_left_alone() -> None:
    found = advice(sloping(-0.9, 0.005))
    assert (found.kind, found.cause) == (Kind.HOLD, Cause.IN_BAND)
    assert "is below 0.3, but 120 s from now it will be 0.34" in found.text


def test_maximum_and_minimum_hold_and_say_so() -> None:
    more = advice(constant(7.9), max=9)
    assert (more.add, more.text.split(": ")[1]) == (1, "1 more brings it to 0.88")
    full = advice(constant(7.9), max=8)
    assert (full.kind, full.cause) == (Kind.HOLD, Cause.AT_MAX)
    assert full.text == "utilisation 0.99 over 300 s is above 0.8, but 8 is the maximum"
    least = advice(constant(0.0), min=8)
    assert (least.kind, least.cause) == (Kind.HOLD, Cause.AT_MIN)
    assert least.text == "utilisation 0.00 over 300 s is below 0.3, but 8 is the minimum"
    one = advice(constant(0.1), count=1)
    assert one.text == "utilisation 0.10 over 300 s is below 0.3, but one device fewer would be too few"


def test_bounds_are_restored_before_anything_is_known() -> None:
    few, many = advice([], count=1, min=3), advice([], count=5, max=4)
    assert (few.kind, few.cause, few.add) == (Kind.UP, Cause.BELOW_MIN, 2)
    assert few.text == "1 device, and 3 is the minimum: 2 more bring them to 3"
    assert (many.kind, many.cause, many.stop) == (Kind.DOWN, Cause.ABOVE_MAX, ("added-0",))
    unknown = advice(constant(7.9, seconds=120))
    assert (unknown.kind, unknown.cause) == (Kind.HOLD, Cause.NO_DATA)
    assert unknown.text == "the load is not known for 300 s yet"


def test_nobody_there_and_somebody_wanted() -> None:
    found = advice(constant(2.0, present=0), count=0)
    assert (found.kind, found.add, found.utilisation) == (Kind.UP, 3, math.inf)
    assert found.text.startswith("2.0 devices wanted over 300 s, and none there: 3 more")
    assert advice(constant(0.0), count=0).kind is Kind.HOLD


def test_devices_that_were_not_launched_stay() -> None:
    found = recommend(rules(), constant(0.5), 8, launched(2), None, NOW_S)
    assert found.stop == ("added-0", "added-1")
    assert found.text.endswith("2 fewer bring it to 0.08")
    none = recommend(rules(), constant(0.5), 8, [], None, NOW_S)
    assert (none.kind, none.cause) == (Kind.HOLD, Cause.AT_MIN)
    assert none.text.endswith("but the devices of the fleet file stay")


@pytest.mark.parametrize(
    ("demand", "since_s", "kind"),
    [(7.9, 299, Kind.HOLD), (7.9, 300, Kind.UP), (0.5, 599, Kind.HOLD), (0.5, 600, Kind.DOWN)],
)
def test_cool_downs(demand: float, since_s: float, kind: Kind) -> None:
    found = advice(constant(demand), last_change_s=NOW_S - since_s)
    assert found.kind is kind
    if kind is Kind.HOLD:
        assert found.cause is Cause.COOL_DOWN
        assert found.text.endswith("; after the last change it waits for another 1 s")


# Who goes


def test_the_order_of_stopping() -> None:
    ordered = [
        Candidate("coming", joined=False, usd_per_hour=0.1),
        Candidate("idle-useless", usefulness=0.1),
        Candidate("idle-dear", usefulness=0.5, usd_per_hour=2.0),
        Candidate("idle-cheap", usefulness=0.5, usd_per_hour=1.0),
        Candidate("idle-cheap-too", usefulness=0.5, usd_per_hour=1.0),
        Candidate("busy-useless", busy=True, usefulness=0.0),
        Candidate("busy-useful", busy=True, usefulness=0.9, usd_per_hour=9.0),
    ]
    assert stop_order(reversed(ordered)) == ordered


# What holds always

demands = st.floats(0, 200)
counts = st.integers(0, 60)
settings = st.builds(
    lambda least, more, cut, gap: rules(min=least, max=max(1, least + more), target=0.2 + cut, up=0.3 + cut + gap),
    st.integers(0, 20),
    st.integers(0, 60),
    st.floats(0.15, 0.5),
    st.floats(0, 0.1),
)
forecasts = st.none() | st.builds(
    lambda demand, half: Forecast(demand, max(0.0, demand - half), demand + half), demands, st.floats(0, 20)
)


@given(settings, counts, demands | st.none(), forecasts)
def test_never_below_minimum_nor_above_maximum(
    given_rules: Scaling, count: int, demand: float | None, coming: Forecast | None
) -> None:
    aim, _ = wanted(given_rules, count, demand, coming)
    assert min(given_rules.min, count) <= aim <= max(given_rules.max, count)
    if count < given_rules.min or count > given_rules.max:
        assert given_rules.min <= aim <= given_rules.max
    if aim != count:
        assert given_rules.min <= aim <= given_rules.max


@given(settings, counts, demands, demands, forecasts)
def test_a_higher_utilisation_never_wants_fewer(
    given_rules: Scaling, count: int, one: float, other: float, coming: Forecast | None
) -> None:
    low, high = sorted((one, other))
    assert wanted(given_rules, count, low, coming)[0] <= wanted(given_rules, count, high, coming)[0]


@given(settings, counts, demands, demands, demands, st.floats(0, 20))
def test_a_higher_forecast_never_wants_fewer(
    given_rules: Scaling, count: int, demand: float, one: float, other: float, half: float
) -> None:
    low, high = (Forecast(each, max(0.0, each - half), each + half) for each in sorted((one, other)))
    assert wanted(given_rules, count, demand, low)[0] <= wanted(given_rules, count, demand, high)[0]


@given(settings, counts, demands)
def test_one_change_is_enough_under_a_constant_load(given_rules: Scaling, count: int, demand: float) -> None:
    aim, _ = wanted(given_rules, count, demand, Forecast(demand, demand, demand))
    bounded, _ = wanted(given_rules, aim, demand, Forecast(demand, demand, demand))
    again, _ = wanted(given_rules, bounded, demand, Forecast(demand, demand, demand))
    assert again == bounded
    if given_rules.min <= count <= given_rules.max:
        assert bounded == aim


@given(
    loads=st.lists(st.tuples(st.floats(1, 60), st.floats(0, 50)), min_size=1, max_size=60),
    count=counts,
    since_s=st.none() | st.floats(0, 2000),
)
def test_equal_arguments_give_equal_advice_that_keeps_the_cool_down(
    loads: list[tuple[float, float]], count: int, since_s: float | None
) -> None:
    at_s, samples = NOW_S - sum(gap for gap, _ in loads), []
    for gap_s, demand in loads:
        samples.append(Load(at_s, demand, count))
        at_s += gap_s
    last = None if since_s is None else NOW_S - since_s
    first, second = (recommend(rules(), tuple(samples), count, launched(count), last, NOW_S) for _ in range(2))
    assert first == second
    if since_s is not None and since_s < 299:
        assert first.kind is Kind.HOLD
    if since_s is not None and since_s < 599:
        assert first.kind is not Kind.DOWN
    assert first.add == 0 or first.kind is Kind.UP
    assert not first.stop or first.kind is Kind.DOWN


# The fleet file


def fleet_text(**section: Any) -> bytes:
    import yaml

    return yaml.safe_dump(fleet_data(scaling={"device_class": "fast", "max": 5, **section})).encode()


def test_the_section_has_the_defaults_of_the_page() -> None:
    found = parse_fleet(fleet_text()).scaling
    assert found is not None
    assert (found.target, found.up, found.down) == (0.7, 0.8, 0.3)
    assert (found.window, found.cool_down_up, found.cool_down_down, found.retention) == (300, 300, 600, 86_400)
    assert parse_fleet(b"name: a\nclasses: {b: {cpus: 1, memory: 1g}}").scaling is None


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"device_class": "fst"}, "device_class 'fst' is no class of this fleet; did you mean 'fast'?"),
        ({"max": 2}, "max 2 is below the 3 devices that the fleet begins with; write at least 3"),
        ({"min": 6}, "min 6 is above max 5; swap them"),
        ({"down": 0.7}, "down 0.7 must be below target 0.7"),
        ({"target": 0.9}, "up 0.8 must be above target 0.9"),
        ({"window": "10s"}, "window '10s' is shorter than interval '15s'"),
        ({"retention": "60s"}, "retention '60s' is shorter than window '300s'"),
        ({"window": 300}, "window: 300 has no unit; write it like '30s'"),
        ({"provider": "dockr"}, "provider 'dockr' is not known; did you mean 'docker'?"),
        ({"taget": 0.6}, "unknown key 'taget'; did you mean 'target'?"),
        ({"up": 1.5}, "up '1.5': must be less than or equal to 1; the nearest allowed value is 1.0"),
    ],
)
def test_a_wrong_section_is_one_line(section: dict[str, Any], message: str) -> None:
    with pytest.raises(FleetFileError) as caught:
        parse_fleet(fleet_text(**section), "f.yaml")
    assert str(caught.value).split(": ", 1)[1] == message
    assert "\n" not in str(caught.value)


def test_a_fleet_with_scaling_reads_back_and_keeps_its_class() -> None:
    made = parse_fleet(fleet_text(account="lab", spot=True, max=12))
    assert Fleet.model_validate(made.as_mapping()) == made
    assert Fleet.model_validate_json(made.model_dump_json()) == made
    assert made.scaling is not None
    grown = Fleet.model_validate(fleet_data(scaling=made.scaling.model_dump(mode="json") | {"device_class": "slow"}))
    assert grown.with_total(1).classes["slow"].count == 0
    with pytest.raises(InputError, match=r"13 devices are above scaling\.max 12; raise that first"):
        made.with_total(13)


def test_newcomers_have_shards_and_names_of_their_own_and_hardware_of_their_class() -> None:
    made = parse_fleet(fleet_text(max=5))
    first, *others = [made.newcomer(number) for number in (1, 2, 3)]
    assert (made.total_devices, made.shards) == (3, 5)
    assert (first.name, first.class_name, first.partition) == ("client-4", "fast", 3)
    assert first.spec == next(made.devices()).spec
    assert [(each.name, each.partition) for each in others] == [("client-5", 4), ("client-6", 3)]
    assert len(made.slowness()) == 5


@pytest.mark.parametrize("section", [{"max": 3}, {"max": 5, "enabled": False}])
def test_a_fleet_that_does_not_grow_deals_its_data_among_its_own(section: dict[str, Any]) -> None:
    made = parse_fleet(fleet_text(**section))
    assert made.shards == len(made.slowness()) == 3
    with pytest.raises(ValueError, match="does not grow"):
        made.newcomer(1)


def test_a_price_is_a_number_from_zero() -> None:
    classes = {"fast": {"cpus": 1, "memory": "1g", "usd_per_hour": 0.25}}
    made = Fleet.model_validate({"name": "a", "classes": classes})
    assert next(made.devices()).spec.usd_per_hour == 0.25
    with pytest.raises(ValidationError):
        Fleet.model_validate({"name": "a", "classes": {"fast": {**classes["fast"], "usd_per_hour": -1}}})


def test_every_key_stands_on_the_page_with_its_default() -> None:
    """Rows of the page's first table: key or keys, what, default or defaults; spans in seconds."""
    page = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8").split("## What a run costs")[0]
    told: dict[str, str] = {}
    for line in page.splitlines():
        if line.startswith("| `"):
            keys, _, defaults = (cell.strip() for cell in line[1:-1].split("|"))
            names = [key.strip("` ") for key in keys.split(",")]
            values = [each.strip("` ") for each in defaults.split(",")]
            told |= zip(names, values, strict=True)
    made = rules().model_dump(mode="json")
    needed = {"device_class", "max"}
    known = {name: "needed" if name in needed else _as_told(made[name]) for name in made}
    assert told == {**known, "account": "whichever has most budget left", "superlink": "none"}


def _as_told(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
