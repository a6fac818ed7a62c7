"""What goes into the registry and what comes out of it: frozen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from motley.device import DeviceProfile
from motley.errors import InputError
from motley.registry.amounts import MOST_CPUS, Amounts, Capacity, Short, Shortage

LONGEST_LEASE_S = 366 * 24 * 3600.0


@dataclass(frozen=True)
class Registration:
    """A device as it comes in, or says anew what it is."""

    device: str
    device_class: str
    capacity: Capacity
    gflops: float = 0.0
    """Of its speed probe; 0 where it had none."""
    battery_level: float = -1.0
    """0–1; -1 where there is no battery."""
    charging: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.gflops < math.inf:
            raise InputError(f"device '{self.device}' has a speed of {self.gflops} GFLOPS; give a number of 0 or more")
        _check_battery(self.device, self.battery_level)


@dataclass(frozen=True)
class News:
    """What a reply or a heartbeat tells of a device; None: nothing about it. Any news says that it is connected."""

    device: str
    busy_cpus: float | None = None
    """Cores in use, reserved ones included; counts as used for a while, with or without a reservation."""
    speed: float | None = None
    """Of the work just done, such as examples a second: in any unit, but always the same one for a device."""
    succeeded: bool | None = None
    """Whether the work brought a result."""
    battery_level: float | None = None
    charging: bool | None = None

    def __post_init__(self) -> None:
        if self.busy_cpus is not None and not 0 <= self.busy_cpus <= MOST_CPUS:
            raise InputError(f"device '{self.device}' reports {self.busy_cpus} busy cores; give a number of 0 or more")
        if self.battery_level is not None:
            _check_battery(self.device, self.battery_level)


@dataclass(frozen=True)
class Request:
    """One reservation that is asked for."""

    device: str
    task: str
    """Whoever shares one quota: a run, or one of its tasks."""
    needs: Amounts
    lease_s: float
    """After so many seconds it ends by itself, unless renewed."""

    def __post_init__(self) -> None:
        check_lease(self.lease_s)


@dataclass(frozen=True)
class Reservation:
    """Granted, and held until it is released or expires."""

    reservation_id: int
    """Never given twice in one store."""
    device: str
    task: str
    needs: Amounts
    granted_s: float
    expires_s: float


@dataclass(frozen=True)
class Refusal:
    """Not granted: everything that was short, not only the first thing."""

    device: str
    task: str
    shortages: tuple[Shortage, ...]

    def __str__(self) -> str:
        return f"{self.device} for '{self.task}': {'; '.join(map(str, self.shortages))}"


@dataclass(frozen=True)
class Quota:
    """The largest shares of a class that one task may hold at a time.

    They are taken of the devices that are connected. One device is always allowed, however small the class.
    """

    devices: float = 1.0
    cores: float = 1.0

    def __post_init__(self) -> None:
        for name, share in (("devices", self.devices), ("cores", self.cores)):
            if not 0 < share <= 1:
                raise InputError(f"a quota of {share} of the {name} of a class; give a share above 0 and up to 1")


@dataclass(frozen=True)
class Utilisation:
    """Core-seconds in use over core-seconds there were; 0–1."""

    whole: float
    classes: Mapping[str, float]


@dataclass(frozen=True)
class ClassOverview:
    """One class of devices."""

    states: Mapping[str, int]
    """Devices by state: free, reserved, silent (connected, but long not heard of) and gone."""
    cpus: float
    """Of the devices that are connected, as all sums here."""
    reserved_cpus: float
    memory_bytes: int
    reserved_memory_bytes: int
    accelerators: int
    reserved_accelerators: int
    utilisation: float
    """Of its cores, over the window of the snapshot; 0–1."""


@dataclass(frozen=True)
class Snapshot:
    """The whole registry at one moment."""

    at_s: float
    classes: Mapping[str, ClassOverview]
    reservations: int
    refusals: Mapping[tuple[str, Short], int]
    """Since the store was made: how often what was short, by class; the class of an unknown device is empty."""
    utilisation: float
    """Of all cores; 0–1."""


def registration_of(profile: DeviceProfile) -> Registration:
    """A device by its own profile. Its network capacity is that of the slower direction, none where not shaped."""
    rates = [rate for rate in (profile.down_bits_per_s, profile.up_bits_per_s) if rate > 0]
    capacity = Capacity(
        cpus=profile.cpus,
        memory_bytes=profile.memory_bytes,
        accelerators=profile.accelerators,
        bits_per_s=min(rates, default=None),
    )
    return Registration(
        profile.device, profile.device_class, capacity, profile.gflops, profile.battery_level, profile.charging
    )


def check_lease(lease_s: float) -> None:
    """Raises InputError for one that would never end, or has ended already."""
    if not 0 < lease_s <= LONGEST_LEASE_S:
        raise InputError(f"a lease of {lease_s} s; give more than 0 and up to {LONGEST_LEASE_S:g}")


def _check_battery(device: str, level: float) -> None:
    if not (0 <= level <= 1 or level == -1):
        raise InputError(f"device '{device}' has a battery level of {level}; give 0 to 1, or -1 for no battery")
