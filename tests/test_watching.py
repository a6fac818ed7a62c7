"""What stands in a frame of `motley monitor`, in a line and in the summary."""

from __future__ import annotations

import io
import json
import math
import re
import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from monitors import FULL, LIMITS, MIB
from rich.console import Console

from motley.resource_limits import LimitEvent, LimitKind, ResourceLimits
from motley.samples import GpuSample, Sample
from motley.watching.figures import Figure, Unit, figures, size, written
from motley.watching.state import Seen
from motley.watching.summary import Summary, Tally, crossings_text
from motley.watching.view import TRACE, Frame, Note, bar, clock, event_text, line, missing_text, tone, trace

FINITE = st.floats(-1e12, 1e12)


NO_LIMITS = ResourceLimits()


def by_key(sample: Sample, limits: ResourceLimits = NO_LIMITS, before: Sample | None = None) -> dict[str, Figure]:
    return {figure.key: figure for figure in figures(sample, limits, before)}


def drawn(frame: Frame, width: int, height: int = 24) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    console.print(frame)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def frame(**changes: Any) -> Frame:
    """A frame with everything in it."""
    later = replace(FULL, at_s=FULL.at_s + 2, received_bytes=5 * MIB, sent_bytes=2000)
    full = Frame(
        title="motley monitor · every 1 s",
        elapsed_s=65.0,
        figures=figures(later, LIMITS, FULL),
        history={"cpu_share": [0.1, 0.9] * TRACE},
        over=frozenset({LimitKind.CPU}),
        events=[Note(3.0, f"event {index}", "red") for index in range(30)],
        strategy="dynamic",
        load="batch 8 of 64",
        adjustments=[Note(4.0, f"adjustment {index}") for index in range(30)],
        missing={"celsius": "no sensor"},
        remarks=["Prometheus: http://127.0.0.1:1/metrics"],
    )
    return replace(full, **changes)


def test_of_nothing_known_there_is_nothing() -> None:
    assert figures(Sample(at_s=1.0), LIMITS) == ()


def test_a_value_of_zero_is_a_value() -> None:
    assert by_key(Sample(at_s=1.0, cpu_share=0.0))["cpu_share"].value == 0.0


@pytest.mark.parametrize(
    ("own_limit", "limit", "set_by"), [(None, 400, "kernel"), (300, 300, "yours"), (500, 400, "kernel")]
)
def test_in_a_container_memory_stands_against_the_tighter_limit(own_limit: int | None, limit: int, set_by: str) -> None:
    limits = ResourceLimits(memory_bytes=None if own_limit is None else own_limit * MIB)
    memory = by_key(FULL, limits)["memory_bytes"]
    assert (memory.value, memory.limit, memory.set_by) == (300 * MIB, limit * MIB, set_by)
    assert memory.kind is LimitKind.MEMORY


def test_on_a_bare_machine_a_limit_is_held_against_the_process() -> None:
    bare = replace(FULL, memory_bytes=5000 * MIB, memory_limit_bytes=16000 * MIB)
    found = by_key(bare, ResourceLimits(memory_bytes=200 * MIB))
    assert "memory_bytes" not in found
    process = found["process_memory_bytes"]
    assert (process.share, process.kind) == (0.5, LimitKind.MEMORY)
    assert bare.governed_memory_bytes == process.value


def test_rates_are_differences_over_time() -> None:
    later = replace(FULL, at_s=FULL.at_s + 4, received_bytes=1400, sent_bytes=8)
    found = by_key(later, before=FULL)
    assert found["received_bytes_per_s"].value == 100.0
    assert found["sent_bytes_per_s"].value == 0.0  # an interface came up anew
    assert "received_bytes_per_s" not in by_key(later)
    assert "received_bytes_per_s" not in by_key(FULL, before=later)


def test_each_gpu_has_its_own() -> None:
    gpus = (GpuSample(0, "a", utilisation=0.5), GpuSample(1, "b", celsius=40.0))
    assert set(by_key(Sample(at_s=1.0, gpus=gpus))) == {"gpu_0_utilisation", "gpu_1_celsius"}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (536870912, "512 MiB"),
        (8.2e9, "7.64 GiB"),
        (12 * 2**30, "12.0 GiB"),
        (300 * 2**30, "300 GiB"),
        (2**60, "1048576 TiB"),
    ],
)
def test_sizes_for_people(value: float, text: str) -> None:
    assert size(value) == text


def test_units_for_people() -> None:
    shown = {unit: written(45.26, unit) for unit in Unit}
    assert shown == {
        Unit.BYTES: "45 B",
        Unit.BYTES_PER_S: "45 B/s",
        Unit.RATIO: "4526 %",
        Unit.WATTS: "45.3 W",
        Unit.CELSIUS: "45.3 °C",
    }


@pytest.mark.parametrize("width", [40, 64, 80, 100, 120, 200])
def test_it_fits_its_terminal(width: int) -> None:
    lines = drawn(frame(), width, height=24)
    assert max(map(len, lines)) <= width
    assert len(lines) <= 24 or len(frame().figures) > 12


@pytest.mark.parametrize("width", [80, 120])
def test_what_matters_is_there(width: int) -> None:
    text = "\n".join(drawn(frame(), width, height=40))
    for figure in frame().figures:
        assert re.search(rf"^{re.escape(figure.label)} .*{re.escape(written(figure.value, figure.unit))} ", text, re.M)
    for part in (
        "1:05",
        "event 29",
        "adjustment 29",
        "governor: dynamic  batch 8 of 64",
        "temperature (no sensor)",
    ):
        assert part in text
    assert "http://127.0.0.1:1/metrics" in text


def test_the_newest_stay_when_there_is_little_room() -> None:
    text = "\n".join(drawn(frame(), 80, height=24))
    assert "event 29" in text
    assert "event 3\n" not in text


def test_a_narrow_terminal_has_no_bars_and_a_wide_one_has_traces() -> None:
    assert "━" not in "\n".join(drawn(frame(), 45))
    assert "█▁" not in "\n".join(drawn(frame(), 64))
    assert re.search("[▁▂]█", "\n".join(drawn(frame(), 80)))


def test_without_a_load_there_is_no_governor_and_without_events_no_limits() -> None:
    text = "\n".join(drawn(frame(strategy="", events=[], missing={}, remarks=[]), 80))
    assert "governor" not in text
    assert "limits" not in text
    assert "not measured" not in text


def test_before_the_first_sample_it_is_a_title() -> None:
    assert drawn(Frame("motley monitor", 0.0), 80)[0] == "motley monitor  0:00"


@given(st.floats(-1, 3), st.integers(1, 60))
def test_a_bar_is_as_full_as_its_share(share: float, width: int) -> None:
    cells = bar(share, width)
    filled = cells.count("━") + 0.5 * cells.count("╸")
    assert len(cells) <= width
    assert abs(filled - width * min(1.0, max(0.0, share))) <= 0.25 + 1e-9


def test_a_bar_without_a_limit_is_empty() -> None:
    assert bar(None, 10) == ""


@given(st.lists(st.floats(0, 1e9), max_size=80), st.integers(1, 60), st.none() | st.floats(1e-3, 1e9))
def test_a_trace_ends_with_the_newest(values: Sequence[float], width: int, limit: float | None) -> None:
    cells = trace(values, limit, width)
    assert len(cells) == min(width, len(values))
    assert cells[-1:] == trace(values[-1:], limit or max(values[-width:], default=None), 1)
    assert cells.count("█") == (0 if limit is None else sum(value > limit for value in values[-width:]))


def test_a_trace_goes_from_nothing_to_the_limit() -> None:
    assert trace([0, 50, 100, 101], 100, 10) == "▁▄▇█"
    assert trace([0, 0], None, 10) == "▁▁"


@pytest.mark.parametrize(
    ("value", "kind", "over", "colour"),
    [
        (0.5, LimitKind.CPU, set(), "green"),
        (0.9, LimitKind.CPU, set(), "yellow"),
        (1.01, LimitKind.CPU, set(), "red"),
        (0.97, LimitKind.CPU, {LimitKind.CPU}, "red"),
        (1.0, LimitKind.BATTERY, set(), "green"),
        (0.1, LimitKind.BATTERY, {LimitKind.BATTERY}, "red"),
    ],
)
def test_colours_say_how_near_the_limit_is(value: float, kind: LimitKind, over: set[LimitKind], colour: str) -> None:
    assert tone(Figure("x", "x", Unit.RATIO, value, 1.0, kind=kind), frozenset(over)) == colour


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (LimitEvent(LimitKind.MEMORY, 1, 530 * MIB, 512 * MIB, True), "memory crossed 512 MiB: 530 MiB"),
        (LimitEvent(LimitKind.CPU, 1, 93.0, 80.0, True), "CPU crossed 80 %: 93 %"),
        (LimitEvent(LimitKind.GPU_MEMORY, 1, 2**30, 2**29, True), "GPU memory crossed 512 MiB: 1.00 GiB"),
        (LimitEvent(LimitKind.TEMPERATURE, 1, 66.0, 70.0, False), "temperature recovered: 66.0 °C"),
        (LimitEvent(LimitKind.BATTERY, 1, 0.19, 0.2, True), "battery fell below 20 %: 19 %"),
        (LimitEvent(LimitKind.POWER, 1, 16.0, 15.0, True), "power crossed 15.0 W: 16.0 W"),
    ],
)
def test_events_in_words(event: LimitEvent, text: str) -> None:
    assert event_text(event) == text


def test_reasons_are_grouped() -> None:
    missing = {"battery_level": "no battery", "charging": "no battery", "power_w": "no RAPL", "gpu0_power_w": "odd"}
    assert missing_text(missing) == "not measured: battery (no battery); power (no RAPL); gpu0_power_w (odd)"


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (65.9, "1:05"), (3605, "1:00:05")])
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_a_line_holds_values_limits_and_what_is_modelled() -> None:
    text = line(frame())
    assert "\n" not in text
    for part in ("   1:05  ", "memory 300 MiB of 350 MiB", "CPU 50 % of 80 %", "power 7.5 W of 10.0 W modelled"):
        assert part in text
    assert "hwmon" not in text
    assert text.endswith(", batch 8 of 64")


@given(st.lists(FINITE, min_size=1, max_size=50))
def test_a_tally_is_mean_and_extremes(values: list[float]) -> None:
    tally = Tally("x", Unit.WATTS)
    for value in values:
        tally.add(value)
    assert math.isclose(tally.mean, statistics.fmean(values), rel_tol=1e-9, abs_tol=1e-3)
    assert (tally.least, tally.peak, tally.count) == (min(values), max(values), len(values))


def test_json_has_what_was_seen() -> None:
    summary = Summary()
    for share in (0.25, 0.75):
        summary.add(figures(Sample(at_s=1.0, cpu_share=share), LIMITS))
    event = LimitEvent(LimitKind.CPU, 1.0, 90.0, 80.0, True)
    data = json.loads(json.dumps(summary.as_json(2.0, LIMITS, [event], {"power_w": "no sensor"})))
    assert (data["samples"], data["duration_s"], data["governor"]) == (2, 2.0, None)
    assert data["figures"] == {"cpu_share": {"mean": 0.5, "least": 0.25, "peak": 0.75, "samples": 2}}
    assert data["events"] == [{"kind": "cpu", "at_s": 1.0, "value": 90.0, "limit": 80.0, "crossed": True}]
    assert (data["limits"]["cpu_percent"], data["missing"]) == (80.0, {"power_w": "no sensor"})


def test_crossings_are_counted_and_recoveries_are_not() -> None:
    over = LimitEvent(LimitKind.GPU_MEMORY, 1.0, 2.0, 1.0, True)
    events = [over, replace(over, crossed=False), over, replace(over, kind=LimitKind.CPU)]
    assert crossings_text(events) == "crossed: CPU once, GPU memory 2 times"
    assert crossings_text([]) == ""


def test_what_was_seen_becomes_a_frame() -> None:
    seen = Seen("title", LIMITS, "dynamic")
    seen.take(replace(FULL, missing={"celsius": "no sensor"}))
    assert seen.frame(frozenset()).missing == {}
    seen.take(replace(FULL, at_s=FULL.at_s + 2, cpu_share=0.75, missing={"celsius": "no sensor"}))
    event = seen.happened(LimitEvent(LimitKind.CPU, FULL.at_s + 1, 90.0, 80.0, True))
    note = seen.adjust(FULL.at_s + 1.5, "batch 8 → 4")
    picture = seen.frame(frozenset({LimitKind.CPU}), "batch 4", ["remark"])
    assert (picture.elapsed_s, picture.history["cpu_share"]) == (2.0, (0.5, 0.75))
    assert (picture.events, picture.adjustments) == ((event,), (note,))
    assert (event.elapsed_s, event.style, note.elapsed_s, seen.adjusted) == (1.0, "red", 1.5, 1)
    assert (picture.missing, picture.load) == ({"celsius": "no sensor"}, "batch 4")


def test_history_does_not_grow_for_ever() -> None:
    seen = Seen("title", LIMITS)
    for index in range(3 * TRACE):
        seen.take(replace(FULL, at_s=float(index)))
    assert {len(values) for values in seen.frame(frozenset()).history.values()} == {TRACE}
    assert seen.summary.samples == 3 * TRACE
