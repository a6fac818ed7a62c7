"""Limits that a device sets itself, below those that the kernel enforces, and the events of crossing them. Pure.

A limit is crossed as soon as the value is beyond it, and kept again only when the value is back by a
margin, so that a value which trembles at its limit gives one event and not one a sample.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from enum import StrEnum

from motley.errors import InputError
from motley.samples import Sample

RECOVERY_SHARE = 0.05
"""The margin, as a share of the limit: a limit of 100 W is kept again at 95 W, a floor of 20 % at 21 %."""
RECOVERY_KELVIN = 2.0
"""The margin of temperature, whose zero means nothing: 80 °C is kept again at 78 °C."""


class LimitKind(StrEnum):
    """What is limited."""

    MEMORY = "memory"
    CPU = "cpu"
    GPU_MEMORY = "gpu_memory"
    POWER = "power"
    TEMPERATURE = "temperature"
    BATTERY = "battery"


@dataclass(frozen=True)
class ResourceLimits:
    """None stands for "not limited". Raises InputError for a limit that nothing could keep."""

    memory_bytes: int | None = None
    """Of the container; of the watched process and its descendants where nothing limits the container."""
    cpu_percent: float | None = None
    """Of the quota, or of all cores where there is none."""
    gpu_memory_bytes: int | None = None
    """Of the fullest GPU."""
    power_w: float | None = None
    celsius: float | None = None
    battery_floor: float | None = None
    """0–1; the only limit that is crossed downwards. A device that charges is never below it."""

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if value is not None and not _makes_sense(each.name, value):
                wanted = "within 0 and 1" if each.name == "battery_floor" else "a number above 0"
                raise InputError(f"{each.name}: {value!r} is no limit; give {wanted}, or leave it out")


@dataclass(frozen=True)
class LimitEvent:
    """A limit was crossed, or is kept again."""

    kind: LimitKind
    at_s: float
    value: float
    limit: float
    crossed: bool
    """True when crossed, False when recovered."""


@dataclass(frozen=True)
class Watch:
    """The limits, and those of them that are crossed."""

    limits: ResourceLimits = ResourceLimits()
    over: frozenset[LimitKind] = frozenset()

    def look(self, sample: Sample) -> tuple[Watch, tuple[LimitEvent, ...]]:
        """The watch after `sample`, and what it crossed or keeps again. A value that is None changes nothing."""
        seen = (self._event(kind, sample) for kind in LimitKind)
        events = tuple(event for event in seen if event is not None)
        turned = frozenset(event.kind for event in events)
        return replace(self, over=self.over ^ turned), events

    def _event(self, kind: LimitKind, sample: Sample) -> LimitEvent | None:
        limit, value = limit_of(kind, self.limits), value_of(kind, sample)
        if limit is None or value is None:
            return None
        was_over = kind in self.over
        turned = _recovered(kind, value, limit, sample) if was_over else _crossed(kind, value, limit, sample)
        return LimitEvent(kind, sample.at_s, value, limit, crossed=not was_over) if turned else None


def limit_of(kind: LimitKind, limits: ResourceLimits) -> float | None:
    """The limit of one kind, in the unit of `value_of`."""
    return _LIMITS[kind](limits)


def value_of(kind: LimitKind, sample: Sample) -> float | None:
    """What the limit of this kind is held against."""
    return _VALUES[kind](sample)


def _crossed(kind: LimitKind, value: float, limit: float, sample: Sample) -> bool:
    if kind is LimitKind.BATTERY:
        return value < limit and not sample.charging
    return value > limit


def _recovered(kind: LimitKind, value: float, limit: float, sample: Sample) -> bool:
    if kind is LimitKind.BATTERY:
        return bool(sample.charging) or value >= min(1.0, limit + limit * RECOVERY_SHARE)
    margin = RECOVERY_KELVIN if kind is LimitKind.TEMPERATURE else limit * RECOVERY_SHARE
    return value <= limit - margin


def _makes_sense(name: str, value: float) -> bool:
    if not math.isfinite(value):
        return False
    return 0 <= value <= 1 if name == "battery_floor" else value > 0


def _fullest_gpu(sample: Sample) -> int | None:
    return max((gpu.memory_bytes for gpu in sample.gpus if gpu.memory_bytes is not None), default=None)


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


_LIMITS: dict[LimitKind, Callable[[ResourceLimits], float | None]] = {
    LimitKind.MEMORY: lambda limits: limits.memory_bytes,
    LimitKind.CPU: lambda limits: limits.cpu_percent,
    LimitKind.GPU_MEMORY: lambda limits: limits.gpu_memory_bytes,
    LimitKind.POWER: lambda limits: limits.power_w,
    LimitKind.TEMPERATURE: lambda limits: limits.celsius,
    LimitKind.BATTERY: lambda limits: limits.battery_floor,
}

_VALUES: dict[LimitKind, Callable[[Sample], float | None]] = {
    LimitKind.MEMORY: lambda sample: sample.governed_memory_bytes,
    LimitKind.CPU: lambda sample: _percent(sample.cpu_share),
    LimitKind.GPU_MEMORY: _fullest_gpu,
    LimitKind.POWER: lambda sample: sample.power_w,
    LimitKind.TEMPERATURE: lambda sample: sample.celsius,
    LimitKind.BATTERY: lambda sample: sample.battery_level,
}
