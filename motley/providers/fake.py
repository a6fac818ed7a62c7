"""A provider of machines that do not exist, on a clock that is handed in: for tests and rehearsals.

Choose it to see what a launcher, a budget or a scaling loop does over hours and through failures, in
milliseconds. `FakeCloud` is the other end: it keeps its machines in a file, so that several processes may
share it, and one that was killed leaves there what it had asked for.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from motley.clock import Clock, SystemClock
from motley.database import connect, put, transaction
from motley.errors import InputError, did_you_mean
from motley.providers import check_options
from motley.providers.base import Launch, Machine, Needs, ProviderError, Quote, State, Unavailable

GIB = 1024**3
OPTIONS = frozenset({"file", "start_up_s", "capacity", "interrupt_after_s", "fail_at", "failure"})
STEPS = ("create", "start")
"""Of a launch; `list` and `remove` are requests, too."""
REQUESTS = (*STEPS, "list", "remove")

OFFERS: Sequence[Quote] = tuple(
    Quote("fake", kind, "nowhere", cpus, memory * GIB, round(usd * factor, 4), spot, accelerators, accelerators * GIB)
    for kind, cpus, memory, usd, accelerators in (
        ("small", 2.0, 4, 0.04, 0),
        ("large", 8.0, 16, 0.16, 0),
        ("accelerated", 8.0, 32, 1.2, 16),
    )
    for spot, factor in ((False, 1.0), (True, 0.3))
)

_T = TypeVar("_T")
_TABLE = """CREATE TABLE IF NOT EXISTS machines (
    machine_id TEXT PRIMARY KEY, token TEXT UNIQUE, call TEXT, run_id TEXT, device TEXT, kind TEXT, place TEXT,
    usd_per_hour REAL, spot INTEGER, tags TEXT, created_s REAL, started_s REAL, ended_s REAL)"""


class Failure(StrEnum):
    """What may happen to a request."""

    REFUSED = "refused"
    """It is answered with an error."""
    CUT_OFF = "cut off"
    """It does not get through, nor does any later one."""
    REPLY_LOST = "reply lost"
    """It is carried out, but the caller hears nothing."""
    KILLED = "killed"
    """It is carried out, and the caller's process is killed with SIGKILL."""


class FakeCloud:
    """Machines in the store at `path`. Threads may share it.

    capacity: machines of one kind at a time; start_up_s: from the start of a machine until it runs;
    interrupt_after_s: from its start until a spot machine is taken away, None for never.
    """

    def __init__(
        self,
        clock: Clock,
        path: Path = Path(":memory:"),
        offers: Sequence[Quote] = OFFERS,
        capacity: int = 1000,
        start_up_s: float = 0.0,
        interrupt_after_s: float | None = None,
    ) -> None:
        self.offers, self.capacity = offers, capacity
        self._clock = clock
        self._start_up_s, self._interrupt_after_s = start_up_s, interrupt_after_s
        self._failures: dict[str, Failure] = {}
        self._is_cut_off = False
        self._lock = threading.Lock()
        self._db = connect(path)
        self._db.execute(_TABLE)

    def close(self) -> None:
        self._db.close()

    def fail_at(self, request: str, failure: Failure) -> None:
        """Until `mend`, let `failure` happen to each request of this name, one of `REQUESTS`."""
        self._failures[request] = failure

    def mend(self) -> None:
        """No request fails any more."""
        self._failures.clear()
        self._is_cut_off = False

    def interrupt(self, machine_id: str) -> None:
        """Take a machine away."""
        self._change("UPDATE machines SET ended_s = ? WHERE machine_id = ?", self._clock.now_s(), machine_id)

    def add_foreign(self) -> str:
        """A machine that carries no tags; returns its id."""
        machine_id = _new_id()
        now_s = self._clock.now_s()
        with self._lock:
            put(self._db, "machines", {"machine_id": machine_id, "created_s": now_s, "started_s": now_s})
        return machine_id

    def remaining(self) -> list[str]:
        """The ids of all machines that are not gone, foreign ones too."""
        with self._lock:
            rows = self._db.execute("SELECT * FROM machines").fetchall()
        return [row["machine_id"] for row in rows if self._state(row) is not State.GONE]

    # Requests

    def create(self, launch: Launch, call: str) -> str:
        """The id of a new machine, or of the one with the same token. Raises Unavailable where there is none left."""
        return self._request("create", lambda: self._create(launch, call))

    def start(self, machine_id: str) -> None:
        now_s = self._clock.now_s()
        sql = "UPDATE machines SET started_s = ? WHERE machine_id = ? AND started_s IS NULL"
        self._request("start", lambda: self._change(sql, now_s, machine_id))

    def machines(self, where: str = "TRUE", *values: str) -> list[Machine]:
        """Those that carry tags, and for which `where` holds."""
        sql = f"SELECT * FROM machines WHERE token IS NOT NULL AND {where} ORDER BY rowid"
        return self._request("list", lambda: self._machines(sql, *values))

    def remove(self, where: str, value: str) -> None:
        """End the machines that carry tags and for which `where` holds."""
        sql = f"UPDATE machines SET ended_s = ? WHERE token IS NOT NULL AND ended_s IS NULL AND {where}"
        self._request("remove", lambda: self._change(sql, self._clock.now_s(), value))

    def _request(self, name: str, act: Callable[[], _T]) -> _T:
        failure = self._failures.get(name)
        self._is_cut_off = self._is_cut_off or failure is Failure.CUT_OFF
        if self._is_cut_off:
            raise ProviderError(f"fake: {name}: nothing answers")
        if failure is Failure.REFUSED:
            raise ProviderError(f"fake: {name}: refused")
        answer = act()
        if failure is Failure.KILLED:
            os.kill(os.getpid(), signal.SIGKILL)
        if failure is Failure.REPLY_LOST:
            raise ProviderError(f"fake: {name}: the reply is lost")
        return answer

    def _create(self, launch: Launch, call: str) -> str:
        quote = launch.quote
        row = {
            "machine_id": _new_id(),
            "token": launch.token,
            "call": call,
            "run_id": launch.run_id,
            "device": launch.device,
            "kind": quote.kind,
            "place": quote.place,
            "usd_per_hour": quote.usd_per_hour,
            "spot": quote.spot,
            "tags": json.dumps(launch.all_tags()),
            "created_s": self._clock.now_s(),
        }
        with self._lock, transaction(self._db):
            known = self._db.execute("SELECT machine_id FROM machines WHERE token = ?", (launch.token,)).fetchone()
            if known is not None:
                return str(known["machine_id"])
            alike = self._db.execute("SELECT * FROM machines WHERE kind = ?", (quote.kind,)).fetchall()
            if sum(self._state(each) is not State.GONE for each in alike) >= self.capacity:
                raise Unavailable(f"fake: no {quote.kind} is left; take another kind, or come later")
            put(self._db, "machines", row)
        return str(row["machine_id"])

    def _change(self, sql: str, now_s: float, which: str) -> None:
        with self._lock:
            self._db.execute(sql, (now_s, which))

    def _machines(self, sql: str, *values: str) -> list[Machine]:
        with self._lock:
            rows = self._db.execute(sql, values).fetchall()
        return [self._machine(row) for row in rows]

    def _machine(self, row: sqlite3.Row) -> Machine:
        same = ("machine_id", "token", "run_id", "device", "kind", "place", "usd_per_hour")
        return Machine(
            provider="fake",
            state=self._state(row),
            spot=bool(row["spot"]),
            launched_s=row["created_s"],
            **{name: row[name] for name in same},
        )

    def _state(self, row: sqlite3.Row) -> State:
        now_s, started_s = self._clock.now_s(), row["started_s"]
        if row["ended_s"] is not None:
            return State.GONE
        if started_s is None or now_s < started_s + self._start_up_s:
            return State.STARTING
        is_taken = row["spot"] and self._interrupt_after_s is not None and now_s >= started_s + self._interrupt_after_s
        return State.GONE if is_taken else State.RUNNING


class FakeProvider:
    """An account at a FakeCloud. See `motley.providers.base.Provider`."""

    name = "fake"

    def __init__(self, cloud: FakeCloud, problem: str = "") -> None:
        """problem: why it can't be used."""
        self._cloud = cloud
        self._problem = problem

    def available(self) -> str:
        return self._problem

    def quote(self, needs: Needs, spot: bool = False) -> Sequence[Quote]:
        self._check()
        found = [each for each in self._cloud.offers if each.spot == spot and _meets(each, needs)]
        return sorted(found, key=lambda each: each.usd_per_hour)

    def launch(self, launch: Launch) -> Machine:
        self._check()
        call = uuid.uuid4().hex
        try:
            machine_id = self._cloud.create(launch, call)
            self._cloud.start(machine_id)
            return self._cloud.machines("machine_id = ?", machine_id)[0]
        except BaseException:
            with suppress(ProviderError):
                self._cloud.remove("call = ?", call)
            raise

    def list(self, run_id: str | None = None) -> Sequence[Machine]:
        self._check()
        machines = self._cloud.machines() if run_id is None else self._cloud.machines("run_id = ?", run_id)
        return [machine for machine in machines if machine.state is not State.GONE]

    def status(self, machine_id: str) -> Machine | None:
        self._check()
        return next(iter(self._cloud.machines("machine_id = ?", machine_id)), None)

    def terminate(self, machine_id: str) -> None:
        self._check()
        self._cloud.remove("machine_id = ?", machine_id)

    def _check(self) -> None:
        if self._problem:
            raise ProviderError(self._problem)


def make(options: Mapping[str, str], environment: Mapping[str, str]) -> FakeProvider:
    """A provider on the real clock whose cloud is the store `file`, or lives as long as the process.

    start_up_s, capacity, interrupt_after_s: as FakeCloud has them; fail_at: a request that `failure`
    (`refused` where none is given) happens to each time. Raises InputError.
    """
    check_options("fake", options, OPTIONS)
    interrupt_after_s = _number(options, "interrupt_after_s", -1.0)
    cloud = FakeCloud(
        SystemClock(),
        Path(options.get("file", ":memory:")),
        capacity=int(_number(options, "capacity", 1000)),
        start_up_s=_number(options, "start_up_s", 0.0),
        interrupt_after_s=None if interrupt_after_s < 0 else interrupt_after_s,
    )
    if "fail_at" in options:
        failure = Failure(_one_of(Failure, "failure", options.get("failure", Failure.REFUSED)))
        cloud.fail_at(_one_of(REQUESTS, "fail_at", options["fail_at"]), failure)
    return FakeProvider(cloud)


def _number(options: Mapping[str, str], name: str, default: float) -> float:
    try:
        return float(options.get(name, default))
    except ValueError:
        raise InputError(f"provider 'fake': {name} '{options[name]}' is not a number") from None


def _one_of(known: Iterable[str], name: str, text: str) -> str:
    if text not in (words := [str(each) for each in known]):
        raise InputError(f"provider 'fake': {name} '{text}' is not known{did_you_mean(text, words)}")
    return text


def _new_id() -> str:
    return f"m-{uuid.uuid4().hex[:12]}"


def _meets(quote: Quote, needs: Needs) -> bool:
    has_accelerators = not needs.accelerators or (
        quote.accelerators >= needs.accelerators and quote.accelerator_memory_bytes >= needs.accelerator_memory_bytes
    )
    return quote.cpus >= needs.cpus and quote.memory_bytes >= needs.memory_bytes and has_accelerators
