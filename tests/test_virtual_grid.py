"""Messages on virtual time: each reply at the moment that the device's model gives, whoever does the work when."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from factories import MIB, fleet, task_figures
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from flwr.common.constant import ErrorCode
from flwr.supercore.task_identity import TaskIdentity

from motley.clock import Clock
from motley.knowledge import TaskFigures
from motley.messages import to_arrays, to_record
from motley.simulation.availability import Availability
from motley.simulation.clock import VirtualClock
from motley.simulation.device import VirtualDevice
from motley.simulation.engine import GroupedEngine
from motley.simulation.grid import DETECTION_S, VirtualGrid
from motley.spec import MEMORY_FLOOR_BYTES
from motley.training import model
from motley.training.data import Examples
from motley.training.trainer import Trainer

SEED = 3
STEADY = {"memory": "1g", "compute_variation": 0.0}
ORDER: dict[str, Any] = {
    "task": "digits",
    "batch_size": 50,
    "physical_batch": 0,
    "learning_rate": 0.1,
    "steps": 20,
    "stop_after_s": 0.0,
    "proximal": 0.0,
    "width": 1.0,
    "compression": "none",
    "seed": 5,
}
"""A thousand examples of a millisecond: a second on one core."""


@pytest.fixture(autouse=True)
def identity(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_run_id", "_task_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


class FakeEngine:
    """Says what it was asked to do, and when."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.calls: list[tuple[float, list[int]]] = []
        self.steps: list[int] = []

    def run(self, messages: Sequence[Message]) -> list[Message]:
        self.calls.append((self.clock.now_s(), [each.metadata.dst_node_id for each in messages]))
        return [self._reply(each) for each in messages]

    def _reply(self, message: Message) -> Message:
        if message.metadata.message_type == "train":
            self.steps.append(int(message.content.config_records["order"]["steps"]))  # type: ignore[arg-type]
        report = MetricRecord({"num-examples": 1000, "wall_s": 99.0})
        return Message(RecordDict({"report": report}), reply_to=message)


class Bench:
    """A grid over devices of these classes, each class with one device unless it says otherwise."""

    def __init__(self, *classes: dict[str, Any], task: TaskFigures | None = None) -> None:
        named = {f"c-{index}": {**STEADY, **each} for index, each in enumerate(classes)}
        self.clock, figures = VirtualClock(), task or task_figures()
        self.engine = FakeEngine(self.clock)
        self.devices = [VirtualDevice(each, 300, figures, SEED) for each in fleet(classes=named).devices()]
        self.grid = VirtualGrid(self.devices, self.engine, self.clock, figures, "digits", SEED)

    def send(self, node: int, kind: str = "train", **order: Any) -> str:
        return self.send_all([message(node, kind, **order)])[0]

    def send_all(self, messages: Sequence[Message]) -> list[str]:
        return list(self.grid.push_messages(messages))

    def arrivals(self, ids: Sequence[str]) -> Iterator[tuple[float, str, Message]]:
        """Wait for all replies; each with its time and the message that it answers."""
        left = set(ids)
        while left:
            self.clock.wait(1e9, 0.0)
            for reply in self.grid.pull_messages(left):
                left.discard(reply.metadata.reply_to_message_id)
                yield self.clock.now_s(), reply.metadata.reply_to_message_id, reply


def message(node: int, kind: str = "train", weights: dict[str, Any] | None = None, **order: Any) -> Message:
    content = RecordDict({"order": ConfigRecord({**ORDER, **order})})
    if weights is not None:
        content["arrays"] = to_record(weights)
    return Message(content, node, kind, ttl=1e9, group_id="1")


def test_each_reply_comes_when_its_device_is_done() -> None:
    bench = Bench({"cpus": 0.5}, {"cpus": 2.0}, {"cpus": 1.0})
    ids = [bench.send(node) for node in (1, 2, 3)]
    assert list(bench.grid.pull_messages(ids)) == []
    found = [(at_s, id_) for at_s, id_, _ in bench.arrivals(ids)]
    assert found == [(0.5, ids[1]), (1.0, ids[2]), (2.0, ids[0])]


def test_replies_that_are_due_are_read_in_order_of_time_and_of_sending() -> None:
    bench = Bench({"cpus": 0.5}, {"cpus": 1.0}, {"cpus": 1.0})
    ids = bench.send_all([message(1), message(3), message(2)])
    bench.clock.sleep(10)
    read = [each.metadata.reply_to_message_id for each in bench.grid.pull_messages(sorted(ids))]
    assert read == [ids[1], ids[2], ids[0]]
    assert list(bench.grid.pull_messages(ids)) == []


def test_work_is_put_off_until_a_reply_is_due_and_then_done_for_all_under_way() -> None:
    bench = Bench({"cpus": 0.5}, {"cpus": 2.0}, {"cpus": 1.0})
    ids = bench.send_all([message(node) for node in (1, 2, 3)])
    list(bench.arrivals(ids))
    assert bench.engine.calls == [(0.5, [1, 2, 3])]


def test_the_report_holds_what_the_device_would_have_measured() -> None:
    bench = Bench(
        {"cpus": 0.5, "power": {"idle": "1w", "busy": "9w"}, "battery": {"capacity": "1wh", "level": 0.9}},
        {"cpus": 0.5},
    )
    one, other = (
        reply.content.metric_records["report"] for _, _, reply in bench.arrivals([bench.send(1), bench.send(2)])
    )
    assert (one["wall_s"], one["cpu_s"], one["num-examples"]) == (2.0, 1.0, 1000)
    assert one["energy_wh"] == pytest.approx(9 * 2 / 3600)
    assert one["battery_level"] == pytest.approx(0.9 - 9 * 2 / 3600)
    assert one["peak_memory_bytes"] == MEMORY_FLOOR_BYTES + 4 * 10**6
    assert other["battery_level"] == -1.0


def test_a_query_is_answered_with_the_profile_as_it_is_then() -> None:
    bench = Bench({"cpus": 1.0, "network": {"latency": "1s"}, "battery": {"capacity": "1wh"}})
    ((at_s, _, reply),) = bench.arrivals([bench.send(1, "query")])
    assert at_s == 2.0
    profile = reply.content.config_records["profile"]
    assert (profile["device"], profile["examples"]) == ("client-1", 300)
    assert 0.9 < float(profile["battery_level"]) < 1.0  # type: ignore[arg-type]
    assert bench.engine.calls == []


def test_partial_work_is_what_the_client_code_is_asked_for() -> None:
    bench = Bench({"cpus": 1.0}, {"cpus": 0.1})
    found = list(bench.arrivals([bench.send(node, stop_after_s=0.52) for node in (1, 2)]))
    assert bench.engine.steps == [11, 2]
    assert [at_s for at_s, _, _ in found] == [pytest.approx(0.55), pytest.approx(1.0)]


def test_a_compressed_update_takes_less_time_on_its_way() -> None:
    """The way down is free, the way up has 8 kbit/s: a second for a kilobyte."""
    bench = Bench(*({"cpus": 1.0, "network": {"up": "8kbit"}} for _ in range(4)))
    entries = sum(int(np.prod(shape)) for shape in model.shapes_of("digits").values())
    narrow = sum(int(np.prod(shape)) for shape in model.shapes_of("digits", 0.5).values())
    arrays = len(model.shapes_of("digits"))
    orders = ({}, {"compression": "int8"}, {"compression": "topk"}, {"width": 0.5})
    ids = [bench.send(node, **order) for node, order in enumerate(orders, 1)]
    took = {id_: (at_s - 1) * 1000 - 1024 for at_s, id_, _ in bench.arrivals(ids)}
    expected = [4 * entries, entries + 4 * arrays, entries / 8 + 2 * entries / 10 + 4, 4 * narrow]
    assert [took[id_] for id_ in ids] == [pytest.approx(each, abs=3) for each in expected]


def test_an_order_that_does_not_fit_comes_back_as_an_error_and_no_work_is_done() -> None:
    task = task_figures(bytes_per_example=8 * MIB)
    bench = Bench({"cpus": 1.0, "memory": "512m"}, task=task)
    ((at_s, _, reply),) = bench.arrivals([bench.send(1)])
    assert at_s == pytest.approx(0.1)
    assert reply.error.code == ErrorCode.CLIENT_APP_CRASHED
    assert str(reply.error.reason).startswith("out_of_memory: needs ")
    assert bench.engine.calls == []


def test_a_battery_that_runs_down_comes_back_as_an_error() -> None:
    dying = {"capacity": "1wh", "level": 0.205, "floor": 0.2}
    bench = Bench({"cpus": 1.0, "battery": dying, "power": {"idle": "0w", "busy": "36w"}})
    ((at_s, _, reply),) = bench.arrivals([bench.send(1)])
    assert at_s == pytest.approx(0.5)
    assert str(reply.error.reason).startswith("battery_empty: charge fell to 20%")
    assert list(bench.grid.get_node_ids()) == []


PUNCTUAL = {"ready": 0.5, "session": "100s", "spread": 0.0}
"""A hundred seconds there, a hundred away."""


def test_those_who_are_there_can_be_asked() -> None:
    bench = Bench({"cpus": 1.0}, {"cpus": 1.0, "count": 30, "availability": PUNCTUAL})
    model_of_them = Availability([each.spec.availability for each in bench.devices], SEED)
    seen = set[int]()
    for _ in range(5):
        there = [node for node, here in enumerate(model_of_them.at(bench.clock.now_s()).tolist(), 1) if here]
        assert list(bench.grid.get_node_ids()) == there
        assert 1 < len(there) < 31
        seen |= set(there)
        bench.clock.sleep(25.0)
    assert len(seen) == 31


def test_a_device_that_goes_is_missed_after_the_time_that_it_takes_to_notice() -> None:
    bench = Bench({"cpus": 1.0, "count": 10, "availability": PUNCTUAL})
    there = list(bench.grid.get_node_ids())
    model_of_them = Availability([each.spec.availability for each in bench.devices], SEED)
    leaves = {node: model_of_them.leaves_s(node - 1, 0.0) for node in there}
    ids = {bench.send(node, steps=20 * 150): node for node in there}
    for at_s, id_, reply in bench.arrivals(list(ids)):
        assert at_s == pytest.approx(leaves[ids[id_]] + DETECTION_S)
        assert (reply.error.code, reply.error.reason) == (ErrorCode.NODE_UNAVAILABLE, "the device went offline")
    assert bench.engine.calls == []


def test_send_and_receive_lets_virtual_time_pass() -> None:
    bench = Bench({"cpus": 1.0}, {"cpus": 0.1})
    replies = list(bench.grid.send_and_receive([message(1), message(2)]))
    assert (len(replies), bench.clock.now_s()) == (2, 10.0)


def test_send_and_receive_has_only_so_much_patience() -> None:
    bench = Bench({"cpus": 1.0}, {"cpus": 0.1})
    replies = list(bench.grid.send_and_receive([message(1), message(2)], timeout=4.0))
    assert [each.metadata.src_node_id for each in replies] == [1]
    assert bench.clock.now_s() == 4.0


def test_a_clock_jumps_to_the_next_event_or_as_far_as_it_may() -> None:
    clock = VirtualClock(5.0)
    for at_s in (9.0, 7.0, 7.0):
        clock.schedule(at_s)
    moments = []
    for patience_s in (1.0, 10.0, 10.0, 10.0, 0.0, -1.0):
        clock.wait(patience_s, 0.0)
        moments.append(clock.now_s())
    assert moments == [6.0, 7.0, 9.0, 19.0, 19.0, 19.0]


@pytest.fixture(scope="module")
def trainer() -> Iterator[Trainer]:
    with Trainer("digits") as made:
        yield made


def _shard(index: int) -> Examples:
    rng = np.random.default_rng(index)
    count = 60 + 10 * index
    return Examples(rng.random((count, 1, 8, 8), np.float32), rng.integers(0, 10, count).astype(np.int64))


def _read(reply: Message) -> tuple[dict[str, list[float]], dict[str, Any]]:
    update = to_arrays(reply.content.array_records["update"])
    return {name: array.ravel().tolist() for name, array in update.items()}, dict(
        reply.content.metric_records["report"]
    )


def test_training_that_is_put_off_gives_the_same_as_training_at_once(trainer: Trainer) -> None:
    """Three devices of unequal speed: read as they come, all at the end, or worked out one by one at once."""
    weights = model.arrays_of(model.build("digits", 1))
    shards = [_shard(index) for index in range(3)]

    def messages() -> list[Message]:
        return [message(node, weights=weights, seed=node, steps=4 + node) for node in (1, 2, 3)]

    def sent() -> tuple[Bench, list[str]]:
        bench = Bench({"cpus": 0.1}, {"cpus": 1.0}, {"cpus": 0.3})
        bench.grid._engine = GroupedEngine("digits", shards, trainer)
        return bench, bench.send_all(messages())

    bench, ids = sent()
    as_they_come = {id_: _read(reply) for _, id_, reply in bench.arrivals(ids)}
    bench, ids = sent()
    bench.clock.sleep(1000.0)
    at_the_end = {each.metadata.reply_to_message_id: _read(each) for each in bench.grid.pull_messages(ids)}
    assert at_the_end == as_they_come
    for id_, asked in zip(ids, messages(), strict=True):
        update, report = _read(GroupedEngine("digits", shards, trainer).run([asked])[0])
        assert report["num-examples"] == as_they_come[id_][1]["num-examples"]
        for name, values in update.items():
            assert as_they_come[id_][0][name] == pytest.approx(values, rel=1e-4, abs=1e-6)


def test_an_evaluation_is_of_the_device_s_own_examples(trainer: Trainer) -> None:
    bench = Bench({"cpus": 1.0}, {"cpus": 1.0})
    bench.grid._engine = GroupedEngine("digits", [_shard(0), _shard(1)], trainer)
    weights = model.arrays_of(model.build("digits", 1))
    ids = bench.send_all([message(node, "evaluate", weights) for node in (1, 2)])
    reports = [reply.content.metric_records["report"] for _, _, reply in bench.arrivals(ids)]
    assert [each["num-examples"] for each in reports] == [60, 70]
    assert reports[0]["loss"] != reports[1]["loss"]
