"""Whatever becomes of the forked child, there is exactly one reply, and it says what happened."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from flwr.app import Message, Metadata, MetricRecord, RecordDict
from flwr.common.constant import ErrorCode
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto import message_pb2

import client.executor
import client.watch
from client.bridge import CANCEL
from client.executor import Executor
from client.frames import Frames, pack
from client.runtime import Reply, Task, reply_of
from client.watch import IDLE_S, Watch, age_s
from motley.device import REPLY_GRACE_S, DeviceLimits, DeviceStop, Outcome
from motley.limits import Cgroup
from server.orders import TTL_BEYOND_DEADLINE_S

ASKED = Message(
    RecordDict(),
    metadata=Metadata(
        run_id=7,
        message_id="asked",
        src_node_id=1,
        dst_node_id=11,
        reply_to_message_id="",
        group_id="3",
        created_at=time.time(),
        ttl=600.0,
        message_type="train",
        src_task_id=1,
        dst_task_id=2,
    ),
)


class CountingCgroup(Cgroup):
    """A container in which the kernel has killed as often as the test says."""

    def __init__(self, kills: list[int]) -> None:
        self._kills = kills

    def oom_kills(self) -> int | None:
        return self._kills.pop(0)

    def limits(self) -> DeviceLimits:
        return DeviceLimits(cpus=1.0, memory_bytes=320 * 1024**2)


@pytest.fixture
def task() -> Task:
    bare = message_to_proto(ASKED)
    return Task(b"", bare.SerializeToString(), "asked", {})


def answer(
    task: Task, execute: Callable[[Task], Reply], kills: tuple[int, ...] = (0, 0), cancel_after_s: float | None = None
) -> tuple[Reply | None, list[dict[str, Any]]]:
    """Let an executor answer the task; returns its reply and the events that it told."""
    events: list[dict[str, Any]] = []
    ours, theirs = socket.socketpair()
    with ours, theirs:
        if cancel_after_s is not None:
            threading.Timer(cancel_after_s, lambda: ours.sendall(pack([CANCEL]))).start()
        executor = Executor(events.append, execute, CountingCgroup(list(kills)))
        return executor.answer(task, theirs, Frames(theirs)), events


def reason_of(reply: Reply | None) -> str:
    assert reply is not None
    message = message_from_proto(message_pb2.Message.FromString(reply.message))
    assert message.error.code == ErrorCode.CLIENT_APP_CRASHED
    assert message.metadata.reply_to_message_id == "asked"
    return str(message.error.reason)


def kills_itself(task: Task) -> Reply:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


def leaves(task: Task) -> Reply:
    sys.stdout.flush()
    os._exit(3)


def finishes(task: Task) -> Reply:
    done = Message(RecordDict({"report": MetricRecord({"steps": 4})}), reply_to=task.envelope)
    return reply_of(done, figures='{"steps": 4}')


def hangs(task: Task) -> Reply:
    time.sleep(60)
    raise AssertionError("unreachable")


def test_a_reply_comes_back_as_the_child_made_it(task: Task) -> None:
    reply, events = answer(task, finishes)
    assert reply is not None
    assert not reply.failure
    assert [event["event"] for event in events] == ["start", "end"]
    assert events[1]["outcome"] == "finished"
    assert events[1]["figures"] == {"steps": 4}


def test_a_killed_child_is_one_error_reply_at_once(task: Task) -> None:
    started = time.monotonic()
    reply, events = answer(task, kills_itself)
    assert reason_of(reply) == "crashed: ClientApp killed by signal 9"
    assert time.monotonic() - started < 2
    assert events[-1]["outcome"] == "crashed"


def test_a_child_that_leaves_is_one_error_reply(task: Task) -> None:
    reply, _ = answer(task, leaves)
    assert reason_of(reply) == "crashed: ClientApp left with exit code 3"


def test_a_kill_that_the_kernel_counted_is_out_of_memory(task: Task) -> None:
    reply, events = answer(task, kills_itself, kills=(4, 5))
    assert reason_of(reply) == "out_of_memory: ClientApp killed at the memory limit of 320 MiB"
    assert events[-1]["outcome"] == "out_of_memory"


def test_a_task_that_is_taken_back_has_no_reply_and_no_child(task: Task) -> None:
    before = psutil.Process().children()
    reply, events = answer(task, hangs, cancel_after_s=0.1)
    assert reply is None
    assert events[-1]["outcome"] == "abandoned"
    assert psutil.Process().children() == before


@pytest.mark.parametrize("kind", [Outcome.BATTERY_EMPTY, Outcome.TOO_HOT])
def test_a_device_that_stops_says_why_and_what_it_did(task: Task, kind: Outcome) -> None:
    def stops(task: Task) -> Reply:
        raise DeviceStop(kind, "enough for now", {"paused_s": 1.5})

    reply, events = answer(task, stops)
    assert reason_of(reply) == f"{kind.value}: enough for now"
    assert (events[-1]["outcome"], events[-1]["figures"]) == (kind.value, {"paused_s": 1.5})


def test_no_handler_of_exceptions_stands_in_the_way_of_a_stop(task: Task) -> None:
    def handles(task: Task) -> Reply:
        try:
            raise DeviceStop(Outcome.TOO_HOT, "60 °C")
        except Exception:
            return finishes(task)

    assert reason_of(answer(task, handles)[0]) == "too_hot: 60 °C"


def expiring(ttl_s: float) -> Task:
    """A message that has just been sent."""
    bare = message_to_proto(ASKED)
    bare.metadata.ttl, bare.metadata.created_at = ttl_s, time.time()
    return Task(b"", bare.SerializeToString(), "asked", {})


def test_a_child_that_hangs_past_its_deadline_is_killed_and_the_next_one_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client.watch, "IDLE_S", 0.2)
    monkeypatch.setattr(client.watch, "LAST_S", -100.0)
    monkeypatch.setattr(client.executor, "LOOK_S", 0.05)
    before = psutil.Process().children()
    reply, events = answer(expiring(1.0), hangs)
    assert reason_of(reply).startswith("crashed: ClientApp hung: it did nothing for ")
    assert events[-1]["outcome"] == "crashed"
    assert psutil.Process().children() == before
    assert answer(expiring(1.0), finishes)[1][-1]["outcome"] == "finished"


def test_a_child_at_work_when_its_reply_comes_too_late_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    def works(task: Task) -> Reply:
        while True:
            pass

    monkeypatch.setattr(client.watch, "IDLE_S", 60.0)
    monkeypatch.setattr(client.executor, "LOOK_S", 0.05)
    reply, events = answer(expiring(0.4), works)
    assert reason_of(reply).startswith("late: ClientApp was still at work ")
    assert events[-1]["outcome"] == "late"


def test_the_device_and_the_server_agree_on_how_long_a_reply_is_taken() -> None:
    assert REPLY_GRACE_S == TTL_BEYOND_DEADLINE_S


class Process:
    """A process under a made-up /proc, whose main thread runs when the test says so."""

    def __init__(self, proc: Path) -> None:
        self._task = proc / "7" / "task" / "7"
        self._task.mkdir(parents=True)
        self._ticks = self._switches = 0
        self.run(0, 0)

    def run(self, ticks: int, switches: int) -> None:
        self._ticks, self._switches = self._ticks + ticks, self._switches + switches
        (self._task / "stat").write_text(f"7 (a b) S 1 1 1 0 -1 0 0 0 0 0 {self._ticks} 0 0 0 20 0")
        (self._task / "status").write_text(f"Name:\ta\nvoluntary_ctxt_switches:\t{self._switches}\n")


@pytest.mark.parametrize(("ticks", "switches"), [(1, 0), (0, 1)])
def test_only_a_process_that_does_nothing_hangs(tmp_path: Path, ticks: int, switches: int) -> None:
    """A deadline of 30 s. One that computes, or wakes now and then from a pause, may still be of use."""
    process, watch = Process(tmp_path), Watch(7, 30 + REPLY_GRACE_S, 100.0, tmp_path)
    for second in range(40):
        process.run(ticks, switches)
        assert watch.look(100.0 + second) == ""
    said = [watch.look(140.0 + second) for second in range(10)]
    assert said.index(next(filter(None, said))) == IDLE_S - 1
    assert next(filter(None, said)) == (
        "crashed: ClientApp hung: it did nothing for 5 s, 14 s past its deadline of 30 s, and was killed"
    )


def test_a_process_that_hangs_from_the_start_is_given_up_at_its_deadline(tmp_path: Path) -> None:
    Process(tmp_path)
    watch = Watch(7, 30 + REPLY_GRACE_S, 100.0, tmp_path)
    assert [bool(watch.look(100.0 + second)) for second in (1, 10, 29, 30)] == [False, False, False, True]


def test_work_is_given_up_shortly_before_nobody_would_take_its_reply(tmp_path: Path) -> None:
    process, watch = Process(tmp_path), Watch(7, 30 + REPLY_GRACE_S, 100.0, tmp_path)
    said = {}
    for second in range(90):
        process.run(1, 0)
        said[second] = watch.look(100.0 + second)
    assert [second for second, text in said.items() if text] == [87, 88, 89]
    assert said[87] == "late: ClientApp was still at work 57 s past its deadline of 30 s, and was killed"


def test_what_the_kernel_does_not_say_is_not_taken_for_a_hang(tmp_path: Path) -> None:
    watch = Watch(7, 30 + REPLY_GRACE_S, 100.0, tmp_path)
    assert [watch.look(100.0 + second)[:5] for second in (1, 60, 86, 87)] == ["", "", "", "late:"]


@pytest.mark.parametrize(("created_s", "age"), [(95.0, 5.0), (100.0, 0.0), (1e6, 0.0), (0.0, 30.0)])
def test_a_wrong_clock_ages_a_message_by_half_a_minute_at_the_most(created_s: float, age: float) -> None:
    assert age_s(created_s, 100.0) == age
