"""The registry's rows as values."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from motley.registry.amounts import MICRO, NOTHING, Amounts, Limits, Units, plus
from motley.registry.records import Registration, Reservation


class DeviceRow(NamedTuple):
    """What reservations depend on."""

    device_class: str = ""
    online: int = 0
    limits: Limits = NOTHING
    accelerator_memory_bytes: int = 0
    reservations: int = 0
    reserved: Units = NOTHING
    busy_micros: int = 0
    busy_until_s: float = 0.0

    @property
    def part(self) -> tuple[int, int, int]:
        """Of the tally of its class: devices, cores and cores in use."""
        if not self.online:
            return 0, 0, 0
        return 1, self.limits[0], min(self.limits[0], max(self.reserved[0], self.busy_micros))

    def holding(self, taken: Units, sign: int) -> DeviceRow:
        """With one reservation more, or one less."""
        return self._replace(reservations=self.reservations + sign, reserved=plus(self.reserved, taken, sign))

    def as_registered(self, each: Registration) -> DeviceRow:
        """Connected, with the class and the capacity that it says; what is reserved stays."""
        capacity = each.capacity
        return self._replace(
            device_class=each.device_class,
            online=1,
            limits=capacity.limits,
            accelerator_memory_bytes=capacity.accelerator_memory_bytes,
        )


class Lease(NamedTuple):
    """A reservation as it is stored."""

    reservation_id: int
    device: str
    device_class: str
    """At the time of the grant."""
    task: str
    taken: Units
    accelerator_memory_bytes: int
    granted_s: float
    expires_s: float

    def as_reservation(self) -> Reservation:
        micros, memory_bytes, accelerators, disk_bytes, bits_per_s = self.taken
        needs = Amounts(
            micros / MICRO, memory_bytes, accelerators, self.accelerator_memory_bytes, disk_bytes, float(bits_per_s)
        )
        return Reservation(self.reservation_id, self.device, self.task, needs, self.granted_s, self.expires_s)


class Holding(NamedTuple):
    """What a task holds of a class."""

    devices: int = 0
    cpu_micros: int = 0


def device_row(values: sqlite3.Row) -> DeviceRow:
    """Of a row that begins with `DEVICE_COLUMNS`."""
    return DeviceRow(values[0], values[1], values[2:7], values[7], values[8], values[9:14], values[14], values[15])


def lease(values: sqlite3.Row) -> Lease:
    """Of a row of `LEASE_COLUMNS`."""
    return Lease(values[0], values[1], values[2], values[3], values[4:9], values[9], values[10], values[11])


DEVICE_COLUMNS = (
    "device_class, online, cpu_micros, memory_bytes, accelerators, disk_bytes, bits_per_s, accelerator_memory_bytes, "
    "reservations, reserved_cpu_micros, reserved_memory_bytes, reserved_accelerators, reserved_disk_bytes, "
    "reserved_bits_per_s, busy_micros, busy_until_s"
)
LEASE_COLUMNS = (
    "reservation_id, device, device_class, task, cpu_micros, memory_bytes, accelerators, disk_bytes, bits_per_s, "
    "accelerator_memory_bytes, granted_s, expires_s"
)
