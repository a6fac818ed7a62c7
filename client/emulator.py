"""Keep a container's battery and heat: the agent's part of their emulation.

The model is `motley.physics`. The agent lives as long as its container, so the condition outlasts
executor and ClientApp. Every half second it follows the CPU time that was used since, and is written to
a file from which the ClientApp's process reads it. Loads nothing large: it runs in the agent.
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from motley.errors import InputError
from motley.kernel_files import text_or_nothing
from motley.limits import PROC, Cgroup
from motley.physics import Body, Condition

INTERVAL_S = 0.5
_SAME_QUOTA = 0.1

KEYS = {
    "power-idle": "idle_w",
    "power-busy": "busy_w",
    "heat-ambient": "ambient_celsius",
    "heat-throttle": "throttle_celsius",
    "heat-limit": "limit_celsius",
    "battery-capacity": "capacity_wh",
    "battery-floor": "floor",
    "battery-charge": "charge_w",
    "battery-charging-share": "charging_share",
    "battery-charging-from": "charging_from",
}
"""Keys of the node configuration, and the fields of Body that they set."""


def body_of(node: Mapping[str, object]) -> Body | None:
    """What the fleet file says of battery, power and heat; None where it says nothing."""
    known = {field: number_of(node, key) for key, field in KEYS.items() if key in node}
    return Body(**known) if known else None


def number_of(node: Mapping[str, object], key: str) -> float:
    """A finite number. Raises InputError with the variable's name."""
    text = str(node[key])
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        name = "MOTLEY_" + key.upper().replace("-", "_")
        raise InputError(f"{name} '{text}' is not a number; generate the compose file anew")
    return value


@dataclass(frozen=True)
class Reading:
    """A device's condition, as its agent sees it."""

    taken_s: float
    """By the monotonic clock, which all processes of a machine share."""
    condition: Condition
    """Its time begins with the device."""
    watts: float = 0.0
    """Mean power since the reading before."""
    energy_wh: float = 0.0
    """Drawn since the device began."""

    def at(self, now_s: float) -> Condition:
        """The condition with the time brought up to now."""
        return replace(self.condition, at_s=self.condition.at_s + max(0.0, now_s - self.taken_s))

    def write(self, path: Path) -> None:
        """Write it so that whoever reads sees all of it or all of the one before."""
        new = path.with_name(f"{path.name}.new")
        new.write_text(json.dumps(asdict(self)))
        os.replace(new, path)

    @classmethod
    def read(cls, path: Path) -> Reading | None:
        """What was written last; None before the first."""
        try:
            data = json.loads(path.read_text())
        except FileNotFoundError:
            return None
        return cls(**{**data, "condition": Condition(**data["condition"])})


def modelled(body: Body, reading: Reading | None, now_s: float) -> dict[str, float | bool]:
    """What the model says in place of sensors, as a monitor takes it; nothing before the first reading."""
    if reading is None:
        return {}
    condition = reading.at(now_s)
    known: dict[str, float | bool] = {"power_w": reading.watts}
    if body.has_heat:
        known["celsius"] = condition.celsius
    if body.has_battery:
        known |= {"battery_level": body.level(condition), "charging": body.is_charging(condition.at_s)}
    return known


class Emulator:
    """Steps a device's condition by the power that its CPU time stands for.

    cpu_s: CPU seconds used so far; None where that is not known. cpus: the cores that stand for full load.
    """

    def __init__(
        self,
        body: Body,
        level: float,
        cpu_s: Callable[[], float | None],
        cpus: float,
        path: Path | None = None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.body = body
        self._cpu_s, self._cpus, self._path, self._now_s = cpu_s, cpus, path, now_s
        self._used_s = cpu_s() or 0.0
        self._ahead_s = 0.0
        self.reading = Reading(now_s(), body.fresh(level))

    @classmethod
    def of_node(cls, node: Mapping[str, object], cgroup: Cgroup) -> Emulator | None:
        """The emulator of this container; None where the fleet file has nothing to emulate."""
        body = body_of(node)
        if body is None:
            return None
        quota, stated = cgroup.limits().cpus, number_of(node, "cpus") if "cpus" in node else None
        level = number_of(node, "battery-level") if "battery-level" in node else 1.0
        own = quota is not None and (stated is None or abs(quota - stated) <= _SAME_QUOTA * stated)
        cpu_s = (lambda: cgroup.usage().cpu_s) if own else (lambda: tree_cpu_s(os.getpid()))
        cpus = quota if own and quota else stated or os.cpu_count() or 1
        return cls(body, level, cpu_s, cpus, Path(str(node["condition"])) if "condition" in node else None)

    def start(self) -> None:
        """Step for ever, in a thread that ends with the process."""
        self.step()
        threading.Thread(target=self._keep_stepping, daemon=True).start()

    def step(self) -> None:
        """Bring the condition up to now, and write it."""
        before, now_s = self.reading, self._now_s()
        elapsed_s = now_s - before.taken_s
        if elapsed_s > 0:
            watts = self.body.power_w(self._share(elapsed_s))
            condition = self.body.advance(before.condition, watts, elapsed_s)
            self.reading = Reading(now_s, condition, watts, before.energy_wh + watts * elapsed_s / 3600)
        if self._path is not None:
            self.reading.write(self._path)

    def _share(self, elapsed_s: float) -> float:
        """Of full load. The kernel books quota in periods, so what is above full load counts for the next step."""
        used_s = self._cpu_s()
        full_s = elapsed_s * self._cpus
        if used_s is not None:
            self._ahead_s, self._used_s = self._ahead_s + max(0.0, used_s - self._used_s), used_s
        share = min(1.0, self._ahead_s / full_s)
        self._ahead_s = min(self._ahead_s - share * full_s, full_s)
        return share

    def _keep_stepping(self) -> None:
        while True:
            time.sleep(INTERVAL_S)
            try:
                self.step()
            except OSError as error:
                print(f"agent: the device's condition can't be written: {error}", flush=True)


def tree_cpu_s(pid: int, proc: Path = PROC) -> float | None:
    """CPU time of a process, of its descendants, and of those that they have waited for.

    For devices that share a cgroup. None where the kernel does not say.
    """
    fields = text_or_nothing(proc / str(pid) / "stat").rpartition(")")[2].split()
    if len(fields) < 15:
        return None
    ticks = sum(int(each) for each in fields[11:15])
    children = text_or_nothing(proc / str(pid) / "task" / str(pid) / "children").split()
    below = (tree_cpu_s(int(child), proc) for child in children)
    return ticks / os.sysconf("SC_CLK_TCK") + sum(each for each in below if each is not None)
