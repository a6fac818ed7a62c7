"""Whole runs of the strategy on a grid that answers as it is told, on a clock that moves by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from factories import profile, run_row, task_figures
from flwr.app import ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from motley.clock import ManualClock
from motley.device import Outcome, RoundOutcome
from motley.errors import RunFailed
from motley.fleetfile import parse_fleet
from motley.history import History
from motley.messages import to_arrays, to_record
from motley.records import RoundRow
from motley.spec import MEMORY_FLOOR_BYTES
from server.strategy import ResourceAware

START = {"w": np.zeros(3, np.float32)}


def shapes(width: float) -> dict[str, tuple[int, ...]]:
    return {"w": (max(1, int(3 * width)),)}


@pytest.fixture(autouse=True)
def identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flower's ServerApp process knows which run it is of."""
    for name in ("_run_id", "_task_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


@dataclass
class FakeDevice:
    """Answers a message of each kind after `delay_s` of its round, or never where that is None."""

    name: str
    answer: Callable[[Message], RecordDict | Error]
    delay_s: Callable[[int], float | None] = lambda number: 1.0
    evaluates_s: float | None = None
    """How long evaluation takes; as `delay_s` says where None."""
    online: bool = True
    memory_bytes: int = 512 * 2**20
    trained: list[dict[str, Any]] = field(default_factory=list)

    def reply(self, message: Message) -> RecordDict | Error:
        kind = message.metadata.message_type
        if kind == "query":
            return RecordDict(
                {"profile": ConfigRecord(profile(self.name, memory_bytes=self.memory_bytes).as_mapping())}
            )
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
        self.at_work: set[str] = set()
        self.most_at_work = 0
        self.sent_s: list[float] = []
        self.arrived_s: list[float] = []

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
            kind = message.metadata.message_type
            delay = device.delay_s(int(message.metadata.group_id or 0))
            if kind == "evaluate" and device.evaluates_s is not None:
                delay = device.evaluates_s
            if kind == "train":
                self.at_work.add(id_)
                self.sent_s.append(self.clock.now_s())
                self.most_at_work = max(self.most_at_work, len(self.at_work))
            if delay is not None:
                content = device.reply(message)
                reply = Message(content, reply_to=message)
                self._under_way[id_] = (self.clock.now_s() + delay, reply)
            ids.append(id_)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        due = [id_ for id_ in message_ids if id_ in self._under_way and self._under_way[id_][0] <= self.clock.now_s()]
        self.arrived_s += [self.clock.now_s() for id_ in due if id_ in self.at_work]
        self.at_work -= set(due)
        return [self._under_way.pop(id_)[1] for id_ in due]


def trains_to(value: float, examples: int = 100) -> Callable[[Message], RecordDict]:
    """The update that takes the model, as it was sent, to `value`."""

    def answer(message: Message) -> RecordDict:
        sent = to_arrays(message.content.array_records["arrays"])["w"].astype(np.float32)
        update = to_record({"w": np.full(sent.shape, value, np.float32) - sent})
        return RecordDict({"update": update, "report": MetricRecord({"num-examples": examples, "train_loss": 0.5})})

    return answer


def fails_with(reason: str, code: int = ErrorCode.CLIENT_APP_CRASHED) -> Callable[[Message], Error]:
    return lambda message: Error(code, reason)


class Run:
    """A run of the strategy, and what it left."""

    def __init__(self, directory: Path, devices: dict[int, FakeDevice], rounds: int = 1, training: str = "") -> None:
        training = training if "policy:" in training else f"policy: random, {training}"
        text = f"name: t\ntraining: {{rounds: {rounds}, {training}}}\nclasses: {{a: {{count: 5, cpus: 1, memory: 1g}}}}"
        self.clock, self.said = ManualClock(1000.0), list[str]()
        self.watched: list[tuple[RoundRow, Sequence[RoundOutcome]]] = []
        self.history = History(directory / "history.db")
        self.history.start_run(run_row("7"))
        fleet = parse_fleet(text.encode())
        self.grid = FakeGrid(self.clock, devices)
        strategy = ResourceAware(
            fleet, task_figures(), shapes, self.history, "7", self.clock, self.said.append, self.watch
        )
        self.result = strategy.start(self.grid, to_record(START), num_rounds=rounds, timeout=60, evaluate_fn=self.judge)

    def watch(self, row: RoundRow, outcomes: Sequence[RoundOutcome]) -> None:
        self.watched.append((row, outcomes))

    def judge(self, number: int, arrays: ArrayRecord) -> MetricRecord:
        return MetricRecord({"accuracy": 0.9, "loss": 0.1})

    @property
    def model(self) -> list[float]:
        return [float(value) for value in to_arrays(self.result.arrays)["w"]]

    def rows(self, device: str) -> list[tuple[int, RoundOutcome]]:
        """All outcomes of a device, each with its round."""
        return [(number, each) for number, each in self.history.outcomes("7") if each.device == device]

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
    assert run.history.decisions("7", 2)["b"] == (False, "at work on round 1")


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
        return RecordDict({"update": arrays, "report": MetricRecord({"num-examples": 10})})

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


def after(seconds: float) -> Callable[[int], float]:
    """A device that answers a query at once, and everything else after `seconds`."""
    return lambda number: seconds if number else 1.0


OVER_COMMIT = "policy: over_commit, devices_per_round: 2, device_evaluation: never"


def three(slowest_s: float, ends_at: float = 9.0) -> dict[int, FakeDevice]:
    """Two devices that take a second, and one that takes longer."""
    slow = FakeDevice("c", trains_to(ends_at), delay_s=after(slowest_s))
    return {1: FakeDevice("a", trains_to(1.0)), 2: FakeDevice("b", trains_to(3.0)), 3: slow}


def test_over_commit_keeps_the_first_and_counts_the_others_late_and_unused(tmp_path: Path) -> None:
    run = Run(tmp_path, three(8.0), training=OVER_COMMIT)
    assert run.history.rounds("7")[0].selected == 3
    assert run.history.rounds("7")[0].train_s == pytest.approx(1.0, abs=0.2)
    assert run.model == pytest.approx([2.0, 2.0, 2.0])
    ((_, late),) = run.rows("c")
    assert (late.outcome, late.used) == (Outcome.LATE, False)
    assert [each.used for _, each in run.rows("a") + run.rows("b")] == [True, True]


def test_what_was_left_over_never_counts_and_its_reason_is_true(tmp_path: Path) -> None:
    """It comes long before its deadline of two minutes, but after its round."""
    devices = three(4.0)
    devices[1].delay_s = devices[2].delay_s = lambda number: 10.0 if number > 1 else 1.0
    run = Run(tmp_path, devices, rounds=2, training=OVER_COMMIT)
    (number, late), *_ = run.rows("c")
    assert (number, late.outcome, late.used) == (1, Outcome.LATE, False)
    assert late.round_trip_s == pytest.approx(4.0, abs=0.6)
    assert late.reason == "arrived after its round had ended"
    assert run.model == pytest.approx([2.0, 2.0, 2.0])


def test_what_comes_while_devices_evaluate_is_not_taken_for_a_used_update(tmp_path: Path) -> None:
    devices = three(4.0)
    devices[1].evaluates_s = 6.0
    run = Run(tmp_path, devices, training=OVER_COMMIT.replace("never", "every"))
    ((_, late),) = run.rows("c")
    assert (late.outcome, late.used) == (Outcome.LATE, False)
    assert run.model == pytest.approx([2.0, 2.0, 2.0])
    assert sorted(each.device for each in run.watched[0][1] if each.used) == ["a", "b"]


REFL = "policy: refl, devices_per_round: 2, deadline: 30s, device_evaluation: never"
STALE_WEIGHT = 0.65 / 2 + 0.35 * (1 - 1 / 10)
"""REFL's, one version late and with nothing to compare it with."""


def quiet_then_slow() -> dict[int, FakeDevice]:
    """Two devices that leave the model as it is, and one whose first update comes 4 s into the second round."""
    calm = {"delay_s": lambda number: 10.0 if number > 1 else 1.0}
    late = FakeDevice("c", trains_to(6.0), delay_s=after(5.0))
    return {1: FakeDevice("a", trains_to(0.0), **calm), 2: FakeDevice("b", trains_to(0.0), **calm), 3: late}


def test_refl_uses_a_late_update_with_its_staleness(tmp_path: Path) -> None:
    run = Run(tmp_path, quiet_then_slow(), rounds=2, training=REFL)
    (number, late), *_ = run.rows("c")
    assert (number, late.outcome, late.used, late.staleness) == (1, Outcome.LATE, True, 1)
    assert run.history.rounds("7")[1].selected == 2
    assert run.model == pytest.approx([6.0 * STALE_WEIGHT / (2 + STALE_WEIGHT)] * 3)


def test_a_late_update_that_comes_while_devices_evaluate_counts_in_the_next_round(tmp_path: Path) -> None:
    devices = quiet_then_slow()
    devices[1].evaluates_s = 8.0
    run = Run(tmp_path, devices, rounds=2, training=REFL.replace("never", "every"))
    (number, late), *_ = run.rows("c")
    assert (number, late.outcome, late.used, late.staleness) == (1, Outcome.LATE, True, 1)
    assert run.history.rounds("7")[0].accuracy is not None
    assert max(run.model) > 0


def test_a_late_update_that_comes_while_nobody_can_be_asked_counts_in_the_next_round(tmp_path: Path) -> None:
    alone = FakeDevice("a", trains_to(6.0), delay_s=lambda number: (1.0, 30.0, None)[number])
    training = "policy: refl, deadline: 5s, device_evaluation: never"
    run = Run(tmp_path, {1: alone}, rounds=2, training=training)
    assert [(number, each.outcome, each.used, each.staleness) for number, each in run.rows("a")] == [
        (1, Outcome.LATE, True, 1),
        (2, Outcome.LATE, False, 0),
    ]
    assert run.model == pytest.approx([6.0, 6.0, 6.0])


def buffered(buffer: int, at_work: int, more: str = "") -> str:
    return (
        f"policy: fedbuff, options: {{buffer: {buffer}}}, devices_per_round: {at_work}, device_evaluation: never{more}"
    )


def five(*seconds: float | None) -> dict[int, FakeDevice]:
    """Devices that answer after so many seconds each."""
    return {
        node: FakeDevice(
            f"client-{node}", trains_to(1.0), delay_s=after(each) if each else lambda n: None if n else 1.0
        )
        for node, each in enumerate(seconds, 1)
    }


def test_buffered_pacing_keeps_just_so_many_at_work(tmp_path: Path) -> None:
    run = Run(tmp_path, five(2.0, 3.0, 5.0, 7.0, 11.0), rounds=5, training=buffered(2, 3))
    assert run.grid.most_at_work == 3
    assert len(run.grid.sent_s) >= 10


def test_each_arrival_is_followed_by_a_new_order_at_once(tmp_path: Path) -> None:
    run = Run(tmp_path, five(2.0, 3.0, 5.0, 7.0, 11.0), rounds=5, training=buffered(2, 3))
    followed = run.grid.arrived_s[: len(run.grid.sent_s) - 3]
    assert len(followed) >= 7
    assert run.grid.sent_s[3:] == followed


def test_every_buffer_makes_a_round_and_every_update_counts_once(tmp_path: Path) -> None:
    run = Run(tmp_path, five(2.0, 3.0, 5.0, 7.0, 11.0), rounds=5, training=buffered(2, 3))
    used = [each for _, each in run.history.outcomes("7") if each.used]
    counts = [sum(each.used for each in outcomes) for _, outcomes in run.watched]
    assert len(counts) == 5
    assert min(counts) >= 2
    assert len(used) == sum(counts)
    assert len({each.staleness for each in used}) > 1
    assert {each.outcome for each in used} == {Outcome.FINISHED}


def test_buffered_updates_are_damped_by_their_staleness(tmp_path: Path) -> None:
    """Of three at work two make the first round; the third starts from its model and comes a round late."""
    devices = five(1.0, 1.0, 1.5)
    devices[2].delay_s = lambda number: 60.0 if number > 1 else 1.0
    for node, value in ((1, 0.0), (2, 0.0), (3, 4.0)):
        devices[node].answer = trains_to(value)
    run = Run(tmp_path, devices, rounds=2, training=buffered(2, 3))
    (number, third), *_ = run.rows("client-3")
    assert (number, third.staleness) == (1, 1)
    assert run.model == pytest.approx([4.0 / 2**0.5 / 2] * 3)


def test_one_device_may_have_several_orders_in_a_round(tmp_path: Path) -> None:
    run = Run(tmp_path, five(2.0), rounds=2, training=buffered(3, 1))
    assert [(number, each.attempt) for number, each in run.rows("client-1")] == [
        *((1, 0), (1, 1), (1, 2)),
        *((2, 0), (2, 1), (2, 2)),
    ]
    seeds = [each["seed"] for each in run.grid.devices[1].trained]
    assert len(set(seeds)) == len(seeds) == 6
    assert [row.selected for row in run.history.rounds("7")] == [3, 3]


def test_an_overdue_order_frees_its_place_and_its_update_is_used_all_the_same(tmp_path: Path) -> None:
    run = Run(tmp_path, five(400.0, 20.0, 20.0), rounds=30, training=buffered(2, 2))
    assert run.grid.most_at_work == 3
    (_, late), *_ = run.rows("client-1")
    assert (late.outcome, late.used) == (Outcome.LATE, True)
    assert late.staleness > 0
    assert late.reason.startswith("arrived")
    noted = [each for _, outcomes in run.watched for each in outcomes if each.device == "client-1" and not each.used]
    assert noted[0].reason.startswith("no reply within")
    assert 120.0 <= noted[0].round_trip_s < late.round_trip_s
    assert late.round_trip_s == pytest.approx(400.0, abs=0.6)


def test_a_silent_device_holds_up_nobody(tmp_path: Path) -> None:
    run = Run(tmp_path, five(None, 2.0, 3.0), rounds=60, training=buffered(2, 2))
    assert [(each.outcome, each.used) for _, each in run.rows("client-1")] == [(Outcome.LATE, False)]
    assert len(run.history.rounds("7")) == 60


def test_a_buffered_update_that_comes_while_devices_evaluate_counts_in_the_next_round(tmp_path: Path) -> None:
    devices = five(2.0, 3.0, 4.0)
    for each in devices.values():
        each.evaluates_s = 5.0
    run = Run(tmp_path, devices, rounds=3, training=buffered(1, 3).replace("never", "every"))
    used = [(number, each.device, each.attempt) for number, each in run.history.outcomes("7") if each.used]
    assert sum(each.used for _, outcomes in run.watched for each in outcomes) == len(used) >= 4
    assert run.rows("client-3")[0][1].staleness == 1


def test_a_failure_frees_its_place_too(tmp_path: Path) -> None:
    devices = five(2.0, 3.0, 4.0)
    devices[3].answer = fails_with("crashed: signal 9")
    run = Run(tmp_path, devices, rounds=4, training=buffered(2, 3))
    assert {each.outcome for _, each in run.rows("client-3")} == {Outcome.CRASHED}
    assert len(run.rows("client-3")) > 1
    assert run.grid.sent_s[3:] == run.grid.arrived_s[: len(run.grid.sent_s) - 3]


@pytest.mark.parametrize(("policy", "judges"), [("random", 1), ("fedbuff", 3)])
def test_the_run_ends_with_its_time(tmp_path: Path, policy: str, judges: int) -> None:
    """In rounds, whoever is at work at the end is late; where places are refilled, the model waits for them."""
    training = f"policy: {policy}, max_time: 10s, devices_per_round: 2, device_evaluation: last"
    run = Run(tmp_path, five(4.0, 4.0, 4.0), rounds=100, training=training)
    ended_s = run.clock.now_s() - run.history.rounds("7")[0].started_s
    assert 10.0 <= ended_s < 16.0
    assert len(run.history.rounds("7")) < 100
    assert list(run.history.device_accuracy("7").values()) == [0.5] * judges


def test_an_order_still_under_way_when_the_time_is_up_is_late(tmp_path: Path) -> None:
    run = Run(tmp_path, five(4.0, 30.0), rounds=9, training="max_time: 10s, device_evaluation: never")
    assert run.outcomes(1)["client-2"] == (Outcome.LATE, "no reply within 10.0 s")
    assert len(run.history.rounds("7")) == 1


def test_a_round_does_not_wait_for_a_container_that_was_made_anew(tmp_path: Path) -> None:
    """The new one gives its profile 70 s after the start, in the round that the old one holds up."""
    old = FakeDevice("b", trains_to(9.0), delay_s=lambda number: None if number else 1.0)
    new = FakeDevice("b", trains_to(3.0), delay_s=lambda number: 1.0 if number else 70.0)
    devices = {1: FakeDevice("a", trains_to(1.0)), 2: old, 3: new}
    run = Run(tmp_path, devices, training="deadline: 30s, device_evaluation: never")
    (row,) = run.history.rounds("7")
    assert row.started_s + (row.train_s or 0.0) == pytest.approx(1070.0, abs=1.0)
    assert run.outcomes(1)["b"] == (Outcome.UNREACHABLE, "its container was made anew")


def test_an_order_says_all_that_the_device_must_know(tmp_path: Path) -> None:
    training = "policy: fedprox, options: {mu: 0.5}, deadline: 30s, compression: int8, device_evaluation: never"
    device = FakeDevice("a", trains_to(1.0))
    Run(tmp_path, {1: device}, training=training)
    (order,) = device.trained
    assert (order["task"], order["proximal"], order["compression"], order["width"]) == ("digits", 0.5, "int8", 1.0)
    assert order["steps"] == 13
    assert 0 < order["stop_after_s"] < 30


def test_a_device_without_room_gets_the_leading_part_of_the_model(tmp_path: Path) -> None:
    """The floor, and four copies of a megabyte times the square of the width."""
    small = FakeDevice("a", trains_to(6.0), memory_bytes=MEMORY_FLOOR_BYTES + 10**6)
    large = FakeDevice("b", trains_to(2.0))
    run = Run(tmp_path, {1: small, 2: large}, training="policy: heterofl, device_evaluation: never")
    assert (small.trained[0]["width"], large.trained[0]["width"]) == (0.5, 1.0)
    assert run.model == pytest.approx([4.0, 2.0, 2.0])


def test_batteries_are_learned_from_replies(tmp_path: Path) -> None:
    def drained(message: Message) -> RecordDict:
        reply = trains_to(1.0)(message)
        reply.metric_records["report"].update({"battery_level": 0.1, "charging": 0})
        return reply

    devices = {1: FakeDevice("a", drained), 2: FakeDevice("b", trains_to(1.0))}
    run = Run(tmp_path, devices, rounds=3, training="policy: energy_aware, device_evaluation: never")
    assert sorted({number for number, _ in run.rows("a")}) == [1]
    assert sorted({number for number, _ in run.rows("b")}) == [1, 2, 3]


class Tired(FakeDevice):
    """Its battery is empty in the first round, and charged when it is asked for the third time what it has."""

    asked = 0

    def reply(self, message: Message) -> RecordDict | Error:
        if message.metadata.message_type == "query":
            self.asked += 1
            facts = profile(self.name, resting=1 < self.asked < 3)
            return RecordDict({"profile": ConfigRecord(facts.as_mapping())})
        return super().reply(message)


def test_a_device_that_rests_is_asked_for_its_profile_now_and_then_and_for_work_when_it_can(tmp_path: Path) -> None:
    """Rounds take 20 s: it is asked before rounds 3 and 5."""

    def answers(message: Message) -> RecordDict | Error:
        return (trains_to(1.0) if len(tired.trained) > 1 else fails_with("battery_empty: at its floor"))(message)

    tired = Tired("a", answers)
    slow = FakeDevice("b", trains_to(1.0), delay_s=lambda number: 20.0 if number else 1.0)
    run = Run(tmp_path, {1: tired, 2: slow}, rounds=6)
    assert [(number, each.outcome) for number, each in run.rows("a")] == [
        (1, Outcome.BATTERY_EMPTY),
        *((number, Outcome.FINISHED) for number in (5, 6)),
    ]
    assert tired.asked == 3
    assert run.history.decisions("7", 2)["a"] == (False, "too hot, or without charge")
    assert sorted({number for number, _ in run.rows("b")}) == [1, 2, 3, 4, 5, 6]


def test_where_the_only_device_rests_the_run_waits_for_it(tmp_path: Path) -> None:
    def answers(message: Message) -> RecordDict | Error:
        return (trains_to(1.0) if len(tired.trained) > 1 else fails_with("too_hot: 60 °C"))(message)

    tired = Tired("a", answers)
    run = Run(tmp_path, {1: tired}, rounds=3)
    assert [each.outcome for _, each in run.rows("a")] == [Outcome.TOO_HOT, Outcome.FINISHED, Outcome.FINISHED]
    assert any("every device is busy, away or resting" in line for line in run.said)


def test_each_round_is_shown_with_what_it_brought(tmp_path: Path) -> None:
    run = Run(tmp_path, {1: FakeDevice("a", trains_to(1.0)), 2: FakeDevice("b", fails_with("crashed: x"))}, rounds=2)
    assert [row for row, _ in run.watched] == run.history.rounds("7")
    assert [{each.device: each.outcome for each in outcomes} for _, outcomes in run.watched] == [
        {"a": Outcome.FINISHED, "b": Outcome.CRASHED}
    ] * 2
