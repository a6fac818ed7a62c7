"""Memory of the process and its descendants, of the container, and of the machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import psutil

from motley.kernel_files import count_of, parse_number, read_text, text_or_nothing
from motley.limits import PROC, Cgroup
from motley.monitor.reading import Missing, Reading

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class ContainerMemory:
    """The container's memory and its limit; the machine's, where nothing tighter limits the container."""

    fields = ("memory_bytes", "memory_limit_bytes", "machine_memory_bytes", "machine_memory_total_bytes", "oom_kills")

    def __init__(self, cgroup: Cgroup, proc: Path = PROC) -> None:
        self._cgroup, self._meminfo = cgroup, proc / "meminfo"

    def read(self, now_s: float) -> Reading:
        machine = self._machine()
        total = machine["machine_memory_total_bytes"]
        limit, used = self._cgroup.memory()
        if limit is None or (isinstance(total, int) and limit >= total):
            limit, used = total, machine["machine_memory_bytes"]
        return {
            "memory_bytes": Missing("the cgroup does not say") if used is None else used,
            "memory_limit_bytes": limit,
            **machine,
            "oom_kills": _or(self._cgroup.oom_kills(), "the cgroup counts no kills"),
        }

    def close(self) -> None:
        pass

    def _machine(self) -> Reading:
        text = text_or_nothing(self._meminfo)
        total, free = count_of(text, "MemTotal:"), count_of(text, "MemAvailable:")
        used = max(0, total - free) * 1024 if total and free is not None else None
        return {
            "machine_memory_total_bytes": _or(total * 1024 if total else None, f"{self._meminfo} has no MemTotal"),
            "machine_memory_bytes": _or(used, f"{self._meminfo} has no MemAvailable"),
        }


class ProcessMemory:
    """Resident memory of a process and all below it.

    Goes down from the process through the kernel's lists of children, so that its cost does not grow with
    the number of processes of the machine; where the kernel has no such lists, `children` is asked.
    """

    fields = ("process_memory_bytes",)

    def __init__(self, pid: int, proc: Path = PROC, children: Callable[[int], Iterable[int]] | None = None) -> None:
        self._pid, self._proc = pid, proc
        self._children = children or _children_by_psutil

    def read(self, now_s: float) -> Reading:
        sizes = [size for pid in self._family() if (size := resident_bytes(self._proc, pid)) is not None]
        return {"process_memory_bytes": sum(sizes) if sizes else Missing(f"process {self._pid} can't be read")}

    def close(self) -> None:
        pass

    def _family(self) -> Iterator[int]:
        if not (self._proc / str(self._pid) / "task" / str(self._pid) / "children").exists():
            yield from {self._pid, *self._children(self._pid)}
            return
        seen, waiting = set(), [self._pid]
        while waiting:
            pid = waiting.pop()
            if pid not in seen:
                seen.add(pid)
                waiting.extend(_children(f"{self._proc}/{pid}/task"))
                yield pid


def _children(tasks: str) -> Iterator[int]:
    """The children of all threads of a process that may have ended meanwhile."""
    try:
        names = os.listdir(tasks)
    except OSError:
        return
    for name in names:
        numbers = map(parse_number, text_or_nothing(f"{tasks}/{name}/children").split())
        yield from (number for number in numbers if number is not None)


def _children_by_psutil(pid: int) -> list[int]:
    try:
        return [each.pid for each in psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return []


def resident_bytes(proc: Path, pid: int) -> int | None:
    """Resident memory of one process; None when it is gone or may not be read."""
    try:
        words = read_text(f"{proc}/{pid}/statm").split()
    except OSError:
        return None
    pages = parse_number(words[1]) if len(words) > 1 else None
    return None if pages is None else pages * _PAGE_BYTES


def _or(value: int | None, reason: str) -> int | Missing:
    return Missing(reason) if value is None else value
