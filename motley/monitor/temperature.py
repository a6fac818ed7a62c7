"""Temperature of the processor, in degrees Celsius: by the chip's own sensor, else by a thermal zone.

The files are found once and read again each time. Source: the kernel's Documentation/hwmon/sysfs-interface
and driver-api/thermal/sysfs-api.
"""

from __future__ import annotations

from pathlib import Path

from motley.kernel_files import text_or_nothing
from motley.monitor.reading import Missing, Reading

SYS = Path("/sys")
_CHIPS = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "soc_thermal", "cpu-thermal", "soc-thermal", "cpu")
_CPU_ZONES = ("x86_pkg_temp", "cpu", "soc", "tcpu")
_LEAST_CELSIUS, _MOST_CELSIUS = -40.0, 150.0
"""What a sensor says outside of these is a fault of the sensor."""


class Hwmon:
    """The hottest sensor of the processor."""

    fields = ("celsius", "celsius_source")

    def __init__(self, sys: Path = SYS) -> None:
        self._directory = sys / "class" / "hwmon"
        self._files: list[Path] | None = None

    def read(self, now_s: float) -> Reading:
        if self._files is None:
            self._files = _chip_files(self._directory)
        return _hottest(self._files, "hwmon", "no sensor of the processor in hwmon")

    def close(self) -> None:
        self._files = None


class ThermalZones:
    """The hottest thermal zone of the processor; of all zones where none is marked as the processor's."""

    fields = ("celsius", "celsius_source")

    def __init__(self, sys: Path = SYS) -> None:
        self._directory = sys / "class" / "thermal"
        self._files: list[Path] | None = None

    def read(self, now_s: float) -> Reading:
        if self._files is None:
            self._files = _zone_files(self._directory)
        return _hottest(self._files, "thermal zone", "no thermal zone")

    def close(self) -> None:
        self._files = None


def _chip_files(directory: Path) -> list[Path]:
    chips = [path for path in directory.glob("hwmon*") if text_or_nothing(path / "name").strip() in _CHIPS]
    return sorted(file for chip in chips for file in chip.glob("temp*_input"))


def _zone_files(directory: Path) -> list[Path]:
    zones = {path: text_or_nothing(path / "type").strip().lower() for path in directory.glob("thermal_zone*")}
    of_cpu = [path for path, kind in zones.items() if kind.startswith(_CPU_ZONES)]
    return sorted(path / "temp" for path in of_cpu or zones)


def _hottest(files: list[Path], source: str, reason: str) -> Reading:
    known = [celsius for file in files if (celsius := _celsius(text_or_nothing(file))) is not None]
    if known:
        return {"celsius": max(known), "celsius_source": source}
    return {"celsius": Missing(f"{source}: no sensor that can be read" if files else reason)}


def _celsius(text: str) -> float | None:
    """Thousandths of a degree, which may be below zero."""
    try:
        celsius = int(text[:12]) / 1000
    except ValueError:
        return None
    return celsius if _LEAST_CELSIUS <= celsius <= _MOST_CELSIUS else None
