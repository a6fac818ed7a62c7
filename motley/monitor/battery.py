"""Charge of the device's own batteries and what it draws from them, from the kernel's power supply class.

psutil takes the first battery it finds, a wireless mouse's too; the kernel marks those with the scope
`Device`, and they are left out here. Source: the kernel's Documentation/ABI/testing/sysfs-class-power.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from motley.kernel_files import parse_number, text_or_nothing
from motley.monitor.reading import Missing, Reading

SYS = Path("/sys")
_CHARGING = ("Charging", "Full", "Not charging")
"""The last one: plugged in, and held at a charge that is kind to the battery."""

_MAINS = ("Mains", "USB", "Wireless")

Supply = Mapping[str, str]
"""What a power supply tells: the names of its uevent without the prefix `POWER_SUPPLY_`."""


class Battery:
    """All batteries of the device together. Its power is told while it does not charge."""

    fields = ("battery_level", "charging", "battery_source", "power_w", "power_source")

    def __init__(self, sys: Path = SYS) -> None:
        self._directory = sys / "class" / "power_supply"

    def read(self, now_s: float) -> Reading:
        found = supplies(self._directory)
        own = [each for each in found if _is_own_battery(each)]
        if not own:
            return dict.fromkeys(("battery_level", "charging", "power_w"), Missing("no battery"))
        level, charging, watts = level_of(own), charging_of(found), watts_of(own)
        return {
            "battery_level": Missing("the battery does not tell its charge") if level is None else level,
            "charging": Missing("the battery does not tell its state") if charging is None else charging,
            "battery_source": "sysfs",
            "power_w": Missing("the battery tells no power that is drawn from it") if watts is None else watts,
            "power_source": "battery",
        }

    def close(self) -> None:
        pass


def supplies(directory: Path) -> list[Supply]:
    """All power supplies: batteries, mains, USB."""
    try:
        paths = sorted(directory.iterdir())
    except OSError:
        return []
    return [_supply(path) for path in paths]


def level_of(own: Sequence[Supply]) -> float | None:
    """Charge of all batteries, 0–1: by energy or charge where all tell it, else the mean of the percentages."""
    for kind in ("ENERGY", "CHARGE"):
        pairs = [(_number(each, f"{kind}_NOW"), _number(each, f"{kind}_FULL")) for each in own]
        known = [(now, full) for now, full in pairs if now is not None and full]
        if known and len(known) == len(own):
            return min(1.0, sum(now for now, _ in known) / sum(full for _, full in known))
    percentages = [level for each in own if (level := _number(each, "CAPACITY")) is not None]
    return min(1.0, sum(percentages) / len(percentages) / 100) if percentages else None


def charging_of(found: Sequence[Supply]) -> bool | None:
    """Whether the device lives on the mains now; None where nothing says so."""
    if any(each.get("ONLINE") == "1" and each.get("TYPE", "").startswith(_MAINS) for each in found):
        return True
    states = [each["STATUS"] for each in found if _is_own_battery(each) and each.get("STATUS") not in (None, "Unknown")]
    if "Discharging" in states or not states:
        return False if states else None
    return any(state in _CHARGING for state in states)


def watts_of(own: Sequence[Supply]) -> float | None:
    """What all batteries that discharge give; None where none does, or none tells."""
    known = [watts for each in own if each.get("STATUS") == "Discharging" and (watts := _watts(each))]
    return sum(known) if known else None


def _watts(battery: Supply) -> float | None:
    power_uw = _number(battery, "POWER_NOW")
    if power_uw is not None:
        return power_uw / 1e6
    current_ua, voltage_uv = _number(battery, "CURRENT_NOW"), _number(battery, "VOLTAGE_NOW")
    return None if current_ua is None or voltage_uv is None else current_ua * voltage_uv / 1e12


def _is_own_battery(supply: Supply) -> bool:
    return (
        supply.get("TYPE") == "Battery"
        and supply.get("SCOPE", "System") != "Device"
        and supply.get("PRESENT", "1") == "1"
    )


def _number(supply: Supply, name: str) -> int | None:
    """A figure of a supply; some drivers give the current that flows out a sign."""
    return parse_number(supply.get(name, "").removeprefix("-"))


def _supply(path: Path) -> Supply:
    """One supply. Older kernels leave its type and scope out of the uevent."""
    lines = text_or_nothing(path / "uevent").splitlines()
    pairs = (line.removeprefix("POWER_SUPPLY_").partition("=") for line in lines)
    told = {name: value.strip() for name, _, value in pairs}
    files = {name: text_or_nothing(path / name.lower()).strip() for name in ("TYPE", "SCOPE") if name not in told}
    return {**told, **{name: value for name, value in files.items() if value}}
