"""A sample as figures with a label, a unit and the limit that each one stands against. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from motley.resource_limits import LimitKind, ResourceLimits
from motley.samples import GpuSample, Sample

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


class Unit(StrEnum):
    """How a figure is written."""

    BYTES = "bytes"
    BYTES_PER_S = "bytes per second"
    RATIO = "ratio"
    WATTS = "watts"
    CELSIUS = "degrees Celsius"


@dataclass(frozen=True)
class Figure:
    """One figure of one moment."""

    key: str
    """Under which it stands in files; the unit is in the name."""
    label: str
    unit: Unit
    value: float
    limit: float | None = None
    """What the figure is held against: where a bar is full."""
    set_by: str = ""
    """Who set the limit: you, the kernel, or the machine by its size."""
    kind: LimitKind | None = None
    source: str = ""
    """Where the figure comes from, where that is worth saying: modelled, rapl …"""
    note: str = ""

    @property
    def share(self) -> float | None:
        """Of the limit; None where there is none."""
        return self.value / self.limit if self.limit else None


def figures(sample: Sample, limits: ResourceLimits, before: Sample | None = None) -> tuple[Figure, ...]:
    """All that is known at this moment, in the order in which it is shown.

    before: the sample before this one; without it there are no rates of the network.
    """
    return (
        *_memory(sample, limits),
        *_cpu(sample, limits),
        *(figure for gpu in sample.gpus for figure in _gpu(gpu, limits)),
        *_power_and_heat(sample, limits),
        *_battery(sample, limits),
        *_network(sample, before),
    )


def _memory(sample: Sample, limits: ResourceLimits) -> Iterator[Figure]:
    """A limit of one's own is held against `governed_memory_bytes`: the container's, else the process's."""
    own, enforced, machine = limits.memory_bytes, sample.memory_limit_bytes, sample.machine_memory_total_bytes
    contained = enforced is not None and enforced != machine
    if sample.memory_bytes is not None and contained:
        limit, set_by = (enforced, "kernel") if own is None or (enforced or own) < own else (own, "yours")
        yield Figure("memory_bytes", "memory", Unit.BYTES, sample.memory_bytes, limit, set_by, LimitKind.MEMORY)
    if sample.process_memory_bytes is not None:
        value = sample.process_memory_bytes
        if contained:
            yield Figure("process_memory_bytes", "process", Unit.BYTES, value, enforced, "kernel")
        else:
            limit, set_by = (machine, "size") if own is None else (own, "yours")
            yield Figure("process_memory_bytes", "process", Unit.BYTES, value, limit, set_by, LimitKind.MEMORY)
    if sample.machine_memory_bytes is not None:
        yield Figure("machine_memory_bytes", "machine", Unit.BYTES, sample.machine_memory_bytes, machine, "size")
    if sample.memory_pressure is not None:
        yield Figure("memory_pressure", "memory stalls", Unit.RATIO, sample.memory_pressure, 1.0)


def _cpu(sample: Sample, limits: ResourceLimits) -> Iterator[Figure]:
    if sample.cpu_share is not None:
        own = limits.cpu_percent
        limit, set_by = (1.0, "") if own is None else (own / 100, "yours")
        yield Figure("cpu_share", "CPU", Unit.RATIO, sample.cpu_share, limit, set_by, LimitKind.CPU)
    if sample.throttled_share is not None:
        yield Figure("throttled_share", "throttled", Unit.RATIO, sample.throttled_share, 1.0)
    if sample.cpu_pressure is not None:
        yield Figure("cpu_pressure", "CPU waits", Unit.RATIO, sample.cpu_pressure, 1.0)


def _gpu(gpu: GpuSample, limits: ResourceLimits) -> Iterator[Figure]:
    prefix, label = f"gpu_{gpu.index}", f"GPU {gpu.index}"
    if gpu.memory_bytes is not None:
        own = limits.gpu_memory_bytes
        limit, set_by = (gpu.memory_total_bytes, "size") if own is None else (own, "yours")
        kind, text = LimitKind.GPU_MEMORY, f"{label} memory"
        yield Figure(f"{prefix}_memory_bytes", text, Unit.BYTES, gpu.memory_bytes, limit, set_by, kind)
    if gpu.utilisation is not None:
        yield Figure(f"{prefix}_utilisation", f"{label} busy", Unit.RATIO, gpu.utilisation, 1.0, source=gpu.name)
    if gpu.power_w is not None:
        yield Figure(f"{prefix}_power_w", f"{label} power", Unit.WATTS, gpu.power_w)
    if gpu.celsius is not None:
        yield Figure(f"{prefix}_celsius", f"{label} heat", Unit.CELSIUS, gpu.celsius)


def _power_and_heat(sample: Sample, limits: ResourceLimits) -> Iterator[Figure]:
    if sample.power_w is not None:
        set_by = "" if limits.power_w is None else "yours"
        kind, source = LimitKind.POWER, sample.power_source
        yield Figure("power_w", "power", Unit.WATTS, sample.power_w, limits.power_w, set_by, kind, source)
    if sample.celsius is not None:
        set_by = "" if limits.celsius is None else "yours"
        kind, source = LimitKind.TEMPERATURE, sample.celsius_source
        yield Figure("celsius", "temperature", Unit.CELSIUS, sample.celsius, limits.celsius, set_by, kind, source)


def _battery(sample: Sample, limits: ResourceLimits) -> Iterator[Figure]:
    if sample.battery_level is None:
        return
    floor = limits.battery_floor
    note = "charging" if sample.charging else ""
    set_by = "" if floor is None else f"floor {written(floor, Unit.RATIO)}"
    kind, source = LimitKind.BATTERY, sample.battery_source
    yield Figure("battery_level", "battery", Unit.RATIO, sample.battery_level, 1.0, set_by, kind, source, note)


def _network(sample: Sample, before: Sample | None) -> Iterator[Figure]:
    if before is None or sample.at_s <= before.at_s:
        return
    seconds = sample.at_s - before.at_s
    ends = {
        "received_bytes_per_s": ("received", sample.received_bytes, before.received_bytes),
        "sent_bytes_per_s": ("sent", sample.sent_bytes, before.sent_bytes),
    }
    for key, (label, after, earlier) in ends.items():
        if after is not None and earlier is not None:
            yield Figure(key, label, Unit.BYTES_PER_S, max(0, after - earlier) / seconds)


def written(value: float, unit: Unit) -> str:
    """A value for people: `412 MiB`, `38 %`, `45.0 °C`."""
    match unit:
        case Unit.BYTES:
            return size(value)
        case Unit.BYTES_PER_S:
            return f"{size(value)}/s"
        case Unit.RATIO:
            return f"{value:.0%}".replace("%", " %")
        case Unit.WATTS:
            return f"{value:.1f} W" if value < 100 else f"{value:.0f} W"
        case Unit.CELSIUS:
            return f"{value:.1f} °C"


def size(value: float) -> str:
    """Bytes with three or four digits: 536870912 → `512 MiB`, 8.2e9 → `7.64 GiB`."""
    power = 0
    while value >= 1024 and power < len(_UNITS) - 1:
        value, power = value / 1024, power + 1
    digits = 0 if power < 3 or value >= 100 else 1 if value >= 10 else 2
    return f"{value:.{digits}f} {_UNITS[power]}"


def grouped_reasons(missing: Mapping[str, str]) -> dict[str, list[str]]:
    """Reason → the fields that lack for it, in the order given."""
    reasons: dict[str, list[str]] = {}
    for name, reason in missing.items():
        reasons.setdefault(reason, []).append(name)
    return reasons
