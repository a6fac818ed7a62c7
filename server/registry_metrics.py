"""The registry for Prometheus: devices, what is reserved of them, and what was refused; by class, never by device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from motley.registry import ClassOverview, Snapshot

_SUMS: tuple[tuple[str, str, Callable[[ClassOverview], float]], ...] = (
    ("motley_registry_cpu_cores", "Cores of the devices that are connected.", lambda it: it.cpus),
    ("motley_registry_reserved_cpu_cores", "Of these, reserved.", lambda it: it.reserved_cpus),
    ("motley_registry_memory_bytes", "Memory of the devices that are connected.", lambda it: it.memory_bytes),
    ("motley_registry_reserved_memory_bytes", "Of that, reserved.", lambda it: it.reserved_memory_bytes),
    ("motley_registry_accelerators", "GPUs of the devices that are connected.", lambda it: it.accelerators),
    ("motley_registry_reserved_accelerators", "Of these, reserved.", lambda it: it.reserved_accelerators),
    (
        "motley_registry_utilisation_ratio",
        "Share of the core-seconds of the last five minutes that were reserved or busy.",
        lambda it: it.utilisation,
    ),
)


def registry_metrics(seen: Snapshot) -> Iterator[Any]:
    """All of a snapshot."""
    devices = GaugeMetricFamily(
        "motley_registry_devices",
        "Devices: free, reserved, silent (connected, but long not heard of) or gone.",
        labels=["device_class", "state"],
    )
    for name, each in sorted(seen.classes.items()):
        for state, count in each.states.items():
            devices.add_metric([name, state], count)
    yield devices
    for metric, text, read in _SUMS:
        family = GaugeMetricFamily(metric, text, labels=["device_class"])
        for name, each in sorted(seen.classes.items()):
            family.add_metric([name], read(each))
        yield family
    refusals = CounterMetricFamily(
        "motley_registry_refusals", "Reservations refused, by what was short.", labels=["device_class", "short"]
    )
    for (name, short), count in sorted(seen.refusals.items()):
        refusals.add_metric([name, short.value.replace(" ", "_")], count)
    yield refusals
