"""Questions to the registry that change nothing; each expects a transaction around it, with nothing overdue."""

from __future__ import annotations

import math
import sqlite3
from collections import defaultdict
from statistics import median

from motley.fitness import Condition, Weights, fitness
from motley.registry.amounts import MICRO, Amounts, Short, shortages
from motley.registry.drift import Drift
from motley.registry.records import ClassOverview, Reservation, Snapshot
from motley.registry.rows import DEVICE_COLUMNS, LEASE_COLUMNS, DeviceRow, device_row, lease
from motley.registry.usage import Point, Tally, Use, use_since

_TALLIES = "SELECT device_class, as_of_s, used_core_s, core_s, devices, cpu_micros, used_micros FROM registry_classes"
_POINTS = """
SELECT at_s, used_core_s, core_s FROM registry_usage WHERE device_class = ?1
    AND at_s >= COALESCE((SELECT MAX(at_s) FROM registry_usage WHERE device_class = ?1 AND at_s <= ?2), ?2)
ORDER BY at_s LIMIT 2
"""
_STATES = """
SELECT device_class, CASE
        WHEN NOT online THEN 'gone' WHEN reservations > 0 THEN 'reserved' WHEN seen_s < ? THEN 'silent' ELSE 'free'
    END AS state, COUNT(*) AS devices, SUM(cpu_micros) AS cores, SUM(reserved_cpu_micros) AS reserved_cores,
    SUM(memory_bytes) AS memory, SUM(reserved_memory_bytes) AS reserved_memory, SUM(accelerators) AS accelerators,
    SUM(reserved_accelerators) AS reserved_accelerators
FROM registry_devices GROUP BY device_class, state
"""
_SUMS = ("cores", "reserved_cores", "memory", "reserved_memory", "accelerators", "reserved_accelerators")
_DUE = "SELECT device FROM registry_devices WHERE online AND (departs OR profiled_s <= ?) ORDER BY device"
_CONDITIONS = f"""
SELECT {DEVICE_COLUMNS}, device, gflops, speed_samples, speed_reference, speed_recent, successes, failures,
    battery_level, charging
FROM registry_devices
"""


def reservations(db: sqlite3.Connection, task: str | None, device: str | None) -> list[Reservation]:
    """The oldest first; None for all tasks or devices."""
    found = db.execute(
        f"SELECT {LEASE_COLUMNS} FROM registry_reservations WHERE (?1 IS NULL OR task = ?1) "
        "AND (?2 IS NULL OR device = ?2) ORDER BY reservation_id",
        (task, device),
    )
    return [lease(each).as_reservation() for each in found]


def uses(db: sqlite3.Connection, start_s: float, now_s: float) -> dict[str, Use]:
    """Core-seconds of each class from `start_s` to now."""
    found = {}
    for name, as_of_s, used, cores, *rest in db.execute(_TALLIES).fetchall():
        tally = Tally(Point(as_of_s, used, cores), *rest)
        noted = [Point(*each) for each in db.execute(_POINTS, (name, start_s))]
        points = [*(each for each in noted if each.at_s < as_of_s), tally.point, tally.at(now_s)]
        found[name] = use_since(start_s, points)
    return found


def total(each: dict[str, Use]) -> Use:
    """Of all classes together."""
    return Use(math.fsum(use.used_core_s for use in each.values()), math.fsum(use.core_s for use in each.values()))


def snapshot(db: sqlite3.Connection, now_s: float, window_s: float, silent_after_s: float) -> Snapshot:
    used = uses(db, now_s - window_s, now_s)
    refused = db.execute("SELECT device_class, what, count FROM registry_refusals ORDER BY device_class, what")
    return Snapshot(
        at_s=now_s,
        classes=_classes(db.execute(_STATES, (now_s - silent_after_s,)), used),
        reservations=db.execute("SELECT COUNT(*) FROM registry_reservations").fetchone()[0],
        refusals={(device_class, Short(what)): count for device_class, what, count in refused},
        utilisation=total(used).share,
    )


def due(db: sqlite3.Connection, profiled_before_s: float) -> list[str]:
    """Connected devices whose speed departs from their profile, or whose profile is that old."""
    return [device for (device,) in db.execute(_DUE, (profiled_before_s,))]


def fitnesses(db: sqlite3.Connection, needs: Amounts, weights: Weights) -> dict[str, float]:
    """Of every device; a usual speed is the median of those connected whose speed is known."""
    rows = [(device_row(each), each) for each in db.execute(_CONDITIONS)]
    speeds = {each["device"]: _speed(each) for row, each in rows}
    known = [speeds[each["device"]] for row, each in rows if row.online and speeds[each["device"]] > 0]
    usual = median(known) if known else 0.0
    return {
        each["device"]: fitness(_condition(row, each, needs, speeds[each["device"]]), usual, weights)
        for row, each in rows
    }


def _classes(rows: sqlite3.Cursor, used: dict[str, Use]) -> dict[str, ClassOverview]:
    states: dict[str, dict[str, int]] = defaultdict(dict)
    sums: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(_SUMS, 0))
    for row in rows:
        name = row["device_class"]
        states[name][row["state"]] = row["devices"]
        if row["state"] != "gone":
            sums[name] = {key: value + row[key] for key, value in sums[name].items()}
    return {name: _overview(states[name], sums[name], used[name].share) for name in sorted(states)}


def _overview(states: dict[str, int], sums: dict[str, int], utilisation: float) -> ClassOverview:
    return ClassOverview(
        states=dict.fromkeys(("free", "reserved", "silent", "gone"), 0) | states,
        cpus=sums["cores"] / MICRO,
        reserved_cpus=sums["reserved_cores"] / MICRO,
        memory_bytes=sums["memory"],
        reserved_memory_bytes=sums["reserved_memory"],
        accelerators=sums["accelerators"],
        reserved_accelerators=sums["reserved_accelerators"],
        utilisation=utilisation,
    )


def _speed(row: sqlite3.Row) -> float:
    """That of its probe, corrected by what has been measured since; 0 where it had no probe."""
    drift = Drift(row["speed_samples"], row["speed_reference"], row["speed_recent"])
    return float(row["gflops"] * drift.factor)


def _condition(row: DeviceRow, values: sqlite3.Row, needs: Amounts, speed: float) -> Condition:
    network = row.limits[4]
    return Condition(
        load=_load(row, needs),
        speed=speed,
        successes=values["successes"],
        failures=values["failures"],
        battery_level=values["battery_level"],
        charging=bool(values["charging"]),
        bits_per_s=None if network is None else float(network),
    )


def _load(row: DeviceRow, needs: Amounts) -> float:
    """Largest share of a capacity that would be reserved, of those asked for; infinite where they do not fit."""
    if not row.online or any(shortages(needs, row.limits, row.reserved, row.accelerator_memory_bytes)):
        return math.inf
    asked = zip(needs.units, row.reserved, row.limits, strict=True)
    return max(((new + held) / limit for new, held, limit in asked if new and limit), default=0.0)
