"""What a round costs when nobody has anything to do: stock Flower against Motley, in the same run.

One no-op app (`benchmarks/noop`), real SuperLink and SuperNodes as processes of this machine. Stock is
Flower as it comes: SuperNodes in their default isolation, `FedAvg.start`. Motley is its agents and its
strategy. A round is one train and one evaluate message to each device.

    python benchmarks/round_overhead.py [--devices 2,4,8] [--rounds 5] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
from flwr.cli.build import build_fab_from_disk
from rich.console import Console
from rich.table import Table

from motley.flower import quiet_environment
from motley.local import free_port
from server.submit import connect, follow, online, submit

APP = Path(__file__).parent / "noop"
START_S = 180.0


class Processes:
    """Processes of one arrangement, ended together."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, argv: list[str], **environment: str) -> subprocess.Popen[bytes]:
        home = self.directory / name
        home.mkdir()
        command = {**quiet_environment(), **environment, "FLWR_HOME": str(home)}
        with (self.directory / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(argv, env=command, stdout=log, stderr=log, start_new_session=True)
        self.running.append(process)
        return process

    def end(self) -> None:
        trees = [each for process in self.running for each in family(process.pid)]
        for process in reversed(self.running):
            process.send_signal(signal.SIGTERM)
        psutil.wait_procs(trees, timeout=10)
        for each in trees:
            if each.is_running():
                each.kill()


def family(pid: int) -> list[psutil.Process]:
    """A process and all below it."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def pss_bytes(pid: int) -> int:
    """Proportional set size of a process and all below it: shared pages counted once among them."""
    total = 0
    for process in family(pid):
        try:
            total += process.memory_full_info().pss
        except psutil.Error:
            continue
    return total


Start = Callable[[Processes, int, int], list[int]]


@contextmanager
def arrangement(start: Start, devices: int) -> Iterator[tuple[Path, int, list[int]]]:
    """Start one; gives its directory, the port of its SuperLink and a pid for each device."""
    with tempfile.TemporaryDirectory(prefix="motley-bench-") as name:
        processes, port = Processes(Path(name)), free_port()
        try:
            yield Path(name), port, start(processes, port, devices)
        finally:
            processes.end()


def start_stock(processes: Processes, port: int, devices: int) -> list[int]:
    """Flower as it comes."""
    processes.start("superlink", ["flower-superlink", "--insecure", "--port", str(port)])
    pids = []
    for index in range(devices):
        argv = ["flower-supernode", "--insecure", "--superlink", f"127.0.0.1:{port}", "--port", str(free_port())]
        argv += ["--node-config", f'device="client-{index}" device-class="any"']
        pids.append(processes.start(f"client-{index}", argv).pid)
    return pids


def start_motley(processes: Processes, port: int, devices: int) -> list[int]:
    """Motley's SuperLink and device agents; the database is on disk, as in a deployment."""
    database = str(processes.directory / "superlink.db")
    link = [sys.executable, "-m", "server.superlink", "--insecure", "--port", str(port), "--database", database]
    processes.start("superlink", [*link, "--isolation", "process"])
    executor = ["flower-superexec", "--insecure", "--runtime-api-address", f"127.0.0.1:{port}"]
    processes.start("superexec", executor)
    pids = []
    for index in range(devices):
        environment = {
            "MOTLEY_DEVICE": f"client-{index}",
            "MOTLEY_DEVICE_CLASS": "any",
            "MOTLEY_SUPERLINK": f"127.0.0.1:{port}",
            "MOTLEY_RUNTIME_PORT": str(free_port()),
            "MOTLEY_METRICS_PORT": str(free_port()),
            "MOTLEY_READY_FILE": str(processes.directory / f"ready-{index}"),
            "MOTLEY_WARM": "torch",
        }
        argv = [sys.executable, "-m", "client.agent"]
        pids.append(processes.start(f"client-{index}", argv, **environment).pid)
    return pids


ARRANGEMENTS = {"stock": start_stock, "motley": start_motley}


def measure(name: str, devices: int, rounds: int) -> dict[str, Any]:
    """Seconds a round, then bytes a device: idle, and while a message is held for a second."""
    with arrangement(ARRANGEMENTS[name], devices) as (directory, port, pids):
        control = connect(f"127.0.0.1:{port}")
        await_nodes(control, devices)
        idle = statistics.median(pss_bytes(pid) for pid in pids)
        times = play(control, directory / "timed", {"strategy": name, "rounds": rounds, "devices": devices})
        with peak_of(pids[:2]) as peaks:
            play(control, directory / "held", {"strategy": name, "rounds": 1, "devices": devices, "hold-s": 1.0})
        control.close()
    seconds = [later - earlier for earlier, later in pairwise(times)]
    return {
        "arrangement": name,
        "devices": devices,
        "round_s": statistics.median(seconds[1:] or seconds),
        "rounds_s": [round(each, 3) for each in seconds],
        "idle_pss_mb": idle / 1e6,
        "peak_pss_mb": statistics.median(peaks) / 1e6,
    }


def play(control: Any, directory: Path, config: dict[str, Any]) -> list[float]:
    """One run of the no-op app; returns when it began and when each round ended."""
    directory.mkdir()
    result = directory / "times.json"
    run_id = submit(control, build_fab_from_disk(APP), {**config, "result": str(result)})
    if not follow(control, run_id, lambda text: None):
        logs = "".join(path.read_text(errors="replace")[-2000:] for path in directory.parent.glob("*.log"))
        raise SystemExit(f"{config} did not complete:\n{logs}")
    times: list[float] = json.loads(result.read_text())
    return times


def await_nodes(control: Any, devices: int) -> None:
    until = time.monotonic() + START_S
    while online(control) < devices:
        if time.monotonic() > until:
            raise SystemExit(f"fewer than {devices} devices joined within {START_S:g} s")
        time.sleep(0.5)
    time.sleep(3 + devices)


@contextmanager
def peak_of(pids: list[int]) -> Iterator[list[int]]:
    """The most memory that each process and all below it used inside the block, sampled four times a second."""
    peaks, done = [0] * len(pids), threading.Event()

    def sample() -> None:
        while not done.wait(0.25):
            peaks[:] = [max(peak, pss_bytes(pid)) for peak, pid in zip(peaks, pids, strict=True)]

    watcher = threading.Thread(target=sample)
    watcher.start()
    try:
        yield peaks
    finally:
        done.set()
        watcher.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", default="2,4,8")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=sorted(ARRANGEMENTS))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    os.environ.update(quiet_environment())
    console, rows = Console(), []
    for devices in map(int, options.devices.split(",")):
        for name in ARRANGEMENTS if options.only is None else (options.only,):
            with console.status(f"{name}, {devices} devices"):
                rows.append(measure(name, devices, options.rounds))
            console.print(rows[-1], highlight=False)
    console.print(table(rows))
    figures = {"benchmark": "round_overhead", "cores": os.cpu_count(), "rows": rows, "ratios": ratios(rows)}
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures))


def ratios(rows: list[dict[str, Any]]) -> dict[str, float]:
    """How many times as long a stock round takes, by number of devices."""
    by_key = {(row["arrangement"], row["devices"]): row["round_s"] for row in rows}
    sizes = sorted({devices for _, devices in by_key})
    return {
        str(n): by_key["stock", n] / by_key["motley", n]
        for n in sizes
        if ("stock", n) in by_key and ("motley", n) in by_key
    }


def table(rows: list[dict[str, Any]]) -> Table:
    shown = Table(title="An empty round: one train and one evaluate message to each device")
    for name in ("devices", "arrangement", "round, s", "stock / motley", "idle PSS, MB", "peak PSS, MB"):
        shown.add_column(name, justify="left" if name == "arrangement" else "right")
    by_size = ratios(rows)
    for row in rows:
        ratio = by_size.get(str(row["devices"])) if row["arrangement"] == "motley" else None
        shown.add_row(
            str(row["devices"]),
            row["arrangement"],
            f"{row['round_s']:.2f}",
            f"{ratio:.1f}" if ratio else "",
            f"{row['idle_pss_mb']:.0f}",
            f"{row['peak_pss_mb']:.0f}",
        )
    return shown


if __name__ == "__main__":
    main()
