"""Battery and heat of one device, the same in a container and on a virtual clock. Pure.

What is drawn heats: temperature follows Newton's law with one time constant towards a value that is
proportional to the power. At the throttling temperature a device runs at the speed that holds it
there. For spans of equal power everything is a closed formula; a virtual device works out a whole
training at once, a container steps through it by the CPU time that it has used.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from motley.device import Outcome

TIME_CONSTANT_S = 180.0
"""Of a phone's case; a model, to be replaced by a measured one."""
KELVIN_PER_WATT = 8.0
LEAST_SPEED = 0.05
"""No device throttles below this share of its speed; where that is too fast, it goes on heating to its limit."""
DAY_S = 86_400.0

_ROUNDING_WH, _ROUNDING_K = 1e-9, 1e-6


@dataclass(frozen=True)
class Condition:
    """What changes about a device, as of `at_s`."""

    at_s: float
    celsius: float
    charge_wh: float
    """Infinite without a battery."""
    overheated: bool = False
    """It was at its limit and has not cooled enough yet."""


@dataclass(frozen=True)
class Body:
    """What a device's condition follows from. The defaults stand for no battery and no heat worth a thought."""

    idle_w: float = 1.0
    busy_w: float = 4.0
    ambient_celsius: float = 25.0
    throttle_celsius: float = math.inf
    limit_celsius: float = math.inf
    """Where it stops all work, until it has cooled to `resume_celsius`."""
    capacity_wh: float = math.inf
    floor: float = 0.0
    """Charge at which it rests unless it charges, 0–1 of the capacity."""
    charge_w: float = 0.0
    """Flows in while it charges."""
    charging_share: float = 0.0
    """Of each day; 1 is always, 0 never."""
    charging_from: float = 0.0
    """Where in the day it begins to charge, 0–1."""

    @property
    def has_battery(self) -> bool:
        return math.isfinite(self.capacity_wh)

    @property
    def has_heat(self) -> bool:
        return math.isfinite(self.limit_celsius)

    def power_w(self, share: float) -> float:
        """What is drawn at a share of full speed, 0–1."""
        return self.idle_w + (self.busy_w - self.idle_w) * share

    def energy_wh(self, elapsed_s: float, work_s: float) -> float:
        """Drawn in a span that holds `work_s` of work, counted at full speed."""
        return (self.idle_w * elapsed_s + (self.busy_w - self.idle_w) * work_s) / 3600

    def settled_celsius(self, watts: float) -> float:
        """Where the temperature would settle."""
        return self.ambient_celsius + KELVIN_PER_WATT * watts

    @property
    def rest_celsius(self) -> float:
        return self.settled_celsius(self.idle_w)

    @property
    def resume_celsius(self) -> float:
        """Where work may begin again after the limit was reached: half-way back to where it runs, or rests."""
        runs_at = self.throttle_celsius if self.throttle_celsius < self.limit_celsius else self.rest_celsius
        return (max(runs_at, self.rest_celsius) + self.limit_celsius) / 2

    @property
    def held_speed(self) -> float:
        """The speed at or above the threshold, where the temperature comes to stay; `LEAST_SPEED` to 1."""
        if self.settled_celsius(self.busy_w) <= self.throttle_celsius:
            return 1.0
        watts = (self.throttle_celsius - self.ambient_celsius) / KELVIN_PER_WATT
        if watts <= self.idle_w:
            return LEAST_SPEED
        return max(LEAST_SPEED, (watts - self.idle_w) / (self.busy_w - self.idle_w))

    def speed(self, celsius: float) -> float:
        """The share of full speed at a temperature."""
        return 1.0 if celsius < self.throttle_celsius else self.held_speed

    def fresh(self, level: float, at_s: float = 0.0) -> Condition:
        """As switched on: charged to `level`, 0–1, and as warm as it is when idle."""
        return Condition(at_s, self.rest_celsius, self.capacity_wh * level if self.has_battery else math.inf)

    def advance(self, before: Condition, watts: float, seconds: float) -> Condition:
        """The condition after a span in which it drew `watts` all the time."""
        celsius = approach(before.celsius, self.settled_celsius(watts), seconds)
        return self.drained(before, seconds, watts * seconds / 3600, celsius)

    def drained(self, before: Condition, seconds: float, used_wh: float, celsius: float) -> Condition:
        """The condition after a span in which it used `used_wh` and came to `celsius`.

        What flows in and out counts at the end of the span: within it the battery is neither full nor empty.
        """
        end_s, charge_wh = before.at_s + seconds, before.charge_wh
        if self.has_battery:
            gained_wh = self.charge_w * charging_s(before.at_s, end_s, self.charging_share, self.charging_from) / 3600
            charge_wh = min(self.capacity_wh, max(0.0, charge_wh + gained_wh - used_wh))
        cools_to = self.resume_celsius if before.overheated else self.limit_celsius - _ROUNDING_K
        return Condition(end_s, celsius, charge_wh, celsius >= cools_to)

    def level(self, condition: Condition) -> float:
        """0–1; -1 without a battery."""
        return condition.charge_wh / self.capacity_wh if self.has_battery else -1.0

    def is_charging(self, at_s: float) -> bool:
        return self.has_battery and is_charging(at_s, self.charging_share, self.charging_from)

    def spare_wh(self, condition: Condition) -> float:
        """Charge above the floor; infinite where the battery does not hold it back."""
        if not self.has_battery or self.is_charging(condition.at_s):
            return math.inf
        return condition.charge_wh - self.floor * self.capacity_wh

    def stops(self, condition: Condition) -> Outcome | None:
        """Why work has to end now."""
        if self.spare_wh(condition) <= _ROUNDING_WH:
            return Outcome.BATTERY_EMPTY
        return Outcome.TOO_HOT if condition.celsius >= self.limit_celsius - _ROUNDING_K else None

    def rests(self, condition: Condition) -> Outcome | None:
        """Why no work may begin now."""
        stops = self.stops(condition)
        return Outcome.TOO_HOT if stops is None and condition.overheated else stops

    def words(self, why: Outcome, celsius: float) -> str:
        """What `stops` or `rests` found at a temperature, for people."""
        if why is Outcome.BATTERY_EMPTY:
            return f"charge fell to {self.floor:.0%}, where the device rests"
        limit, resume = f"{self.limit_celsius:g} °C", f"{self.resume_celsius:.1f} °C"
        return f"{celsius:.1f} °C with a limit of {limit}; the device rests until it is below {resume}"


@dataclass(frozen=True)
class Piece:
    """A span of equal speed; the last of a course is infinite."""

    seconds: float
    speed: float
    start_celsius: float
    settled_celsius: float


@dataclass(frozen=True)
class Heating:
    """A device that computes as fast as its heat allows, from `start_celsius` on."""

    body: Body
    start_celsius: float

    @cached_property
    def pieces(self) -> tuple[Piece, ...]:
        """At most two: until it is at the threshold, and from there on."""
        body, start = self.body, self.start_celsius
        if start >= body.throttle_celsius:
            return (self._last(start),)
        settled = body.settled_celsius(body.busy_w)
        seconds = reaching_s(start, settled, body.throttle_celsius)
        first = Piece(seconds, 1.0, start, settled)
        return (first,) if math.isinf(seconds) else (first, self._last(body.throttle_celsius))

    @property
    def limit_s(self) -> float:
        """How long it computes until it is too hot; infinite where it never is."""
        limit, before_s = self.body.limit_celsius, 0.0
        if self.start_celsius >= limit:
            return 0.0
        for piece in self.pieces:
            within_s = reaching_s(piece.start_celsius, piece.settled_celsius, limit)
            if within_s <= piece.seconds:
                return before_s + within_s
            before_s += piece.seconds
        return math.inf

    def elapsed_s(self, work_s: float) -> float:
        """Time that takes what would be done in `work_s` at full speed."""
        elapsed_s = 0.0
        for piece in self.pieces:
            if work_s <= piece.seconds * piece.speed:
                break
            elapsed_s, work_s = elapsed_s + piece.seconds, work_s - piece.seconds * piece.speed
        return elapsed_s + work_s / piece.speed

    def work_s(self, elapsed_s: float) -> float:
        """Work done after `elapsed_s`, in seconds at full speed: the inverse of `elapsed_s`."""
        return sum(seconds * piece.speed for seconds, piece in self._until(elapsed_s))

    def celsius_after(self, elapsed_s: float) -> float:
        celsius = self.start_celsius
        for seconds, piece in self._until(elapsed_s):
            celsius = approach(piece.start_celsius, piece.settled_celsius, seconds)
        return celsius

    def powers(self, elapsed_s: float) -> list[tuple[float, float]]:
        """Seconds and watts of each piece up to `elapsed_s`."""
        return [(seconds, self.body.power_w(piece.speed)) for seconds, piece in self._until(elapsed_s)]

    def _until(self, elapsed_s: float) -> Iterable[tuple[float, Piece]]:
        for piece in self.pieces:
            yield min(elapsed_s, piece.seconds), piece
            if elapsed_s <= piece.seconds:
                return
            elapsed_s -= piece.seconds

    def _last(self, celsius: float) -> Piece:
        speed = self.body.held_speed
        return Piece(math.inf, speed, celsius, self.body.settled_celsius(self.body.power_w(speed)))


def approach(start_celsius: float, end_celsius: float, seconds: float) -> float:
    """Newton's law: the difference shrinks by e in each time constant."""
    return end_celsius + (start_celsius - end_celsius) * math.exp(-seconds / TIME_CONSTANT_S)


def reaching_s(start_celsius: float, end_celsius: float, target_celsius: float) -> float:
    """When a temperature that approaches `end_celsius` passes the target; infinite where it does not."""
    whole, rest = end_celsius - start_celsius, end_celsius - target_celsius
    if start_celsius == target_celsius:
        return 0.0
    if math.isinf(target_celsius) or rest == 0 or whole / rest < 1:
        return math.inf
    return TIME_CONSTANT_S * math.log(whole / rest)


def lasting_s(powers: Iterable[tuple[float, float]], charge_wh: float) -> float:
    """How long a charge lasts where seconds and watts follow each other like this; infinite where to the end."""
    elapsed_s, left_ws = 0.0, 3600 * charge_wh
    for seconds, watts in powers:
        if watts * seconds > left_ws:
            return elapsed_s + left_ws / watts
        elapsed_s, left_ws = elapsed_s + seconds, left_ws - watts * seconds
    return math.inf


def charging_s(start_s: float, end_s: float, share: float, begins: float) -> float:
    """Seconds within the span that fall into a daily window of `share` of the day, which opens at `begins`."""

    def until(at_s: float) -> float:
        days = at_s / DAY_S - begins
        whole = math.floor(days)
        return DAY_S * (whole * share + min(days - whole, share))

    return until(end_s) - until(start_s)


def is_charging(at_s: float, share: float, begins: float) -> bool:
    days = at_s / DAY_S - begins
    return days - math.floor(days) < share
