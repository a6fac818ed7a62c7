"""A monitor's newest sample for Prometheus.

For a process that watches itself or its machine. In a fleet's device container it stands beside
`client.metrics`, which reads counters that a sample does not carry.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from motley.resource_limits import LimitKind
from motley.samples import GpuSample, Sample

if TYPE_CHECKING:
    from motley.monitor.exported import Exported

PREFIX = "motley_device_"

_PLAIN: tuple[tuple[str, str, Callable[[Sample], float | None]], ...] = (
    (
        "process_memory_bytes",
        "Resident memory of the process and its descendants.",
        lambda it: it.process_memory_bytes,
    ),
    ("memory_working_set_bytes", "Memory in use that counts against the limit.", lambda it: it.memory_bytes),
    ("machine_memory_bytes", "Memory in use on the whole machine.", lambda it: it.machine_memory_bytes),
    ("machine_memory_size_bytes", "Memory of the machine.", lambda it: it.machine_memory_total_bytes),
    ("cpu_ratio", "CPU time over what the quota allows, or over all cores.", lambda it: it.cpu_share),
    ("cpu_throttled_ratio", "Share of the time held back by the quota.", lambda it: it.throttled_share),
    ("cpu_pressure_ratio", "Share of the time in which something waited for a CPU.", lambda it: it.cpu_pressure),
    (
        "memory_pressure_ratio",
        "Share of the time in which something waited for memory.",
        lambda it: it.memory_pressure,
    ),
    ("sample_timestamp_seconds", "When the sample was taken.", lambda it: it.at_s),
)
_SOURCED: tuple[tuple[str, str, Callable[[Sample], float | None], Callable[[Sample], str]], ...] = (
    ("power_watts", "Power drawn.", lambda it: it.power_w, lambda it: it.power_source),
    ("temperature_celsius", "Temperature.", lambda it: it.celsius, lambda it: it.celsius_source),
    ("battery_ratio", "Charge of the battery.", lambda it: it.battery_level, lambda it: it.battery_source),
    ("charging", "1 while the battery charges.", lambda it: it.charging, lambda it: it.battery_source),
)
_COUNTERS: tuple[tuple[str, str, Callable[[Sample], float | None]], ...] = (
    ("oom_kills", "Processes killed at the memory limit.", lambda it: it.oom_kills),
    ("network_received_bytes", "Bytes received, the loopback left out.", lambda it: it.received_bytes),
    ("network_sent_bytes", "Bytes sent, the loopback left out.", lambda it: it.sent_bytes),
)
_GPU: tuple[tuple[str, str, Callable[[GpuSample], float | None]], ...] = (
    ("gpu_memory_bytes", "Memory in use on a GPU.", lambda it: it.memory_bytes),
    ("gpu_memory_size_bytes", "Memory of a GPU.", lambda it: it.memory_total_bytes),
    ("gpu_utilisation_ratio", "Share of the time in which a kernel ran.", lambda it: it.utilisation),
    ("gpu_power_watts", "Power that a GPU draws.", lambda it: it.power_w),
    ("gpu_temperature_celsius", "Temperature of a GPU.", lambda it: it.celsius),
)


Family = GaugeMetricFamily | CounterMetricFamily


class MonitorCollector(Collector):
    """Shows a monitor's newest sample, its limits and their crossings; nothing that is not known.

    It never takes a sample itself, so that many scrapes cost the device nothing. Read how old the
    figures are from `motley_device_sample_timestamp_seconds`.

    prefix: of all names. left_out: names without prefix that another collector shows.
    """

    def __init__(self, monitor: Exported, prefix: str = PREFIX, left_out: Collection[str] = ()) -> None:
        self._monitor, self._prefix, self._left_out = monitor, prefix, left_out

    def collect(self) -> Iterator[Family]:
        for family in self._families():
            if family.name not in self._left_out:
                family.name = self._prefix + family.name
                family.samples = [each._replace(name=self._prefix + each.name) for each in family.samples]
                yield family

    def _families(self) -> Iterator[Family]:
        sample = self._monitor.current
        if sample is not None:
            yield from _figures(sample)
            yield from _gpus(sample)
        yield from _limits(self._monitor, sample)
        yield from _crossings(self._monitor)


def _figures(sample: Sample) -> Iterator[Family]:
    for name, text, read in _PLAIN:
        value = read(sample)
        if value is not None:
            yield GaugeMetricFamily(name, text, value=value)
    for name, text, read, source in _SOURCED:
        value = read(sample)
        if value is not None:
            gauge = GaugeMetricFamily(name, text, labels=["source"])
            gauge.add_metric([source(sample)], float(value))
            yield gauge
    for name, text, read in _COUNTERS:
        value = read(sample)
        if value is not None:
            yield CounterMetricFamily(name, text, value=value)


def _gpus(sample: Sample) -> Iterator[GaugeMetricFamily]:
    for name, text, read in _GPU:
        gauge = GaugeMetricFamily(name, text, labels=["gpu", "name"])
        for gpu in sample.gpus:
            value = read(gpu)
            if value is not None:
                gauge.add_metric([str(gpu.index), gpu.name], value)
        if gauge.samples:
            yield gauge


def _limits(monitor: Exported, sample: Sample | None) -> Iterator[GaugeMetricFamily]:
    own = monitor.limits
    limits: tuple[tuple[str, str, float | None], ...] = (
        ("memory_limit_bytes", "Memory limit that the kernel enforces.", sample.memory_limit_bytes if sample else None),
        ("own_memory_limit_bytes", "Memory limit that the device sets itself.", own.memory_bytes),
        ("cpu_limit_ratio", "CPU limit, of the quota.", None if own.cpu_percent is None else own.cpu_percent / 100),
        ("gpu_memory_limit_bytes", "Memory limit of each GPU.", own.gpu_memory_bytes),
        ("power_limit_watts", "Power limit.", own.power_w),
        ("temperature_limit_celsius", "Temperature limit.", own.celsius),
        ("battery_floor_ratio", "Charge below which the battery shall not fall.", own.battery_floor),
    )
    for name, text, limit in limits:
        if limit is not None:
            yield GaugeMetricFamily(name, text, value=limit)


def _crossings(monitor: Exported) -> Iterator[Family]:
    counter = CounterMetricFamily("limit_crossings", "Times that a limit was crossed.", labels=["kind"])
    over = GaugeMetricFamily("limit_over", "1 while a limit is crossed.", labels=["kind"])
    for kind in LimitKind:
        counter.add_metric([kind.value], monitor.event_counts.get(kind, 0))
        over.add_metric([kind.value], float(kind in monitor.over))
    yield counter
    yield over
