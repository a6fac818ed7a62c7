"""What a monitor measures at one moment: frozen, with units in the names.

What a platform lacks is None, never 0, and `missing` says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class GpuSample:
    """One GPU."""

    index: int
    name: str
    memory_bytes: int | None = None
    memory_total_bytes: int | None = None
    utilisation: float | None = None
    """Share of the time in which a kernel ran, 0–1."""
    power_w: float | None = None
    celsius: float | None = None


@dataclass(frozen=True)
class Sample:
    """One look at a device. Rates and shares are since the sample before; None in the first."""

    at_s: float
    """Seconds since the epoch."""
    process_memory_bytes: int | None = None
    """Resident memory of the watched process and its descendants; pages they share count once for each."""
    memory_bytes: int | None = None
    """Working set of the container, or of the machine where nothing limits the container."""
    memory_limit_bytes: int | None = None
    """What the kernel enforces, or the machine's memory."""
    machine_memory_bytes: int | None = None
    machine_memory_total_bytes: int | None = None
    cpu_share: float | None = None
    """CPU time over what the quota allows; where there is none, how busy the cores are that the process may run on.

    0–1, a little above at times.
    """
    throttled_share: float | None = None
    """Share of the time in which threads were held back by the quota: summed over the cores, cut at 1."""
    cpu_pressure: float | None = None
    """Share of the last ten seconds in which something waited for a CPU (PSI, some avg10), 0–1."""
    memory_pressure: float | None = None
    oom_kills: int | None = None
    """Since the container started."""
    gpus: tuple[GpuSample, ...] = ()
    power_w: float | None = None
    power_source: str = ""
    """rapl, rapl+nvml, battery, nvml or modelled."""
    celsius: float | None = None
    celsius_source: str = ""
    """hwmon, thermal zone, nvml or modelled."""
    battery_level: float | None = None
    """0–1."""
    charging: bool | None = None
    battery_source: str = ""
    """sysfs or modelled."""
    received_bytes: int | None = None
    """Over all interfaces but the loopback, since they came up."""
    sent_bytes: int | None = None
    missing: Mapping[str, str] = field(default_factory=dict)
    """Why a field is None, by its name; that of a GPU's field as in `gpu0_power_w`."""

    @property
    def memory_share(self) -> float | None:
        """Memory over its limit, 0–1."""
        if self.memory_bytes is None or not self.memory_limit_bytes:
            return None
        return self.memory_bytes / self.memory_limit_bytes

    @property
    def governed_memory_bytes(self) -> int | None:
        """What a limit that the device sets itself is held against.

        The container's memory; where nothing limits the container, that of the watched process and its
        descendants, because the rest of the machine's is not theirs to give back.
        """
        is_unlimited = self.memory_limit_bytes is None or self.memory_limit_bytes == self.machine_memory_total_bytes
        if self.process_memory_bytes is not None and (is_unlimited or self.memory_bytes is None):
            return self.process_memory_bytes
        return self.memory_bytes
