"""How much a device has, how much is asked of it, and what is short. Pure.

Sums are kept in whole units (millionths of a core, bytes, bits a second), so that what is taken and
given back a million times leaves exactly nothing behind.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from enum import StrEnum

from motley.errors import InputError
from motley.units import format_bits_per_s, format_bytes

MICRO = 1_000_000
"""Units of a core."""

MOST_CPUS = 2.0**53 / MICRO


class Short(StrEnum):
    """What a refusal can be for."""

    CORES = "cores"
    MEMORY = "memory"
    ACCELERATORS = "accelerators"
    ACCELERATOR_MEMORY = "accelerator memory"
    DISK = "disk"
    NETWORK = "network"
    DEVICE_QUOTA = "quota of devices"
    CORE_QUOTA = "quota of cores"
    NOT_REGISTERED = "not registered"
    NOT_CONNECTED = "not connected"


Units = tuple[int, int, int, int, int]
"""What adds up: millionths of cores, bytes of memory, accelerators, bytes of disk, bits a second."""

Limits = tuple[int, int, int, int | None, int | None]
"""The same of a device; None where nothing limits it."""

NOTHING: Units = (0, 0, 0, 0, 0)
SUMMED = (Short.CORES, Short.MEMORY, Short.ACCELERATORS, Short.DISK, Short.NETWORK)
"""What each of the units is called in a refusal."""


@dataclass(frozen=True)
class Amounts:
    """What a reservation takes. 0: none of it."""

    cpus: float = 0.0
    memory_bytes: int = 0
    accelerators: int = 0
    """Taken whole, shared with nobody."""
    accelerator_memory_bytes: int = 0
    """That each of them must have at least."""
    disk_bytes: int = 0
    bits_per_s: float = 0.0

    def __post_init__(self) -> None:
        _check(self)

    @property
    def units(self) -> Units:
        cores, network = round(self.cpus * MICRO), round(self.bits_per_s)
        return cores, self.memory_bytes, self.accelerators, self.disk_bytes, network


@dataclass(frozen=True)
class Capacity:
    """What a device has for work."""

    cpus: float
    memory_bytes: int
    accelerators: int = 0
    accelerator_memory_bytes: int = 0
    """Of each."""
    disk_bytes: int | None = None
    """None: not known, and not limited."""
    bits_per_s: float | None = None
    """None: not known, and not limited."""

    def __post_init__(self) -> None:
        _check(self)

    @property
    def limits(self) -> Limits:
        network = None if self.bits_per_s is None else round(self.bits_per_s)
        return round(self.cpus * MICRO), self.memory_bytes, self.accelerators, self.disk_bytes, network


@dataclass(frozen=True)
class Shortage:
    """One thing that is short: how much was asked for, how much there was. Bytes, cores, bits a second, pieces."""

    what: Short
    asked: float = 0.0
    free: float = 0.0

    def __str__(self) -> str:
        if self.what in (Short.NOT_REGISTERED, Short.NOT_CONNECTED):
            return f"device: {self.what}"
        asked, free = (_written(self.what, value) for value in (self.asked, self.free))
        return f"{self.what}: {asked} asked, {free} free"


def shortages(needs: Amounts, limits: Limits, taken: Units, accelerator_memory_bytes: int) -> Iterator[Shortage]:
    """What keeps `needs` from fitting beside what is taken; nothing where they fit."""
    for what, asked, limit, used in zip(SUMMED, needs.units, limits, taken, strict=True):
        if asked and limit is not None and asked > limit - used:
            scale = MICRO if what is Short.CORES else 1
            yield Shortage(what, asked / scale, max(0, limit - used) / scale)
    if needs.accelerators and needs.accelerator_memory_bytes > accelerator_memory_bytes:
        yield Shortage(Short.ACCELERATOR_MEMORY, needs.accelerator_memory_bytes, accelerator_memory_bytes)


def plus(taken: Units, change: Units, sign: int = 1) -> Units:
    """`taken` and `change` together, or less it where the sign is -1."""
    a, b, c, d, e = change
    v, w, x, y, z = taken
    return v + sign * a, w + sign * b, x + sign * c, y + sign * d, z + sign * e


def _written(what: Short, value: float) -> str:
    if what in (Short.MEMORY, Short.ACCELERATOR_MEMORY, Short.DISK):
        return format_bytes(int(value))
    return format_bits_per_s(value) if what is Short.NETWORK else f"{value:g}"


def _check(amounts: Amounts | Capacity) -> None:
    """Raises InputError for what is negative, not a number, or more than any machine has."""
    for name in _NAMES:
        value = getattr(amounts, name)
        if value is not None and not 0 <= value <= _LARGEST[name]:
            raise InputError(f"{name} {value}; give a number from 0 to {_LARGEST[name]:g}")
    if amounts.accelerator_memory_bytes and not amounts.accelerators:
        raise InputError(f"accelerator_memory_bytes {amounts.accelerator_memory_bytes} without accelerators")


_NAMES = tuple(each.name for each in fields(Amounts))
_LARGEST = {name: MOST_CPUS if name == "cpus" else 2.0**53 for name in _NAMES}
