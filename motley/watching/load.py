"""A simulated load under a strategy, sized so that its limit matters; and what happens to it, in words."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from motley.broker import Broker, Budget
from motley.governing import Governed, Listeners
from motley.governor import GOVERNORS, Adjustment, Load
from motley.limits import Cgroup, host_cores, host_memory_bytes
from motley.monitor import ResourceMonitor
from motley.resource_limits import LimitEvent, ResourceLimits
from motley.samples import Sample
from motley.simulated_load import Appetite, SimulatedLoad
from motley.workload import threads_for

MOST_BATCH_SIZE = 64
FIRST_BATCH_SIZE = 8
STEP_S = 0.4
INTERVAL_S = 0.05
"""Between the strategy's own samples: several fall into one step, else its peak is not seen."""

_FEAST = 1.5
"""What the largest batch would take, as a multiple of the limit: without a strategy the limit is crossed."""
_GROWTH = 0.03
_GROWING_STEPS = 50
"""An example takes more memory with each step, 2.5 times as much in the end: a batch that fitted no longer does."""
_UNLIMITED_BYTES = 256 << 20
_MOST_OF_MACHINE = 0.5


class Running:
    """A simulated load at work; see `simulating`."""

    def __init__(self, governed: Governed, monitor: ResourceMonitor, load: SimulatedLoad, broker: Broker | None):
        self._governed, self._load, self._broker = governed, load, broker
        self.monitor = monitor
        """The strategy's own, which samples often enough to see the peak of each step."""

    @property
    def steps(self) -> int:
        return self._load.steps

    def in_words(self) -> str:
        load = self._governed.load
        parts = [f"batch {load.batch_size} of {load.most_batch_size}", f"{load.threads} of {load.most_threads} threads"]
        if load.grant is not None:
            parts.append(f"share {load.grant.memory_bytes >> 20} MiB")
        if self._broker is not None:
            parts.append(f"{len(self._broker.holders())} at the budget")
        return ", ".join([*parts, f"{self.steps} steps"])


@contextmanager
def simulating(
    strategy: str,
    limits: ResourceLimits,
    on_adjustment: Callable[[Adjustment, Load], None],
    on_event: Callable[[LimitEvent], None],
) -> Iterator[Running]:
    """Run a load in a thread of this process until the block ends; both callbacks come from other threads.

    `cooperative` shares `limits.memory_bytes` with all simulated loads of this user on this machine.
    """
    threads = threads_for(Cgroup().limits().cpus, host_cores())
    load = SimulatedLoad(appetite(limits, _available_bytes()), MOST_BATCH_SIZE)
    broker = shared_budget(limits) if strategy == "cooperative" else None
    monitors: list[ResourceMonitor] = []

    def monitor(interval_s: float, limits: ResourceLimits, on_sample: Callable[[Sample], None]) -> ResourceMonitor:
        monitors.append(ResourceMonitor(interval_s, limits, history=1, on_sample=on_sample, on_event=on_event))
        return monitors[0]

    first = Load(FIRST_BATCH_SIZE, threads, MOST_BATCH_SIZE, threads)
    governed = Governed(
        GOVERNORS[strategy],
        limits,
        first,
        interval_s=INTERVAL_S,
        broker=broker,
        listeners=Listeners(on_adjustment=on_adjustment),
        make_monitor=monitor,
    )
    running = Running(governed, monitors[0], load, broker)
    with governed:
        load.start(governed)
        try:
            yield running
        finally:
            governed.stop()
            load.stop()


def shared_budget(limits: ResourceLimits) -> Broker:
    """One directory for each user. `limits` must have a memory limit."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    base = Path(runtime) if runtime and Path(runtime).is_dir() else Path(tempfile.gettempdir())
    return Broker(base / f"motley-budget-{os.getuid()}", Budget(limits.memory_bytes or 0))


def appetite(limits: ResourceLimits, available_bytes: int) -> Appetite:
    """So that the largest batch takes half as much again as the limit at first, and never most of the machine."""
    wanted = _UNLIMITED_BYTES if limits.memory_bytes is None else _FEAST * limits.memory_bytes
    most = min(wanted, _MOST_OF_MACHINE * available_bytes / (1 + _GROWTH * _GROWING_STEPS))
    each = max(1, int(most / MOST_BATCH_SIZE))
    return Appetite(each, growth=_GROWTH, growing_steps=_GROWING_STEPS, step_s=STEP_S)


def _available_bytes() -> int:
    limit = Cgroup().limits().memory_bytes
    machine = host_memory_bytes()
    return machine if limit is None else min(limit, machine)


def adjustment_text(adjustment: Adjustment, load: Load) -> str:
    """`batch 32 → 24, pause 0.20 s: memory at 88 % of its limit`; `load` as it was before."""
    parts = []
    if adjustment.batch_size is not None and adjustment.batch_size != load.batch_size:
        parts.append(f"batch {load.batch_size} → {adjustment.batch_size}")
    if adjustment.threads is not None and adjustment.threads != load.threads:
        parts.append(f"threads {load.threads} → {adjustment.threads}")
    if adjustment.stop:
        parts.append("ends")
    elif adjustment.wait:
        parts.append("waits")
    elif adjustment.pause_s > 0:
        parts.append(f"pauses {adjustment.pause_s:.2f} s")
    reason = adjustment.reason.removeprefix("batch raised: ").removeprefix("batch lowered: ")
    return ": ".join(filter(None, [", ".join(parts) or "goes on", reason]))
