"""A monitor's newest sample for Prometheus.

For a process that watches itself or its machine; the exporter of a fleet's device container is
`client.metrics`, which reads counters that a sample does not carry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from motley.resource_limits import LimitKind
from motley.samples import GpuSample, Sample

if TYPE_CHECKING:
    from motley.monitor.exported import Exported

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


class MonitorCollector(Collector):
    """Shows a monitor's newest sample, its limits and their crossings; nothing that is not known.

    It never takes a sample itself, so that many scrapes cost the device nothing. Read how old the
    figures are from `motley_device_sample_timestamp_seconds`.
    """

    def __init__(self, monitor: Exported) -> None:
        self._monitor = monitor

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        sample = self._monitor.current
        if sample is not None:
            yield from _figures(sample)
            yield from _gpus(sample)
        yield from _limits(self._monitor, sample)
        yield from _crossings(self._monitor)


def _figures(sample: Sample) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
    for name, text, read in _PLAIN:
        value = read(sample)
        if value is not None:
            yield GaugeMetricFamily(f"motley_device_{name}", text, value=value)
    for name, text, read, source in _SOURCED:
        value = read(sample)
        if value is not None:
            gauge = GaugeMetricFamily(f"motley_device_{name}", text, labels=["source"])
            gauge.add_metric([source(sample)], float(value))
            yield gauge
    for name, text, read in _COUNTERS:
        value = read(sample)
        if value is not None:
            yield CounterMetricFamily(f"motley_device_{name}", text, value=value)


def _gpus(sample: Sample) -> Iterator[GaugeMetricFamily]:
    for name, text, read in _GPU:
        gauge = GaugeMetricFamily(f"motley_device_{name}", text, labels=["gpu", "name"])
        for gpu in sample.gpus:
            value = read(gpu)
            if value is not None:
                gauge.add_metric([str(gpu.index), gpu.name], value)
        if gauge.samples:
            yield gauge


def _limits(monitor: Exported, sample: Sample | None) -> Iterator[GaugeMetricFamily]:
    own = monitor.limits
    memory = GaugeMetricFamily("motley_device_memory_limit_bytes", "Memory limit, by who sets it.", labels=["by"])
    for by, value in (("device", own.memory_bytes), ("kernel", sample.memory_limit_bytes if sample else None)):
        if value is not None:
            memory.add_metric([by], value)
    if memory.samples:
        yield memory
    others: tuple[tuple[str, str, float | None], ...] = (
        ("cpu_limit_ratio", "CPU limit, of the quota.", None if own.cpu_percent is None else own.cpu_percent / 100),
        ("gpu_memory_limit_bytes", "Memory limit of each GPU.", own.gpu_memory_bytes),
        ("power_limit_watts", "Power limit.", own.power_w),
        ("temperature_limit_celsius", "Temperature limit.", own.celsius),
        ("battery_floor_ratio", "Charge below which the battery shall not fall.", own.battery_floor),
    )
    for name, text, limit in others:
        if limit is not None:
            yield GaugeMetricFamily(f"motley_device_{name}", text, value=limit)


def _crossings(monitor: Exported) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
    counter = CounterMetricFamily("motley_device_limit_crossings", "Times that a limit was crossed.", labels=["kind"])
    over = GaugeMetricFamily("motley_device_limit_over", "1 while a limit is crossed.", labels=["kind"])
    for kind in LimitKind:
        counter.add_metric([kind.value], monitor.event_counts.get(kind, 0))
        over.add_metric([kind.value], float(kind in monitor.over))
    yield counter
    yield over
