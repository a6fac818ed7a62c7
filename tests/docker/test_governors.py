"""Each strategy keeps a real load under a hard memory limit where the same load without one is killed."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from engine import command, generated, wait_for

from motley.governor import GOVERNORS
from motley.governor.dynamic import Dynamic

pytestmark = [pytest.mark.docker, pytest.mark.timeout(400)]

MIB = 1024**2
FLEET = """
name: governors
training: {task: digits, policy: random, rounds: 1}
data: {partition: iid}
classes: {only: {count: 1, cpus: 0.45, memory: 512m}}
server: {cpus: 0.5, memory: 1g}
monitoring: {enabled: false}
"""
LOAD = ["python", "-m", "motley.simulated_load"]
STEPS = 60
GROWING = f"--steps {STEPS} --batch-size 64 --bytes-per-example 2m --growth 0.02 --step-ms 40".split()
"""128 MiB a step at first, 281 MiB at last."""
SHARED = ["--strategy", "cooperative", "--budget-dir", "/tmp/budget", "--budget", "180m"]
STEADY = [
    "--steps",
    "10000",
    "--batch-size",
    "32",
    "--bytes-per-example",
    "2m",
    "--step-ms",
    "40",
    "--interval-ms",
    "40",
]
"""64 MiB a step, and the interpreter."""

Line = dict[str, Any]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The project's image, with the code as it is now."""
    directory = tmp_path_factory.mktemp("governors")
    (directory / "fleet.yaml").write_text(FLEET)
    containers = generated(directory, directory / "fleet.yaml", "motley-e2e-governors")
    containers.compose("build")
    return containers.compose("config", "--images").split()[0]


def limited(memory: str) -> list[str]:
    """A container's limits: half a core, so much memory, no swap."""
    return ["--network", "none", "--cpus", "0.5", "--memory", memory, "--memory-swap", memory]


def ran(image: str, *options: str) -> tuple[int, list[Line]]:
    """The load in a container with 160 MiB: how it ended, and what it said."""
    argv = ["docker", "run", "--rm", *limited("160m"), image, *LOAD, *options]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def of_kind(lines: list[Line], kind: str) -> list[Line]:
    return [line for line in lines if line["kind"] == kind]


def cuts(lines: list[Line]) -> list[Line]:
    """The adjustments that lowered the batch."""
    return [each for each in of_kind(lines, "adjustment") if (each["batch_size"] or 1e9) < each["was"]["batch_size"]]


def test_without_a_strategy_it_is_killed(image: str) -> None:
    code, lines = ran(image, "--strategy", "none", *GROWING)
    assert code == 137
    assert len(of_kind(lines, "step")) < STEPS
    assert not of_kind(lines, "end")


@pytest.mark.parametrize("strategy", GOVERNORS)
def test_with_a_strategy_it_does_all_its_steps(image: str, strategy: str) -> None:
    budget = ["--budget-dir", "/tmp/budget", "--budget", "150m"] if strategy == "cooperative" else []
    code, lines = ran(image, "--strategy", strategy, *GROWING, *budget)
    assert code == 0
    assert (lines[-1]["steps"], lines[-1]["done"]) == (STEPS, True)
    assert all(each["memory_limit_bytes"] == 160 * MIB for each in of_kind(lines, "sample"))
    assert max(step["batch_size"] for step in of_kind(lines, "step")) > 8
    assert cuts(lines)


def test_predictive_acts_before_the_limit_is_crossed(image: str) -> None:
    """Before `dynamic` would, too."""
    code, lines = ran(image, "--strategy", "predictive", *GROWING)
    first = cuts(lines)[0]
    before = lines[: lines.index(first)]
    shares = [each["memory_bytes"] / each["memory_limit_bytes"] for each in of_kind(before, "sample")]
    assert code == 0
    assert max(shares) < Dynamic().high < 1
    assert first["reason"].endswith("% ahead")


class Running:
    """A load in a container that runs already; what it says is read as it comes."""

    def __init__(self, container: str, *options: str) -> None:
        argv = ["docker", "exec", container, *LOAD, *options]
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        self.lines: list[Line] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(json.loads(line) for line in self.process.stdout)

    def ended(self) -> int:
        """Waits for the end; the exit code."""
        code = self.process.wait(60)
        self._reader.join(60)
        return code

    @property
    def grant_bytes(self) -> int | None:
        steps = of_kind(self.lines, "step")
        return steps[-1]["grant_bytes"] if steps else None

    @property
    def pid(self) -> str:
        """Within the container."""
        return str(self.lines[0]["pid"])


@pytest.fixture
def container(image: str) -> Iterator[str]:
    """One that does nothing and may use 210 MiB."""
    name = command("docker", "run", "--detach", *limited("210m"), image, "sleep", "600").strip()
    try:
        yield name
    finally:
        command("docker", "rm", "--force", name)


def test_three_without_a_broker_are_too_many(container: str) -> None:
    loads = [Running(container, *STEADY) for _ in range(3)]
    wait_for("kill", lambda: any(load.process.poll() == 137 for load in loads), 60)


def test_three_share_a_budget_and_one_that_is_killed_gives_its_share_back(container: str) -> None:
    loads = [Running(container, *STEADY, *SHARED) for _ in range(3)]
    wait_for("share of a third", lambda: all(load.grant_bytes == 60 * MIB for load in loads), 90)
    time.sleep(5)
    assert all(load.process.poll() is None for load in loads)
    killed, *others = loads
    command("docker", "exec", container, "sh", "-c", f"kill -9 {killed.pid}")
    assert killed.ended() == 137
    wait_for("share of a half", lambda: all(load.grant_bytes == 90 * MIB for load in others), 60)
    time.sleep(5)
    assert all(load.process.poll() is None for load in others)
    assert most_at_once(loads) <= 180 * MIB


def most_at_once(loads: list[Running]) -> int:
    """The largest sum of what all held at a time, each as it said last."""
    said = [(line["at_s"], place, line) for place, load in enumerate(loads) for line in of_kind(load.lines, "sample")]
    held, sums = [0] * len(loads), [0]
    for at_s, place, line in sorted(said, key=lambda each: each[:2]):
        held = [0 if at_s > load.lines[-1]["at_s"] else each for load, each in zip(loads, held, strict=True)]
        held[place] = line["process_memory_bytes"]
        sums.append(sum(held))
    return max(sums)
