"""A server that is killed anywhere goes on as if nothing had happened, with each round once."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from factories import run_row
from flwr.app import Message, RecordDict
from flwr.proto.control_pb2 import ListRunsRequest, ListRunsResponse, StopRunRequest
from flwr.proto.run_pb2 import Run as FlowerRun
from flwr.proto.run_pb2 import RunStatus
from flwr.supercore.task_identity import TaskIdentity
from hypothesis import given, settings
from hypothesis import strategies as st
from lives import (
    ROUNDS,
    Killed,
    Killer,
    Server,
    buffered,
    devices,
    dies_in,
    fleet_of,
    killed,
    killed_before_the_disk_had_it,
    killed_by,
    learns,
)
from test_strategy import identity  # noqa: F401

from motley import checkpoint
from motley.checkpoint import CHECKPOINTS, last_round
from motley.device import Outcome
from motley.errors import InputError, RunFailed
from motley.history import History
from motley.messages import to_arrays
from motley.resuming import HISTORY, held
from motley.running import resume_locally
from motley.spec import Fleet
from server.agent import Agent, Service
from server.resuming import LOST, begin, without_flower_run
from server.settings import from_environment
from server.submit import stop_former


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Server, int]:
    """A run that nobody disturbs, and how many steps it has."""
    server = Server(tmp_path_factory.mktemp("whole"))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_run_id", "_task_id", "_node_id"):
            patch.setattr(TaskIdentity, name, 1)
        return server, server.is_killed_at(None)


def is_the_same_run(server: Server, uninterrupted: Server) -> None:
    """Each round once, each order with one outcome, one run, and the same model to the bit."""
    record, other = server.record(), uninterrupted.record()
    assert record is not None
    assert other is not None
    assert record.run.status == "completed"
    assert [row.round for row in record.rounds] == list(range(1, ROUNDS + 1))
    assert [row.loss for row in record.rounds] == [row.loss for row in other.rounds]
    assert [(n, each.device, each.outcome) for n, each in record.outcomes] == [
        (n, each.device, each.outcome) for n, each in other.outcomes
    ]
    assert server.model.tobytes() == uninterrupted.model.tobytes()
    with closing(History(server.state / HISTORY)) as history:
        assert len(history.runs()) == 1


@pytest.mark.parametrize(("settles", "every"), [(True, 3), (False, 7)])
def test_killed_at_any_step_it_is_the_same_run(
    settles: bool, every: int, whole: tuple[Server, int], tmp_path: Path
) -> None:
    """Also where the disk is never done with a checkpoint before the next one."""
    uninterrupted, steps = whole
    assert steps > 100
    for step in range(1, steps + 1, every):
        server = Server(tmp_path / str(step))
        server.is_killed_at(step, settles=settles)
        if server.is_done():
            continue
        ended = server.ended()
        server.live(devices(first_node=11 if step % 2 else 1))
        assert server.goes_on_after() in ((None, 0) if ended == 0 else (ended - 1, ended)), f"step {step}"
        is_the_same_run(server, uninterrupted)


@settings(max_examples=8)
@given(steps=st.lists(st.integers(1, 140), min_size=2, max_size=4))
def test_killed_again_and_again_it_is_the_same_run(
    steps: list[int], whole: tuple[Server, int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    server = Server(tmp_path_factory.mktemp("again"))
    for step in steps:
        if not server.is_done():
            server.is_killed_at(step)
    if not server.is_done():
        server.live()
    is_the_same_run(server, whole[0])


@pytest.mark.parametrize("step", [40, 90, 125])
def test_a_process_that_is_really_killed_leaves_the_same(step: int, whole: tuple[Server, int], tmp_path: Path) -> None:
    server = Server(tmp_path)
    pid = os.fork()
    if pid == 0:
        with killed_by(Killer(step, end=lambda: os.kill(os.getpid(), signal.SIGKILL))):
            server.live()
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
    server.clock.sleep(60.0)
    server.live()
    is_the_same_run(server, whole[0])


def test_a_finished_round_is_kept_and_its_model_is_the_next_ones(tmp_path: Path) -> None:
    server = Server(tmp_path)
    there = devices()
    there[1].answer = dies_in(3, learns)
    with pytest.raises(Killed):
        server.live(there)
    kept = server.kept()
    assert (server.ended(), last_round(kept)) == (2, 2)
    got = list[bytes]()
    server.live({node: replace(each, answer=notes_model(got)) for node, each in devices().items()})
    assert set(got) == {kept["strategy"]["arrays"]["w"].tobytes()}


def notes_model(models: list[bytes]) -> Callable[[Message], RecordDict]:
    def answers(message: Message) -> RecordDict:
        models.append(to_arrays(message.content.array_records["arrays"])["w"].tobytes())
        return learns(message)

    return answers


def test_orders_of_the_former_server_are_lost_but_not_forgotten(tmp_path: Path) -> None:
    server = buffered(tmp_path)
    kept = server.kept()
    pending = [order for _, order in kept["strategy"]["mailbox"]["pending"] if order["kind"] == "train"]
    assert pending
    server.live(devices(seconds=(1.0, 2.0, 7.0)))
    record = server.record()
    assert record is not None
    outcomes = {(number, each.device, each.attempt): each for number, each in record.outcomes}
    lost = [outcomes[order["round"], order["device"], order["attempt"]] for order in pending]
    assert {(each.outcome, each.reason, each.used) for each in lost} == {(Outcome.LATE, LOST, False)}
    assert [row.round for row in record.rounds] == [1, 2, 3, 4, 5, 6]
    assert server.is_done()


def test_what_was_learned_after_the_checkpoint_is_unlearned(tmp_path: Path) -> None:
    """An order of an earlier round whose late reply came in the round that is done again."""
    server = buffered(tmp_path)
    saved_s = server.kept()["saved_s"]
    order = next(each for _, each in server.kept()["strategy"]["mailbox"]["pending"] if each["kind"] == "train")
    with closing(sqlite3.connect(tmp_path / HISTORY)) as db:
        columns = [row[1] for row in db.execute("PRAGMA table_info(outcomes)")]
        row = dict(zip(columns, db.execute("SELECT * FROM outcomes").fetchone(), strict=True))
        row |= {"round": order["round"], "device": order["device"], "attempt": order["attempt"]}
        row |= {"known_s": saved_s + 1.0, "used": 1, "staleness": 1, "outcome": "finished"}
        db.execute(f"INSERT INTO outcomes VALUES ({', '.join('?' * len(row))})", tuple(row.values()))
        db.commit()
    with closing(History(tmp_path / HISTORY)) as history:
        begin(tmp_path, history, server.fleet, run_row("next", started_s=saved_s + 60.0), server.said.append)
        run = history.latest_run()
        assert run is not None
        known = {(n, each.device, each.attempt): each for n, each in history.outcomes(run.run_id)}
    outcome = known[order["round"], order["device"], order["attempt"]]
    assert (outcome.reason, outcome.used, outcome.known_s) == (LOST, False, saved_s + 60.0)
    assert max(number for number, _, _ in known) <= last_round(server.kept())


def test_an_order_that_was_settled_keeps_its_outcome(tmp_path: Path) -> None:
    """Its round ended at the deadline without it: that it was lost afterwards does not matter."""
    server = Server(tmp_path, fleet_of("policy: random, deadline: 4s, device_evaluation: never"))
    there = devices(seconds=(1.0, 2.0, 9.0))
    there[1].answer = dies_in(2, learns)
    with pytest.raises(Killed):
        server.live(there)
    server.live(devices())
    record = server.record()
    assert record is not None
    (late,) = [each for number, each in record.outcomes if number == 1 and each.device == "client-2"]
    assert (late.outcome, late.reason) == (Outcome.LATE, "no reply within 4.0 s")


def test_the_time_between_does_not_count(tmp_path: Path) -> None:
    kept = buffered(tmp_path).kept()["strategy"]
    after = without_flower_run(kept, 500.0)
    assert after["began_s"] == kept["began_s"] + 500.0
    assert (after["mailbox"]["pending"], after["roster"]["asked_s"], after["ledger"]["overdue"]) == ([], [], [])
    assert after["roster"]["devices"] == kept["roster"]["devices"]


def test_a_finished_run_is_followed_by_a_new_one(tmp_path: Path) -> None:
    server = Server(tmp_path)
    server.live()
    server.live()
    with closing(History(tmp_path / HISTORY)) as history:
        runs = [(run.run_id, run.status) for run in history.runs()]
        rounds = [len(history.rounds(run_id)) for run_id, _ in runs]
    assert runs == [("flower-2", "completed"), ("flower-1", "completed")]
    assert rounds == [ROUNDS, ROUNDS]


def test_a_run_that_was_asked_to_stop_goes_on(tmp_path: Path) -> None:
    server = killed(tmp_path)
    with closing(History(tmp_path / HISTORY)) as history:
        history.end_run("flower-1", "stopped", 1100.0)
    server.live()
    assert server.goes_on_after() == 1
    assert server.is_done()


def test_another_fleet_begins_anew_and_says_why(tmp_path: Path) -> None:
    server = killed(tmp_path)
    server.fleet = fleet_of("policy: fair, device_evaluation: never")
    server.live()
    (said,) = [line for line in server.said if "can't go on" in line]
    assert 'training.policy was "random", is "fair"' in said
    with closing(History(tmp_path / HISTORY)) as history:
        runs = [(run.run_id, run.status) for run in history.runs()]
    assert runs == [("flower-2", "completed"), ("flower-1", "stopped")]


def test_what_the_model_does_not_depend_on_may_change(tmp_path: Path) -> None:
    server = killed(tmp_path)
    server.fleet = fleet_of(rounds=ROUNDS + 2)._replace(server=server.fleet.server.model_copy(update={"cpus": 0.9}))
    server.live()
    record = server.record()
    assert record is not None
    assert (record.run.run_id, record.run.rounds, len(record.rounds)) == ("flower-1", ROUNDS + 2, ROUNDS + 2)


def test_a_checkpoint_that_the_machine_did_not_finish_does_not_count(tmp_path: Path) -> None:
    """The machine went down before the disk had it: the one before is still there, and takes over for good."""
    server = killed_before_the_disk_had_it(tmp_path)
    newest = max((tmp_path / CHECKPOINTS).iterdir(), key=lambda path: int(path.name))
    arrays = newest / "arrays.safetensors"
    arrays.write_bytes(arrays.read_bytes()[:-4])
    server.live()
    assert server.goes_on_after() == 1
    assert server.is_done()


def test_a_checkpoint_whose_round_history_has_lost_never_counts(tmp_path: Path) -> None:
    """Not even once history has that round again, done by somebody who was killed in his turn."""
    server = killed_before_the_disk_had_it(tmp_path)
    with closing(sqlite3.connect(tmp_path / HISTORY)) as db:
        db.execute("DELETE FROM rounds WHERE round >= 2")
        db.commit()

    def dies(*_: object) -> Path:
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("server.resuming.add_checkpoint", dies)
        with pytest.raises(Killed):
            server.live()
    assert (server.goes_on_after(), server.ended(), last_round(server.kept())) == (1, 2, 1)
    server.live()
    assert server.goes_on_after() == 1
    assert server.is_done()


def test_a_disk_that_is_full_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "synchronize", full)
    with pytest.raises(OSError, match="No space left"):
        Server(tmp_path).live()


def test_one_server_at_a_time(tmp_path: Path) -> None:
    with held(tmp_path), pytest.raises(RunFailed, match="another server still works on"), held(tmp_path, 0.0):
        pass
    with held(tmp_path, 0.0):
        pass


def kept_by_run(directory: Path, runtime: str = "processes") -> Server:
    """What `motley run` leaves behind when it is killed in its second round."""
    server = killed(directory / "state")
    with closing(sqlite3.connect(directory / "state" / HISTORY)) as db:
        db.execute("UPDATE runs SET runtime = ?", (runtime,))
        db.commit()
    return server


def resuming_says(directory: Path, fleet: Fleet | None = None, rounds: int | None = None) -> str:
    """Why `motley run --resume` refuses."""
    path = None
    if fleet is not None:
        path = directory / "fleet.json"
        path.write_text(fleet.model_dump_json(exclude={"presets"}, exclude_none=True))
    with pytest.raises(InputError) as refused:
        resume_locally(directory, path, rounds, None)
    return str(refused.value)


def test_motley_run_refuses_what_it_can_not_resume(tmp_path: Path) -> None:
    assert "no run is kept there" in resuming_says(tmp_path)
    server = kept_by_run(tmp_path)
    other = resuming_says(tmp_path, fleet_of("policy: fair"))
    assert 'the run is of another fleet: training.policy was "random", is "fair"; leave out' in other
    server.live()
    assert resuming_says(tmp_path).endswith("has all of its 3 rounds; --rounds gives it more")
    shutil.rmtree(tmp_path / "state" / CHECKPOINTS)
    assert "no checkpoint" in resuming_says(tmp_path, rounds=9)


def test_motley_run_does_not_resume_a_simulation(tmp_path: Path) -> None:
    kept_by_run(tmp_path, "simulation")
    assert "its runtime is 'simulation'" in resuming_says(tmp_path)


def test_motley_run_goes_on_where_its_server_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = kept_by_run(tmp_path)
    went_on = list[tuple[Fleet, Path, int]]()
    monkeypatch.setattr("motley.running._run", lambda fleet, here, done, json_file: went_on.append((fleet, here, done)))
    resume_locally(tmp_path, None, 5, None)
    assert went_on == [(server.fleet.with_rounds(5), tmp_path, 1)]
    record = server.record()
    assert record is not None
    assert (record.run.status, record.run.rounds, len(record.rounds)) == ("running", 5, 1)
    server.fleet = server.fleet.with_rounds(5)
    server.live()
    assert server.goes_on_after() == 1
    assert server.is_done()


@dataclass
class FakeControl:
    """A SuperLink's Control API with runs of a status each; the ids of those that were stopped."""

    runs: dict[int, str]
    refuses: bool = False
    stopped: list[int] = field(default_factory=list)

    def ListRuns(self, request: ListRunsRequest) -> ListRunsResponse:
        runs = {id_: FlowerRun(run_id=id_, status=RunStatus(status=status)) for id_, status in self.runs.items()}
        return ListRunsResponse(run_dict=runs)

    def StopRun(self, request: StopRunRequest) -> None:
        if self.refuses:
            raise httpx.HTTPStatusError("finished", request=httpx.Request("POST", "/"), response=httpx.Response(409))
        self.stopped.append(request.run_id)


def test_what_the_former_superlink_had_under_way_is_stopped(capsys: pytest.CaptureFixture[str]) -> None:
    control: Any = FakeControl({1: "finished", 2: "running", 3: "pending"})
    stop_former(control)
    assert sorted(control.stopped) == [2, 3]
    stop_former(FakeControl({2: "running"}, refuses=True))  # type: ignore[arg-type]
    assert capsys.readouterr().out.count("ended with the former server") == 3


def test_no_serverapp_starts_before_the_former_runs_are_stopped(tmp_path: Path) -> None:
    cleared = tmp_path / "cleared"
    service = Service("nothing", ["true"], after=cleared)
    service.keep_running()
    assert not service.pid
    cleared.touch()
    service.keep_running()
    assert os.waitpid(service.pid, 0)[1] == 0


def agent_of(directory: Path) -> Agent:
    fleet = "{name: t, server: {after_run: exit}, classes: {a: {count: 1, cpus: 1, memory: 1g}}}"
    places = {"MOTLEY_STATE": str(directory), "MOTLEY_DATA": "/data", "MOTLEY_READY_FILE": str(directory / "ready")}
    return Agent(from_environment({"MOTLEY_FLEET": fleet, **places}))


def test_a_run_whose_serverapp_was_killed_is_submitted_again_while_it_gets_on(tmp_path: Path) -> None:
    server, agent = killed(tmp_path), agent_of(tmp_path)
    assert agent.after_submission(1) is None
    assert agent.after_submission(1) == 1
    server.live()
    assert agent.after_submission(0) == 0


@pytest.mark.parametrize("code", [0, 1, 2, -9])
def test_a_run_that_has_ended_is_not_submitted_again(code: int, tmp_path: Path) -> None:
    Server(tmp_path).live()
    assert agent_of(tmp_path).after_submission(code) == code
