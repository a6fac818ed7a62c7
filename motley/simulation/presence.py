"""Who can be reached now: the devices that are there and have the charge to take part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from motley.hardware import Power
from motley.simulation.availability import Availability
from motley.simulation.device import VirtualDevice

_LONGEST_S = 600.0


class Presence:
    """Looks at a battery only when it may have run low since the last look: fleets may be large."""

    def __init__(self, devices: Sequence[VirtualDevice], seed: int) -> None:
        self._devices = devices
        self._nodes = np.array([each.device.partition + 1 for each in devices], np.int64)
        self._availability = Availability([each.spec.availability for each in devices], seed)
        self._awake = np.ones(len(devices), bool)
        self._look_s = np.array([0.0 if each.spec.battery else np.inf for each in devices])

    def nodes(self, now_s: float) -> list[int]:
        """The nodes of all who can be reached."""
        for index in np.flatnonzero(self._look_s <= now_s).tolist():
            self._look(index, now_s)
        found: list[int] = self._nodes[self._availability.at(now_s) & self._awake].tolist()
        return found

    def leaves_s(self, node: int, now_s: float) -> float:
        """When a device goes that is there now; now where it has gone already."""
        return self._availability.leaves_s(node - 1, now_s)

    def has_worked(self, node: int) -> None:
        """A device was given something to do, which costs charge."""
        if self._devices[node - 1].spec.battery:
            self._look_s[node - 1] = 0.0

    def state(self) -> dict[str, Any]:
        """All that changes, as plain data and arrays; `restore` takes it."""
        return {"availability": self._availability.state(), "awake": self._awake, "look_s": self._look_s}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._availability.restore(state["availability"])
        self._awake, self._look_s = state["awake"].copy(), state["look_s"].copy()

    def _look(self, index: int, now_s: float) -> None:
        """See whether a device is awake, and how long at least it will be."""
        device, battery = self._devices[index], self._devices[index].spec.battery
        self._awake[index] = device.is_awake(now_s)
        if battery is None:
            return
        spare_wh = device.condition.charge_wh - battery.floor * battery.capacity
        idle_watts = (device.spec.power or Power()).idle
        lasts_s = 3600 * spare_wh / idle_watts if idle_watts > 0 else _LONGEST_S * bool(self._awake[index])
        self._look_s[index] = max(now_s, device.condition.at_s) + min(max(lasts_s, 0.0), _LONGEST_S)
