"""The monitor: how samples come about, what is kept and saved of them, and what no failure may stop."""

from __future__ import annotations

import csv
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from factories import MIB

from motley.errors import InputError
from motley.limits import Cgroup
from motley.monitor import Missing, PeakMemory, ResourceMonitor
from motley.monitor.reading import Reading, assemble, read_all, with_model
from motley.monitor.saving import as_csv, as_json_lines
from motley.resource_limits import LimitEvent, LimitKind, ResourceLimits
from motley.samples import GpuSample, Sample


def _write(root: Path, files: Mapping[str, str]) -> Path:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


class FakeSource:
    """Gives one reading after the other, the last one for ever; raises those that are errors."""

    def __init__(self, *readings: Reading | Exception, fields: tuple[str, ...] = ("memory_bytes",)) -> None:
        self.fields, self.readings, self.closed = fields, list(readings), 0

    def read(self, now_s: float) -> Reading:
        reading = self.readings.pop(0) if len(self.readings) > 1 else self.readings[0]
        if isinstance(reading, Exception):
            raise reading
        return reading

    def close(self) -> None:
        self.closed += 1


def _memory(*values: int) -> FakeSource:
    return FakeSource(*({"memory_bytes": value} for value in values))


def _monitor(*sources: FakeSource, interval_s: float = 3600.0, **options: Any) -> ResourceMonitor:
    return ResourceMonitor(interval_s, sources=sources, **options)


def _wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.002)


# A sample from readings


def test_each_source_is_told_the_time_at_which_it_is_asked() -> None:
    class Clocked(FakeSource):
        def read(self, now_s: float) -> Reading:
            return {"celsius": now_s}

    readings = read_all([Clocked({}), Clocked({})], iter((1.0, 2.5)).__next__)
    assert readings == [{"celsius": 1.0}, {"celsius": 2.5}]


def test_the_first_source_that_knows_counts_and_reasons_add_up() -> None:
    readings: list[Reading] = [{"celsius": Missing("a")}, {"celsius": Missing("b")}, {"celsius": Missing("a")}]
    assert assemble(0.0, readings).missing == {"celsius": "a; b"}
    known = assemble(0.0, [*readings, {"celsius": 1.0}, {"celsius": 2.0}])
    assert (known.celsius, known.missing) == (1.0, {})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_missing(value: float) -> None:
    sample = assemble(0.0, [{"power_w": value, "power_source": "rapl"}])
    assert (sample.power_w, sample.power_source, sample.missing) == (None, "", {"power_w": f"{value} is no figure"})


def test_a_model_stands_for_what_it_gives_and_says_so() -> None:
    measured = Sample(0.0, memory_bytes=1, power_w=5.0, power_source="rapl", missing={"celsius": "no zone", "x": "y"})
    sample = with_model(measured, {"celsius": 71.5, "battery_level": 0.0, "charging": False, "power_w": None})
    assert (sample.celsius, sample.celsius_source) == (71.5, "modelled")
    assert (sample.battery_level, sample.charging, sample.battery_source) == (0.0, False, "modelled")
    assert (sample.power_w, sample.power_source, sample.memory_bytes) == (5.0, "rapl", 1)
    assert sample.missing == {"x": "y"}


@pytest.mark.parametrize("modelled", [{"memory_bytes": 1}, {"celsius": float("nan")}])
def test_a_model_may_not_give_everything(modelled: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="a model gave"):
        with_model(Sample(0.0), modelled)


# The monitor


def test_a_sample_on_request_is_kept() -> None:
    monitor = _monitor(_memory(1, 2), now_s=lambda: 7.0)
    assert monitor.current is None
    taken = [monitor.sample(), monitor.sample()]
    assert taken == monitor.history == [Sample(7.0, memory_bytes=1), Sample(7.0, memory_bytes=2)]
    assert monitor.current == taken[-1]


def test_samples_are_taken_until_stop() -> None:
    with _monitor(_memory(1), interval_s=0.001) as monitor:
        assert monitor.current is not None
        _wait_until(lambda: len(monitor.history) > 5)
    taken = len(monitor.history)
    assert not any(thread.name == "motley-monitor" for thread in threading.enumerate())
    time.sleep(0.01)
    assert len(monitor.history) == taken


def test_stop_does_not_wait_for_the_interval() -> None:
    source = _memory(1)
    with _monitor(source, interval_s=3600.0) as monitor:
        pass
    assert (len(monitor.history), source.closed) == (1, 1)
    monitor.stop()


def test_start_twice_is_one_thread_and_start_after_stop_goes_on() -> None:
    monitor = _monitor(_memory(1), interval_s=0.001)
    monitor.start()
    monitor.start()
    assert sum(thread.name == "motley-monitor" for thread in threading.enumerate()) == 1
    monitor.stop()
    taken = len(monitor.history)
    with monitor:
        _wait_until(lambda: len(monitor.history) > taken + 2)


def test_the_history_is_bounded() -> None:
    monitor = _monitor(_memory(1, 2, 3, 4), history=2)
    for _ in range(4):
        monitor.sample()
    assert [sample.memory_bytes for sample in monitor.history] == [3, 4]


def test_crossings_are_told_counted_and_kept() -> None:
    told: list[LimitEvent] = []
    source = _memory(50, 150, 160, 90, 150)
    monitor = _monitor(source, limits=ResourceLimits(memory_bytes=100), on_event=told.append)
    over = []
    for _ in range(5):
        monitor.sample()
        over.append(bool(monitor.over))
    assert over == [False, True, True, False, True]
    assert [(event.value, event.crossed) for event in told] == [(150, True), (90, False), (150, True)]
    assert monitor.events == told
    assert monitor.event_counts == {kind: 2 * (kind is LimitKind.MEMORY) for kind in LimitKind}


def test_a_source_that_raises_costs_its_own_fields_only() -> None:
    broken = FakeSource(OSError("gone\naway"), {"celsius": 40.0}, fields=("celsius",))
    monitor = _monitor(_memory(1), broken)
    first, second = monitor.sample(), monitor.sample()
    assert (first.memory_bytes, first.celsius, first.missing) == (1, None, {"celsius": "OSError: gone away"})
    assert second.celsius == 40.0


def _failing(*_: Any) -> Any:
    raise RuntimeError("no")


@pytest.mark.parametrize("option", ["on_sample", "on_event", "model"])
def test_a_callback_that_raises_is_logged_once_and_stops_nothing(option: str, caplog: pytest.LogCaptureFixture) -> None:
    monitor = _monitor(_memory(1, 200, 1, 200), limits=ResourceLimits(memory_bytes=100), **{option: _failing})
    with caplog.at_level(logging.WARNING):
        for _ in range(4):
            monitor.sample()
    assert len(monitor.history) == 4
    assert len(monitor.events) == 3
    assert len(caplog.records) == 1


def test_a_callback_may_ask_and_stop_the_monitor() -> None:
    seen: list[int] = []

    def look(sample: Sample) -> None:
        seen.append(len(monitor.history))
        if len(seen) == 3:
            monitor.stop()

    monitor = _monitor(_memory(1), interval_s=0.001, on_sample=look)
    monitor.start()
    _wait_until(lambda: not any(thread.name == "motley-monitor" for thread in threading.enumerate()))
    assert seen == [1, 2, 3]


def test_a_model_sees_what_was_measured_and_its_figures_meet_the_limits() -> None:
    monitor = _monitor(
        _memory(90),
        model=lambda sample: {"celsius": float(sample.memory_bytes or 0)},
        limits=ResourceLimits(celsius=80),
    )
    assert monitor.sample().celsius_source == "modelled"
    assert monitor.over == {LimitKind.TEMPERATURE}


def test_many_threads_may_ask_at_once() -> None:
    monitor = _monitor(_memory(*range(1, 201)))
    threads = [threading.Thread(target=lambda: [monitor.sample() for _ in range(25)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [sample.memory_bytes for sample in monitor.history] == list(range(1, 201))


def test_a_forked_child_may_take_samples_of_its_own() -> None:
    with _monitor(_memory(1), interval_s=0.001) as monitor:
        _wait_until(lambda: len(monitor.history) > 2)
        with monitor._reading, monitor._kept:
            child = os.fork()
            if child == 0:
                os._exit(0 if monitor.sample().memory_bytes == len(monitor.history[-1:]) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_the_monitor_of_this_machine() -> None:
    monitor = ResourceMonitor()
    first, second = monitor.sample(), monitor.sample()
    monitor.stop()
    assert (first.process_memory_bytes or 0) > 0
    assert 0 < (first.memory_bytes or 0) <= (first.memory_limit_bytes or 0)
    assert first.cpu_share is None
    assert second.at_s >= first.at_s
    silent = {name for name, value in vars(second).items() if value is None}
    assert silent <= set(second.missing)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"interval_s": 0.0}, "interval_s: 0.0 is no interval"),
        ({"interval_s": float("nan")}, "interval_s: nan is no interval"),
        ({"history": 0}, "history: 0 samples can't be kept"),
    ],
)
def test_nonsense_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ResourceMonitor(sources=(), **options)


# Saving

SAMPLES = [
    Sample(1.0, memory_bytes=5, charging=True, power_source="a, b", missing={"celsius": "no zone"}),
    Sample(2.0, cpu_share=0.25, charging=False, gpus=(GpuSample(0, "a"), GpuSample(1, "b", 7, power_w=1.5))),
]


def _saved(path: Path) -> str:
    monitor = _monitor(
        FakeSource(
            *(
                {name: value for name, value in vars(each).items() if name not in ("at_s", "missing")}
                for each in SAMPLES
            )
        ),
        now_s=iter((1.0, 2.0)).__next__,
    )
    for _ in SAMPLES:
        monitor.sample()
    monitor.save_metrics(path)
    return path.read_text()


def test_json_lines_hold_all_there_is() -> None:
    first, second = (json.loads(line) for line in as_json_lines(SAMPLES).splitlines())
    assert (first["memory_bytes"], first["cpu_share"], first["missing"]) == (5, None, {"celsius": "no zone"})
    assert second["gpus"][1] == {**vars(SAMPLES[1].gpus[1])}


def test_a_table_has_the_same_columns_in_each_row() -> None:
    rows = list(csv.DictReader(as_csv(SAMPLES).splitlines()))
    assert all(None not in row and None not in row.values() for row in rows)
    assert (rows[0]["memory_bytes"], rows[0]["charging"], rows[0]["power_source"]) == ("5", "true", "a, b")
    assert (rows[0]["gpu1_memory_bytes"], rows[0]["cpu_share"], rows[1]["memory_bytes"]) == ("", "", "")
    assert (rows[1]["gpu1_memory_bytes"], rows[1]["gpu1_power_w"], rows[1]["gpu0_power_w"]) == ("7", "1.5", "")
    assert "gpus" not in rows[0]


def test_a_table_without_samples_is_a_header() -> None:
    assert as_csv([]).startswith("at_s,process_memory_bytes,")
    assert as_csv([]).count("\n") == 1


@pytest.mark.parametrize("name", ["m.jsonl", "m.csv", "M.CSV"])
def test_a_file_is_replaced_as_a_whole(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("before")
    assert len(_saved(tmp_path / name).splitlines()) == len(SAMPLES) + name.lower().endswith("csv")
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("name", "message"), [("m.parquet", r"can't save as '\.parquet'; use \.jsonl or \.csv"), ("m", "without suffix")]
)
def test_another_suffix_is_refused_by_name(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        _saved(tmp_path / name)


def test_a_file_that_cant_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "m.csv").mkdir()
    with pytest.raises(InputError, match=r"m\.csv: can't be written: Is a directory"):
        _saved(tmp_path / "m.csv")
    with pytest.raises(InputError, match=r"No such file"):
        _saved(tmp_path / "nowhere" / "m.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["m.csv"]


# Peak


@pytest.fixture
def limited(tmp_path: Path) -> Path:
    return _write(tmp_path, {"cgroup.controllers": "", "memory.max": "1000", "memory.current": "100"})


def test_the_peak_of_a_container_within_the_block(limited: Path) -> None:
    with PeakMemory(Cgroup(limited, limited), interval_s=0.001) as peak:
        _write(limited, {"memory.current": "700"})
        _wait_until(lambda: peak.peak_bytes >= 700)
        _write(limited, {"memory.current": "200"})
    assert peak.peak_bytes == 700


def test_the_peak_of_a_process_without_a_limit(tmp_path: Path) -> None:
    with PeakMemory(Cgroup(tmp_path, tmp_path)) as peak:
        pass
    assert peak.peak_bytes > MIB
