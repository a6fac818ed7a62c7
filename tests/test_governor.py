"""The strategies that keep a load within its limits: hand-computed values, and laws that hold for all."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motley.governor import GOVERNORS, Adjustment, Governor, Grant, Load
from motley.governor.adaptive import Adaptive
from motley.governor.cooperative import Cooperative
from motley.governor.dynamic import Dynamic
from motley.governor.learning import Line
from motley.governor.memory import Pressure, pressures
from motley.governor.predictive import Predictive
from motley.resource_limits import LimitKind, ResourceLimits
from motley.samples import GpuSample, Sample

MIB = 1024**2
NO_LIMITS = ResourceLimits()
LOAD = Load(batch_size=8, threads=4, most_batch_size=64, most_threads=4, step_s=1.5)

all_governors = pytest.mark.parametrize("governor", GOVERNORS.values(), ids=GOVERNORS)


def told(
    governor: Governor, *samples: Sample, limits: ResourceLimits = NO_LIMITS, load: Load = LOAD
) -> list[Adjustment]:
    """What a load that does not obey is told after each sample."""
    state, adjustments = governor.start(limits, load), []
    for number, sample in enumerate(samples):
        state, adjustment = governor.adjust(state, sample, replace(load, steps=load.steps + number))
        adjustments.append(adjustment)
    return adjustments


# One step of a plant: the memory of a batch at a step, seen four times: before, half-way and twice at its peak.


@dataclass(frozen=True)
class Seen:
    step: int
    batch_size: int
    peak_bytes: int
    adjustment: Adjustment
    """What was in force after the step."""


Memory = Callable[[int, int], int]
"""Step and batch size → peak in bytes."""


def ran(
    governor: Governor, limit_bytes: int, base_bytes: int, memory: Memory, load: Load, steps: int
) -> Iterator[Seen]:
    """A load that obeys at each step's end, under a kernel's limit; its own memory is all there is."""
    state = governor.start(NO_LIMITS, load)
    at_s = 0.0
    for step in range(steps):
        peak = memory(step, load.batch_size)
        batch = None
        for used in (base_bytes, (base_bytes + peak) // 2, peak, peak):
            at_s += 0.1
            load = replace(load, steps=step)
            sample = Sample(at_s, process_memory_bytes=used, memory_bytes=used, memory_limit_bytes=limit_bytes)
            state, adjustment = governor.adjust(state, sample, load)
            batch = adjustment.batch_size or batch
        yield Seen(step, load.batch_size, peak, replace(adjustment, batch_size=batch))
        load = replace(load, batch_size=batch or load.batch_size, threads=adjustment.threads or load.threads)


def linear(base_bytes: int, bytes_per_example: int) -> Memory:
    return lambda step, batch: base_bytes + bytes_per_example * batch


# Memory


@pytest.mark.parametrize(
    ("sample", "own_limit", "used_bytes", "limit_bytes"),
    [
        (Sample(0, memory_bytes=60, memory_limit_bytes=100), None, 60, 100),
        (Sample(0, memory_bytes=60, memory_limit_bytes=100), 80, 60, 80),
        (Sample(0, memory_bytes=60, memory_limit_bytes=70), 80, 60, 70),
        (Sample(0, process_memory_bytes=50, memory_bytes=60, memory_limit_bytes=70), 65, 60, 65),
        (Sample(0, 50, 600, 1000, machine_memory_total_bytes=1000), 80, 50, 80),
        (Sample(0, 50, 600, 1000, machine_memory_total_bytes=1000), None, 600, 1000),
    ],
)
def test_memory_is_held_against_the_smaller_limit(
    sample: Sample, own_limit: int | None, used_bytes: int, limit_bytes: int
) -> None:
    """The device's own limit is about the process alone where the kernel limits nothing."""
    assert pressures(sample, ResourceLimits(own_limit)) == [Pressure(LimitKind.MEMORY, used_bytes, limit_bytes)]


def test_the_fullest_gpu_counts_too() -> None:
    gpus = (GpuSample(0, "", 5, 50), GpuSample(1, "", 35, 50), GpuSample(2, "", 60))
    sample = Sample(0, memory_bytes=60, memory_limit_bytes=100, gpus=gpus)
    host = Pressure(LimitKind.MEMORY, 60, 100)
    assert pressures(sample, NO_LIMITS) == [host, Pressure(LimitKind.GPU_MEMORY, 35, 50)]
    assert pressures(sample, ResourceLimits(gpu_memory_bytes=40)) == [host, Pressure(LimitKind.GPU_MEMORY, 60, 40)]


@pytest.mark.parametrize(("used", "limit"), [(None, None), (5, None), (5, 0), (None, 5)])
def test_without_a_limit_or_a_use_no_memory_is_tight(used: int | None, limit: int | None) -> None:
    assert pressures(Sample(0, memory_bytes=used, memory_limit_bytes=limit), NO_LIMITS) == []


@all_governors
def test_a_full_gpu_lowers_the_batch_and_free_host_memory_does_not_raise_it(governor: Governor) -> None:
    full = Sample(0, memory_bytes=1, memory_limit_bytes=100, gpus=(GpuSample(0, "", 95, 100),))
    batches = [each.batch_size for each in told(governor, *[full] * 20)]
    assert all(batch is not None and batch < LOAD.batch_size for batch in batches)


def test_dynamic_cuts_to_what_would_use_three_quarters() -> None:
    """Held without a batch: 100. At a batch of 8: 900, so 100 each; 750 leaves room for 6."""
    samples = [Sample(n, memory_bytes=used, memory_limit_bytes=1000) for n, used in enumerate((100, 900))]
    first, second = told(Dynamic(), *samples)
    assert first.batch_size is None
    assert second.batch_size == 6
    assert second.reason == "batch lowered: memory at 90 % of its limit"


def test_dynamic_grows_by_a_quarter_but_only_to_what_fits() -> None:
    """100 at rest and 20 an example: at 27, 64 % is below the low mark, and 75 % is at 32; there it stays."""
    batches = [seen.batch_size for seen in ran(Dynamic(), 1000, 100, linear(100, 20), LOAD, 60)]
    assert list(dict.fromkeys(batches)) == [8, 10, 12, 15, 18, 22, 27, 32]


def test_predictive_sees_a_limit_coming() -> None:
    """1 % more each step, from 70 %: at step 10 it expects 86 % at step 16, and 75 % would then be 6 of 8 examples."""
    run = ran(Predictive(), 1000, 0, lambda step, batch: 700 + 10 * step, LOAD, 60)
    first = next(seen for seen in run if seen.adjustment.batch_size)
    assert (first.step, first.adjustment.batch_size) == (10, 6)
    assert first.adjustment.reason.endswith("86 % ahead")


@pytest.mark.parametrize("growth", [0.005, 0.01, 0.02, 0.04])
def test_predictive_cuts_before_dynamic_would(growth: float) -> None:
    def peak_at_first_cut(governor: Governor) -> int:
        load = replace(LOAD, batch_size=16, most_batch_size=16)
        run = ran(governor, 1000, 100, lambda step, batch: int(100 + 25 * batch * (1 + growth * step)), load, 300)
        return next(seen.peak_bytes for seen in run if (seen.adjustment.batch_size or 99) < seen.batch_size)

    assert peak_at_first_cut(Predictive()) < peak_at_first_cut(Dynamic()) < 1000


def test_adaptive_halves_and_remembers() -> None:
    """100 at rest, and 100 an example above a batch of 8, but nothing below: no line can foresee it."""
    jump: Memory = lambda step, batch: 950 if batch >= 8 else 150  # noqa: E731
    batches = [seen.batch_size for seen in ran(Adaptive(), 1000, 100, jump, replace(LOAD, batch_size=4), 90)]
    assert batches.count(8) == 1
    assert batches[batches.index(8) + 1] == 4
    assert set(batches[-10:]) == {7}


def test_adaptive_tries_again_when_the_limit_rises() -> None:
    governor, load = Adaptive(), replace(LOAD, batch_size=8)
    state = governor.start(NO_LIMITS, load)
    state, cut = governor.adjust(state, Sample(0, memory_bytes=95, memory_limit_bytes=100), load)
    assert (cut.batch_size, state.too_large) == (4, 8)
    state, _ = governor.adjust(state, Sample(1, memory_bytes=50, memory_limit_bytes=100), replace(load, batch_size=4))
    assert state.too_large == 8
    state, _ = governor.adjust(state, Sample(2, memory_bytes=50, memory_limit_bytes=300), replace(load, batch_size=4))
    assert state.too_large is None


@settings(max_examples=20)
@given(base=st.integers(0, 400), slope=st.integers(1, 400), first=st.integers(1, 64))
def test_adaptive_converges_below_the_limit(base: int, slope: int, first: int) -> None:
    """On a linear load of which one example fits, it settles at the most that fits under its target."""
    governor = Adaptive()
    run = list(ran(governor, 1000, base, linear(base, slope), replace(LOAD, batch_size=first), 400))[-80:]
    settled = {seen.batch_size for seen in run}
    if base + slope > 1000 * governor.high:
        assert settled == {1}
        return
    assert all(seen.peak_bytes < 1000 for seen in run)
    largest = max(settled)
    more = largest + 64 * governor.grow
    assert largest == 64 or base + slope * more > 1000 * governor.target


def test_a_line_is_learned() -> None:
    line = Line().learned(0, 10).learned(1, 30).learned(0.5, 20)
    assert (line.base, line.slope) == (pytest.approx(10, rel=1e-2), pytest.approx(20, rel=1e-2))
    assert line.at(2) == pytest.approx(50, rel=1e-2)


@settings(max_examples=20)
@given(x=st.floats(0, 1), y=st.floats(0, 1e12))
def test_a_line_stays_finite_where_nothing_varies(x: float, y: float) -> None:
    line = Line()
    for _ in range(2000):
        line = line.learned(x, y)
    assert math.isfinite(line.base)
    assert math.isfinite(line.slope)
    assert line.at(x) == pytest.approx(y, rel=1e-3, abs=1e-3)


# Heat, power, CPU and battery: the same for all


@all_governors
def test_heat_slows_and_then_stops(governor: Governor) -> None:
    """2 of 5 °C left of the band: 40 % of the time, so 1.5 s of work and 2.25 s of pause."""
    heated = [Sample(0, celsius=celsius) for celsius in (74.0, 78.0, 80.0, 78.0, 77.0, 70.0)]
    adjustments = told(governor, *heated, limits=ResourceLimits(celsius=80))
    assert adjustments[0].pause_s == 0
    assert adjustments[1].pause_s == pytest.approx(2.25)
    assert [each.wait for each in adjustments] == [False, False, True, True, False, False]
    assert adjustments[5].pause_s == 0
    assert "too hot" in adjustments[2].reason


@all_governors
def test_an_empty_battery_stops_unless_it_charges(governor: Governor) -> None:
    samples = [Sample(0, battery_level=0.2, charging=each) for each in (None, False, True)]
    adjustments = told(governor, *samples, Sample(1, battery_level=0.21), limits=ResourceLimits(battery_floor=0.2))
    assert [each.stop for each in adjustments] == [True, True, False, False]
    assert adjustments[0].reason == "battery at its floor"


def test_cpu_over_its_limit_takes_threads_first_and_then_pauses() -> None:
    """80 % used, 40 % allowed: half of four threads; again twice too much: one; again: half of the time."""
    used = [Sample(n, cpu_share=0.8) for n in range(3)]
    adjustments = told(Dynamic(), *used, limits=ResourceLimits(cpu_percent=40))
    assert [each.threads for each in adjustments] == [2, 1, 1]
    assert [each.pause_s for each in adjustments] == [0, 0, pytest.approx(1.5)]


def test_feedback_acts_once_a_step() -> None:
    governor, limits = Dynamic(), ResourceLimits(power_w=10)
    state = governor.start(limits, LOAD)
    pauses_s = []
    for _ in range(3):
        state, adjustment = governor.adjust(state, Sample(0, power_w=20), LOAD)
        pauses_s.append(adjustment.pause_s)
    assert pauses_s == [pytest.approx(1.5)] * 3


@pytest.mark.parametrize(("governor", "duty"), [(Dynamic(), 10 / 12), (Adaptive(), 0.5)])
def test_power_over_its_limit_shortens_the_duty_cycle(governor: Governor, duty: float) -> None:
    (adjustment,) = told(governor, Sample(0, power_w=12), limits=ResourceLimits(power_w=10))
    assert adjustment.pause_s == pytest.approx(LOAD.step_s * (1 / duty - 1))


# A shared budget


def shared(governor: Governor, used: int, grant: Grant, **changes: Any) -> Adjustment:
    sample = Sample(0, process_memory_bytes=used, memory_bytes=10**6, memory_limit_bytes=10**6)
    (adjustment,) = told(governor, sample, load=replace(LOAD, grant=grant, **changes))
    return adjustment


def test_cooperative_holds_its_own_memory_against_its_share() -> None:
    assert shared(Cooperative(), 95, Grant(100)).batch_size == 4
    assert shared(Cooperative(Dynamic()), 50, Grant(100)).batch_size is None


def test_cooperative_without_a_grant_is_what_it_wraps() -> None:
    sample = Sample(0, process_memory_bytes=1, memory_bytes=95, memory_limit_bytes=100, cpu_share=1.0)
    limits = ResourceLimits(cpu_percent=50)
    assert told(Cooperative(Dynamic()), sample, limits=limits) == told(Dynamic(), sample, limits=limits)


def test_cooperative_waits_only_for_what_will_come() -> None:
    assert shared(Cooperative(), 95, Grant(50, final=False)).wait
    assert not shared(Cooperative(), 95, Grant(50, final=True)).wait
    assert not shared(Cooperative(), 20, Grant(50, final=False)).wait
    assert shared(Cooperative(), 0, Grant(0, final=False)).wait


def test_a_granted_share_of_the_cpu_is_kept() -> None:
    assert shared(Cooperative(), 1, Grant(100, cores=3)).threads == 3
    half = shared(Cooperative(), 1, Grant(100, cores=0.5))
    assert (half.threads, half.pause_s) == (1, pytest.approx(1.5))


def test_cooperative_wishes_for_what_it_has_learned() -> None:
    """20 at rest and 100 at a batch of 8: 660 at 64; nothing is known before the first step has ended."""
    governor = Cooperative(Dynamic(), filled=0.66)
    state = governor.start(NO_LIMITS, LOAD)
    wishes = []
    for step, used in ((0, 20), (0, 100), (1, 20)):
        load = replace(LOAD, steps=step, grant=Grant(1000))
        state, _ = governor.adjust(state, Sample(0, process_memory_bytes=used), load)
        wishes.append(governor.wished_bytes(state, load))
    assert wishes == [None, None, 1000]


# Laws

maybe = st.none()
sizes = st.integers(0, 2**40)
gpus = st.builds(GpuSample, st.just(0), st.just("gpu"), maybe | sizes, maybe | sizes)
samples = st.builds(
    Sample,
    at_s=st.floats(0, 1e9),
    process_memory_bytes=maybe | sizes,
    memory_bytes=maybe | sizes,
    memory_limit_bytes=maybe | sizes,
    cpu_share=maybe | st.floats(0, 3),
    gpus=st.lists(gpus, max_size=2).map(tuple),
    power_w=maybe | st.floats(0, 1000),
    celsius=maybe | st.floats(-50, 150),
    battery_level=maybe | st.floats(0, 1),
    charging=maybe | st.booleans(),
)
limits_of_any_kind = st.builds(
    ResourceLimits,
    maybe | st.integers(1, 2**40),
    maybe | st.floats(1, 100),
    maybe | st.integers(1, 2**40),
    maybe | st.floats(1, 500),
    maybe | st.floats(1, 120),
    maybe | st.floats(0.01, 0.99),
)


@st.composite
def loads(draw: st.DrawFn) -> Load:
    least, threads = draw(st.integers(1, 8)), draw(st.integers(1, 16))
    most = draw(st.integers(least, 512))
    return Load(
        draw(st.integers(least, most)),
        draw(st.integers(1, threads)),
        most,
        threads,
        least,
        draw(st.floats(0, 100)),
        draw(st.integers(0, 100)),
        draw(maybe | st.builds(Grant, sizes, maybe | st.floats(0, 64), st.booleans())),
    )


def obeyed(governor: Governor, limits: ResourceLimits, load: Load, seen: list[Sample]) -> list[tuple[Load, Adjustment]]:
    """A load that obeys at once: as it was, and what it was told."""
    state, done = governor.start(limits, load), []
    for sample in seen:
        state, adjustment = governor.adjust(state, sample, load)
        done.append((load, adjustment))
        load = replace(
            load,
            batch_size=adjustment.batch_size or load.batch_size,
            threads=adjustment.threads or load.threads,
            steps=load.steps + 1,
        )
    return done


@all_governors
@settings(max_examples=30)
@given(limits=limits_of_any_kind, load=loads(), seen=st.lists(samples, max_size=12))
def test_bounds_are_kept_and_nothing_is_random(
    governor: Governor, limits: ResourceLimits, load: Load, seen: list[Sample]
) -> None:
    done = obeyed(governor, limits, load, seen)
    assert done == obeyed(governor, limits, load, seen)
    for _, adjustment in done:
        assert adjustment.batch_size is None or load.least_batch_size <= adjustment.batch_size <= load.most_batch_size
        assert adjustment.threads is None or 1 <= adjustment.threads <= load.most_threads
        assert 0 <= adjustment.pause_s < math.inf


@all_governors
@settings(max_examples=30)
@given(limits=limits_of_any_kind, load=loads(), count=st.integers(1, 5))
def test_what_is_unknown_changes_nothing(governor: Governor, limits: ResourceLimits, load: Load, count: int) -> None:
    load = replace(load, grant=None, threads=load.most_threads)
    assert {each for _, each in obeyed(governor, limits, load, [Sample(0)] * count)} == {Adjustment()}


@all_governors
@settings(max_examples=30)
@given(limits=limits_of_any_kind, load=loads(), seen=st.lists(samples, min_size=1, max_size=12))
def test_over_a_limit_a_batch_never_grows(
    governor: Governor, limits: ResourceLimits, load: Load, seen: list[Sample]
) -> None:
    load = replace(load, grant=None)
    for (before, adjustment), sample in zip(obeyed(governor, limits, load, seen), seen, strict=True):
        if any(pressure.share > 1 for pressure in pressures(sample, limits)):
            assert (adjustment.batch_size or before.batch_size) <= before.batch_size
            assert adjustment.batch_size is not None or before.batch_size == load.least_batch_size


@all_governors
@settings(max_examples=20)
@given(limits=limits_of_any_kind, seen=st.lists(samples, max_size=12), first=st.integers(1, 32))
def test_all_comes_back_when_the_pressure_ends(
    governor: Governor, limits: ResourceLimits, seen: list[Sample], first: int
) -> None:
    load = replace(LOAD, batch_size=first, most_batch_size=32)
    state = governor.start(limits, load)
    rest = {"cpu_share": 0, "power_w": 0, "celsius": -100, "battery_level": 1, "charging": True}
    calm = Sample(0, memory_bytes=0, memory_limit_bytes=10**6, **rest)  # type: ignore[arg-type]
    for sample in seen + [calm] * 400:
        state, adjustment = governor.adjust(state, sample, load)
        load = replace(
            load,
            batch_size=adjustment.batch_size or load.batch_size,
            threads=adjustment.threads or load.threads,
            steps=load.steps + 1,
        )
    assert (load.batch_size, load.threads) == (32, 4)
    assert adjustment == Adjustment()


@all_governors
@settings(max_examples=20)
@given(base=st.integers(50, 400), slope=st.integers(1, 40), growth=st.floats(0, 0.03))
def test_a_load_that_grows_is_kept_under_its_limit(governor: Governor, base: int, slope: int, growth: float) -> None:
    """From an eighth of the largest batch, which fits at first, and not at all at the largest for most."""

    def memory(step: int, batch: int) -> int:
        return int(base + slope * batch * (1 + growth * step))

    load = replace(LOAD, most_batch_size=64)
    run = list(ran(governor, 1000, base, memory, load, 120))
    fits_at_first = memory(0, load.batch_size) < 1000
    last_fits = memory(119, 1) < 850
    assert not (fits_at_first and last_fits) or all(seen.peak_bytes <= 1000 for seen in run)
