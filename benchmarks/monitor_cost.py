"""What watching a device costs: the CPU time of Motley's monitor against plain psutil, in the same run.

Both sample from a thread of this otherwise idle process, which has some threads and some child processes, as
a device that trains has. The peer asks psutil for memory of the process tree, memory and CPU of the machine,
temperatures, battery and network; what psutil does not have (cgroup, quota, pressure, RAPL, GPUs) it leaves
out, so it does less. The target is under 0.5 % of one core at one sample a second.

    python benchmarks/monitor_cost.py [--seconds 10] [--interval 1,0.1] [--threads 16] [--children 4] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from motley.monitor import ResourceMonitor

TARGET_PERCENT = 0.5
SLEEP = "import time; time.sleep(3600)"


@contextmanager
def crew(threads: int, children: int) -> Iterator[None]:
    """Threads and processes that do nothing."""
    done = threading.Event()
    for _ in range(threads):
        threading.Thread(target=done.wait, daemon=True).start()
    processes = [subprocess.Popen([sys.executable, "-c", SLEEP]) for _ in range(children)]
    try:
        yield
    finally:
        done.set()
        for process in processes:
            process.kill()
            process.wait()


def run_motley(interval_s: float, seconds: float) -> int:
    """Samples that the monitor takes in `seconds`."""
    with ResourceMonitor(interval_s, history=100_000) as monitor:
        time.sleep(seconds)
        return len(monitor.history)


def run_psutil(interval_s: float, seconds: float) -> int:
    """Samples that a loop around psutil takes in `seconds`."""
    done, taken = threading.Event(), [psutil_sample()]

    def sample() -> None:
        while not done.wait(interval_s):
            taken.append(psutil_sample())

    thread = threading.Thread(target=sample)
    thread.start()
    time.sleep(seconds)
    done.set()
    thread.join()
    return len(taken)


def psutil_sample() -> dict[str, Any]:
    """What one writes who knows psutil."""
    process = psutil.Process()
    family = [process, *process.children(recursive=True)]
    return {
        "process_memory": sum(each.memory_info().rss for each in family if each.is_running()),
        "memory": psutil.virtual_memory(),
        "cpu": psutil.cpu_percent(),
        "temperatures": psutil.sensors_temperatures(),
        "battery": psutil.sensors_battery(),
        "network": psutil.net_io_counters(pernic=True),
    }


SAMPLERS: dict[str, Callable[[float, float], int]] = {"motley": run_motley, "psutil": run_psutil}


def measure(name: str, interval_s: float, seconds: float) -> dict[str, Any]:
    """CPU time of this process, kernel included, while one of them samples."""
    SAMPLERS[name](0.05, 0.2)
    started, cpu = time.perf_counter(), time.process_time()
    samples = SAMPLERS[name](interval_s, seconds)
    cpu_s, wall_s = time.process_time() - cpu, time.perf_counter() - started
    return {
        "sampler": name,
        "interval_s": interval_s,
        "samples": samples,
        "percent_of_a_core": 100 * cpu_s / wall_s,
        "cpu_us_per_sample": 1e6 * cpu_s / samples,
    }


def ratios(rows: list[dict[str, Any]]) -> dict[str, float]:
    """How many times as much CPU a sample of psutil takes, by interval."""
    costs = {(row["sampler"], row["interval_s"]): row["cpu_us_per_sample"] for row in rows}
    return {
        f"{interval_s:g}": costs["psutil", interval_s] / cost
        for (name, interval_s), cost in costs.items()
        if name == "motley"
    }


def table(rows: list[dict[str, Any]]) -> Table:
    shown = Table(title="Cost of watching a device")
    for name in ("interval, s", "sampler", "samples", "µs a sample", "% of a core", "psutil / motley"):
        shown.add_column(name, justify="left" if name == "sampler" else "right")
    for row in rows:
        ratio = ratios(rows)[f"{row['interval_s']:g}"] if row["sampler"] == "motley" else None
        shown.add_row(
            f"{row['interval_s']:g}",
            row["sampler"],
            str(row["samples"]),
            f"{row['cpu_us_per_sample']:.0f}",
            f"{row['percent_of_a_core']:.3f}",
            f"{ratio:.1f}" if ratio else "",
        )
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--interval", default="1,0.1")
    parser.add_argument("--threads", type=int, default=16)
    parser.add_argument("--children", type=int, default=4)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    intervals = [float(text) for text in options.interval.split(",")]
    with crew(options.threads, options.children):
        rows = [measure(name, interval_s, options.seconds) for interval_s in intervals for name in SAMPLERS]
    Console().print(table(rows))
    at_1_hz = [row["percent_of_a_core"] for row in rows if row["sampler"] == "motley" and row["interval_s"] == 1.0]
    figures = {
        "benchmark": "monitor_cost",
        "cores": os.cpu_count(),
        "processes": len(psutil.pids()),
        "rows": rows,
        "ratios": ratios(rows),
        "target_percent": TARGET_PERCENT,
        "meets_target": at_1_hz[0] < TARGET_PERCENT if at_1_hz else None,
    }
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
