"""A fleet that grows while it has more to do than it can, shrinks after, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engine import ROOT, Containers, command, query, running, wait_for

from motley.device import Outcome

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

PROMETHEUS = 19091
FLEET = f"""
name: growing
seed: 5
training:
  {{task: digits, policy: random, rounds: 400, local_epochs: 8, deadline: 60s, device_evaluation: never}}
data: {{partition: iid}}
classes:
  plain: {{count: 2, cpus: 0.25, memory: 512m}}
scaling:
  {{device_class: plain, max: 4, target: 0.55, up: 0.65, down: 0.27, window: 12s, interval: 2s, forecast: 0s,
   cool_down_up: 40s, cool_down_down: 5s}}
server: {{cpus: 0.4, memory: 1g}}
monitoring: {{prometheus_port: {PROMETHEUS}}}
"""
FIRST, ADDED = ("client-1", "client-2"), {"client-3", "client-4"}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containers]:
    with running(tmp_path_factory.mktemp("growing"), FLEET, f"motley-e2e-growing-{os.getpid()}") as started:
        wait_for("first round", lambda: started.rounds_done() >= 1, 240, 1)
        yield started


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("journal") / "launches.db"


def start_scaling(fleet: Containers, journal: Path) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-m", "motley.cli", "scale", "--file", str(fleet.file), "--project", fleet.project]
    return subprocess.Popen([*argv, "--journal", str(journal)], cwd=ROOT)


def added(fleet: Containers) -> dict[str, str]:
    """The launched devices whose containers run, by name, and their containers."""
    mine = ["--filter", f"label=com.docker.compose.project={fleet.project}", "--filter", "label=motley-token"]
    lines = command("docker", "ps", *mine, "--format", '{{.Label "motley-device"}} {{.ID}}').splitlines()
    return dict(line.split() for line in lines)


def finished(fleet: Containers, device: str) -> int:
    record = fleet.record()
    outcomes = [each for _, each in record.outcomes] if record else []
    return sum(each.device == device and each.outcome is Outcome.FINISHED for each in outcomes)


def test_two_devices_come_train_and_go_again(fleet: Containers, journal: Path) -> None:
    """It grows because both work all the time, and shrinks because a round waits for one that stands still."""
    scaling = start_scaling(fleet, journal)
    try:
        wait_for("two more devices", lambda: added(fleet).keys() == ADDED, 120)
        wait_for("their first rounds", lambda: all(finished(fleet, device) for device in ADDED), 120, 1)
        before = fleet.rounds_done()
        wait_for("scrape of them", lambda: len(query('up{job="motley-client"} == 1', PROMETHEUS)) == 4, 60)
        for shown in ('motley_scaling_decisions_total{kind="up"} > 0', 'motley_scaling_devices{state="observed"} == 4'):
            wait_for(shown, lambda shown=shown: query(shown, PROMETHEUS), 60)
        fleet.compose("pause", FIRST[0])
        wait_for("their end", lambda: not added(fleet), 120)
        fleet.compose("unpause", FIRST[0])
        wait_for("rounds of the first two", lambda: fleet.rounds_done() > before + 2, 120, 1)
        record = fleet.record()
        assert record is not None
        assert record.run.status == "running"
    finally:
        scaling.send_signal(signal.SIGINT)
        scaling.wait(60)
    assert added(fleet) == {}


def test_after_a_kill_of_loop_and_server_a_sweep_finds_what_was_added(fleet: Containers, journal: Path) -> None:
    """Each with the limits of its class."""
    scaling = start_scaling(fleet, journal)
    wait_for("two more devices", lambda: len(added(fleet)) == 2, 120)
    for container in added(fleet).values():
        host: dict[str, Any] = json.loads(command("docker", "inspect", container))[0]["HostConfig"]
        assert (host["NanoCpus"], host["Memory"], host["MemorySwap"]) == (250_000_000, 512 * 2**20, 512 * 2**20)
        assert host["ReadonlyRootfs"]
    scaling.kill()
    scaling.wait(10)
    command("docker", "kill", fleet.container("server"))
    assert len(added(fleet)) == 2
    record = fleet.record()
    assert record is not None
    sweep = [sys.executable, "-m", "motley.cli", "providers", "sweep", "--compose", str(fleet.file)]
    sweep += ["--project", fleet.project]
    sweep += ["--file", str(journal.parent / "none.yaml"), "--journal", str(journal), "--over", record.run.run_id]
    assert "nothing was ended" in command(*sweep)
    assert len(added(fleet)) == 2
    said = command(*sweep, "--yes")
    assert said.count("ended: ") == 2
    assert added(fleet) == {}
    assert "no machine without a live run" in command(*sweep, "--yes")
    time.sleep(1)
    assert added(fleet) == {}
