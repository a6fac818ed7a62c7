"""What the devices of a class draw: the right distribution, the same devices for the same seed, plain numbers."""

from __future__ import annotations

import math
import statistics
import time
from typing import Any

import pytest
from factories import MIB, fleet
from hypothesis import given
from hypothesis import strategies as st

from motley.hardware import DeviceSpec
from motley.spec import Fleet
from motley.units import format_watts, parse_watts

PHONE: dict[str, Any] = {
    "count": 40,
    "cpus": {"lognormal": {"median": 0.5, "sigma": 0.8}, "min": 0.1, "max": 2},
    "memory": {"choice": {"1.5g": 18, "4g": 29, "6g": 0}},
    "ms_per_example": {"lognormal": {"median": 176, "sigma": 0.744}},
    "network": {
        "down": {"lognormal": {"median": "5.2mbit", "sigma": 0.484}},
        "up": {"uniform": {"low": "1mbit", "high": "3mbit"}},
        "latency": {"choice": {"20ms": 1, "0.1s": 1}},
        "variation": 0.4,
    },
    "battery": {"capacity": "15wh", "level": {"uniform": {"low": 0.2, "high": 0.4}}, "charge": "7.5w"},
    "availability": {"ready": {"lognormal": {"median": 0.055, "sigma": 1.18}, "max": 0.5}, "session": "181s"},
    "power": {"idle": "500mw", "busy": "4w"},
}


def _phones(count: int = 40, seed: int = 3, **changes: Any) -> Fleet:
    return fleet(seed=seed, classes={"phone": PHONE | {"count": count} | changes})


def _specs(made: Fleet) -> list[DeviceSpec]:
    return [device.spec for device in made.devices()]


def test_a_drawn_device_has_plain_numbers_within_their_bounds() -> None:
    for spec in _specs(_phones(300)):
        network, battery, availability = spec.network, spec.battery, spec.availability
        assert network is not None
        assert battery is not None
        assert availability is not None
        assert 0.1 <= spec.cpus <= 2
        assert spec.memory in (1536 * MIB, 4096 * MIB)  # never the choice of weight 0
        assert isinstance(spec.memory, int)
        assert spec.ms_per_example is not None
        assert network.up is not None
        assert 1e6 <= network.up <= 3e6
        assert network.latency in (0.02, 0.1)
        assert network.variation == 0.4
        assert 0.2 <= battery.level <= 0.4
        assert (battery.capacity, battery.charge) == (15, 7.5)
        assert 0 < availability.ready <= 0.5
        assert availability.session == 181
        assert spec.power is not None
        assert (spec.power.idle, spec.power.busy) == (0.5, 4)


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 2**31 - 1))
def test_more_devices_leave_the_first_ones_as_they_were(few: int, more: int, seed: int) -> None:
    assert _specs(_phones(few + more, seed))[:few] == _specs(_phones(few, seed))


def test_each_field_is_drawn_on_its_own() -> None:
    """A changed field leaves the others as they were, and so does a class that comes before."""
    plain = _specs(_phones())
    assert [spec.memory for spec in _specs(_phones(cpus=1))] == [spec.memory for spec in plain]
    behind = fleet(seed=3, classes={"desk": {"cpus": 1, "memory": "1g"}, "phone": PHONE})
    assert _specs(behind)[1:] == plain


def test_another_seed_or_class_name_draws_other_devices() -> None:
    assert _specs(_phones(seed=3)) == _specs(_phones().with_seed(3)) != _specs(_phones(seed=4))
    assert _specs(fleet(seed=3, classes={"tablet": PHONE})) != _specs(_phones())


def test_the_measured_population_of_phones_comes_out() -> None:
    """p5 60, p50 170, p95 553 ms of 930 phones; the fit gives 52, 176 and 598."""
    times = sorted(spec.ms_per_example or 0 for spec in _specs(_phones(10_000)))
    assert statistics.median(times) == pytest.approx(176, rel=0.03)
    assert statistics.stdev(map(math.log, times)) == pytest.approx(0.744, rel=0.03)
    assert times[9500] / times[500] == pytest.approx(math.exp(2 * 1.6449 * 0.744), rel=0.08)


def test_choices_follow_their_weights_and_uniform_ones_fill_their_range() -> None:
    specs = _specs(_phones(5000))
    assert sum(spec.memory == 1536 * MIB for spec in specs) / 5000 == pytest.approx(18 / 47, abs=0.03)
    ups = [spec.network.up or 0 for spec in specs if spec.network]
    assert statistics.mean(ups) == pytest.approx(2e6, rel=0.02)
    assert statistics.quantiles(ups, n=4)[0] == pytest.approx(1.5e6, rel=0.03)


def test_a_class_without_distributions_is_one_object_for_all_its_devices() -> None:
    first, second, _ = _specs(fleet())
    assert first is second


def test_the_devices_cores_are_summed_as_drawn() -> None:
    made = _phones()
    assert made.client_cpus == pytest.approx(sum(spec.cpus for spec in _specs(made)))
    assert made.total_cpus == pytest.approx(made.client_cpus + made.server.cpus)


@given(st.floats(0.2, 1))
def test_scaling_scales_every_draw(factor: float) -> None:
    made = _phones(20)
    for before, after in zip(_specs(made), _specs(made.scaled(factor)), strict=True):
        assert after.cpus == pytest.approx(before.cpus * factor, abs=2e-4)
        assert after.memory == before.memory


def test_slowness_is_time_per_example_at_the_quota() -> None:
    made = fleet(
        classes={
            "a": {"cpus": 0.5, "memory": "1g", "ms_per_example": 10},
            "b": {"cpus": 2, "memory": "1g", "ms_per_example": 10},
            "c": {"cpus": 0.5, "memory": "1g"},
        }
    )
    assert made.slowness() == [20, 5, 2]


def test_ten_thousand_devices_are_drawn_in_well_under_a_second() -> None:
    made = _phones(10_000)
    started = time.process_time()
    assert len(_specs(made)) == 10_000
    assert time.process_time() - started < 1


@given(st.integers(0, 10**6).map(lambda value: value / 1000))
def test_watts_go_to_text_and_back(value: float) -> None:
    assert parse_watts(format_watts(value)) == value


@pytest.mark.parametrize(
    ("text", "hint"), [("4", "has no unit"), ("4wh", "did you mean '4w'"), ("four", "not a number")]
)
def test_watts_without_a_right_unit_are_refused(text: str, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        parse_watts(text)


def test_devices_that_charge_for_a_part_of_the_day_do_so_at_times_of_their_own() -> None:
    plain = {"count": 300, "cpus": 1, "memory": "1g"}
    window = {"capacity": "15wh", "charging_share": 0.25}

    def begins(**battery: Any) -> list[float]:
        made = fleet(seed=3, classes={"phone": {**plain, "battery": battery}})
        return [spec.battery.charging_from for spec in _specs(made) if spec.battery]

    own = begins(**window)
    assert len(set(own)) == 300
    assert statistics.mean(own) == pytest.approx(0.5, abs=0.06)
    assert set(begins(**window, charging_from=0.9)) == {0.9}
    assert set(begins(capacity="15wh", charging=True)) == {0.0}


def test_when_to_charge_says_nothing_without_for_how_long() -> None:
    battery = {"capacity": "15wh", "charging_from": 0.9}
    with pytest.raises(ValueError, match="charging_from does nothing without charging_share"):
        fleet(classes={"phone": {"cpus": 1, "memory": "1g", "battery": battery}})


@pytest.mark.parametrize("value", [1 / 3, 0.00012345678901234567, 1.2345678901234567e-05, 9999999.999999998])
def test_a_choice_among_numbers_reads_back_to_the_last_digit(value: float) -> None:
    made = fleet(classes={"a": {"cpus": 1.0, "memory": "1g", "ms_per_example": {"choice": {value: 1}}}})
    assert Fleet.model_validate(made.as_mapping()) == made
