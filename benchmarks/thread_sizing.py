"""Examples a second under a CPU quota: with threads sized by the quota, and with PyTorch's default.

Each turn trains the digits in a process of its own, inside a cgroup with the quota; turns alternate. Needs
root, or the right to make CPU cgroups. The cgroup gets the largest weight, so that it gets its quota on a
busy machine too; the column "cores got" says whether it did.

python benchmarks/thread_sizing.py [--quotas 0.25 0.5 1] [--seconds 10] [--repeat 3] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from motley.limits import host_cores
from motley.workload import threads_for

ROOT = Path(__file__).resolve().parents[1]
PERIOD_US = 100_000
CGROUP_V1, CGROUP_V2 = Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")
OURS, DEFAULT = "sized", "default"

TURN = """
import json, os, sys, time
from motley.training import data, loop, model
from motley.training.jobs import Job
procs, threads, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
if threads:
    loop.set_threads(threads)
learner, examples = model.build("digits", 0), data.load_digits(0).train
job = Job(model.arrays_of(learner), examples, 32, 0.01, 10, 0)
loop.train(learner, job)
open(procs, "w").write(str(os.getpid()))
started, cpu_started = time.perf_counter(), time.process_time()
examples = 0
while time.perf_counter() - started < seconds:
    examples += loop.train(learner, job).examples
wall_s, cpu_s = time.perf_counter() - started, time.process_time() - cpu_started
print(json.dumps({"examples_per_s": examples / wall_s, "cores_got": cpu_s / wall_s}))
"""


@dataclass(frozen=True)
class Case:
    """One quota with one way to size threads."""

    quota: float
    sizing: str

    @property
    def threads(self) -> int:
        """0 leaves it to PyTorch."""
        return threads_for(self.quota, host_cores()) if self.sizing == OURS else 0


@contextmanager
def quota_of(cores: float) -> Iterator[Path]:
    """A cgroup with a CPU quota; yields the file that takes in a process. Raises SystemExit where none can be made."""
    is_v2 = (CGROUP_V2 / "cgroup.controllers").exists()
    directory = (CGROUP_V2 if is_v2 else CGROUP_V1) / f"motley-threads-{os.getpid()}"
    try:
        directory.mkdir()
        if is_v2:
            (directory / "cpu.max").write_text(f"{int(cores * PERIOD_US)} {PERIOD_US}")
            (directory / "cpu.weight").write_text("10000")
        else:
            (directory / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (directory / "cpu.cfs_quota_us").write_text(str(int(cores * PERIOD_US)))
            (directory / "cpu.shares").write_text("262144")
    except OSError as error:
        if directory.exists():
            directory.rmdir()
        raise SystemExit(f"thread_sizing: can't make a CPU cgroup ({error}); run as root on Linux") from None
    try:
        yield directory / "cgroup.procs"
    finally:
        directory.rmdir()


def turn(case: Case, seconds: float) -> dict[str, float]:
    """Train once; returns examples a second and cores got. Raises SystemExit when the process fails."""
    unsized = {name: value for name, value in os.environ.items() if name not in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    with quota_of(case.quota) as procs:
        command = [sys.executable, "-c", TURN, str(procs), str(case.threads), str(seconds)]
        environment = {**unsized, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"thread_sizing: {done.stderr}")
    result: dict[str, float] = json.loads(done.stdout)
    return result


def figures_of(turns: dict[Case, list[dict[str, float]]], quotas: list[float]) -> dict[str, Any]:
    """Medians by sizing and quota, and how far examples a second for each core of quota stray from their mean."""
    figures: dict[str, Any] = {}
    for sizing in (OURS, DEFAULT):
        rows = {
            quota: {
                name: statistics.median(each[name] for each in turns[Case(quota, sizing)])
                for name in ("examples_per_s", "cores_got")
            }
            for quota in quotas
        }
        per_core = [row["examples_per_s"] / quota for quota, row in rows.items()]
        mean = statistics.mean(per_core)
        strays = max(abs(each / mean - 1) for each in per_core)
        figures[sizing] = {"quotas": rows, "off_proportion": strays}
    return figures


def table_of(figures: dict[str, Any], quotas: list[float]) -> Table:
    table = Table(title=f"Examples a second of the digits, batches of 32, on {host_cores()} cores")
    for heading in (
        "quota, cores",
        "threads",
        "examples/s",
        "for each core",
        "cores got",
        "default threads",
        "ours is",
    ):
        table.add_column(heading, justify="right")
    for quota in quotas:
        ours, default = (figures[sizing]["quotas"][quota] for sizing in (OURS, DEFAULT))
        table.add_row(
            f"{quota:g}",
            str(Case(quota, OURS).threads),
            f"{ours['examples_per_s']:,.0f}",
            f"{ours['examples_per_s'] / quota:,.0f}",
            f"{ours['cores_got']:.2f}",
            f"{default['examples_per_s']:,.0f}",
            f"{ours['examples_per_s'] / default['examples_per_s']:.2f}×",
        )
    strays = (f"{figures[sizing]['off_proportion']:.0%}" for sizing in (OURS, DEFAULT))
    table.caption = "Off proportion at most: {} with sized threads, {} with PyTorch's default".format(*strays)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quotas", type=float, nargs="+", default=[0.25, 0.5, 1.0])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    turns: dict[Case, list[dict[str, float]]] = {}
    for _ in range(options.repeat):
        for case in (Case(quota, sizing) for quota in options.quotas for sizing in (OURS, DEFAULT)):
            turns.setdefault(case, []).append(turn(case, options.seconds))
    figures = figures_of(turns, options.quotas)
    Console(width=None if sys.stdout.isatty() else 110).print(table_of(figures, options.quotas))
    report = {"benchmark": "thread_sizing", "host_cores": host_cores(), **figures}
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report))


if __name__ == "__main__":
    main()
