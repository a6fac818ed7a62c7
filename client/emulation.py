"""Battery and heat as the ClientApp meets them: it pauses where the device throttles, and stops where it rests.

`client.emulator` keeps the condition in the agent. Without an agent a device stays as it was switched on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from client.emulator import Reading, body_of, number_of
from motley.device import DeviceStop, Outcome
from motley.governor.base import Adjustment
from motley.physics import Body

_LOOK_S = 0.1
_LONGEST_PAUSE_S = 0.5
"""So that an empty battery is seen within two seconds in the middle of a long pause."""


class Emulation:
    """What a device's agent says of its condition; nothing where the fleet file has nothing to emulate."""

    def __init__(self, body: Body | None, level: float, path: Path | None, now_s: Callable[[], float]) -> None:
        self.body, self._path, self._now_s = body, path, now_s
        self._reading = Reading(now_s(), body.fresh(level)) if body else None
        self._looked_s = float("-inf")

    @classmethod
    def from_node(cls, node: Mapping[str, object], now_s: Callable[[], float] = time.monotonic) -> Emulation:
        """From Flower's node configuration."""
        level = number_of(node, "battery-level") if "battery-level" in node else 1.0
        return cls(body_of(node), level, Path(str(node["condition"])) if "condition" in node else None, now_s)

    def figures(self) -> dict[str, float]:
        """`battery_level`, `charging` and `celsius`, those of them that the fleet file has: for a report."""
        body, reading = self.body, self.look()
        if body is None or reading is None:
            return {}
        condition, found = reading.at(self._now_s()), dict[str, float]()
        if body.has_battery:
            found |= {"battery_level": body.level(condition), "charging": int(body.is_charging(condition.at_s))}
        return found | ({"celsius": condition.celsius} if body.has_heat else {})

    def facts(self) -> dict[str, Any]:
        """`battery_level`, `charging` and `resting`, as a DeviceProfile has them."""
        known = self.figures()
        return {
            "battery_level": known.get("battery_level", -1.0),
            "charging": bool(known.get("charging")),
            "resting": self._why(lambda body: body.rests) is not None,
        }

    def control(self, cpus: float, cpu_s: Callable[[], float] = time.process_time) -> Control:
        """Control over work that begins now, on a quota of `cpus` cores. Raises DeviceStop where the device rests."""
        control = Control(self, cpus, self._now_s, cpu_s)
        self.check(begins=True)
        return control

    def check(self, begins: bool = False) -> None:
        """Raise DeviceStop where work has to end, or where it may not begin."""
        why = self._why(lambda body: body.rests if begins else body.stops)
        reading = self._reading
        if why is not None and self.body is not None and reading is not None:
            raise DeviceStop(why, self.body.words(why, reading.condition.celsius))

    def speed(self) -> float:
        """The share of full speed that the temperature allows."""
        reading = self.look()
        return self.body.speed(reading.condition.celsius) if self.body and reading else 1.0

    def look(self) -> Reading | None:
        """The newest reading, at most a tenth of a second after the agent wrote it."""
        now_s = self._now_s()
        if self._path is not None and now_s >= self._looked_s + _LOOK_S:
            self._looked_s = now_s
            self._reading = Reading.read(self._path) or self._reading
        return self._reading

    def _why(self, rule: Callable[[Body], Callable[..., Outcome | None]]) -> Outcome | None:
        reading = self.look()
        return rule(self.body)(reading.at(self._now_s())) if self.body and reading else None


class Control:
    """Asked between the steps of one training or evaluation."""

    def __init__(
        self, emulation: Emulation, cpus: float, now_s: Callable[[], float], cpu_s: Callable[[], float]
    ) -> None:
        self._emulation, self._cpus, self._now_s, self._cpu_s = emulation, cpus, now_s, cpu_s
        self._started_s, self._cpu_started_s = now_s(), cpu_s()
        self._worked_from_s = self._started_s
        self._owed_s = self._paused_s = 0.0

    def adjust(self) -> Adjustment:
        """What to do before the next step: pause, as long as the mean speed is to be the throttled one.

        A long pause comes in parts: `wait` says that more of it follows, so ask again after `pause_s` and
        before any step. Raises DeviceStop where the battery is at its floor or the limit is reached.
        """
        if self._emulation.body is None:
            return Adjustment()
        now_s = self._now_s()
        step_s = max(0.0, now_s - self._worked_from_s)
        try:
            self._emulation.check()
        except DeviceStop as stop:
            raise DeviceStop(stop.outcome, str(stop), self.figures()) from None
        speed = self._emulation.speed()
        self._owed_s = self._owed_s + step_s * (1 / speed - 1) if speed < 1 else 0.0
        pause_s = min(self._owed_s, _LONGEST_PAUSE_S)
        self._owed_s, self._paused_s = self._owed_s - pause_s, self._paused_s + pause_s
        self._worked_from_s = now_s + pause_s
        return Adjustment(pause_s=pause_s, wait=self._owed_s > 0, reason="too warm for full speed" if pause_s else "")

    def figures(self) -> dict[str, float]:
        """For the report: the condition now, and what this work has drawn and paused."""
        body = self._emulation.body
        if body is None:
            return {}
        elapsed_s, cpu_s = self._now_s() - self._started_s, self._cpu_s() - self._cpu_started_s
        energy_wh = body.energy_wh(elapsed_s, min(elapsed_s, cpu_s / self._cpus))
        return {**self._emulation.figures(), "energy_wh": energy_wh, "paused_s": self._paused_s}
