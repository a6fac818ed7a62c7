"""CPU time against what may be used of it, and how much the quota and the neighbours hold it back."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from motley.kernel_files import parse_number, pressure_share, text_or_nothing
from motley.limits import PROC, Cgroup
from motley.monitor.reading import FIRST, Missing, Reading

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class _Counters:
    """At one moment. `busy_s` is the container's where it has a quota, else that of all cores it may run on."""

    at_s: float
    quota_cores: float | None
    busy_s: float | None
    throttled_s: float | None


class Cpu:
    """Shares of CPU time since the read before.

    Against the quota where there is one, however many cores it may be spread over. Else, like memory without
    a limit, the use of the machine: how busy the cores are that this process may run on.
    """

    fields = ("cpu_share", "throttled_share")

    def __init__(self, cgroup: Cgroup, proc: Path = PROC, cores: Collection[int] | None = None) -> None:
        self._cgroup, self._stat = cgroup, proc / "stat"
        self._cores = frozenset(os.sched_getaffinity(0) if cores is None else cores)
        self._before: _Counters | None = None

    def read(self, now_s: float) -> Reading:
        before, now = self._before, self._counters(now_s)
        self._before = now
        if before is None or (before.quota_cores is None) != (now.quota_cores is None):
            return dict.fromkeys(self.fields, Missing(FIRST))
        elapsed_s = now.at_s - before.at_s
        cores = min(now.quota_cores or len(self._cores), len(self._cores))
        share = _share(before.busy_s, now.busy_s, elapsed_s * cores, "the kernel does not count CPU time")
        if now.quota_cores is None:
            return {"cpu_share": share, "throttled_share": Missing("no CPU quota")}
        throttled = _share(before.throttled_s, now.throttled_s, elapsed_s, "the cgroup does not count throttled time")
        return {
            "cpu_share": share,
            "throttled_share": throttled if isinstance(throttled, Missing) else min(1.0, throttled),
        }

    def close(self) -> None:
        self._before = None

    def _counters(self, now_s: float) -> _Counters:
        quota = self._cgroup.cpus()
        if quota is None:
            return _Counters(now_s, None, _busy_s(text_or_nothing(self._stat), self._cores), None)
        return _Counters(now_s, quota, *self._cgroup.cpu_times_s())


class Pressure:
    """How long something had to wait (PSI): in the container where the kernel says, else on the machine."""

    fields = ("cpu_pressure", "memory_pressure")

    def __init__(self, cgroup: Cgroup, proc: Path = PROC) -> None:
        self._cgroup, self._machine = cgroup, proc / "pressure"

    def read(self, now_s: float) -> Reading:
        return {f"{resource}_pressure": self._of(resource) for resource in ("cpu", "memory")}

    def close(self) -> None:
        pass

    def _of(self, resource: str) -> float | Missing:
        share = self._cgroup.pressure(resource)
        if share is None:
            share = pressure_share(text_or_nothing(self._machine / resource))
        return Missing("the kernel measures no pressure (PSI)") if share is None else share


def _share(before: float | None, now: float | None, allowed: float, reason: str) -> float | Missing:
    """How much of what was allowed a counter grew by; a counter that went back gives nothing."""
    if before is None or now is None:
        return Missing(reason)
    if allowed <= 0:
        return Missing("no time has passed since the sample before")
    return (now - before) / allowed if now >= before else Missing("the counter was set back")


def _busy_s(stat: str, cores: Collection[int]) -> float | None:
    """CPU seconds that `cores` were not idle, of /proc/stat. Waiting for a disk and stolen time are idle."""
    total, seen = 0, False
    for line in stat.splitlines():
        if not line.startswith("cpu"):
            break
        words = line.split()
        core, ticks = parse_number(words[0][3:]), [parse_number(word) or 0 for word in words[1:8]]
        if core in cores and len(ticks) >= 4:
            seen, total = True, total + sum(ticks) - sum(ticks[3:5])
    return total / _TICKS_PER_S if seen else None
