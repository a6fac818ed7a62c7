"""What devices are made of: a class as the fleet file describes it, and one device drawn from it.

`DeviceClass` may hold distributions; `DeviceSpec` holds plain numbers only, in the units of the fields
of the same name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from motley import units
from motley.errors import did_you_mean
from motley.population import (
    AnyBitRate,
    AnyCores,
    AnyMemory,
    AnyMilliseconds,
    AnySeconds,
    AnyShare,
    Distribution,
    Uniform,
    draws,
    least,
)
from motley.quantities import (
    GOVERNORS,
    MAX_DEVICES,
    MEMORY_FLOOR_BYTES,
    MIN_CPUS,
    BatchSize,
    LearningRate,
    Memory,
    Ratio,
    RuleError,
    Share,
    Spread,
    Strict,
    WattHours,
    Watts,
)

_MIB = 1024**2
_CPU_DIGITS = 10_000
_LEAST_READY, _LEAST_SESSION_S = 1e-6, 0.001
_ANY_TIME: Distribution[float] = Distribution(uniform=Uniform(low=0.0, high=1.0))


class Network(Strict):
    """A device's link. Rates shape the container's own interface; latency is added to each packet sent."""

    down: AnyBitRate | None = None
    up: AnyBitRate | None = None
    latency: AnySeconds | None = None
    variation: Spread = 0.0
    """Coefficient of variation of the rates from message to message; on the virtual clock only."""


class Battery(Strict):
    """A device's battery: its capacity, how full it starts, and the level below which it rests."""

    capacity: WattHours
    level: AnyShare = 1.0
    floor: Share = 0.2
    charging: bool = False
    charge: Watts = 10.0
    """Power that flows in while it charges."""
    charging_share: Share | None = None
    """Share of each day that it charges; None: always or never, as `charging` says."""
    charging_from: AnyShare | None = None
    """When in the day it begins to charge, 0–1; None: at a time of its own, all as likely.

    The day begins with the run on the virtual clock, and with the device in a container.
    """

    @model_validator(mode="after")
    def _window_has_a_length(self) -> Battery:
        if self.charging_from is not None and self.charging_share is None:
            raise RuleError(("charging_from",), "charging_from does nothing without charging_share; write both")
        return self


class Power(Strict):
    """What a device draws while it waits and while it computes, in watts."""

    idle: Watts = 1.0
    busy: Watts = 4.0

    @model_validator(mode="after")
    def _in_order(self) -> Power:
        if self.idle > self.busy:
            raise RuleError(("idle",), f"idle '{units.format_watts(self.idle)}' is above busy; swap them")
        return self


class Availability(Strict):
    """When a device can take part: it comes for sessions of lognormal length, and goes between them."""

    ready: AnyShare
    """Share of the time that it is there, in the long run."""
    session: AnySeconds
    """Median length of a session."""
    spread: Spread = 1.0
    """σ of the length's lognormal distribution, for sessions and for the gaps between them."""

    @model_validator(mode="after")
    def _comes_at_all(self) -> Availability:
        for name, value in (("ready", self.ready), ("session", self.session)):
            if not isinstance(value, Distribution) and value <= 0:
                raise RuleError((name,), f"{name} must be above 0, or the device never comes")
        return self


class Heat(Strict):
    """Temperatures in degrees Celsius: of the surroundings, where throttling starts, and the limit."""

    ambient_celsius: Annotated[float, Field(ge=-40, le=60, allow_inf_nan=False)] = 25.0
    throttle_celsius: Annotated[float, Field(ge=0, le=120, allow_inf_nan=False)] = 45.0
    limit_celsius: Annotated[float, Field(ge=0, le=120, allow_inf_nan=False)] = 60.0

    @model_validator(mode="after")
    def _in_order(self) -> Heat:
        if not self.ambient_celsius < self.throttle_celsius <= self.limit_celsius:
            raise RuleError(
                ("throttle_celsius",),
                f"throttle_celsius {self.throttle_celsius:g} must lie between ambient {self.ambient_celsius:g} "
                f"and limit {self.limit_celsius:g}",
            )
        return self


class Limits(Strict):
    """Limits that a device sets itself, below those that the kernel enforces. Not on the virtual clock."""

    memory: Memory | None = None
    """Of the container; batches are sized to it too."""
    cpu_percent: Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)] | None = None
    """Of the quota."""
    gpu_memory: Memory | None = None
    """Of each GPU."""
    power: Annotated[Watts, Field(gt=0)] | None = None
    celsius: Annotated[float, Field(gt=0, le=120, allow_inf_nan=False)] | None = None
    battery_floor: Ratio | None = None


def _governor(value: str) -> str:
    if value not in ("none", *GOVERNORS):
        raise RuleError((), f"governor '{value[:60]}' is not known{did_you_mean(value[:60], ('none', *GOVERNORS))}")
    return value


@dataclass(frozen=True, slots=True)
class LinkSpec:
    """The link of one device: bits per second, seconds; None where it is not limited."""

    down: float | None = None
    up: float | None = None
    latency: float | None = None
    variation: float = 0.0


@dataclass(frozen=True, slots=True)
class BatterySpec:
    """The battery of one device: watt-hours, shares of its capacity, watts."""

    capacity: float
    level: float
    floor: float
    charge: float
    charging_share: float
    """1 for always, 0 for never."""
    charging_from: float


@dataclass(frozen=True, slots=True)
class AvailabilitySpec:
    """When one device is there: a share of the time, the median session in seconds, its σ."""

    ready: float
    session: float
    spread: float


@dataclass(frozen=True, slots=True)
class DeviceSpec:
    """One device, with every distribution drawn: cores, bytes, milliseconds."""

    cpus: float
    memory: int
    ms_per_example: float | None
    """Of training at one core, forward and backward; None: what the task itself was measured to take."""
    compute_variation: float
    priority: float
    batch_size: int | None
    learning_rate: float | None
    network: LinkSpec | None
    battery: BatterySpec | None
    availability: AvailabilitySpec | None
    power: Power | None
    heat: Heat | None
    accelerators: int
    usd_per_hour: float
    limits: Limits | None
    governor: str

    @property
    def slowness(self) -> float:
        """Milliseconds per training example at its quota; only to compare devices where none are given."""
        return (1.0 if self.ms_per_example is None else self.ms_per_example) / self.cpus


class DeviceClass(Strict):
    """Devices described together."""

    count: Annotated[int, Field(ge=0, le=MAX_DEVICES)] = 1
    cpus: AnyCores
    memory: AnyMemory
    ms_per_example: AnyMilliseconds | None = None
    compute_variation: Spread = 0.02
    """Coefficient of variation of equal work on one device; on the virtual clock only."""
    priority: Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)] = 1.0
    batch_size: BatchSize = None
    learning_rate: LearningRate = None
    network: Network | None = None
    battery: Battery | None = None
    availability: Availability | None = None
    power: Power | None = None
    heat: Heat | None = None
    accelerators: Annotated[int, Field(ge=0, le=16)] = 0
    usd_per_hour: Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)] = 0.0
    """What a device costs while it is rented, at work or not."""
    quota: Ratio = 1.0
    """Share of its devices that may be at work at one time. Not on the virtual clock."""
    limits: Limits | None = None
    governor: Annotated[str, AfterValidator(_governor)] | None = None
    """What keeps training within the limits; None: dynamic where there are limits, else none."""

    @model_validator(mode="after")
    def _above_floor(self) -> DeviceClass:
        smallest, floor = int(least(self.memory)), units.format_bytes(MEMORY_FLOOR_BYTES)
        need = f"the measured floor of {floor}: a device needs that much to start PyTorch and Flower"
        if smallest == 0:
            raise RuleError(("memory",), f"memory has no lower bound; add 'min: {floor}', {need}")
        if smallest < MEMORY_FLOOR_BYTES:
            raise RuleError(
                ("memory",),
                f"memory '{units.format_bytes(smallest)}' is below {need}; write at least '{floor}'",
            )
        return self

    @model_validator(mode="after")
    def _own_limit_fits(self) -> DeviceClass:
        own, smallest = self.limits.memory if self.limits else None, int(least(self.memory))
        if own is not None and not MEMORY_FLOOR_BYTES <= own <= smallest:
            floor = units.format_bytes(MEMORY_FLOOR_BYTES)
            raise RuleError(
                ("limits", "memory"),
                f"limits.memory '{units.format_bytes(own)}' must lie between the measured floor of {floor} and the "
                f"device's memory of {units.format_bytes(smallest)}",
            )
        return self

    @property
    def is_drawn(self) -> bool:
        """Its devices differ, because something in it is a distribution."""
        network, battery, availability = self.network, self.battery, self.availability
        if battery is not None and battery.charging_share is not None and battery.charging_from is None:
            return True
        places = (
            *(self.cpus, self.memory, self.ms_per_example),
            *((battery.level, battery.charging_from) if battery else ()),
            *((network.down, network.up, network.latency) if network else ()),
            *((availability.ready, availability.session) if availability else ()),
        )
        return any(isinstance(each, Distribution) for each in places)

    def specs(self, *key: object) -> Iterator[DeviceSpec]:
        """Every device of the class; the n-th depends on `key` and n, and not on how many there are.

        Devices of a class without distributions are one and the same object.
        """
        if not self.is_drawn:
            return iter([next(self._drawn(key))] * self.count)
        return islice(self._drawn(key), self.count)

    def _drawn(self, key: tuple[object, ...]) -> Iterator[DeviceSpec]:
        columns = zip(
            draws(self.cpus, *key, "cpus"),
            draws(self.memory, *key, "memory"),
            draws(self.ms_per_example, *key, "ms_per_example"),
            self._links(key),
            self._batteries(key),
            self._availabilities(key),
            strict=True,
        )
        for cpus, memory, ms_per_example, network, battery, availability in columns:
            yield DeviceSpec(
                cpus=_whole_steps(cpus) if isinstance(self.cpus, Distribution) else cpus,
                memory=int(memory) // _MIB * _MIB if isinstance(self.memory, Distribution) else memory,
                ms_per_example=ms_per_example,
                compute_variation=self.compute_variation,
                priority=self.priority,
                batch_size=self.batch_size,
                learning_rate=self.learning_rate,
                network=network,
                battery=battery,
                availability=availability,
                power=self.power,
                heat=self.heat,
                accelerators=self.accelerators,
                usd_per_hour=self.usd_per_hour,
                limits=self.limits,
                governor=self.governor or ("dynamic" if self.limits else "none"),
            )

    def _links(self, key: tuple[object, ...]) -> Iterator[LinkSpec | None]:
        net = self.network
        if net is None:
            return draws(None)
        columns = (draws(getattr(net, name), *key, "network", name) for name in ("down", "up", "latency"))
        return (
            LinkSpec(_whole_bits(down), _whole_bits(up), latency, net.variation)
            for down, up, latency in zip(*columns, strict=True)
        )

    def _batteries(self, key: tuple[object, ...]) -> Iterator[BatterySpec | None]:
        own = self.battery
        if own is None:
            return draws(None)
        levels = draws(own.level, *key, "battery", "level")
        share, begin = own.charging_share, own.charging_from
        if share is None:
            share, begin = float(own.charging), 0.0
        begins = draws(_ANY_TIME if begin is None else begin, *key, "battery", "charging_from")
        return (
            BatterySpec(own.capacity, level, own.floor, own.charge, share, at)
            for level, at in zip(levels, begins, strict=False)
        )

    def _availabilities(self, key: tuple[object, ...]) -> Iterator[AvailabilitySpec | None]:
        own = self.availability
        if own is None:
            return draws(None)
        columns = (draws(getattr(own, name), *key, "availability", name) for name in ("ready", "session"))
        return (
            AvailabilitySpec(min(max(ready, _LEAST_READY), 1.0), max(session, _LEAST_SESSION_S), own.spread)
            for ready, session in zip(*columns, strict=True)
        )


def _whole_bits(rate: float | None) -> float | None:
    return None if rate is None else max(1.0, float(round(rate)))


def _whole_steps(cpus: float) -> float:
    """Cores rounded down to a ten-thousandth: a hundredth of a millisecond in each period."""
    return max(MIN_CPUS, int(cpus * _CPU_DIGITS) / _CPU_DIGITS)
