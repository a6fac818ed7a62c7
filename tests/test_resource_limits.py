"""Limits that a device sets itself: crossed, kept again, and alternating whatever comes."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motley.errors import InputError
from motley.resource_limits import LimitEvent, LimitKind, ResourceLimits, Watch, limit_of, value_of
from motley.samples import GpuSample, Sample

LIMITS = ResourceLimits(
    memory_bytes=1000, cpu_percent=80.0, gpu_memory_bytes=500, power_w=100.0, celsius=80.0, battery_floor=0.2
)
_BYTES, _REALS = st.none() | st.integers(0, 2000), st.none() | st.floats(0, 200)
SAMPLES = st.builds(
    Sample,
    at_s=st.floats(0, 1e9),
    memory_bytes=_BYTES,
    memory_limit_bytes=st.just(4000),
    cpu_share=st.none() | st.floats(0, 2),
    power_w=_REALS,
    celsius=_REALS,
    battery_level=st.none() | st.floats(0, 1),
    charging=st.none() | st.booleans(),
    gpus=st.lists(st.builds(GpuSample, st.just(0), st.just("gpu"), _BYTES), max_size=2).map(tuple),
)


def _events(limits: ResourceLimits, *samples: Sample) -> list[LimitEvent]:
    watch, events = Watch(limits), []
    for sample in samples:
        watch, new = watch.look(sample)
        events.extend(new)
    return events


def _turns(name: str, limits: ResourceLimits, *values: Any) -> list[tuple[float, bool]]:
    """At which values one limit was crossed (True) or kept again."""
    return [(each.value, each.crossed) for each in _events(limits, *(Sample(0.0, **{name: value}) for value in values))]


@pytest.mark.parametrize(
    ("name", "limits", "values", "turns"),
    [
        ("memory_bytes", ResourceLimits(memory_bytes=1000), (1000, 1001, 951, 950), [(1001, True), (950, False)]),
        ("cpu_share", ResourceLimits(cpu_percent=50), (0.5, 0.75, 0.48, 0.25), [(75.0, True), (25.0, False)]),
        ("power_w", ResourceLimits(power_w=100), (100.0, 100.5, 95.5, 95.0), [(100.5, True), (95.0, False)]),
        (
            "celsius",
            ResourceLimits(celsius=80),
            (80.0, 80.5, 78.5, 78.0, 81.0),
            [(80.5, True), (78.0, False), (81.0, True)],
        ),
        ("battery_level", ResourceLimits(battery_floor=0.5), (0.5, 0.49, 0.52, 0.53), [(0.49, True), (0.53, False)]),
    ],
)
def test_crossed_beyond_the_limit_and_kept_again_with_a_margin(
    name: str, limits: ResourceLimits, values: tuple[float, ...], turns: list[tuple[float, bool]]
) -> None:
    assert _turns(name, limits, *values) == turns


def test_an_event_says_what_when_and_against_what() -> None:
    (event,) = _events(ResourceLimits(celsius=80), Sample(12.5, celsius=85.0))
    assert event == LimitEvent(LimitKind.TEMPERATURE, 12.5, 85.0, 80, crossed=True)


def test_the_fullest_gpu_counts() -> None:
    gpus = (GpuSample(0, "a", 100), GpuSample(1, "b", 600), GpuSample(2, "c"))
    (event,) = _events(ResourceLimits(gpu_memory_bytes=500), Sample(0.0, gpus=gpus))
    assert (event.kind, event.value) == (LimitKind.GPU_MEMORY, 600)


def test_a_device_that_charges_is_never_below_its_floor() -> None:
    low = [Sample(0.0, battery_level=0.1, charging=charging) for charging in (True, None, False, True, True, False)]
    assert [event.crossed for event in _events(ResourceLimits(battery_floor=0.2), *low)] == [True, False, True]


def test_a_floor_of_a_full_battery_can_be_kept_again() -> None:
    assert _turns("battery_level", ResourceLimits(battery_floor=1.0), 0.9, 1.0) == [(0.9, True), (1.0, False)]


@pytest.mark.parametrize(
    ("limit", "machine", "held_against"), [(4000, 9000, 300), (9000, 9000, 20), (None, None, 20), (4000, None, 300)]
)
def test_without_a_container_the_process_is_held_to_the_memory_limit(
    limit: int | None, machine: int | None, held_against: int
) -> None:
    sample = Sample(
        0.0,
        process_memory_bytes=20,
        memory_bytes=300,
        memory_limit_bytes=limit,
        machine_memory_total_bytes=machine,
    )
    assert value_of(LimitKind.MEMORY, sample) == held_against


def test_memory_that_is_known_in_one_way_only() -> None:
    assert value_of(LimitKind.MEMORY, Sample(0.0, memory_bytes=7)) == 7
    assert value_of(LimitKind.MEMORY, Sample(0.0, process_memory_bytes=7, memory_limit_bytes=9)) == 7
    assert value_of(LimitKind.MEMORY, Sample(0.0)) is None


@given(st.lists(SAMPLES, max_size=30))
def test_events_of_a_kind_alternate_and_begin_with_a_crossing(samples: list[Sample]) -> None:
    events = _events(LIMITS, *samples)
    for kind in LimitKind:
        turns = [event.crossed for event in events if event.kind is kind]
        assert turns[:1] in ([], [True])
        assert all(earlier is not later for earlier, later in pairwise(turns))


@given(st.lists(SAMPLES, max_size=30))
def test_no_event_without_a_value_on_its_side_of_the_limit(samples: list[Sample]) -> None:
    for event in _events(LIMITS, *samples):
        is_floor = event.kind is LimitKind.BATTERY
        beyond = event.value < event.limit if is_floor else event.value > event.limit
        assert beyond if event.crossed else (is_floor or not beyond)


@given(st.lists(SAMPLES, max_size=30))
def test_a_watch_knows_what_is_over(samples: list[Sample]) -> None:
    watch, over = Watch(LIMITS), set[LimitKind]()
    for sample in samples:
        watch, events = watch.look(sample)
        for event in events:
            (over.add if event.crossed else over.remove)(event.kind)
        assert watch.over == over


@given(SAMPLES, st.sets(st.sampled_from(LimitKind)).map(frozenset))
def test_what_is_unknown_changes_nothing(sample: Sample, over: frozenset[LimitKind]) -> None:
    watch, events = Watch(LIMITS, over).look(Sample(sample.at_s))
    assert (watch.over, events) == (over, ())


@given(st.lists(SAMPLES, max_size=10))
def test_without_limits_there_are_no_events(samples: list[Sample]) -> None:
    assert _events(ResourceLimits(), *samples) == []


@given(SAMPLES)
def test_the_same_sample_twice_gives_no_second_event(sample: Sample) -> None:
    watch, _ = Watch(LIMITS).look(sample)
    assert watch.look(sample) == (watch, ())


def test_each_kind_has_a_limit_and_a_value() -> None:
    assert [limit_of(kind, LIMITS) for kind in LimitKind] == [1000, 80.0, 500, 100.0, 80.0, 0.2]


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf])
@pytest.mark.parametrize("name", ["memory_bytes", "cpu_percent", "gpu_memory_bytes", "power_w", "celsius"])
def test_nonsense_is_refused_by_name_and_value(name: str, value: float) -> None:
    with pytest.raises(InputError, match=rf"^{name}: {value!r} is no limit; give a number above 0, or leave it out$"):
        ResourceLimits(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [-0.1, 1.1, 20, math.nan])
def test_a_floor_is_a_share(value: float) -> None:
    with pytest.raises(InputError, match=rf"battery_floor: {value!r} is no limit; give within 0 and 1"):
        ResourceLimits(battery_floor=value)
