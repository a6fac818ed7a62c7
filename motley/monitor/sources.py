"""The table of all sources, in the order in which they count."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from motley.limits import PROC, SYS_FS_CGROUP, Cgroup
from motley.monitor.battery import Battery
from motley.monitor.cpu import Cpu, Pressure
from motley.monitor.gpu import Gpus
from motley.monitor.memory import ContainerMemory, ProcessMemory
from motley.monitor.network import Network
from motley.monitor.power import Rapl
from motley.monitor.reading import Source
from motley.monitor.temperature import Hwmon, ThermalZones


@dataclass(frozen=True)
class Roots:
    """Where the kernel's file systems are mounted."""

    cgroup: Path = SYS_FS_CGROUP
    proc: Path = PROC
    sys: Path = Path("/sys")


def all_sources(roots: Roots, pid: int) -> tuple[Source, ...]:
    """All that can be measured of this device. Of two sources for a field the first that knows it counts.

    pid: the process whose memory, with that of its descendants, is the process's.
    """
    cgroup = Cgroup(roots.cgroup, roots.proc)
    return (
        ProcessMemory(pid, roots.proc),
        ContainerMemory(cgroup, roots.proc),
        Cpu(cgroup, roots.proc),
        Pressure(cgroup, roots.proc),
        Gpus(),
        Rapl(roots.sys),
        Hwmon(roots.sys),
        ThermalZones(roots.sys),
        Battery(roots.sys),
        Network(roots.proc),
    )
