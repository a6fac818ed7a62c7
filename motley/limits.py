"""Read what this container may use and has used, from cgroup v1, v2 or both at once.

A limit may be set on this cgroup or on any above it: the tightest one counts, and what it is held
against is the use of the cgroup that carries it. Whatever stands in the files, nothing here raises:
what is missing, negative, too large or garbage is None. The file-system roots are arguments, so that
tests read small real trees.

Source: the kernel's Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst, accounting/psi.rst.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from motley.device import DeviceLimits
from motley.kernel_files import count_of, parse_number, parse_table, pressure_share, read_text, text_or_nothing

SYS_FS_CGROUP = Path("/sys/fs/cgroup")
PROC = Path("/proc")

_UNLIMITED = 1 << 62
_LEAST_QUOTA_US, _LEAST_PERIOD_US, _MOST_PERIOD_US = 1_000, 1_000, 1_000_000
"""The kernel accepts nothing outside of these."""


_Limit = TypeVar("_Limit", int, float)


@dataclass(frozen=True)
class Usage:
    """Counters and gauges of one moment. None where the kernel does not say.

    CPU, memory and pids are each those of the cgroup whose limit is the tightest: this one, or one above
    it, which counts the siblings too. Of this one where nothing limits it.
    """

    cpu_s: float | None
    """CPU time used since the container started."""
    throttled_s: float | None
    """Time that its threads were held back by the quota, summed over the cores."""
    periods: int | None
    throttled_periods: int | None
    memory_bytes: int | None
    """Memory in use, page cache included."""
    working_set_bytes: int | None
    """Memory in use less the page cache that the kernel would drop first."""
    memory_peak_bytes: int | None
    oom_kills: int | None
    pids: int | None


@dataclass(frozen=True)
class _Files:
    """What one version calls the things, and its unit of CPU time in seconds."""

    memory_limit: str
    memory: str
    memory_peak: str
    inactive: str
    active: str
    oom: str
    throttled: str
    cpu_unit_s: float


_FILES = {
    1: _Files(
        memory_limit="memory.limit_in_bytes",
        memory="memory.usage_in_bytes",
        memory_peak="memory.max_usage_in_bytes",
        inactive="total_inactive_file",
        active="total_active_file",
        oom="memory.oom_control",
        throttled="throttled_time",
        cpu_unit_s=1e-9,
    ),
    2: _Files(
        memory_limit="memory.max",
        memory="memory.current",
        memory_peak="memory.peak",
        inactive="inactive_file",
        active="active_file",
        oom="memory.events",
        throttled="throttled_usec",
        cpu_unit_s=1e-6,
    ),
}


@dataclass(frozen=True)
class _Hierarchy:
    """Where one controller's files lie: this process's directory first, then those above it, to the mount."""

    version: int
    levels: tuple[str, ...]

    @property
    def files(self) -> _Files:
        return _FILES[self.version]

    def text(self, name: str, level: str | None = None) -> str:
        """A file of `level`; where it is not there, that of the nearest level which has it."""
        for each in (level, *self.levels) if level else self.levels:
            if text := text_or_nothing(f"{each}/{name}"):
                return text
        return ""

    def number(self, name: str, level: str | None = None) -> int | None:
        return parse_number(self.text(name, level))

    def table(self, name: str, level: str | None = None) -> dict[str, int]:
        return parse_table(self.text(name, level))

    def tightest(self, limit_at: Callable[[str], _Limit | None]) -> tuple[_Limit | None, str | None]:
        """The smallest limit of all levels, and the nearest level that carries it."""
        found = [(limit, level) for level in self.levels if (limit := limit_at(level)) is not None]
        return min(found, key=lambda pair: pair[0], default=(None, None))


class Cgroup:
    """The cgroup of this process.

    root: where the cgroup file systems are mounted; proc: the proc file system. `version` is 2 where all
    controllers lie in the unified hierarchy, else 1.
    """

    def __init__(self, root: Path = SYS_FS_CGROUP, proc: Path = PROC) -> None:
        self.version = 2 if (root / "cgroup.controllers").exists() else 1
        paths = _own_paths(proc / "self" / "cgroup")
        self._cpu, self._cpuacct, self._memory, self._pids = (
            _hierarchy(root, paths, controller) for controller in ("cpu", "cpuacct", "memory", "pids")
        )
        self._unified = _levels(root if self.version == 2 else root / "unified", paths.get("", "/"))

    def limits(self) -> DeviceLimits:
        """The limits that the kernel enforces on this container, its ancestors' included."""
        memory, swap = self._memory_limit()[0], self._swap_limit()
        return DeviceLimits(self._quota()[0], memory, swap, self._pids_limit()[0])

    def usage(self) -> Usage:
        """What is used now, under the limits that count."""
        files = self._memory.files
        memory_level = self._memory_limit()[1]
        memory = self._memory.number(files.memory, memory_level)
        cpu_level = self._quota()[1]
        cpu = self._cpu.table("cpu.stat", cpu_level)
        return Usage(
            cpu_s=self._cpu_s(cpu, cpu_level),
            throttled_s=_scaled(cpu.get(self._cpu.files.throttled), self._cpu.files.cpu_unit_s),
            periods=cpu.get("nr_periods"),
            throttled_periods=cpu.get("nr_throttled"),
            memory_bytes=memory,
            working_set_bytes=self._working_set(memory_level),
            memory_peak_bytes=self._memory.number(files.memory_peak, memory_level),
            oom_kills=self.oom_kills(),
            pids=self._pids.number("pids.current", self._pids_limit()[1]),
        )

    def cpus(self) -> float | None:
        """The quota of `limits`. This and the next two are for those who look often and need no more."""
        return self._quota()[0]

    def memory(self) -> tuple[int | None, int | None]:
        """The memory limit of `limits`, and the working set of `usage`."""
        limit, level = self._memory_limit()
        return limit, self._working_set(level)

    def held_bytes(self) -> int | None:
        """The working set less all pages of files: what the kernel can't drop, and kills for at the limit.

        Pages of libraries are among what it drops, and reads again. They count for whichever container came
        to touch them first.
        """
        level = self._memory_limit()[1]
        active = count_of(self._memory.text("memory.stat", level), self._memory.files.active)
        return _less(self._working_set(level), active)

    def cpu_times_s(self) -> tuple[float | None, float | None]:
        """CPU time and throttled time of `usage`."""
        level = self._quota()[1]
        stat = self._cpu.table("cpu.stat", level)
        throttled_s = _scaled(stat.get(self._cpu.files.throttled), self._cpu.files.cpu_unit_s)
        return self._cpu_s(stat, level), throttled_s

    def oom_kills(self) -> int | None:
        """How many of the container's processes the kernel killed for memory."""
        return count_of(self._memory.text(self._memory.files.oom), "oom_kill")

    def pressure(self, resource: str) -> float | None:
        """Share of the last ten seconds, 0–1, in which something in this cgroup waited for `resource`.

        resource: cpu, memory or io. Needs the unified hierarchy, if only beside v1, and a kernel with PSI.
        """
        return pressure_share(text_or_nothing(f"{self._unified[0]}/{resource}.pressure"))

    def _working_set(self, level: str | None) -> int | None:
        used = self._memory.number(self._memory.files.memory, level)
        return _less(used, count_of(self._memory.text("memory.stat", level), self._memory.files.inactive))

    def _memory_limit(self) -> tuple[int | None, str | None]:
        return self._memory.tightest(lambda level: _limit_in(f"{level}/{self._memory.files.memory_limit}"))

    def _swap_limit(self) -> int | None:
        if self._memory.version == 2:
            return self._memory.tightest(lambda level: _limit_in(f"{level}/memory.swap.max", least=0))[0]
        both = self._memory.tightest(lambda level: _limit_in(f"{level}/memory.memsw.limit_in_bytes"))[0]
        memory = self._memory_limit()[0]
        return max(0, both - memory) if memory is not None and both is not None else None

    def _pids_limit(self) -> tuple[int | None, str | None]:
        return self._pids.tightest(lambda level: _limit_in(f"{level}/pids.max"))

    def _quota(self) -> tuple[float | None, str | None]:
        return self._cpu.tightest(_quota_v2 if self._cpu.version == 2 else _quota_v1)

    def _cpu_s(self, stat: Mapping[str, int], level: str | None) -> float | None:
        """CPU time at `level`, which v1 counts in a hierarchy of its own: there, as many levels below the mount."""
        if self._cpu.version == 2:
            return _scaled(stat.get("usage_usec"), 1e-6)
        levels = self._cpuacct.levels
        below = len(self._cpu.levels) - self._cpu.levels.index(level) if level else len(levels)
        return _scaled(self._cpuacct.number("cpuacct.usage", levels[max(0, len(levels) - below)]), 1e-9)


def _hierarchy(root: Path, paths: Mapping[str, str], controller: str) -> _Hierarchy:
    """Where `controller` lies: unified, a mount of its own, one it shares, or the unified one beside v1."""
    unified = paths.get("", "/")
    if (root / "cgroup.controllers").exists():
        return _Hierarchy(2, _levels(root, unified))
    own = root / controller
    shared = own if own.is_dir() else _shared_mount(root, controller)
    if shared is None and controller in text_or_nothing(f"{root}/unified/cgroup.controllers").split():
        return _Hierarchy(2, _levels(root / "unified", unified))
    levels = _levels(shared or own, paths.get(controller, "/"))
    return _Hierarchy(1, _accounted(levels) if controller == "memory" else levels)


def _shared_mount(root: Path, controller: str) -> Path | None:
    """Such as `cpu,cpuacct`, where the link from `cpu` is lacking."""
    try:
        names = sorted(os.listdir(root))
    except OSError:
        return None
    return next((root / name for name in names if controller in name.split(",")), None)


def _levels(mount: Path, own: str) -> tuple[str, ...]:
    """Directories from the process's own up to the mount.

    Where a container sees the host's path, but only its own part of the tree is mounted, the longest tail
    of the path that is there counts. A path outside of the cgroup namespace (`/..`) is not there.
    """
    parts = [part for part in own.split("/") if part]
    while parts and (".." in parts or not (mount / "/".join(parts)).is_dir()):
        parts = parts[1:]
    tails = ["/".join(parts[:depth]) for depth in range(len(parts), 0, -1)]
    return (*(f"{mount}/{tail}" for tail in tails), str(mount))


def _accounted(levels: tuple[str, ...]) -> tuple[str, ...]:
    """Of v1: the levels up to the first parent that does not count what its children use."""
    for index, parent in enumerate(levels[1:], start=1):
        if text_or_nothing(f"{parent}/memory.use_hierarchy").strip() == "0":
            return levels[:index]
    return levels


def _own_paths(self_cgroup: Path) -> dict[str, str]:
    """Controller → path, of /proc/self/cgroup; the unified hierarchy under the empty name."""
    paths: dict[str, str] = {}
    for line in text_or_nothing(self_cgroup).splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if path.startswith("/"):
            paths.update(dict.fromkeys(controllers.split(","), path))
    return paths


def _quota_v2(level: str) -> float | None:
    parts = text_or_nothing(f"{level}/cpu.max").split()
    return _cores(*map(parse_number, parts)) if len(parts) == 2 else None


def _quota_v1(level: str) -> float | None:
    return _cores(*(parse_number(text_or_nothing(f"{level}/cpu.cfs_{name}_us")) for name in ("quota", "period")))


def _cores(quota_us: int | None, period_us: int | None) -> float | None:
    if quota_us is None or period_us is None or quota_us < _LEAST_QUOTA_US or quota_us >= _UNLIMITED:
        return None
    return quota_us / period_us if _LEAST_PERIOD_US <= period_us <= _MOST_PERIOD_US else None


def _limit_in(path: str, least: int = 1) -> int | None:
    value = parse_number(text_or_nothing(path))
    return value if value is not None and least <= value < _UNLIMITED else None


def _scaled(value: int | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _less(value: int | None, part: int | None) -> int | None:
    return None if value is None else max(0, value - (part or 0))


def host_cores() -> int:
    """Cores that this process could run on if it had no quota."""
    return len(os.sched_getaffinity(0))


def host_memory_bytes(proc: Path = PROC) -> int:
    """Physical memory of the machine. Raises OSError where it can't be told."""
    kibibytes = count_of(read_text(proc / "meminfo"), "MemTotal:")
    if not kibibytes:
        raise OSError(f"{proc / 'meminfo'} has no MemTotal: is {proc} a proc file system?")
    return kibibytes * 1024
