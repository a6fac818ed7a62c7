"""The journal of launches: what was meant to be launched, what was, and what it reserves of whose budget.

An intent is written, with its reservation, before a provider is asked for anything, so that whatever
happens in between, nothing runs that has no row. Reservations of all threads and processes are taken one
after the other, each in one transaction with the check that it fits.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from pathlib import Path
from threading import RLock
from typing import Any

from motley.budgets import Billing, Budget, Charge, shortfall
from motley.database import connect, put, transaction
from motley.errors import InputError, MotleyError
from motley.providers.base import Quote

RUN_LEASE_S = 600.0
"""A run that has not been seen for so long is over, whatever became of its server."""

_LONGER_THAN_A_MONTH_S = 33 * 86_400.0


class BudgetExceeded(MotleyError):
    """What is asked for does not fit an account's budget; says which month, what is left and what is needed."""


class LaunchState(StrEnum):
    """Of a row. Intended and launched ones hold their reservation; after a failed one its order may be tried again."""

    INTENDED = "intended"
    LAUNCHED = "launched"
    ENDED = "ended"
    FAILED = "failed"


LIVE = (LaunchState.INTENDED, LaunchState.LAUNCHED)


@dataclass(frozen=True)
class LaunchRow:
    """One attempt to launch one machine. Times are seconds since the epoch, by the clock of whoever wrote them."""

    token: str
    """The provider's; an order that is tried again gets another one."""
    order_token: str
    account: str
    run_id: str
    device: str
    quote: Quote
    run_s: float
    """How long the machine may run, from `intended_s` on."""
    reserved_s: float
    """What is reserved: `run_s` and time to end it."""
    billing: Billing
    intended_s: float
    state: LaunchState = LaunchState.INTENDED
    machine_id: str = ""
    launched_s: float | None = None
    ended_s: float | None = None
    reason: str = ""
    """Why it ended or failed."""

    @property
    def due_s(self) -> float:
        """When the machine must be ended, so that it is gone before it costs more than is reserved."""
        return self.intended_s + self.run_s

    def charge(self, now_s: float) -> Charge | None:
        """What it may cost: while it lives, all that is reserved or, if that is more, what it has cost so far."""
        return self._charge(max(now_s, self.intended_s + self.reserved_s))

    def cost_so_far(self, now_s: float) -> Charge | None:
        """What it has cost. Counted from the intent on, so never less than the provider counts."""
        return self._charge(now_s)

    def _charge(self, until_s: float) -> Charge | None:
        if self.state is LaunchState.FAILED and not self.machine_id:
            return None
        elapsed_s = (until_s if self.ended_s is None else self.ended_s) - self.intended_s
        return Charge(self.intended_s, self.billing.billed_s(max(0.0, elapsed_s)), self.quote.usd_per_hour)


_SCHEMA = """
CREATE TABLE IF NOT EXISTS launches (
    token TEXT PRIMARY KEY, order_token TEXT NOT NULL, account TEXT NOT NULL, run_id TEXT NOT NULL,
    device TEXT NOT NULL, quote TEXT NOT NULL, run_s REAL NOT NULL, reserved_s REAL NOT NULL,
    billing TEXT NOT NULL, intended_s REAL NOT NULL, state TEXT NOT NULL, machine_id TEXT NOT NULL,
    launched_s REAL, ended_s REAL, reason TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS launches_of_order ON launches (order_token);
CREATE INDEX IF NOT EXISTS launches_of_account ON launches (account, ended_s);
CREATE TABLE IF NOT EXISTS runs_seen (run_id TEXT PRIMARY KEY, seen_s REAL NOT NULL) STRICT;
"""


class Launches:
    """The journal at `path`, which is made when it is not there; for any number of threads and processes."""

    def __init__(self, path: Path) -> None:
        self._db, self._lock = connect(path), RLock()
        self._db.executescript(_SCHEMA)

    def reserve(self, row: LaunchRow, budget: Budget) -> LaunchRow:
        """Write the intent if it fits the budget of its account; a live row of the same order is returned instead.

        `row.token` is made here, from the order and the number of attempts before. Raises BudgetExceeded where
        it does not fit, InputError where the order was carried out before and has ended.
        """
        with self._writing():
            before = self.of_order(row.order_token)
            live = [each for each in before if each.state in LIVE]
            if live:
                return live[0]
            if any(each.state is LaunchState.ENDED for each in before):
                raise InputError(f"order '{row.order_token}' was carried out and has ended; use another token")
            token = f"{row.order_token}-{len(before) + 1}" if before else row.order_token
            self._check(row.account, row.charge(row.intended_s), budget, row.intended_s)
            return self._put(replace(row, token=token))

    def extend(self, token: str, more_s: float, budget: Budget, now_s: float) -> LaunchRow:
        """Let a live machine run longer. Raises BudgetExceeded, and InputError where it does not live."""
        with self._writing():
            row = self.row(token)
            if row.state not in LIVE:
                raise InputError(f"launch '{token}' has {row.state.value}; only what lives can be extended")
            longer = replace(row, run_s=row.run_s + more_s, reserved_s=row.reserved_s + more_s)
            self._check(row.account, _beyond(row.charge(now_s), longer.charge(now_s)), budget, now_s)
            return self._put(longer)

    def launched(self, token: str, machine_id: str, now_s: float) -> bool:
        """Record the machine; False where the row was given up meanwhile, so that the machine is nobody's."""
        with self._writing():
            row = self.row(token)
            if row.state is LaunchState.INTENDED:
                self._put(replace(row, state=LaunchState.LAUNCHED, machine_id=machine_id, launched_s=now_s))
            return row.state in LIVE

    def ended(self, token: str, machine_id: str, now_s: float, reason: str) -> None:
        """The machine is gone: it costs what it has cost until now, the rest of its reservation is free.

        A row that never was launched has failed, at that cost. The first reason stays.
        """
        with self._writing():
            row = self.row(token)
            was_launched = row.state in (LaunchState.LAUNCHED, LaunchState.ENDED)
            state = LaunchState.ENDED if was_launched else LaunchState.FAILED
            reason = reason if row.state in LIVE else row.reason
            self._put(replace(row, state=state, machine_id=machine_id, ended_s=now_s, reason=reason))

    def failed(self, token: str, now_s: float, reason: str) -> None:
        """There is no machine, and all that was reserved is free. Does nothing to what has been launched."""
        with self._writing():
            row = self.row(token)
            if row.state is LaunchState.INTENDED:
                self._put(replace(row, state=LaunchState.FAILED, ended_s=now_s, reason=reason))

    def adopt(self, row: LaunchRow) -> None:
        """Enter what was launched by someone else, so that it counts; does nothing where it is known."""
        with self._writing():
            if not self._select("WHERE token = ?", row.token):
                self._put(row)

    def row(self, token: str) -> LaunchRow:
        """One row. Raises InputError for a token that is not known."""
        rows = self._select("WHERE token = ?", token)
        if not rows:
            raise InputError(f"no launch '{token}' in the journal; see: motley accounts usage")
        return rows[0]

    def of_order(self, order_token: str) -> list[LaunchRow]:
        """All attempts of an order."""
        return self._select("WHERE order_token = ?", order_token)

    def rows(self) -> list[LaunchRow]:
        """All, in the order of their intents."""
        return self._select("")

    def live(self) -> list[LaunchRow]:
        """Those that hold a reservation."""
        return self._select("WHERE state IN (?, ?)", *(state.value for state in LIVE))

    def charges(self, account: str, now_s: float) -> list[Charge]:
        """What an account's launches cost or may cost in the month of `now_s` and later ones."""
        where = "WHERE account = ? AND (ended_s IS NULL OR ended_s > ?)"
        rows = self._select(where, account, now_s - _LONGER_THAN_A_MONTH_S)
        return [charge for row in rows if (charge := row.charge(now_s)) is not None]

    def see_run(self, run_id: str, now_s: float) -> None:
        """Say that a run lives; its server does so more often than every RUN_LEASE_S."""
        with self._writing():
            put(self._db, "runs_seen", {"run_id": run_id, "seen_s": now_s})

    def end_run(self, run_id: str) -> None:
        """Say that a run is over."""
        with self._writing():
            self._db.execute("DELETE FROM runs_seen WHERE run_id = ?", (run_id,))

    def live_runs(self, now_s: float) -> set[str]:
        """The runs that were seen lately."""
        with self._lock:
            found = self._db.execute("SELECT run_id FROM runs_seen WHERE seen_s > ?", (now_s - RUN_LEASE_S,))
            return {run_id for (run_id,) in found}

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Alone with the journal: one thread of this process, and one process."""
        with self._lock, transaction(self._db):
            yield

    def _check(self, account: str, wanted: Charge | None, budget: Budget, now_s: float) -> None:
        reason = shortfall(budget, self.charges(account, now_s), wanted) if wanted is not None else ""
        if reason:
            raise BudgetExceeded(reason)

    def _select(self, where: str, *values: Any) -> list[LaunchRow]:
        with self._lock:
            found = self._db.execute(f"SELECT * FROM launches {where} ORDER BY intended_s, token", values)
            return [_row(each) for each in found]

    def _put(self, row: LaunchRow) -> LaunchRow:
        plain = {each.name: getattr(row, each.name) for each in fields(row)}
        texts = {"quote": json.dumps(asdict(row.quote)), "billing": json.dumps(asdict(row.billing))}
        put(self._db, "launches", {**plain, **texts})
        return row


def _row(row: sqlite3.Row) -> LaunchRow:
    values = {key: row[key] for key in row.keys()}
    values["quote"] = Quote(**json.loads(values["quote"]))
    values["billing"] = Billing(**json.loads(values["billing"]))
    values["state"] = LaunchState(values["state"])
    return LaunchRow(**values)


def _beyond(now: Charge | None, then: Charge | None) -> Charge | None:
    """What `then` adds to `now`."""
    if now is None or then is None:
        return then
    return replace(now, start_s=now.start_s + now.billed_s, billed_s=then.billed_s - now.billed_s)
