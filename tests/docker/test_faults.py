"""What goes wrong on devices while a run goes on: killed, out of memory, stopped, paused, cut off."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine import Containers, command, running, wait_for

from motley.device import Outcome, RoundOutcome
from motley.spec import MEMORY_FLOOR_BYTES
from motley.units import format_bytes

pytestmark = [pytest.mark.docker, pytest.mark.timeout(400)]

FLEET = f"""
name: faults
seed: 7
training: {{task: digits, policy: random, rounds: 5000, local_epochs: 60, deadline: 25s, device_evaluation: never}}
data: {{partition: iid}}
classes:
  floor: {{count: 1, cpus: 0.45, memory: {format_bytes(MEMORY_FLOOR_BYTES)}}}
  roomy: {{count: 2, cpus: 0.45, memory: 512m}}
server: {{cpus: 0.6, memory: 1g}}
monitoring: {{enabled: false}}
"""

KILL_TASK = """
for directory in /proc/[0-9]*; do
  if [ "$(cat $directory/oom_score_adj 2>/dev/null)" = 1000 ]; then kill -9 ${directory#/proc/} && echo killed; fi
done
"""

EAT_UNTIL_KILL = """
import time
from motley.limits import Cgroup
cgroup, before, eaten = Cgroup(), Cgroup().oom_kills(), []
while cgroup.oom_kills() == before and len(eaten) < 300:
    eaten.append(bytearray(b"x") * 2_000_000)
print(cgroup.oom_kills() - before, time.time())
"""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containers]:
    with running(tmp_path_factory.mktemp("faults"), FLEET, "motley-e2e-faults", Path("/tmp/faults.log")) as started:
        wait_for("second round", lambda: started.rounds_done() >= 2, 240, 2)
        yield started


def outcomes(fleet: Containers, device: str, since_s: float) -> list[RoundOutcome]:
    """What the server has come to know of a device since a moment."""
    record = fleet.record()
    assert record is not None
    return [each for _, each in record.outcomes if each.device == device and each.known_s >= since_s]


def outcome_of_kind(fleet: Containers, device: str, kind: Outcome, since_s: float) -> RoundOutcome | None:
    return next((each for each in outcomes(fleet, device, since_s) if each.outcome is kind), None)


def takes_part_again(fleet: Containers, device: str, within_s: float = 120) -> None:
    since = time.time()
    wait_for(f"round with {device}", lambda: outcome_of_kind(fleet, device, Outcome.FINISHED, since), within_s)


def run_goes_on(fleet: Containers, rounds: int = 2, within_s: float = 120) -> None:
    before = fleet.rounds_done()
    wait_for("further rounds", lambda: fleet.rounds_done() >= before + rounds, within_s)
    record = fleet.record()
    assert record is not None
    assert record.run.status == "running"


def kill_task(fleet: Containers, device: str) -> float:
    """SIGKILL the ClientApp's task on a device; returns when."""
    wait_for("task to kill", lambda: "killed" in fleet.execute(device, "sh", "-c", KILL_TASK), 60, 0.2)
    return time.time()


def test_device_at_the_memory_floor_trains(fleet: Containers) -> None:
    device = next(each for each in fleet.fleet.devices() if each.class_name == "floor")
    assert device.spec.memory == MEMORY_FLOOR_BYTES
    takes_part_again(fleet, device.name)
    assert fleet.inspect(device.name)["State"]["OOMKilled"] is False
    assert "out_of_memory" not in fleet.logs("server")


def test_killed_task_is_known_within_two_seconds(fleet: Containers) -> None:
    killed_at = kill_task(fleet, "client-2")
    known = wait_for("crash", lambda: outcome_of_kind(fleet, "client-2", Outcome.CRASHED, killed_at - 2), 30, 0.2)
    assert known.known_s - killed_at <= 2.0
    assert known.reason == "ClientApp killed by signal 9"
    takes_part_again(fleet, "client-2")


def test_task_killed_for_memory_is_known_within_two_seconds(fleet: Containers) -> None:
    wait_for("task", lambda: "1000" in fleet.execute("client-1", "sh", "-c", "cat /proc/[0-9]*/oom_score_adj"), 60, 0.2)
    kills, killed_at = fleet.execute("client-1", "python", "-c", EAT_UNTIL_KILL).split()
    assert int(kills) >= 1
    known = wait_for(
        "kill", lambda: outcome_of_kind(fleet, "client-1", Outcome.OUT_OF_MEMORY, float(killed_at) - 2), 30, 0.2
    )
    assert known.known_s - float(killed_at) <= 2.0
    assert format_bytes(MEMORY_FLOOR_BYTES).removesuffix("m") in known.reason
    takes_part_again(fleet, "client-1")


def test_stopped_device_does_not_stop_the_run(fleet: Containers) -> None:
    fleet.compose("stop", "client-3")
    assert fleet.inspect("client-3")["State"]["ExitCode"] == 0
    run_goes_on(fleet)
    fleet.compose("start", "client-3")
    takes_part_again(fleet, "client-3", 180)


def test_paused_device_does_not_stop_the_run(fleet: Containers) -> None:
    command("docker", "pause", fleet.container("client-2"))
    paused_at = time.monotonic()
    try:
        run_goes_on(fleet, rounds=1, within_s=60)
        time.sleep(max(0.0, 30 - (time.monotonic() - paused_at)))
    finally:
        command("docker", "unpause", fleet.container("client-2"))
    takes_part_again(fleet, "client-2")


def test_device_cut_from_the_network_does_not_stop_the_run(fleet: Containers) -> None:
    namespace = str(fleet.inspect("client-3")["State"]["Pid"])
    cut = ["nsenter", "--target", namespace, "--net", "ip", "link", "set", "eth0"]
    subprocess.run([*cut, "down"], check=True)
    try:
        time.sleep(20)
    finally:
        subprocess.run([*cut, "up"], check=True)
    run_goes_on(fleet)
    takes_part_again(fleet, "client-3")


def test_restarted_superlink_does_not_end_the_run(fleet: Containers) -> None:
    kill = "for p in /proc/[0-9]*; do grep -qs server[.]superlink $p/cmdline && kill -9 ${p#/proc/}; done; true"
    fleet.execute("server", "sh", "-c", kill)
    run_goes_on(fleet, within_s=240)
