"""A strategy at work: a monitor's samples go in, and the running load asks between steps what to do.

    load = Load(batch_size=8, threads=1, most_batch_size=64, most_threads=2)
    with Governed(GOVERNORS["dynamic"], ResourceLimits(memory_bytes=300 * MIB), load) as governed:
        while not governed.between_steps().stop:
            step(governed.load.batch_size, governed.load.threads)

Samples come in the monitor's thread, questions in the load's.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Protocol, Self

from motley.broker import Broker, Lease, Wish
from motley.governor import Adjustment, Cooperative, Governor, Grant, Load
from motley.monitor import ResourceMonitor
from motley.resource_limits import ResourceLimits
from motley.samples import Sample


class Monitor(Protocol):
    """What is needed of a monitor."""

    def start(self) -> object: ...

    def stop(self) -> object: ...


CPU_WINDOW_S = 1.0
"""CPU use is a mean over so long: a quota is spent in bursts, and pauses between steps use none."""

MakeMonitor = Callable[[float, ResourceLimits, Callable[[Sample], None]], Monitor]


def resource_monitor(interval_s: float, limits: ResourceLimits, on_sample: Callable[[Sample], None]) -> Monitor:
    """The real one."""
    return ResourceMonitor(interval_s, limits, on_sample=on_sample)


@dataclass(frozen=True)
class Listeners:
    """Who is told, in the monitor's thread. They must be quick and must not raise."""

    on_sample: Callable[[Sample], None] = lambda sample: None
    on_adjustment: Callable[[Adjustment, Load], None] = lambda adjustment, load: None
    """With the load as it was before. Only when what the load shall do is another than before."""


class Governed:
    """A load under a strategy.

    load: what the work does at first, and its bounds. interval_s: between samples; several should fall
    into one step, or its peak is not seen. broker: where a budget is shared; take `cooperative` then.
    wish: a fixed one; without it `cooperative` wishes for what it has learned that the load needs.
    """

    def __init__(
        self,
        governor: Governor,
        limits: ResourceLimits,
        load: Load,
        *,
        interval_s: float = 0.05,
        broker: Broker | None = None,
        wish: Wish | None = None,
        listeners: Listeners = Listeners(),
        make_monitor: MakeMonitor = resource_monitor,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._governor, self._load, self._state = governor, load, governor.start(limits, load)
        self._broker, self._wish, self._listeners, self._now_s = broker, wish, listeners, now_s
        self._lease: Lease | None = None
        self._told = Adjustment()
        self._cpu: deque[tuple[float, float]] = deque()
        self._step_began_s: float | None = None
        self._waited = False
        self._lock = threading.Condition()
        self._ended = False
        self._monitor = make_monitor(interval_s, limits, self.observe)

    def start(self) -> None:
        """Join the broker and sample from now on. Raises what `Broker.join` raises."""
        if self._broker is not None:
            self._lease = self._broker.join(self._wish or Wish())
        self._monitor.start()

    def stop(self) -> None:
        """Stop sampling, give the share back, and let a load that waits go on."""
        self._monitor.stop()
        if self._lease is not None:
            self._lease.release()
        with self._lock:
            self._ended = True
            self._lock.notify_all()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def load(self) -> Load:
        """What the work does now."""
        with self._lock:
            return self._load

    def observe(self, sample: Sample) -> None:
        """Take in one sample; the monitor calls it."""
        grant = self._renewed(sample)
        with self._lock:
            sample = self._with_mean_cpu(sample)
            self._load = replace(self._load, grant=grant)
            self._state, adjustment = self._governor.adjust(self._state, sample, self._load)
            before, load = self._told, self._load
            told = self._told = _taken_together(before, adjustment)
            self._lock.notify_all()
        self._listeners.on_sample(sample)
        if _differs(before, told):
            self._listeners.on_adjustment(told, load)

    def _with_mean_cpu(self, sample: Sample) -> Sample:
        if sample.cpu_share is None:
            return sample
        self._cpu.append((sample.at_s, sample.cpu_share))
        while self._cpu[0][0] <= sample.at_s - CPU_WINDOW_S:
            self._cpu.popleft()
        return replace(sample, cpu_share=sum(share for _, share in self._cpu) / len(self._cpu))

    def adjustment(self) -> Adjustment:
        """What to do from now on; call it once between two steps, and again while it says to wait.

        The load is taken to obey at once, and to keep the pause.
        """
        with self._lock:
            now_s = self._now_s()
            if not self._waited:
                self._count_step(now_s)
            adjustment = self._obeyed()
            self._waited, self._step_began_s = adjustment.wait, now_s + adjustment.pause_s
            return adjustment

    def between_steps(self) -> Adjustment:
        """As `adjustment`, but pauses first, and while the strategy says to wait."""
        with self._lock:
            now_s = self._now_s()
            self._count_step(now_s)
            self._pause(now_s)
            adjustment = self._obeyed()
            self._step_began_s = self._now_s()
            return adjustment

    def adopt(self, batch_size: int, threads: int | None = None) -> None:
        """Say what the work really does where that is not what it was told, such as another batch size."""
        with self._lock:
            self._load = replace(self._load, batch_size=batch_size, threads=threads or self._load.threads)

    def _pause(self, began_s: float) -> None:
        """Wait, with the lock given up meanwhile; what is said while it waits counts at once."""
        while not (self._told.stop or self._ended):
            left_s = began_s + self._told.pause_s - self._now_s()
            if not self._told.wait and left_s <= 0:
                return
            self._lock.wait(None if self._told.wait else left_s)

    def _renewed(self, sample: Sample) -> Grant | None:
        """Not under the lock: the broker's directory may be busy, and the load shall not wait for it."""
        if self._lease is None:
            return None
        return self._lease.renew(self._wish or self._learned_wish(), sample.process_memory_bytes or 0)

    def _learned_wish(self) -> Wish:
        if not isinstance(self._governor, Cooperative):
            return Wish()
        load = self.load
        return Wish(self._governor.wished_bytes(self._state, load), float(load.most_threads))

    def _count_step(self, now_s: float) -> None:
        """The first call comes before the first step."""
        if self._step_began_s is not None:
            step_s = max(0.0, now_s - self._step_began_s)
            self._load = replace(self._load, steps=self._load.steps + 1, step_s=step_s)

    def _obeyed(self) -> Adjustment:
        told = self._told
        self._load = replace(
            self._load,
            batch_size=told.batch_size or self._load.batch_size,
            threads=told.threads or self._load.threads,
        )
        self._told = replace(told, batch_size=None, threads=None, reason="")
        return told


def _taken_together(before: Adjustment, adjustment: Adjustment) -> Adjustment:
    """The later one, with the size and threads that the load was told before and has not yet asked for."""
    return replace(
        adjustment,
        batch_size=adjustment.batch_size or before.batch_size,
        threads=adjustment.threads or before.threads,
        reason=adjustment.reason or (before.reason if before.batch_size or before.threads else ""),
    )


def _differs(before: Adjustment, adjustment: Adjustment) -> bool:
    quiet = {"reason": "", "pause_s": 0.0}
    paused = (before.pause_s > 0) != (adjustment.pause_s > 0)
    return paused or replace(before, **quiet) != replace(adjustment, **quiet)  # type: ignore[arg-type]
