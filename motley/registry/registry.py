"""Which devices there are, what they have, and who holds how much of it: the dynamic resource manager.

One SQLite file, for any number of threads and processes. Each call is one transaction: it begins by taking
back what has expired, so nothing is ever over-committed, and whoever dies holds a lease that ends.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from motley.clock import Clock
from motley.database import connect, transaction
from motley.errors import InputError
from motley.fitness import WEIGHTS, Weights
from motley.registry import reading
from motley.registry.amounts import MICRO, Amounts, Capacity
from motley.registry.audit import faults
from motley.registry.books import Books, is_overdue
from motley.registry.drift import REASSESSMENT, Reassessment
from motley.registry.notes import put_news, put_registration
from motley.registry.records import (
    News,
    Quota,
    Refusal,
    Registration,
    Request,
    Reservation,
    Snapshot,
    Utilisation,
    check_lease,
)
from motley.registry.rows import DeviceRow
from motley.registry.schema import SCHEMA
from motley.registry.usage import RETENTION_S

BUSY_S = 60.0
"""How long a report of a device's load counts when no other follows."""
WINDOW_S = 300.0

_CHECKPOINT_PAGES = 4000
_FORGET = "DELETE FROM registry_devices WHERE NOT online AND reservations = 0 AND seen_s <= ?"
_RENEW = "UPDATE registry_reservations SET expires_s = ? WHERE reservation_id = ?"


class Registry:
    """The registry in the store at `path`, which is made when it is not there.

    quotas: by class of devices; a class without one can be held whole by one task. All processes that share a
    store must give the same. Times are those of `clock`, so all must share that, too. A process that forks
    opens another one in the child.
    """

    def __init__(
        self,
        path: Path,
        clock: Clock,
        quotas: Mapping[str, Quota] | None = None,
        reassessment: Reassessment = REASSESSMENT,
    ) -> None:
        self._clock = clock
        self._quotas = dict(quotas or {})
        self._reassessment = reassessment
        self._lock = threading.Lock()
        self._db = connect(path)
        self._db.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        self._db.executescript(SCHEMA)

    def close(self) -> None:
        self._db.close()

    # Devices

    def register(
        self,
        device: str,
        device_class: str,
        capacity: Capacity,
        gflops: float = 0.0,
        battery_level: float = -1.0,
        charging: bool = False,
    ) -> None:
        """Take a device in, or renew what it says of itself; see `register_many`."""
        self.register_many([Registration(device, device_class, capacity, gflops, battery_level, charging)])

    def register_many(self, registrations: Iterable[Registration]) -> None:
        """The devices are connected from now on, and profiled now. What is reserved of one that was known stays.

        Where less is left than is reserved already, nothing more is granted until it fits again.
        """
        with self._books() as books:
            for each in registrations:
                row = books.device(each.device) or DeviceRow()
                put_registration(self._db, each, books.now_s)
                books.put(each.device, row.as_registered(each))

    def update(
        self,
        device: str,
        busy_cpus: float | None = None,
        speed: float | None = None,
        succeeded: bool | None = None,
        battery_level: float | None = None,
        charging: bool | None = None,
    ) -> None:
        """A reply or a heartbeat; see `News`. Raises InputError for a device that is not registered."""
        self.update_many([News(device, busy_cpus, speed, succeeded, battery_level, charging)])

    def update_many(self, news: Iterable[News]) -> None:
        """All or none of it."""
        with self._books() as books:
            for each in news:
                row = books.device(each.device)
                if row is None:
                    raise InputError(f"device '{each.device}' is not registered; register it before it is updated")
                put_news(self._db, each, self._reassessment, books.now_s)
                seen = row._replace(online=1)
                if each.busy_cpus is not None:
                    seen = seen._replace(busy_micros=round(each.busy_cpus * MICRO), busy_until_s=books.now_s + BUSY_S)
                if seen != row:
                    books.put(each.device, seen)

    def depart(self, devices: Iterable[str]) -> None:
        """They are not connected any more: nothing is granted on them until they are heard of again."""
        with self._books() as books:
            for device in devices:
                row = books.device(device)
                if row is not None and row.online:
                    books.put(device, row._replace(online=0, busy_micros=0))

    def forget(self, gone_for_s: float = RETENTION_S) -> int:
        """Strike out devices that have been gone for so long and hold nothing; returns how many."""
        with self._books():
            pass  # what has expired is written
        with self._books() as books:
            books.db.execute("DELETE FROM registry_holdings WHERE devices = 0")
            return books.db.execute(_FORGET, (books.now_s - gone_for_s,)).rowcount

    # Reservations

    def reserve(self, device: str, task: str, needs: Amounts, lease_s: float) -> Reservation | Refusal:
        """All of `needs` on one device for `task`, until released or for `lease_s`; or what is short."""
        return self.reserve_many([Request(device, task, needs, lease_s)])[0]

    def reserve_many(self, requests: Sequence[Request]) -> list[Reservation | Refusal]:
        """One transaction, one answer for each, in the same order; the refusal of one leaves the others granted."""
        with self._books() as books:
            return [books.reserve(each, self._quotas) for each in requests]

    def release(self, reservation_id: int) -> bool:
        """Give back; False where it had been released, or had expired."""
        return self.release_many([reservation_id]) == 1

    def release_many(self, reservation_ids: Iterable[int]) -> int:
        """In one transaction; returns how many were still held."""
        with self._books() as books:
            return sum(_end(books, "reservation_id = ?", each) for each in reservation_ids)

    def release_task(self, task: str) -> int:
        """Everything that a task holds: at its end, or when it starts again after a crash."""
        with self._books() as books:
            return _end(books, "task = ?", task)

    def renew(self, reservation_id: int, lease_s: float) -> bool:
        """Let it last `lease_s` from now on; False where it is not held any more."""
        return self.renew_many([reservation_id], lease_s) == 1

    def renew_many(self, reservation_ids: Iterable[int], lease_s: float) -> int:
        """In one transaction; returns how many were still held."""
        check_lease(lease_s)
        with self._books() as books:
            expires_s = books.now_s + lease_s
            return self._db.executemany(_RENEW, [(expires_s, each) for each in set(reservation_ids)]).rowcount

    # Questions

    def reservations(self, task: str | None = None, device: str | None = None) -> list[Reservation]:
        """Those held now, the oldest first; None for all tasks or devices."""
        with self._view():
            return reading.reservations(self._db, task, device)

    def fitness(self, needs: Amounts, weights: Weights = WEIGHTS) -> dict[str, float]:
        """For every device its score for the work, 0–1; 0 where it does not fit or is gone. See `motley.fitness`."""
        with self._view():
            return reading.fitnesses(self._db, needs, weights)

    def due_for_profile(self) -> list[str]:
        """Connected devices that should be profiled anew; until they are, they are named each time."""
        with self._view() as now_s:
            return reading.due(self._db, now_s - self._reassessment.max_age_s)

    def utilisation(self, window_s: float = WINDOW_S) -> Utilisation:
        """Share of core-seconds in use over the last seconds, at most the last 24 h; reserved or reported busy."""
        with self._view() as now_s:
            used = reading.uses(self._db, now_s - window_s, now_s)
            return Utilisation(reading.total(used).share, {name: each.share for name, each in used.items()})

    def snapshot(self, window_s: float = WINDOW_S, silent_after_s: float = WINDOW_S) -> Snapshot:
        """Everything that metrics show; a class's devices are counted, not named."""
        with self._view() as now_s:
            return reading.snapshot(self._db, now_s, window_s, silent_after_s)

    def audit(self) -> list[str]:
        """A line for each sum that is not that of the reservations; none in a sound store. Reads all of it."""
        with self._view():
            return list(faults(self._db))

    @contextmanager
    def _books(self) -> Iterator[Books]:
        """One transaction that writes."""
        with self._lock, self._writing() as books:
            yield books

    @contextmanager
    def _view(self) -> Iterator[float]:
        """One moment of the store, for reading; gives its time. Writes only where something is overdue."""
        with self._lock:
            if is_overdue(self._db, self._clock.now_s()):
                with self._writing():
                    pass
            self._db.execute("BEGIN")
            try:
                yield self._clock.now_s()
            finally:
                self._db.execute("COMMIT")

    @contextmanager
    def _writing(self) -> Iterator[Books]:
        """Reads the clock when the store is locked, so that whoever had to wait is not in the past."""
        with transaction(self._db):
            books = Books(self._db, self._clock.now_s())
            yield books
            books.write()


def _end(books: Books, where: str, value: object) -> int:
    """End the reservations for which an SQL condition holds; returns how many."""
    held = books.leases(where, value)
    for each in held:
        books.end(each)
    return len(held)
