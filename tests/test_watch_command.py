"""`motley monitor` from its options to its files, and what is refused."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from factories import ROOT
from monitors import MIB, Watched
from rich.console import Console

from motley.errors import InputError
from motley.governor import Adjustment, Load
from motley.monitor import ResourceMonitor
from motley.resource_limits import ResourceLimits
from motley.watching.command import watch
from motley.watching.load import adjustment_text, appetite
from motley.watching.outputs import Recorder, sending, serving
from motley.watching.request import Request, plan_of


def test_options_become_limits() -> None:
    plan = plan_of(
        Request(
            interval="500ms",
            duration="5m",
            max_memory="512m",
            max_cpu_percent=80.0,
            max_gpu_memory="1g",
            max_temp=70.0,
            max_power="15w",
            min_battery="20%",
        )
    )
    assert plan.limits == ResourceLimits(512 * MIB, 80.0, 2**30, 15.0, 70.0, 0.2)
    assert (plan.interval_s, plan.duration_s, plan.strategy) == (0.5, 300.0, None)


def test_bare_numbers_are_seconds_watts_and_shares() -> None:
    plan = plan_of(Request(interval="2", duration="0.5", max_power="7.5", min_battery="0.25"))
    assert (plan.interval_s, plan.duration_s) == (2.0, 0.5)
    assert (plan.limits.power_w, plan.limits.battery_floor) == (7.5, 0.25)


def test_a_load_is_governed_dynamically_where_nothing_else_is_asked_for() -> None:
    assert plan_of(Request(simulate_load=True)).strategy == "dynamic"


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request(interval="soon"), "--interval: 'soon' is not a number with a unit; write it like '30s'"),
        (Request(interval="1ms"), "--interval 1ms: the shortest is 20ms"),
        (Request(interval="0"), "--interval 0: it must be more than 0"),
        (Request(duration="9" * 400), "--duration 9"),
        (Request(duration="0s"), "--duration 0s: it must be more than 0"),
        (Request(max_memory="512"), "--max-memory: '512' has no unit; write it like '512m'"),
        (Request(max_memory="12q"), "--max-memory: unknown unit 'q'"),
        (Request(max_memory="0m"), "--max-memory 0m: it must be more than 0"),
        (Request(max_gpu_memory="-1m"), "--max-gpu-memory: '-1m' is not a number with a unit"),
        (Request(max_cpu_percent=math.nan), "--max-cpu-percent nan: it must be a number above 0"),
        (Request(max_temp=math.inf), "--max-temp inf: it must be a number above 0"),
        (Request(max_temp=-5.0), "--max-temp -5.0: it must be a number above 0"),
        (Request(max_power="15wh"), "--max-power: unknown unit in '15wh'; did you mean '15w'?"),
        (Request(max_power="0"), "--max-power 0.0: it must be a number above 0"),
        (Request(min_battery="20"), "--min-battery '20' is not a share of the charge; write it like 0.2 or 20%"),
        (Request(min_battery="low"), "--min-battery 'low' is not a share of the charge"),
        (Request(strategy="dynamik"), "--strategy: unknown strategy 'dynamik'; did you mean 'dynamic'?"),
        (Request(strategy="dynamic"), "--strategy governs a load; add --simulate-load"),
        (Request(strategy="cooperative", simulate_load=True), "--strategy cooperative shares a budget of memory"),
        (Request(pid=2**22 + 1), "--pid 4194305: there is no such process"),
        (Request(pid=1, simulate_load=True), "--simulate-load runs in this process; leave out --pid"),
        (Request(save=Path("figures.xlsx")), "--save figures.xlsx: the name must end with .jsonl or .csv"),
        (Request(save=Path("/nowhere/a.csv")), "--save /nowhere/a.csv: there is no directory /nowhere"),
        (Request(json_file=Path("/")), "--json /: that is a directory"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, str) else "",
)
def test_what_can_not_be_is_named(request_: Request, message: str) -> None:
    with pytest.raises(InputError) as refused:
        plan_of(request_)
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_a_file_that_grows_is_that_of_the_monitor(tmp_path: Path, suffix: str) -> None:
    class Half:
        fields = ("cpu_share",)

        def read(now_s: float) -> dict[str, float]:
            return {"cpu_share": 0.5}

        def close() -> None:
            pass

    monitor, recorder = ResourceMonitor(sources=[Half()]), Recorder(tmp_path / f"grown{suffix}")
    for count in range(1, 4):
        recorder.add(monitor.sample())
        monitor.save_metrics(tmp_path / f"whole{suffix}")
        assert (tmp_path / f"grown{suffix}").read_text() == (tmp_path / f"whole{suffix}").read_text()
        assert recorder.samples == count
    recorder.close()


def test_prometheus_is_served_on_loopback() -> None:
    with serving(Watched(), 0) as address:  # type: ignore[arg-type]
        assert address.startswith("http://127.0.0.1:")
        text = urllib.request.urlopen(address, timeout=10).read().decode()
    assert "motley_device_cpu_ratio 0.5\n" in text
    assert "python_info" not in text


def test_a_taken_port_is_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"--serve {port}: .*; take another port"), serving(Watched(), port):  # type: ignore[arg-type]
            pass


def test_the_largest_batch_is_too_large_at_first_already() -> None:
    assert appetite(ResourceLimits(memory_bytes=64 * MIB), 2**40).step_bytes(64, 0) == 96 * MIB


def test_it_never_takes_most_of_the_machine() -> None:
    taken = appetite(ResourceLimits(memory_bytes=2**40), 2**30)
    assert max(taken.step_bytes(64, step) for step in range(200)) <= 2**29


@pytest.mark.parametrize(
    ("adjustment", "text"),
    [
        (
            Adjustment(batch_size=24, reason="batch lowered: memory at 90 % of its limit"),
            "batch 32 → 24: memory at",
        ),
        (Adjustment(threads=1, pause_s=0.25), "threads 2 → 1, pauses 0.25 s"),
        (Adjustment(wait=True, pause_s=1.0, reason="too hot"), "waits: too hot"),
        (Adjustment(stop=True, wait=True, reason="battery at its floor"), "ends: battery at its floor"),
        (Adjustment(batch_size=32, threads=2), "goes on"),
    ],
)
def test_adjustments_in_words(adjustment: Adjustment, text: str) -> None:
    assert adjustment_text(adjustment, Load(32, 2, 64, 2)).startswith(text)


def watched(terminal: bool = False, **options: Any) -> str:
    console = Console(file=io.StringIO(), width=100, height=30, force_terminal=terminal, color_system=None)
    watch(Request(interval="50ms", duration="300ms", **options), console)
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def test_a_line_a_sample_and_a_summary(tmp_path: Path) -> None:
    save, summary = tmp_path / "samples.csv", tmp_path / "summary.json"
    text = watched(save=save, json_file=summary, serve=0)
    data, rows = json.loads(summary.read_text()), list(csv.DictReader(save.open()))
    assert data["samples"] == len(rows) >= 1
    lines = [each for each in text.splitlines() if re.match(r" +0:00  (memory|process) \d", each)]
    assert len(lines) == len(rows)
    assert re.match(r"Prometheus: http://127\.0\.0\.1:\d+/metrics\n", text)
    assert f"{len(rows)} samples in {save}" in text
    assert data["figures"]["process_memory_bytes"]["peak"] == max(int(row["process_memory_bytes"]) for row in rows)
    assert data["missing"].keys() >= {"power_w"} or "power_w" in data["figures"]


def test_on_a_terminal_it_is_a_picture() -> None:
    text = watched(terminal=True)
    assert "motley monitor · every 0.05 s" in text
    assert re.search(r"machine +━", text)


def test_a_limit_that_is_crossed_is_told_and_counted(tmp_path: Path) -> None:
    summary = tmp_path / "summary.json"
    text = watched(max_memory="1m", json_file=summary)
    assert re.search(r" 0:00  memory crossed 1 MiB: \d+", text)
    assert "crossed: memory once" in text
    assert [event["kind"] for event in json.loads(summary.read_text())["events"]] == ["memory"]


def test_a_load_runs_under_a_strategy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("motley.watching.load.STEP_S", 0.02)
    summary = tmp_path / "summary.json"
    text = watched(simulate_load=True, strategy="dynamic", max_memory="1m", json_file=summary)
    governor = json.loads(summary.read_text())["governor"]
    assert governor["strategy"] == "dynamic"
    assert governor["adjustments"] >= 1
    assert re.search(r" 0:00  batch 8 → \d", text)  # this process alone is over 1 MiB already
    assert re.search(r"dynamic: \d+ steps, \d+ adjustments", text)


def test_bad_input_starts_nothing(tmp_path: Path) -> None:
    save = tmp_path / "samples.csv"
    with pytest.raises(InputError):
        watched(save=save, max_memory="512")
    assert not save.exists()


@pytest.mark.parametrize(("duration", "code"), [([], 0), (["--duration", "60s"], 130)], ids=["endless", "cut short"])
def test_an_interrupt_ends_it_with_what_there_is(tmp_path: Path, duration: list[str], code: int) -> None:
    save, summary = tmp_path / "samples.jsonl", tmp_path / "summary.json"
    options = ["--interval", "50ms", "--save", str(save), "--json", str(summary), *duration]
    process = subprocess.Popen(
        [sys.executable, "-m", "motley.cli", "monitor", *options],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (code, "")
    samples = [json.loads(each) for each in save.read_text().splitlines()]
    assert len(samples) == json.loads(summary.read_text())["samples"] >= 1
    assert f"{len(samples)} samples in {save}" in out


def test_what_opentelemetry_complains_of_is_kept_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("motley.monitor.otel._CLOSING_S", 0.1)
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "10")
    with socket.socket() as unanswered:
        unanswered.bind(("127.0.0.1", 0))
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{unanswered.getsockname()[1]}")
        with sending(Watched()) as complaint:  # type: ignore[arg-type]
            assert complaint.heard.wait(30)
    assert 0 < len(complaint.text) <= 100


@pytest.mark.parametrize(
    "program",
    re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs/monitor.md").read_text(encoding="utf-8"), re.M | re.S),
)
def test_programs_on_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    exec(program, {})
    assert "save_metrics" not in program or (tmp_path / "metrics.csv").stat().st_size > 0
