"""What is kept of a device besides its reservations: profile, speed, reliability, battery, when it was heard."""

from __future__ import annotations

import sqlite3

from motley.registry.drift import Drift, Reassessment
from motley.registry.records import News, Registration

KEPT = 0.98
"""Weight that a success or failure keeps with each further one: the last fifty or so tell."""

_REGISTER = """
INSERT INTO registry_devices (device, device_class, online, profiled_s, seen_s, cpu_micros, memory_bytes,
    accelerators, disk_bytes, bits_per_s, accelerator_memory_bytes, gflops, battery_level, charging)
VALUES (?1, ?2, 1, ?3, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
ON CONFLICT DO UPDATE SET device_class = ?2, profiled_s = ?3, seen_s = ?3, cpu_micros = ?4, memory_bytes = ?5,
    accelerators = ?6, disk_bytes = ?7, bits_per_s = ?8, accelerator_memory_bytes = ?9, gflops = ?10,
    battery_level = ?11, charging = ?12, speed_samples = 0, speed_reference = 0, speed_recent = 0, departs = 0
"""
_FIGURES = """
SELECT speed_samples, speed_reference, speed_recent, departs, successes, failures FROM registry_devices
WHERE device = ?
"""
_NOTE = """
UPDATE registry_devices SET seen_s = ?, speed_samples = ?, speed_reference = ?, speed_recent = ?, departs = ?,
    successes = ?, failures = ?, battery_level = COALESCE(?, battery_level), charging = COALESCE(?, charging)
WHERE device = ?
"""


def put_registration(db: sqlite3.Connection, each: Registration, now_s: float) -> None:
    """A new device, or one whose profile takes the place of the former; reservations and reliability stay."""
    capacity = each.capacity
    db.execute(
        _REGISTER,
        (
            each.device,
            each.device_class,
            now_s,
            *capacity.limits,
            capacity.accelerator_memory_bytes,
            each.gflops,
            each.battery_level,
            each.charging,
        ),
    )


def put_news(db: sqlite3.Connection, news: News, rules: Reassessment, now_s: float) -> None:
    """Of a device that is registered."""
    samples, reference, recent, departs, successes, failures = db.execute(_FIGURES, (news.device,)).fetchone()
    drift = Drift(samples, reference, recent, bool(departs))
    if news.speed is not None:
        drift = drift.after(news.speed, rules)
    if news.succeeded is not None:
        successes, failures = KEPT * successes + news.succeeded, KEPT * failures + (not news.succeeded)
    figures = (drift.samples, drift.reference, drift.recent, drift.departs, successes, failures)
    db.execute(_NOTE, (now_s, *figures, news.battery_level, news.charging, news.device))
