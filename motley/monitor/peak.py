"""The most memory that a piece of work used. Choose it for one step or one training; else a ResourceMonitor."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from motley.limits import PROC, Cgroup
from motley.monitor.memory import resident_bytes


class PeakMemory:
    """The most memory, pages of files left out, that was held inside the `with` block.

    That of the container where it has a memory limit, else all that is resident of this process alone. Samples each
    `interval_s` in a thread of its own; `peak_bytes` is 0 where the kernel does not say.
    """

    def __init__(self, cgroup: Cgroup, interval_s: float = 0.02, proc: Path = PROC) -> None:
        self._cgroup = cgroup
        self._is_limited = cgroup.memory()[0] is not None
        self._interval_s = interval_s
        self._proc = proc
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample_until_done, name="motley-peak-memory", daemon=True)
        self.peak_bytes = 0

    def __enter__(self) -> Self:
        self._sample()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        self._sample()

    def _sample_until_done(self) -> None:
        while not self._done.wait(self._interval_s):
            self._sample()

    def _sample(self) -> None:
        used = self._cgroup.held_bytes() if self._is_limited else resident_bytes(self._proc, os.getpid())
        self.peak_bytes = max(self.peak_bytes, used or 0)
