"""One transaction over the registry: rows are read when they are needed, changed here, written at the end.

So a batch of reservations in a class changes the row of the class once.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Mapping

from motley.errors import MotleyError
from motley.registry.amounts import MICRO, Short, Shortage, Units, shortages
from motley.registry.records import Quota, Refusal, Request, Reservation
from motley.registry.rows import DEVICE_COLUMNS, LEASE_COLUMNS, DeviceRow, Holding, Lease, device_row, lease
from motley.registry.usage import RETENTION_S, Point, Tally

_DEVICE = f"SELECT {DEVICE_COLUMNS} FROM registry_devices WHERE device = ?"
_WRITE_DEVICE = """
UPDATE registry_devices SET online = ?, reservations = ?, reserved_cpu_micros = ?, reserved_memory_bytes = ?,
    reserved_accelerators = ?, reserved_disk_bytes = ?, reserved_bits_per_s = ?, busy_micros = ?, busy_until_s = ?
WHERE device = ?
"""
_OVERDUE = """
SELECT EXISTS (SELECT 1 FROM registry_reservations WHERE expires_s <= ?1)
    OR EXISTS (SELECT 1 FROM registry_devices WHERE busy_micros > 0 AND busy_until_s <= ?1)
"""
_BUSY_NO_MORE = "SELECT device, busy_until_s FROM registry_devices WHERE busy_micros > 0 AND busy_until_s <= ?"
_GRANT = f"INSERT INTO registry_reservations ({LEASE_COLUMNS}) VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_END = "DELETE FROM registry_reservations WHERE reservation_id = ?"
_HELD = "SELECT COUNT(*) FROM registry_reservations WHERE task = ? AND device = ? AND device_class = ?"
_TALLY = """
SELECT as_of_s, used_core_s, core_s, devices, cpu_micros, used_micros FROM registry_classes WHERE device_class = ?
"""
_WRITE_TALLY = "INSERT OR REPLACE INTO registry_classes VALUES (?, ?, ?, ?, ?, ?, ?)"
_NOTE_POINT = "INSERT OR REPLACE INTO registry_usage VALUES (?, ?, ?, ?)"
_DROP_POINTS = """
DELETE FROM registry_usage WHERE device_class = ?1
    AND at_s < (SELECT MAX(at_s) FROM registry_usage WHERE device_class = ?1 AND at_s <= ?2)
"""
_HOLDING = "SELECT devices, cpu_micros FROM registry_holdings WHERE device_class = ? AND task = ?"
_ADD_HOLDING = """
INSERT INTO registry_holdings VALUES (?, ?, ?, ?)
ON CONFLICT DO UPDATE SET devices = devices + excluded.devices, cpu_micros = cpu_micros + excluded.cpu_micros
"""
_COUNT_REFUSAL = (
    "INSERT INTO registry_refusals VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count"
)


class Books:
    """Opens with everything taken back that has expired by `now_s`, each at its own time."""

    def __init__(self, db: sqlite3.Connection, now_s: float) -> None:
        self.db, self.now_s = db, now_s
        self._at_s = now_s
        self._devices: dict[str, DeviceRow] = {}
        self._changed: set[str] = set()
        self._holdings: dict[tuple[str, str], Holding] = {}
        self._tallies: dict[str, Tally] = {}
        self._points: list[tuple[str, Point]] = []
        self._refused: Counter[tuple[str, Short]] = Counter()
        if is_overdue(db, now_s):
            self._expire()

    def device(self, name: str) -> DeviceRow | None:
        """None where it is not registered."""
        row = self._devices.get(name)
        if row is None:
            values = self.db.execute(_DEVICE, (name,)).fetchone()
            if values is None:
                return None
            row = self._devices[name] = device_row(values)
        return row

    def put(self, name: str, row: DeviceRow) -> None:
        """Change a device that is in the table, and what it is part of."""
        before = self._devices.get(name)
        self._devices[name] = row
        self._changed.add(name)
        gone = before.part if before else (0, 0, 0)
        if before and before.device_class != row.device_class:
            self._count(before.device_class, (0, 0, 0), gone)
            gone = (0, 0, 0)
        self._count(row.device_class, row.part, gone)

    def reserve(self, request: Request, quotas: Mapping[str, Quota]) -> Reservation | Refusal:
        """All that was asked for, or nothing."""
        row, needs = self.device(request.device), request.needs
        short = self._shortages(request, row, quotas)
        if row is None or short:
            self._refused.update((row.device_class if row else "", each.what) for each in short)
            return Refusal(request.device, request.task, tuple(short))
        now_s, expires_s = self.now_s, self.now_s + request.lease_s
        held = (request.device, row.device_class, request.task, *needs.units, needs.accelerator_memory_bytes)
        reservation_id = self.db.execute(_GRANT, (*held, now_s, expires_s)).lastrowid
        self._hold(request.device, request.task, row.device_class, needs.units, 1)
        return Reservation(reservation_id or 0, request.device, request.task, needs, now_s, expires_s)

    def end(self, ended: Lease) -> None:
        """Take back what a reservation holds that is in the table."""
        self.db.execute(_END, (ended.reservation_id,))
        self._hold(ended.device, ended.task, ended.device_class, ended.taken, -1)

    def leases(self, where: str, *values: object) -> list[Lease]:
        """Those in the table for which an SQL condition holds."""
        found = self.db.execute(f"SELECT {LEASE_COLUMNS} FROM registry_reservations WHERE {where}", values)
        return [lease(each) for each in found]

    def write(self) -> None:
        """Write back what has changed; once, before the transaction ends."""
        db = self.db
        db.executemany(_WRITE_DEVICE, [_dynamic(name, self._devices[name]) for name in self._changed])
        db.executemany(_ADD_HOLDING, [(*key, *change) for key, change in self._holdings.items()])
        db.executemany(_WRITE_TALLY, [_tally_values(*each) for each in self._tallies.items()])
        db.executemany(_COUNT_REFUSAL, [(*key, count) for key, count in self._refused.items()])
        if self._points:
            db.executemany(_NOTE_POINT, [(name, *_point_values(point)) for name, point in self._points])
            horizon_s = self.now_s - RETENTION_S
            db.executemany(_DROP_POINTS, [(name, horizon_s) for name in {name for name, _ in self._points}])

    def _expire(self) -> None:
        """Leases that are over, and loads that are too old to count, in the order of time."""
        over: list[tuple[float, str, Lease | None]] = [
            (each.expires_s, each.device, each) for each in self.leases("expires_s <= ?", self.now_s)
        ]
        busy = self.db.execute(_BUSY_NO_MORE, (self.now_s,)).fetchall()
        over += [(each["busy_until_s"], each["device"], None) for each in busy]
        for self._at_s, name, expired in sorted(over, key=lambda each: each[0]):
            if expired is not None:
                self.end(expired)
            elif (row := self.device(name)) is not None:
                self.put(name, row._replace(busy_micros=0))
        self._at_s = self.now_s

    def _shortages(self, request: Request, row: DeviceRow | None, quotas: Mapping[str, Quota]) -> list[Shortage]:
        if row is None:
            return [Shortage(Short.NOT_REGISTERED)]
        if not row.online:
            return [Shortage(Short.NOT_CONNECTED)]
        short = list(shortages(request.needs, row.limits, row.reserved, row.accelerator_memory_bytes))
        quota = quotas.get(row.device_class)
        return short + self._over_quota(request, row, quota) if quota else short

    def _over_quota(self, request: Request, row: DeviceRow, quota: Quota) -> list[Shortage]:
        """What the task would hold above its share of the class; its first device is never too much."""
        device_class, task = row.device_class, request.task
        tally, holding = self._tally(device_class), self._holding(device_class, task)
        new = int(not row.reservations or not self._count_held(request.device, task, device_class))
        if holding.devices + new <= 1:
            return []
        devices = int(quota.devices * tally.devices + 1e-9) - holding.devices
        micros = int(quota.cores * tally.cpu_micros + 1e-6) - holding.cpu_micros
        asked, short = request.needs.units[0], []
        if new and new > devices:
            short.append(Shortage(Short.DEVICE_QUOTA, 1, max(0, devices)))
        if asked and asked > micros:
            short.append(Shortage(Short.CORE_QUOTA, asked / MICRO, max(0, micros) / MICRO))
        return short

    def _hold(self, device: str, task: str, device_class: str, taken: Units, sign: int) -> None:
        """Count a reservation that was put into the table, or taken from it, wherever else it counts."""
        before = self.device(device)
        if before is None:
            raise MotleyError(f"device '{device}' has reservations and no row; the store is damaged")
        row = before.holding(taken, sign)
        others = row.reservations - (sign > 0)
        is_only = not others or self._count_held(device, task, device_class) == (sign > 0)
        devices, micros = self._holdings.get((device_class, task), (0, 0))
        self._holdings[device_class, task] = Holding(devices + sign * is_only, micros + sign * taken[0])
        self.put(device, row)

    def _count_held(self, device: str, task: str, device_class: str) -> int:
        """How many reservations a task has on a device, of when it was in the class."""
        count: int = self.db.execute(_HELD, (task, device, device_class)).fetchone()[0]
        return count

    def _holding(self, device_class: str, task: str) -> Holding:
        """That of the table with the changes to it."""
        devices, micros = self._holdings.get((device_class, task), (0, 0))
        stored = self.db.execute(_HOLDING, (device_class, task)).fetchone() or (0, 0)
        return Holding(stored[0] + devices, stored[1] + micros)

    def _tally(self, device_class: str) -> Tally:
        """Of a class that has none yet, one that begins now."""
        if device_class not in self._tallies:
            values = self.db.execute(_TALLY, (device_class,)).fetchone()
            if values is None:
                self._points.append((device_class, Point(self._at_s, 0.0, 0.0)))
                return Tally(Point(self._at_s, 0.0, 0.0))
            self._tallies[device_class] = Tally(Point(*values[:3]), *values[3:])
        return self._tallies[device_class]

    def _count(self, device_class: str, come: tuple[int, int, int], gone: tuple[int, int, int]) -> None:
        if come == gone:
            return
        tally = self._tally(device_class)
        self._points += [(device_class, point) for point in tally.bounds(self._at_s)]
        changes = [new - old for new, old in zip(come, gone, strict=True)]
        self._tallies[device_class] = tally.changed(self._at_s, *changes)


def is_overdue(db: sqlite3.Connection, now_s: float) -> bool:
    """Whether something has expired that is still counted."""
    return bool(db.execute(_OVERDUE, (now_s,)).fetchone()[0])


def _dynamic(name: str, row: DeviceRow) -> tuple[object, ...]:
    return row.online, row.reservations, *row.reserved, row.busy_micros, row.busy_until_s, name


def _tally_values(name: str, tally: Tally) -> tuple[object, ...]:
    return name, *_point_values(tally.point), tally.devices, tally.cpu_micros, tally.used_micros


def _point_values(point: Point) -> tuple[float, float, float]:
    return point.at_s, point.used_core_s, point.core_s
