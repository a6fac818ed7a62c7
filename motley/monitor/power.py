"""Watts of the processors, by RAPL.

RAPL counts micro-joules and starts again from 0 at `max_energy_range_uj`, at full load after minutes to
hours; between two reads it must not have done so twice. Source: the kernel's Documentation/power/powercap.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from motley.kernel_files import parse_number, read_text, text_or_nothing
from motley.monitor.reading import FIRST, Missing, Reading

SYS = Path("/sys")
_ZONE = re.compile(r"intel-rapl:\d+(:\d+)?")


@dataclass(frozen=True)
class _Zone:
    """A counter of energy."""

    file: Path
    range_uj: int | None
    """After how much it starts again."""


class Rapl:
    """Power of all processor packages and their memory, by the counters that Intel and AMD have."""

    fields = ("power_w", "power_source")

    def __init__(self, sys: Path = SYS) -> None:
        self._directory = sys / "class" / "powercap"
        self._zones: tuple[_Zone, ...] | None = None
        self._before: tuple[float, list[int]] | None = None

    def read(self, now_s: float) -> Reading:
        if self._zones is None:
            self._zones = _zones(self._directory)
        if not self._zones:
            return {"power_w": Missing("no RAPL")}
        try:
            energy_uj = [_energy_uj(zone) for zone in self._zones]
        except PermissionError:
            return {"power_w": Missing("RAPL is for root alone; make energy_uj readable to use it")}
        before, self._before = self._before, (now_s, energy_uj)
        if before is None:
            return {"power_w": Missing(f"RAPL: {FIRST}", for_now=True)}
        return self._power(before, now_s, energy_uj)

    def close(self) -> None:
        self._zones = self._before = None

    def _power(self, before: tuple[float, list[int]], now_s: float, energy_uj: list[int]) -> Reading:
        elapsed_s = now_s - before[0]
        if elapsed_s <= 0:
            return {"power_w": Missing("RAPL: no time has passed since the sample before", for_now=True)}
        used = [_used_uj(*each) for each in zip(before[1], energy_uj, self._zones or (), strict=True)]
        known = [each for each in used if each is not None]
        if len(known) < len(used):
            return {"power_w": Missing("RAPL: a counter started again, and does not say at what", for_now=True)}
        return {"power_w": sum(known) / 1e6 / elapsed_s, "power_source": "rapl"}


def _zones(directory: Path) -> tuple[_Zone, ...]:
    """Packages, and their memory, which packages leave out. Cores and uncore are within the package."""
    try:
        found = sorted(path for path in directory.iterdir() if _ZONE.fullmatch(path.name))
    except OSError:
        return ()
    counted = (path for path in found if text_or_nothing(path / "name").strip().startswith(("package", "dram")))
    return tuple(
        _Zone(path / "energy_uj", parse_number(text_or_nothing(path / "max_energy_range_uj"))) for path in counted
    )


def _energy_uj(zone: _Zone) -> int:
    text = read_text(zone.file)
    number = parse_number(text)
    if number is None:
        raise ValueError(f"{zone.file} holds {text.strip()[:20]!r}, not micro-joules")
    return number


def _used_uj(before: int, now: int, zone: _Zone) -> int | None:
    if now >= before:
        return now - before
    return now - before + zone.range_uj if zone.range_uj and before <= zone.range_uj else None
