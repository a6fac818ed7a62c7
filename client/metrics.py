"""A device's metrics for Prometheus: limits and use from the cgroup, work from the executor's events."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector

from motley.limits import Cgroup
from motley.monitor.prometheus import MonitorCollector

if TYPE_CHECKING:
    from client.emulator import Emulator, Reading
    from motley.monitor.exported import Exported

_LAST_TRAIN = {
    "batch_size": ("motley_client_batch_size", "Batch size of the last training, as really used."),
    "physical_batch": ("motley_client_physical_batch_size", "Most examples in memory at one time in it."),
    "learning_rate": ("motley_client_learning_rate", "Learning rate of the last training."),
    "train_loss": ("motley_client_train_loss", "Mean training loss of the last training."),
}
_COUNTS = {
    "steps": ("motley_client_steps", "Optimiser steps made."),
    "num-examples": ("motley_client_examples", "Training examples processed."),
    "wall_s": ("motley_client_train_seconds", "Time spent in training."),
    "adjustments": ("motley_client_governor_adjustments", "Times that the governor changed what training does."),
}


_READ_HERE = ("memory_working_set_bytes", "memory_limit_bytes", "oom_kills")
"""At the moment of the scrape, in place of the monitor's last sample."""
_OF_THE_MACHINE = ("machine_memory_bytes", "machine_memory_size_bytes")


class DeviceCollector(Collector):
    """Turns events into figures; reads the cgroup at each scrape, and shows what the monitor saw last."""

    def __init__(
        self, device: str, device_class: str, cgroup: Cgroup, monitor: Exported, emulator: Emulator | None = None
    ) -> None:
        self._device, self._class, self._cgroup, self._emulator = device, device_class, cgroup, emulator
        self._monitored = MonitorCollector(monitor, "motley_client_", (*_READ_HERE, *_OF_THE_MACHINE))
        self._lock = threading.Lock()
        self._connected = self._busy = False
        self._restarts = 0
        self._outcomes: Counter[tuple[str, str]] = Counter()
        self._totals = dict.fromkeys(_COUNTS, 0.0)
        self._paused_s = 0.0
        self._last: dict[str, float] = {}

    def take(self, event: Mapping[str, Any]) -> None:
        """Take one event of the executor into account."""
        with self._lock:
            match event.get("event"):
                case "connected":
                    self._connected = True
                case "disconnected":
                    self._connected, self._restarts = False, self._restarts + 1
                case "start":
                    self._busy = True
                case "end":
                    self._busy = False
                    self._end(event)

    def executor_lost(self) -> None:
        """The executor itself is gone, and with it the SuperNode and the task at hand."""
        with self._lock:
            self._connected = self._busy = False
            self._restarts += 1

    @property
    def connected(self) -> bool:
        return self._connected

    def _end(self, event: Mapping[str, Any]) -> None:
        self._outcomes[event["type"], event["outcome"]] += 1
        self._paused_s += float(event["figures"].get("paused_s", 0.0))
        if event["type"] != "train" or event["outcome"] != "finished":
            return
        figures = event["figures"]
        for key in _COUNTS:
            self._totals[key] += float(figures.get(key, 0.0))
        self._last = {key: float(figures[key]) for key in _LAST_TRAIN if key in figures}
        if figures.get("wall_s"):
            self._last["speed"] = float(figures.get("num-examples", 0)) / float(figures["wall_s"])
        if figures.get("peak_memory_bytes"):
            self._last["peak"] = float(figures["peak_memory_bytes"])

    def collect(self) -> Iterator[Any]:
        facts = {"name": self._device, "class": self._class}
        yield InfoMetricFamily("motley_client", "What this device says it is.", value=facts)
        yield from self._limits()
        yield from self._usage()
        yield from self._monitored.collect()
        with self._lock:
            yield from self._work()
            if self._emulator is not None:
                yield from self._energy(self._emulator.reading)

    def _limits(self) -> Iterator[Any]:
        limits = self._cgroup.limits()
        yield from _gauge("motley_client_cpu_limit_cores", "CPU quota.", limits.cpus)
        yield from _gauge("motley_client_memory_limit_bytes", "Memory limit.", limits.memory_bytes)
        yield from _gauge("motley_client_swap_limit_bytes", "Swap allowed on top of the memory.", limits.swap_bytes)
        yield from _gauge("motley_client_pids_limit", "Most processes and threads at one time.", limits.pids)

    def _usage(self) -> Iterator[Any]:
        use = self._cgroup.usage()
        yield from _counter("motley_client_cpu_seconds", "CPU time used.", use.cpu_s)
        yield from _counter("motley_client_cpu_throttled_seconds", "Time held back by the quota.", use.throttled_s)
        yield from _counter("motley_client_cpu_periods", "Quota periods with work in them.", use.periods)
        yield from _counter("motley_client_cpu_throttled_periods", "Quota periods that ran out.", use.throttled_periods)
        yield from _gauge("motley_client_memory_usage_bytes", "Memory in use, page cache included.", use.memory_bytes)
        yield from _gauge(
            "motley_client_memory_working_set_bytes", "Memory in use, page cache left out.", use.working_set_bytes
        )
        yield from _gauge("motley_client_memory_peak_bytes", "Most memory ever in use.", use.memory_peak_bytes)
        yield from _counter("motley_client_oom_kills", "Processes killed at the memory limit.", use.oom_kills)
        yield from _gauge("motley_client_pids", "Processes and threads now.", use.pids)

    def _work(self) -> Iterator[Any]:
        yield from _gauge("motley_client_connected", "1 while the SuperNode is connected.", float(self._connected))
        yield from _gauge("motley_client_busy", "1 while a message is being worked on.", float(self._busy))
        yield from _counter("motley_client_runtime_restarts", "Restarts of SuperNode or executor.", self._restarts)
        tasks = CounterMetricFamily(
            "motley_client_tasks", "Messages worked on, by type and how they ended.", labels=["type", "reason"]
        )
        for (kind, outcome), count in sorted(self._outcomes.items()):
            tasks.add_metric([kind, outcome], count)
        yield tasks
        for key, (name, text) in _COUNTS.items():
            yield from _counter(name, text, self._totals[key])
        for key, (name, text) in _LAST_TRAIN.items():
            yield from _gauge(name, text, self._last.get(key))
        text = "Time that training paused: too warm by its emulation, or told so by its governor."
        yield from _counter("motley_client_pause_seconds", text, self._paused_s)
        yield from _gauge("motley_client_examples_per_second", "Speed of the last training.", self._last.get("speed"))
        yield from _gauge(
            "motley_client_train_peak_memory_bytes",
            "Most memory held during the last training, pages of files left out.",
            self._last.get("peak"),
        )

    def _energy(self, reading: Reading) -> Iterator[Any]:
        joules = 3600 * reading.energy_wh
        yield from _counter("motley_client_energy_joules", "Energy drawn, modelled from the CPU time.", joules)


def _gauge(name: str, text: str, value: float | None) -> Iterator[GaugeMetricFamily]:
    """A gauge, or nothing where the value is not known."""
    if value is not None:
        yield GaugeMetricFamily(name, text, value=value)


def _counter(name: str, text: str, value: float | None) -> Iterator[CounterMetricFamily]:
    if value is not None:
        yield CounterMetricFamily(name, text, value=value)
