"""The server's container is killed in the middle of a round, and comes up again."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine import Containers, command, running, wait_for

from motley.checkpoint import checkpoint_of, last_round
from motley.history import History
from motley.messages import to_record
from motley.records import RunRecord
from motley.resuming import HISTORY
from motley.training.data import load_shards
from server.app import evaluator

pytestmark = [pytest.mark.docker, pytest.mark.timeout(400)]

ROUNDS = 16
FLEET = f"""
name: killed
seed: 7
training: {{task: digits, policy: random, rounds: {ROUNDS}, local_epochs: 5, deadline: 40s, device_evaluation: never}}
data: {{partition: iid}}
classes:
  quick: {{count: 1, cpus: 0.5, memory: 512m}}
  slow: {{count: 2, cpus: 0.4, memory: 512m}}
server: {{cpus: 0.6, memory: 1g, after_run: exit}}
monitoring: {{enabled: false}}
"""


def state_of(fleet: Containers) -> Path:
    volume = json.loads(command("docker", "volume", "inspect", f"{fleet.project}_state"))[0]
    return Path(volume["Mountpoint"])


def in_round(fleet: Containers, least: int) -> bool:
    """Whether devices are at work on a round from `least` on."""
    record = fleet.record()
    if record is None or len(record.rounds) < least:
        return False
    return record.rounds[-1].duration_s is None and record.rounds[-1].selected > 0


def ended(fleet: Containers) -> RunRecord | None:
    state = fleet.inspect("server")["State"]
    return fleet.record() if state["Status"] == "exited" else None


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containers]:
    project = f"motley-e2e-killed-{os.getpid()}"
    with running(tmp_path_factory.mktemp("killed"), FLEET, project, Path("/tmp/killed.log")) as started:
        yield started


def test_a_run_goes_on_after_its_server_was_killed(fleet: Containers) -> None:
    wait_for("third round", lambda: in_round(fleet, 3), 150, 0.2)
    command("docker", "kill", "--signal", "KILL", fleet.container("server"))
    before, after_round = fleet.record(), kept_round(fleet)
    assert before is not None
    assert before.run.status == "running"
    assert after_round in (before.rounds[-1].round - 1, before.rounds[-1].round)

    fleet.compose("up", "--detach", "--no-build")
    record = wait_for("end of the run", lambda: ended(fleet), 150)
    assert fleet.inspect("server")["State"]["ExitCode"] == 0
    assert (record.run.run_id, record.run.status) == (before.run.run_id, "completed")
    assert [row.round for row in record.rounds] == list(range(1, ROUNDS + 1))
    assert [row for row in record.rounds if row.round <= after_round] == list(before.rounds[:after_round])
    assert len({(number, each.device, each.attempt) for number, each in record.outcomes}) == len(record.outcomes)
    assert {number for number, _ in record.outcomes} == set(range(1, ROUNDS + 1))
    assert re.findall(r"goes on after round (\d+)", fleet.logs("server")) == [str(after_round)]
    assert min(row.accuracy or 0 for row in record.rounds[after_round:]) > 0.8


def kept_round(fleet: Containers) -> int:
    """The round of the newest checkpoint, whose model is the one that was judged at the end of that round."""
    state = state_of(fleet)
    history = History(state / HISTORY)
    run = history.latest_run()
    assert run is not None
    kept = checkpoint_of(state, history, run, fleet.fleet).state
    number = last_round(kept)
    loss = next(row.loss for row in history.rounds(run.run_id) if row.round == number)
    history.close()
    _, test = load_shards(fleet.fleet)
    task = fleet.fleet.training.task
    judged = evaluator(task, fleet.fleet.seed, test)(number, to_record(kept["strategy"]["arrays"]))
    assert judged is not None
    assert judged["loss"] == pytest.approx(loss, rel=1e-4)
    return number
