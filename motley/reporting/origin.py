"""What it takes to make a run again: its fleet file, the command, and what it ran on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import yaml

from motley.device import DeviceProfile
from motley.spec import Fleet

_COMMANDS = {
    "simulation": ["motley simulate fleet.yaml"],
    "processes": ["motley run fleet.yaml"],
    "compose": ["motley compose --fleet fleet.yaml", "docker compose up"],
}

_PLACES = {
    "simulation": "on the virtual clock",
    "processes": "as processes of one machine",
    "compose": "in containers",
}

_EXACT = {"simulation": "The same version of Motley and its libraries gives the same history, to the bit."}
_ALIKE = "Devices, data and first weights are the same; which replies come first depends on the machine."


def place(runtime: str) -> str:
    """Where a run took place, in words."""
    return _PLACES.get(runtime, f"on the runtime '{runtime}'")


def clock(runtime: str) -> str:
    """What the time axis of a chart is called."""
    return "virtual time, s" if runtime == "simulation" else "time since the first round, s"


def fleet_file(fleet: Fleet) -> str:
    """The fleet as a file, with whatever the command line of the run had changed."""
    return yaml.safe_dump(fleet.as_mapping(), sort_keys=False, allow_unicode=True)


def commands(runtime: str) -> list[str]:
    """What makes the run again from that file; empty for a runtime that is not known."""
    return _COMMANDS.get(runtime, [])


def how_alike(runtime: str) -> str:
    return _EXACT.get(runtime, _ALIKE)


def versions(profiles: Sequence[DeviceProfile]) -> list[tuple[str, int]]:
    """What the devices said they run, and how many of them did; most first."""
    return Counter(each.versions or "not said" for each in profiles).most_common()
