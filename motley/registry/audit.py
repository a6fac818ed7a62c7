"""Whether what the registry counts is what it holds: each sum is made anew from the reservations themselves."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

_HELD = """
printf('%d (%d %d %d %d %d)', COUNT(*), TOTAL(cpu_micros), TOTAL(memory_bytes), TOTAL(accelerators),
    TOTAL(disk_bytes), TOTAL(bits_per_s))
"""
_QUESTIONS = {
    "device {}: {} reserved in its row, {} by its reservations": f"""
        WITH sums AS (SELECT device, {_HELD} AS held FROM registry_reservations GROUP BY device)
        SELECT device, printf('%d (%d %d %d %d %d)', reservations, reserved_cpu_micros, reserved_memory_bytes,
            reserved_accelerators, reserved_disk_bytes, reserved_bits_per_s) AS kept,
            COALESCE(held, '0 (0 0 0 0 0)') AS summed
        FROM registry_devices LEFT JOIN sums USING (device) WHERE kept <> summed
    """,
    "device {}: more of something is reserved than it has; of cores, {} of {} millionths": """
        SELECT device, reserved_cpu_micros, cpu_micros FROM registry_devices
        WHERE reserved_cpu_micros > cpu_micros OR reserved_memory_bytes > memory_bytes
            OR reserved_accelerators > accelerators OR reserved_disk_bytes > disk_bytes
            OR reserved_bits_per_s > bits_per_s
    """,
    "reservation {}: on device {}, which is not registered": """
        SELECT reservation_id, device FROM registry_reservations
        WHERE device NOT IN (SELECT device FROM registry_devices)
    """,
    "class {}: {} in its row, {} by its devices": """
        SELECT device_class, printf('%d (%d %d)', devices, cpu_micros, used_micros) AS kept,
            (SELECT printf('%d (%d %d)', COUNT(*), TOTAL(d.cpu_micros),
                TOTAL(MIN(d.cpu_micros, MAX(d.reserved_cpu_micros, d.busy_micros))))
             FROM registry_devices d WHERE d.device_class = c.device_class AND d.online) AS held
        FROM registry_classes c WHERE kept <> held
    """,
    "task {1} in class {0}: {2} in its row, {3} by its reservations": """
        WITH sums AS (
            SELECT device_class, task, printf('%d (%d)', COUNT(DISTINCT device), TOTAL(cpu_micros)) AS held
            FROM registry_reservations GROUP BY device_class, task
        )
        SELECT device_class, task, printf('%d (%d)', devices, cpu_micros) AS kept, COALESCE(held, '0 (0)') AS summed
        FROM registry_holdings LEFT JOIN sums USING (device_class, task) WHERE kept <> summed
    """,
    "task {} in class {}: holds reservations, but has no row": """
        SELECT DISTINCT task, device_class FROM registry_reservations
        EXCEPT SELECT task, device_class FROM registry_holdings
    """,
}


def faults(db: sqlite3.Connection) -> Iterator[str]:
    """One line for each thing that is wrong; nothing where all is well."""
    for text, question in _QUESTIONS.items():
        yield from (text.format(*row) for row in db.execute(question))
