"""Whole runs of the strategy on a grid that answers as it is told, on a clock that moves by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from factories import profile, run_row
from flwr.app import ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from motley.clock import ManualClock
from motley.device import Outcome
from motley.errors import RunFailed
from motley.fleetfile import parse_fleet
from motley.history import History
from motley.messages import to_arrays, to_record
from server.strategy import ResourceAware

START = {"w": np.zeros(3, np.float32)}


@pytest.fixture(autouse=True)
def identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flower's ServerApp process knows which run it is of."""
    for name in ("_run_id", "_task_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


@dataclass
class FakeDevice:
    """Answers a message of each kind after `delay_s`, or never where that is None."""

    name: str
    answer: Callable[[Message], RecordDict | Error]
    delay_s: Callable[[int], float | None] = lambda number: 1.0
    online: bool = True
    trained: list[dict[str, Any]] = field(default_factory=list)

    def reply(self, message: Message) -> RecordDict | Error:
        kind = message.metadata.message_type
        if kind == "query":
            return RecordDict({"profile": ConfigRecord(profile(self.name).as_mapping())})
        if kind == "evaluate":
            report = {"num-examples": 10, "accuracy": 0.5, "loss": 1.0}
            return RecordDict({"report": MetricRecord(report)})
        self.trained.append(dict(message.content.config_records["order"]))
        return self.answer(message)


class FakeGrid(Grid):
    """Delivers replies when the clock has reached their time."""

    def __init__(self, clock: ManualClock, devices: dict[int, FakeDevice]) -> None:
        self.clock, self.devices = clock, devices
        self._under_way: dict[str, tuple[float, Message]] = {}
        self._count = 0

    def set_run(self, run: Any) -> None: ...

    @property
    def run(self) -> Any:
        raise AssertionError("the strategy needs no run")

    def create_message(self, *arguments: Any, **named: Any) -> Message:
        raise AssertionError("deprecated")

    def send_and_receive(self, *arguments: Any, **named: Any) -> Iterable[Message]:
        raise AssertionError("it waits in steps of 3 s")

    def get_node_ids(self) -> Iterable[int]:
        return [node for node, device in self.devices.items() if device.online]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        ids = []
        for message in messages:
            self._count += 1
            id_ = str(self._count)
            message.metadata.__dict__.update(_message_id=id_, _run_id=1, _src_node_id=1)
            device = self.devices[message.metadata.dst_node_id]
            delay = device.delay_s(int(message.metadata.group_id or 0))
            if delay is not None:
                content = device.reply(message)
                reply = Message(content, reply_to=message)
                self._under_way[id_] = (self.clock.now_s() + delay, reply)
            ids.append(id_)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        due = [id_ for id_ in message_ids if id_ in self._under_way and self._under_way[id_][0] <= self.clock.now_s()]
        return [self._under_way.pop(id_)[1] for id_ in due]


def trains_to(value: float, examples: int = 100) -> Callable[[Message], RecordDict]:
    def answer(message: Message) -> RecordDict:
        arrays = to_record({"w": np.full(3, value, np.float32)})
        return RecordDict({"arrays": arrays, "report": MetricRecord({"num-examples": examples, "train_loss": 0.5})})

    return answer


def fails_with(reason: str, code: int = ErrorCode.CLIENT_APP_CRASHED) -> Callable[[Message], Error]:
    return lambda message: Error(code, reason)


class Run:
    """A run of the strategy, and what it left."""

    def __init__(self, directory: Path, devices: dict[int, FakeDevice], rounds: int = 1, training: str = "") -> None:
        text = f"name: t\ntraining: {{rounds: {rounds}, {training}}}\nclasses: {{a: {{count: 5, cpus: 1, memory: 1g}}}}"
        self.clock, self.said = ManualClock(1000.0), list[str]()
        self.history = History(directory / "history.db")
        self.history.start_run(run_row("7"))
        fleet = parse_fleet(text.encode())
        strategy = ResourceAware(fleet, 0.1, self.history, "7", self.clock, self.said.append)
        self.result = strategy.start(
            FakeGrid(self.clock, devices), to_record(START), num_rounds=rounds, timeout=60, evaluate_fn=self.judge
        )

    def judge(self, number: int, arrays: ArrayRecord) -> MetricRecord:
        return MetricRecord({"accuracy": 0.9, "loss": 0.1})

    @property
    def model(self) -> list[float]:
        return [float(value) for value in to_arrays(self.result.arrays)["w"]]

    def outcomes(self, number: int) -> dict[str, tuple[Outcome, str]]:
        return {each.device: (each.outcome, each.reason) for n, each in self.history.outcomes("7") if n == number}


def test_updates_are_weighted_by_the_examples_really_processed(tmp_path: Path) -> None:
    run = Run(tmp_path, {1: FakeDevice("a", trains_to(1.0, 300)), 2: FakeDevice("b", trains_to(5.0, 100))})
    assert run.model == pytest.approx([2.0, 2.0, 2.0])
    assert run.outcomes(1) == {"a": (Outcome.FINISHED, ""), "b": (Outcome.FINISHED, "")}


def test_each_device_gets_an_order_of_its_own(tmp_path: Path) -> None:
    devices = {1: FakeDevice("a", trains_to(1.0)), 2: FakeDevice("b", trains_to(1.0))}
    Run(tmp_path, devices)
    first, second = devices[1].trained[0], devices[2].trained[0]
    assert first["seed"] != second["seed"]
    assert first["batch_size"] == second["batch_size"] == 32


def test_a_round_ends_when_all_have_answered_and_not_at_its_deadline(tmp_path: Path) -> None:
    run = Run(tmp_path, {1: FakeDevice("a", trains_to(1.0)), 2: FakeDevice("b", fails_with("crashed: signal 9"))})
    (row,) = run.history.rounds("7")
    assert row.train_s == pytest.approx(1.0, abs=0.2)
    assert row.deadline_s == 120.0


def test_a_round_ends_at_its_quorum(tmp_path: Path) -> None:
    slow = FakeDevice("c", trains_to(9.0), delay_s=lambda number: 50.0 if number else 1.0)
    devices = {1: FakeDevice("a", trains_to(1.0)), 2: FakeDevice("b", trains_to(3.0)), 3: slow}
    run = Run(tmp_path, devices, training="quorum: 0.6, device_evaluation: never")
    assert run.model == pytest.approx([2.0, 2.0, 2.0])
    assert run.history.rounds("7")[0].train_s == pytest.approx(1.0, abs=0.2)
    assert run.outcomes(1)["c"][0] is Outcome.LATE


def test_a_silent_device_costs_the_deadline_and_its_own_share_alone(tmp_path: Path) -> None:
    silent = FakeDevice("b", trains_to(9.0), delay_s=lambda number: None if number else 1.0)
    devices = {1: FakeDevice("a", trains_to(1.0)), 2: silent}
    run = Run(tmp_path, devices, rounds=2, training="deadline: 10s, device_evaluation: never")
    assert run.model == pytest.approx([1.0, 1.0, 1.0])
    first, second = run.history.rounds("7")
    assert first.train_s == pytest.approx(10.0, abs=0.6)
    assert second.selected == 1
    assert run.history.decisions("7", 2)["b"] == (False, "still at work on round 1")


def test_a_late_reply_is_counted_when_it_comes(tmp_path: Path) -> None:
    late = FakeDevice("b", trains_to(9.0), delay_s=lambda number: 15.0 if number == 1 else 1.0)
    steady = FakeDevice("a", trains_to(1.0), delay_s=lambda number: 8.0 if number else 1.0)
    run = Run(tmp_path, {1: steady, 2: late}, rounds=3, training="deadline: 10s, device_evaluation: never")
    outcome, reason = run.outcomes(1)["b"]
    assert outcome is Outcome.LATE
    assert reason.startswith("arrived")
    assert run.outcomes(3)["b"] == (Outcome.FINISHED, "")


def test_a_kill_for_memory_is_stored_at_once_and_halves_the_next_batch(tmp_path: Path) -> None:
    device = FakeDevice("b", fails_with("out_of_memory: ClientApp killed at the memory limit of 320 MiB"))
    slow = FakeDevice("a", trains_to(1.0), delay_s=lambda number: 30.0 if number else 1.0)
    run = Run(tmp_path, {1: slow, 2: device}, rounds=2, training="device_evaluation: never")
    known = {n: each for n, each in run.history.outcomes("7") if each.device == "b"}
    assert known[1].outcome is Outcome.OUT_OF_MEMORY
    assert known[1].known_s - run.history.rounds("7")[0].started_s < 2
    assert [order["batch_size"] for order in device.trained] == [32, 16]


def test_an_update_with_a_hole_is_refused_and_the_rest_counts(tmp_path: Path) -> None:
    def hole(message: Message) -> RecordDict:
        arrays = to_record({"w": np.array([1.0, np.nan, 1.0], np.float32)})
        return RecordDict({"arrays": arrays, "report": MetricRecord({"num-examples": 10})})

    run = Run(tmp_path, {1: FakeDevice("a", trains_to(1.0)), 2: FakeDevice("b", hole)})
    assert run.model == pytest.approx([1.0, 1.0, 1.0])
    assert run.outcomes(1)["b"] == (Outcome.REFUSED, "array 'w' holds values that are not finite")


def test_a_round_without_any_update_keeps_the_model(tmp_path: Path) -> None:
    run = Run(tmp_path, {1: FakeDevice("a", fails_with("node is gone", ErrorCode.NODE_UNAVAILABLE))})
    assert run.model == [0.0, 0.0, 0.0]
    assert run.outcomes(1)["a"][0] is Outcome.UNREACHABLE


def test_a_device_made_anew_takes_part_under_its_name(tmp_path: Path) -> None:
    """Its first container goes in round 1; another one with the same name is there from round 2 on."""
    old = FakeDevice("b", trains_to(9.0), delay_s=lambda number: None if number else 1.0)
    new = FakeDevice("b", trains_to(3.0), online=False)

    def leave(message: Message) -> RecordDict:
        old.online, new.online = False, True
        return trains_to(1.0)(message)

    devices = {1: FakeDevice("a", leave), 2: old, 3: new}
    run = Run(tmp_path, devices, rounds=2, training="deadline: 5s, device_evaluation: never")
    assert run.outcomes(1)["b"] == (Outcome.UNREACHABLE, "its container was made anew")
    assert run.outcomes(2)["b"] == (Outcome.FINISHED, "")
    assert run.model == pytest.approx([2.0, 2.0, 2.0])


def test_devices_judge_the_final_model(tmp_path: Path) -> None:
    run = Run(tmp_path, {1: FakeDevice("a", trains_to(1.0)), 2: FakeDevice("b", trains_to(1.0))}, rounds=2)
    assert run.history.device_accuracy("7") == {"a": 0.5, "b": 0.5}
    assert set(run.result.evaluate_metrics_clientapp) == {2}


def test_a_round_waits_for_a_device_that_can_be_asked(tmp_path: Path) -> None:
    busy = FakeDevice("a", trains_to(1.0), delay_s=lambda number: 30.0 if number == 1 else 1.0)
    run = Run(tmp_path, {1: busy}, rounds=2, training="deadline: 5s, device_evaluation: never")
    first, second = run.history.rounds("7")
    assert second.started_s - first.started_s == pytest.approx(30.0, abs=2.0)
    assert run.outcomes(2) == {"a": (Outcome.FINISHED, "")}


def test_a_run_whose_devices_have_all_gone_fails_with_advice(tmp_path: Path) -> None:
    gone = FakeDevice("a", trains_to(1.0), delay_s=lambda number: None if number else 1.0)
    with pytest.raises(RunFailed, match="no device could be asked for 60 s"):
        Run(tmp_path, {1: gone}, rounds=2, training="deadline: 5s, device_evaluation: never")


def test_a_run_without_devices_fails_with_advice(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match=r"no device answered within 60 s; see the devices' logs"):
        Run(tmp_path, {})
