"""A model of one device: how long a message keeps it busy, what that costs, and how it may end."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace

from motley.device import DeviceProfile, Outcome
from motley.hardware import DeviceSpec, Power
from motley.knowledge import REFERENCE_GFLOPS, TaskFigures
from motley.physics import Body, Heating, approach, lasting_s
from motley.physics import Condition as Condition
from motley.spec import MEMORY_FLOOR_BYTES, Device
from motley.workload import processed

_EVALUATION_SHARE = 1 / 3
"""Of the time of training: forward without backward."""


@dataclass(frozen=True)
class Demand:
    """What a message asks of a device."""

    kind: str
    """query, train or evaluate."""
    key: str
    """Names the message among all of the device: its variations are drawn from it."""
    down_bytes: int = 0
    up_bytes: int = 0
    batch_size: int = 0
    steps: int = 0
    stop_after_s: float = math.inf
    width: float = 1.0
    physical_batch: int = 0
    """Most examples in memory at one time; 0 for the whole batch."""


@dataclass(frozen=True)
class Course:
    """How a message goes: spans in seconds, and the failure that ends it, if any."""

    download_s: float
    compute_s: float
    upload_s: float
    steps: int
    failure: Outcome | None = None
    reason: str = ""
    work_s: float = 0.0
    """What the computing comes to at full speed."""

    @property
    def total_s(self) -> float:
        return self.download_s + self.compute_s + self.upload_s

    def cut(self, after_s: float, failure: Outcome, reason: str) -> Course:
        """The same course, ended early."""
        download_s = min(self.download_s, after_s)
        compute_s = min(self.compute_s, after_s - download_s)
        return Course(download_s, compute_s, after_s - download_s - compute_s, 0, failure, reason)


def body_of(spec: DeviceSpec) -> Body:
    """What a device's battery and heat follow from."""
    power, heat, battery = spec.power or Power(), spec.heat, spec.battery
    known: dict[str, float] = {"idle_w": power.idle, "busy_w": power.busy}
    if heat is not None:
        known |= heat.model_dump()
    if battery is not None:
        known |= {
            "capacity_wh": battery.capacity,
            "floor": battery.floor,
            "charge_w": battery.charge,
            "charging_share": battery.charging_share,
            "charging_from": battery.charging_from,
        }
    return Body(**known)


class VirtualDevice:
    """A device of the fleet file in virtual time.

    Its condition is brought up to date when it is looked at. Everything random is a function of the
    seed, the device and the message.
    """

    def __init__(self, device: Device, examples: int, task: TaskFigures, seed: int) -> None:
        self.device, self.spec, self.examples = device, device.spec, examples
        self._task = task
        self._seed = f"{seed}/{device.partition}"
        self.body = body_of(self.spec)
        self.condition = self.body.fresh(self.spec.battery.level if self.spec.battery else 1.0)

    @property
    def example_s(self) -> float:
        """Training seconds for one example at full speed."""
        ms = self._task.ms_per_example if self.spec.ms_per_example is None else self.spec.ms_per_example
        return ms / 1000 / self.spec.cpus

    def profile(self, now_s: float) -> DeviceProfile:
        """What the device would say of itself."""
        spec, link = self.spec, self.spec.network
        return DeviceProfile(
            device=self.device.name,
            device_class=self.device.class_name,
            host_cores=max(1, math.ceil(spec.cpus)),
            cpus=spec.cpus,
            memory_bytes=spec.memory,
            memory_used_bytes=MEMORY_FLOOR_BYTES // 2,
            examples=self.examples,
            gflops=REFERENCE_GFLOPS * self._task.ms_per_example / 1000 / self.example_s,
            pinned_batch_size=spec.batch_size or 0,
            pinned_learning_rate=spec.learning_rate or 0.0,
            down_bits_per_s=(link and link.down) or 0.0,
            up_bits_per_s=(link and link.up) or 0.0,
            latency_s=(link and link.latency) or 0.0,
            battery_level=self.battery_level(now_s),
            charging=self.is_charging(now_s),
            resting=self.body.rests(self.condition) is not None,
            priority=spec.priority,
            accelerators=spec.accelerators,
            versions="virtual",
        )

    def battery_level(self, now_s: float) -> float:
        """0–1; -1 without a battery."""
        self._settle(now_s)
        return self.body.level(self.condition)

    def is_charging(self, now_s: float) -> bool:
        return self.body.is_charging(now_s)

    def is_awake(self, now_s: float) -> bool:
        """Whether it has charge enough to take part."""
        self._settle(now_s)
        return self.body.stops(self.condition) is not Outcome.BATTERY_EMPTY

    def course(self, demand: Demand, now_s: float, leaves_s: float = math.inf) -> Course:
        """What becomes of a message that is sent now, to a device that goes offline at `leaves_s`.

        Its use of energy and its heat take effect.
        """
        self._settle(now_s)
        rng = random.Random(f"{self._seed}/{demand.key}")
        download_s = self._transfer_s(demand.down_bytes, "down", rng)
        upload_s = self._transfer_s(demand.up_bytes, "up", rng)
        example_s = self.example_s * max(0.1, rng.gauss(1, self.spec.compute_variation))
        heating = self._heating(download_s)
        course = self._compute(demand, heating, example_s, download_s, upload_s)
        course = self._fit_memory(demand, course)
        if demand.kind != "query":
            course = self._fit_condition(course, heating)
        if leaves_s < now_s + course.total_s:
            course = course.cut(leaves_s - now_s, Outcome.UNREACHABLE, "the device went offline")
        course = replace(course, work_s=heating.work_s(course.compute_s))
        self._spend(course, heating)
        return course

    def energy_wh(self, course: Course) -> float:
        """All that is drawn meanwhile; what being idle would have cost is not taken off."""
        return self.body.energy_wh(course.total_s, course.work_s)

    def peak_memory_bytes(self, demand: Demand) -> int:
        """What training needs, floor included."""
        smallest = self._task.need_bytes(demand.width)
        held = min(demand.batch_size, demand.physical_batch or demand.batch_size)
        return smallest + int(held * self._task.bytes_per_example * demand.width)

    def _compute(
        self, demand: Demand, heating: Heating, example_s: float, download_s: float, upload_s: float
    ) -> Course:
        if demand.kind == "evaluate":
            work_s = self.examples * example_s * _EVALUATION_SHARE
            return Course(download_s, heating.elapsed_s(work_s), upload_s, 0)
        steps, step_s = demand.steps, demand.batch_size * example_s
        if demand.stop_after_s < math.inf and step_s:
            fitting = heating.work_s(max(0.0, demand.stop_after_s - download_s)) / step_s
            steps = min(steps, max(1, math.ceil(fitting)))
        work_s = processed(self.examples, demand.batch_size, steps) * example_s if steps else 0.0
        return Course(download_s, heating.elapsed_s(work_s), upload_s, steps)

    def _fit_memory(self, demand: Demand, course: Course) -> Course:
        need = self.peak_memory_bytes(demand)
        if demand.kind == "query" or need <= self.spec.memory:
            return course
        reason = f"needs {need // 2**20} MiB, has {self.spec.memory // 2**20}"
        return course.cut(course.download_s + 0.1 * course.compute_s, Outcome.OUT_OF_MEMORY, reason)

    def _fit_condition(self, course: Course, heating: Heating) -> Course:
        """End a course where its charge or its heat does, whichever comes first."""
        body = self.body
        rests = body.rests(self.condition)
        if rests is not None:
            return course.cut(0.0, rests, body.words(rests, self.condition.celsius))
        idle_w = body.idle_w
        powers = [(course.download_s, idle_w), *heating.powers(course.compute_s), (course.upload_s, idle_w)]
        empty_s = lasting_s(powers, body.spare_wh(self.condition))
        hot_s = heating.limit_s if heating.limit_s < course.compute_s else math.inf
        if course.download_s + hot_s < empty_s:
            words = body.words(Outcome.TOO_HOT, body.limit_celsius)
            return course.cut(course.download_s + hot_s, Outcome.TOO_HOT, words)
        if empty_s == math.inf:
            return course
        return course.cut(empty_s, Outcome.BATTERY_EMPTY, body.words(Outcome.BATTERY_EMPTY, 0.0))

    def _heating(self, download_s: float) -> Heating:
        return Heating(self.body, approach(self.condition.celsius, self.body.rest_celsius, download_s))

    def _transfer_s(self, size_bytes: int, way: str, rng: random.Random) -> float:
        """Latency, and bytes over a rate that varies lognormally from message to message."""
        link = self.spec.network
        if link is None:
            return 0.0
        sigma = math.sqrt(math.log1p(link.variation**2))
        factor = math.exp(rng.gauss(-(sigma**2) / 2, sigma)) if sigma else 1.0
        rate = link.down if way == "down" else link.up
        return (link.latency or 0.0) + (8 * size_bytes / (rate * factor) if rate else 0.0)

    def _spend(self, course: Course, heating: Heating) -> None:
        """Heat up and drain by a course that begins now."""
        celsius = approach(heating.celsius_after(course.compute_s), self.body.rest_celsius, course.upload_s)
        self.condition = self.body.drained(self.condition, course.total_s, self.energy_wh(course), celsius)

    def _settle(self, now_s: float) -> None:
        """Let it idle until now; a device that is at work has its condition of the end of that work."""
        idle_s = now_s - self.condition.at_s
        if idle_s > 0:
            self.condition = self.body.advance(self.condition, self.body.idle_w, idle_s)
