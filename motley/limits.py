"""Read what this container may use and has used, from cgroup v1 or v2.

The file-system roots are arguments, so that tests read small real trees.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from motley.device import DeviceLimits

SYS_FS_CGROUP = Path("/sys/fs/cgroup")
PROC = Path("/proc")

_V1_UNLIMITED = 1 << 62


@dataclass(frozen=True)
class Usage:
    """Counters and gauges of one moment. None where the kernel does not say."""

    cpu_s: float | None
    """CPU time used since the container started."""
    throttled_s: float | None
    """Time that its threads were held back by the quota."""
    periods: int | None
    throttled_periods: int | None
    memory_bytes: int | None
    """Memory in use, page cache included."""
    working_set_bytes: int | None
    """Memory in use less the page cache that the kernel would drop first."""
    memory_peak_bytes: int | None
    oom_kills: int | None
    pids: int | None


class Cgroup:
    """The cgroup of this process.

    root: where the cgroup file systems are mounted; proc: the proc file system.
    """

    def __init__(self, root: Path = SYS_FS_CGROUP, proc: Path = PROC) -> None:
        self._root = root
        self.version = 2 if (root / "cgroup.controllers").exists() else 1
        self._paths = _own_paths(proc / "self" / "cgroup")

    def limits(self) -> DeviceLimits:
        """The limits that the kernel enforces on this container."""
        if self.version == 2:
            memory = self._limit("memory", "memory.max")
            return DeviceLimits(self._quota_v2(), memory, self._limit("memory", "memory.swap.max"), self._pids())
        memory = self._limit("memory", "memory.limit_in_bytes")
        both = self._limit("memory", "memory.memsw.limit_in_bytes")
        swap = max(0, both - memory) if memory is not None and both is not None else None
        return DeviceLimits(self._quota_v1(), memory, swap, self._pids())

    def usage(self) -> Usage:
        """What the container uses now."""
        return self._usage_v2() if self.version == 2 else self._usage_v1()

    def oom_kills(self) -> int | None:
        """How many of the container's processes the kernel killed for memory."""
        if self.version == 2:
            return _table(self._text("memory", "memory.events")).get("oom_kill")
        return _table(self._text("memory", "memory.oom_control")).get("oom_kill")

    def _usage_v2(self) -> Usage:
        cpu = _table(self._text("cpu", "cpu.stat"))
        memory, stat = self._number("memory", "memory.current"), _table(self._text("memory", "memory.stat"))
        return Usage(
            cpu_s=_scaled(cpu.get("usage_usec"), 1e-6),
            throttled_s=_scaled(cpu.get("throttled_usec"), 1e-6),
            periods=cpu.get("nr_periods"),
            throttled_periods=cpu.get("nr_throttled"),
            memory_bytes=memory,
            working_set_bytes=_less(memory, stat.get("inactive_file")),
            memory_peak_bytes=self._number("memory", "memory.peak"),
            oom_kills=self.oom_kills(),
            pids=self._number("pids", "pids.current"),
        )

    def _usage_v1(self) -> Usage:
        cpu = _table(self._text("cpu", "cpu.stat"))
        memory = self._number("memory", "memory.usage_in_bytes")
        stat = _table(self._text("memory", "memory.stat"))
        return Usage(
            cpu_s=_scaled(self._number("cpuacct", "cpuacct.usage"), 1e-9),
            throttled_s=_scaled(cpu.get("throttled_time"), 1e-9),
            periods=cpu.get("nr_periods"),
            throttled_periods=cpu.get("nr_throttled"),
            memory_bytes=memory,
            working_set_bytes=_less(memory, stat.get("total_inactive_file")),
            memory_peak_bytes=self._number("memory", "memory.max_usage_in_bytes"),
            oom_kills=self.oom_kills(),
            pids=self._number("pids", "pids.current"),
        )

    def _quota_v2(self) -> float | None:
        parts = self._text("cpu", "cpu.max").split()
        known = len(parts) == 2 and all(part.isdigit() for part in parts) and int(parts[1]) > 0
        return int(parts[0]) / int(parts[1]) if known else None

    def _quota_v1(self) -> float | None:
        quota, period = self._number("cpu", "cpu.cfs_quota_us"), self._number("cpu", "cpu.cfs_period_us")
        return None if quota is None or quota <= 0 or not period else quota / period

    def _pids(self) -> int | None:
        return self._limit("pids", "pids.max")

    def _limit(self, controller: str, name: str) -> int | None:
        value = self._number(controller, name)
        return None if value is None or value >= _V1_UNLIMITED else value

    def _number(self, controller: str, name: str) -> int | None:
        text = self._text(controller, name).strip()
        return int(text) if text.lstrip("-").isdigit() else None

    def _text(self, controller: str, name: str) -> str:
        for directory in self._directories(controller):
            try:
                return (directory / name).read_text()
            except OSError:
                continue
        return ""

    def _directories(self, controller: str) -> list[Path]:
        """Where the files may lie: under the process's own path, or at the mount itself.

        Inside a container the own path is the host's, and the mount shows just the container's part.
        """
        mount = self._root if self.version == 2 else self._root / controller
        own = self._paths.get("" if self.version == 2 else controller, "/").lstrip("/")
        return [mount / own, mount] if own else [mount]


def _own_paths(self_cgroup: Path) -> dict[str, str]:
    """Controller → path, of /proc/self/cgroup; the unified hierarchy under the empty name."""
    try:
        lines = self_cgroup.read_text().splitlines()
    except OSError:
        return {}
    paths: dict[str, str] = {}
    for line in lines:
        _, controllers, path = line.split(":", 2)
        paths.update(dict.fromkeys(controllers.split(","), path))
    return paths


def _table(text: str) -> dict[str, int]:
    rows = (line.split() for line in text.splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].lstrip("-").isdigit()}


def _scaled(value: int | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _less(value: int | None, part: int | None) -> int | None:
    return None if value is None else max(0, value - (part or 0))


def host_cores() -> int:
    """Cores that this process could run on if it had no quota."""
    return len(os.sched_getaffinity(0))


def host_memory_bytes(proc: Path = PROC) -> int:
    """Physical memory of the machine."""
    for line in (proc / "meminfo").read_text().splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"{proc / 'meminfo'} has no MemTotal")
