"""A server with several lives, for tests: run it on a fake grid, kill it at any step, let it go on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from factories import run_row, task_figures
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from test_strategy import FakeDevice, FakeGrid, shapes

from motley import checkpoint, history
from motley.checkpoint import checkpoint_of
from motley.clock import ManualClock
from motley.fleetfile import parse_fleet
from motley.history import History
from motley.messages import to_arrays, to_record
from motley.records import RunRecord
from motley.resuming import HISTORY
from motley.spec import Fleet
from server import resuming as going_on
from server.resuming import RoundKeeper, begin
from server.strategy import ResourceAware

ROUNDS = 3
IN_ROUNDS = "policy: random, deadline: 20s, device_evaluation: never"
BUFFERED = "policy: fedbuff, options: {buffer: 2}, devices_per_round: 3, device_evaluation: never"
_WRITES = (
    "start_run",
    "end_run",
    "rewind",
    "set_phase",
    "see_device",
    "start_round",
    "put_plan",
    "put_outcome",
    "end_round",
)


def fleet_of(training: str = IN_ROUNDS, rounds: int = ROUNDS) -> Fleet:
    text = f"name: t\ntraining: {{rounds: {rounds}, {training}}}\nclasses: {{a: {{count: 3, cpus: 1, memory: 1g}}}}"
    return parse_fleet(text.encode())


def learns(message: Message) -> RecordDict:
    """An update that depends on the model and on the order, and on nothing else."""
    sent = to_arrays(message.content.array_records["arrays"])["w"].astype(np.float32)
    seed = int(message.content.config_records["order"]["seed"])  # type: ignore[arg-type]
    update = np.float32(0.1) * np.random.default_rng(seed).standard_normal(sent.shape).astype(np.float32) - sent / 3
    return RecordDict({"update": to_record({"w": update}), "report": MetricRecord({"num-examples": 100})})


def devices(first_node: int = 1, seconds: tuple[float, ...] = (1.0, 1.5, 2.5)) -> dict[int, FakeDevice]:
    """Three devices that answer after so many seconds each."""
    return {
        first_node + index: FakeDevice(f"client-{index}", learns, lambda number, each=each: each if number else 0.5)
        for index, each in enumerate(seconds)
    }


class Killed(BaseException):
    """The process has ended."""


class Killer:
    """Ends the process at its step `at`; what it does after that has no effect."""

    def __init__(self, at: int | None = None, end: Callable[[], None] | None = None) -> None:
        self._at, self._end = at, end
        self.steps = 0
        self.dead = False

    def step(self) -> None:
        self.steps += not self.dead
        if self.steps == self._at and not self.dead:
            if self._end is not None:
                self._end()
            self.dead = True
        if self.dead:
            raise Killed

    def around(self, write: Callable[..., Any]) -> Callable[..., Any]:
        def writes(*arguments: Any, **named: Any) -> Any:
            self.step()
            result = write(*arguments, **named)
            self.step()
            return result

        return writes

    def within(self, save: Callable[..., None]) -> Callable[..., None]:
        """Writing a file of arrays, which may end half way."""

        def saves(tensors: Any, path: Path) -> None:
            self.step()
            save(tensors, path)
            whole = path.read_bytes()
            path.write_bytes(whole[: len(whole) // 2])
            self.step()
            path.write_bytes(whole)

        return saves


class AtOnce:
    """An executor for tests: what is to be done beside is done now, or never."""

    def __init__(self, is_done: bool) -> None:
        self._is_done = is_done

    def __call__(self, *_: Any) -> AtOnce:
        return self

    def submit(self, function: Callable[..., None], *arguments: Any) -> Future[None]:
        future = Future[None]()
        if self._is_done:
            function(*arguments)
        future.set_result(None)
        return future


@contextmanager
def killed_by(killer: Killer, settles: bool = True) -> Iterator[None]:
    """Everything that a server writes counts as a step of `killer`."""
    with pytest.MonkeyPatch.context() as patch:
        for name in _WRITES:
            patch.setattr(History, name, killer.around(getattr(History, name)))
        patch.setattr(checkpoint, "save_file", killer.within(checkpoint.save_file))
        for owner, name in ((Path, "mkdir"), (Path, "write_text"), (Path, "rename"), (shutil, "rmtree")):
            patch.setattr(owner, name, killer.around(getattr(owner, name)))
        patch.setattr(checkpoint, "synchronize", killer.around(checkpoint.synchronize))
        patch.setattr(os, "fsync", lambda descriptor: None)
        patch.setattr(history, "put", killer.around(history.put))
        patch.setattr(going_on, "ThreadPoolExecutor", AtOnce(settles))
        yield


@dataclass
class Server:
    """A server's state directory, and the lives that it has had."""

    state: Path
    fleet: Fleet = field(default_factory=fleet_of)
    clock: ManualClock = field(default_factory=lambda: ManualClock(1000.0))
    lives: int = 0
    said: list[str] = field(default_factory=list)
    model: Any = None

    def live(self, there: dict[int, FakeDevice] | None = None) -> None:
        """One Flower run, as the ServerApp does it."""
        self.lives += 1
        self.state.mkdir(parents=True, exist_ok=True)
        with closing(History(self.state / HISTORY)) as history:
            rounds, spec = self.fleet.training.rounds, self.fleet.model_dump_json()
            new = run_row(f"flower-{self.lives}", started_s=self.clock.now_s(), rounds=rounds, spec=spec)
            beginning = begin(self.state, history, self.fleet, new, self.said.append)
            keeper = RoundKeeper(self.state, self.fleet, beginning.run_id, self.clock)
            strategy = ResourceAware(
                self.fleet,
                task_figures(),
                shapes,
                history,
                beginning.run_id,
                self.clock,
                self.said.append,
                None,
                beginning.saved,
                keeper,
            )
            start, judge = to_record({"w": np.zeros(3, np.float32)}), self._judge
            grid = FakeGrid(self.clock, there or devices())
            result = strategy.start(grid, start, num_rounds=rounds, timeout=60, evaluate_fn=judge)
            self.model = to_arrays(result.arrays)["w"]
            history.end_run(beginning.run_id, "completed", self.clock.now_s())

    def is_killed_at(self, step: int | None, there: dict[int, FakeDevice] | None = None, settles: bool = True) -> int:
        """A life that ends at a step, or with the run; returns how many steps it had."""
        killer = Killer(step)
        try:
            with killed_by(killer, settles):
                self.live(there)
        except Killed:
            assert killer.dead
            self.clock.sleep(30.0)
        return killer.steps

    def is_done(self) -> bool:
        run = self.record()
        return run is not None and run.run.status == "completed"

    def record(self) -> RunRecord | None:
        if not (self.state / HISTORY).exists():
            return None
        with closing(History(self.state / HISTORY)) as history:
            run = history.latest_run()
            return history.record(run.run_id) if run else None

    def ended(self) -> int:
        """How many rounds history holds that have ended."""
        record = self.record()
        return sum(row.duration_s is not None for row in record.rounds) if record else 0

    def kept(self) -> dict[str, Any]:
        """The state that the next life would go on from."""
        with closing(History(self.state / HISTORY)) as history:
            run = history.latest_run()
            assert run is not None
            return dict(checkpoint_of(self.state, history, run, self.fleet).state)

    def goes_on_after(self) -> int | None:
        """The round after which the last life went on, as it said."""
        after = [line.rpartition(" ")[2] for line in self.said if "goes on after" in line]
        return int(after[-1]) if after else None

    def _judge(self, number: int, arrays: ArrayRecord) -> MetricRecord:
        return MetricRecord({"accuracy": 0.5, "loss": float(np.abs(to_arrays(arrays)["w"]).sum())})


def dies_in(number: int, answer: Callable[[Message], Any]) -> Callable[[Message], Any]:
    def answers(message: Message) -> Any:
        if message.metadata.group_id == str(number):
            raise Killed
        return answer(message)

    return answers


def killed(path: Path, fleet: Fleet | None = None) -> Server:
    """A server that was killed in its second round."""
    server = Server(path, fleet or fleet_of())
    there = devices()
    there[1].answer = dies_in(2, learns)
    with pytest.raises(Killed):
        server.live(there)
    server.clock.sleep(30.0)
    return server


def killed_before_the_disk_had_it(path: Path) -> Server:
    """A server that was killed in its third round, with all its checkpoints still there."""
    server, there = Server(path), devices()
    there[1].answer = dies_in(3, learns)
    with pytest.raises(Killed), killed_by(Killer(), settles=False):
        server.live(there)
    return server


def buffered(path: Path, rounds: int = 6) -> Server:
    """A server that was killed in its last round, with orders under way whenever a round ends."""
    server = Server(path, fleet_of(BUFFERED, rounds))
    there = devices(seconds=(1.0, 2.0, 7.0))
    there[1].answer = there[2].answer = dies_in(rounds, learns)
    with pytest.raises(Killed):
        server.live(there)
    return server
