"""A thread that looks at the device at an interval, keeps what it saw, and says when a limit is crossed."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from motley.errors import InputError
from motley.monitor.reading import Source, assemble, read_all, with_model
from motley.monitor.saving import save
from motley.monitor.sources import Roots, all_sources
from motley.resource_limits import LimitEvent, LimitKind, ResourceLimits, Watch
from motley.samples import Sample

_LOG = logging.getLogger(__name__)
_JOIN_S = 5.0

Model = Callable[[Sample], Mapping[str, Any]]
"""What was measured → `power_w`, `celsius`, `battery_level`, `charging` where a model stands for the device."""


class ResourceMonitor:
    """Samples of this device, in a thread of its own between `start` and `stop`.

        with ResourceMonitor(limits=ResourceLimits(celsius=80)) as monitor:
            work()
        monitor.save_metrics(Path("metrics.jsonl"))

    The first sample is taken by `start` itself, so `current` is there from then on. The last `history`
    samples and events are kept. `on_sample` and `on_event` are called in the thread that took the sample;
    one that raises is logged once and called again next time. A source that fails costs its own fields
    only. All methods may be called from any thread. After a fork the child has the history, and no thread:
    it may take samples or `start` for itself.

    model: called with each sample, gives what a model of the device says in place of a sensor, marked
    `modelled`. pid: whose memory is the process's. sources, roots, now_s (seconds since the epoch) and
    ticks_s (of a clock that never jumps) are for tests. Raises InputError for an interval or a history
    that makes no sense.
    """

    def __init__(
        self,
        interval_s: float = 1.0,
        limits: ResourceLimits = ResourceLimits(),  # noqa: B008, it is frozen
        *,
        history: int = 3600,
        on_sample: Callable[[Sample], None] | None = None,
        on_event: Callable[[LimitEvent], None] | None = None,
        model: Model | None = None,
        pid: int | None = None,
        roots: Roots = Roots(),  # noqa: B008
        sources: Sequence[Source] | None = None,
        now_s: Callable[[], float] = time.time,
        ticks_s: Callable[[], float] = time.monotonic,
    ) -> None:
        if not (math.isfinite(interval_s) and interval_s > 0):
            raise InputError(f"interval_s: {interval_s!r} is no interval; give seconds above 0")
        if history < 1:
            raise InputError(f"history: {history!r} samples can't be kept; give at least 1")
        self.interval_s = interval_s
        self._on_sample, self._on_event, self._model = on_sample, on_event, model
        self._sources = all_sources(roots, os.getpid() if pid is None else pid) if sources is None else tuple(sources)
        self._now_s, self._ticks_s = now_s, ticks_s
        self._watch = Watch(limits)
        self._samples: deque[Sample] = deque(maxlen=history)
        self._events: deque[LimitEvent] = deque(maxlen=history)
        self._counts: Counter[LimitKind] = Counter()
        self._logged: set[str] = set()
        self._pid = os.getpid()
        self._reading, self._kept = threading.Lock(), threading.Lock()
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Take the first sample now, the others in a thread. Does nothing where it runs already."""
        self._mind_a_fork()
        if self._thread is not None:
            return
        self.sample()
        with self._lock():
            if self._thread is None:
                self._done = threading.Event()
                self._thread = self._new_thread(self._done)
                self._thread.start()

    def stop(self) -> None:
        """End the thread, at once unless a sample is being taken, and give back what the sources hold."""
        with self._lock():
            self._done.set()
            thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join(_JOIN_S)
        if self._reading.acquire(timeout=_JOIN_S):
            try:
                self._close()
            finally:
                self._reading.release()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def sample(self) -> Sample:
        """Take one now. It counts like all others: kept, held against the limits, handed to the callbacks."""
        self._mind_a_fork()
        with self._reading:
            sample = assemble(self._now_s(), read_all(self._sources, self._ticks_s))
            if self._model is not None:
                sample = self._modelled(sample, self._model)
            events = self._keep(sample)
        self._call("on_sample", self._on_sample, sample)
        for event in events:
            self._call("on_event", self._on_event, event)
        return sample

    @property
    def limits(self) -> ResourceLimits:
        return self._watch.limits

    @property
    def current(self) -> Sample | None:
        """The last sample; None before the first."""
        with self._lock():
            return self._samples[-1] if self._samples else None

    @property
    def history(self) -> list[Sample]:
        """The last samples, oldest first."""
        with self._lock():
            return list(self._samples)

    @property
    def events(self) -> list[LimitEvent]:
        """The last events, oldest first."""
        with self._lock():
            return list(self._events)

    @property
    def event_counts(self) -> Mapping[LimitKind, int]:
        """How often each limit was crossed since the monitor was made; recoveries do not count."""
        with self._lock():
            return {kind: self._counts[kind] for kind in LimitKind}

    @property
    def over(self) -> frozenset[LimitKind]:
        """The limits that are crossed now."""
        return self._watch.over

    def save_metrics(self, path: Path | str) -> None:
        """Write the history to `path`, as JSON lines (.jsonl) or as a table (.csv). Raises InputError."""
        save(Path(path), self.history)

    def _new_thread(self, done: threading.Event) -> threading.Thread:
        return threading.Thread(target=self._run, args=(done,), name="motley-monitor", daemon=True)

    def _run(self, done: threading.Event) -> None:
        """A sample at each whole interval; those that would be late are left out."""
        begun, taken = self._ticks_s(), 0
        while True:
            taken = max(taken + 1, math.ceil((self._ticks_s() - begun) / self.interval_s))
            if done.wait(begun + taken * self.interval_s - self._ticks_s()):
                return
            try:
                self.sample()
            except Exception:
                self._log_once("sample", "a sample could not be taken")

    def _keep(self, sample: Sample) -> tuple[LimitEvent, ...]:
        with self._lock():
            self._watch, events = self._watch.look(sample)
            self._samples.append(sample)
            self._events.extend(events)
            self._counts.update(event.kind for event in events if event.crossed)
            return events

    def _modelled(self, sample: Sample, model: Model) -> Sample:
        try:
            return with_model(sample, model(sample))
        except Exception:
            self._log_once("model", "the model of the device failed; what was measured counts")
            return sample

    def _call(self, name: str, callback: Callable[[Any], None] | None, value: Sample | LimitEvent) -> None:
        if callback is None:
            return
        try:
            callback(value)
        except Exception:
            self._log_once(name, f"{name} failed; it is called again, and this is not said again")

    def _log_once(self, key: str, message: str) -> None:
        if key not in self._logged:
            self._logged.add(key)
            _LOG.warning(message, exc_info=True)

    def _close(self) -> None:
        for source in self._sources:
            try:
                source.close()
            except Exception:
                self._log_once("close", f"{type(source).__name__} could not be closed")

    def _lock(self) -> threading.Lock:
        """What guards the history and the thread."""
        self._mind_a_fork()
        return self._kept

    def _mind_a_fork(self) -> None:
        """In a forked child the thread is not there, its locks may be held for ever, and NVML begins anew."""
        if os.getpid() == self._pid:
            return
        self._pid = os.getpid()
        self._reading, self._kept = threading.Lock(), threading.Lock()
        self._done, self._thread = threading.Event(), None
        self._close()
