"""The recommendation: how many devices there should be, and why.

Target tracking with hysteresis: nothing happens between `down` and `up`; outside, as many devices as
bring utilisation to `target`. Since `target` lies between the two, one step is enough under a constant
load, and no second one follows. A rising load is met before it is there, where even the lower end of its
forecast is above `up`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from motley.scaling.load import Forecast, Load, forecast, mean_demand
from motley.scaling.stopping import Candidate, stop_order
from motley.scaling_spec import Scaling

_ROUNDING = 1e-9


class Kind(StrEnum):
    """What to do."""

    HOLD = "hold"
    UP = "up"
    DOWN = "down"


class Cause(StrEnum):
    """Why, as a label of metrics."""

    ABOVE_UP = "above_up"
    BELOW_DOWN = "below_down"
    FORECAST = "forecast"
    BELOW_MIN = "below_min"
    ABOVE_MAX = "above_max"
    IN_BAND = "in_band"
    COOL_DOWN = "cool_down"
    AT_MAX = "at_max"
    AT_MIN = "at_min"
    NO_DATA = "no_data"
    REFUSED = "refused"
    OVERDUE = "overdue"
    FAILED = "failed"


@dataclass(frozen=True)
class Recommendation:
    """What to do now, and why."""

    at_s: float
    kind: Kind
    cause: Cause
    text: str
    """The reason in words."""
    count: int
    """Devices there or on their way."""
    add: int = 0
    stop: tuple[str, ...] = ()
    utilisation: float | None = None
    """Over the window; above 1 where devices are wanted that are not there."""
    expected: Forecast | None = None


def recommend(
    rules: Scaling,
    loads: Sequence[Load],
    count: int,
    candidates: Sequence[Candidate],
    last_change_s: float | None,
    now_s: float,
) -> Recommendation:
    """What to do with a fleet of `count` devices, of which only `candidates` may be ended.

    loads: in order of time; last_change_s: when a device was last added or taken away, None for never.
    Equal arguments give equal recommendations.
    """
    demand = mean_demand(loads, now_s, rules.window)
    coming = None if demand is None else forecast(loads, now_s, rules.window, rules.forecast)
    aim, cause = wanted(rules, count, demand, coming)
    finding = _finding(rules, count, demand, coming, cause)

    def made(kind: Kind, why: Cause, text: str, add: int = 0, stop: tuple[str, ...] = ()) -> Recommendation:
        return Recommendation(now_s, kind, why, text, count, add, stop, _utilisation(demand, count), coming)

    if aim == count:
        return made(Kind.HOLD, *_at_rest(rules, count, cause, finding))
    wait_s = _wait_s(rules.cool_down_up if aim > count else rules.cool_down_down, last_change_s, now_s)
    if wait_s > 0:
        return made(Kind.HOLD, Cause.COOL_DOWN, f"{finding}; after the last change it waits for another {wait_s:.0f} s")
    if aim > count:
        met = coming.demand if cause is Cause.FORECAST and coming is not None else demand
        return made(Kind.UP, cause, f"{finding}: {_effect(aim - count, 'more', met, aim)}", add=aim - count)
    stop = tuple(each.name for each in stop_order(candidates)[: count - aim])
    if not stop:
        return made(Kind.HOLD, Cause.AT_MIN, f"{finding}, but the devices of the fleet file stay")
    effect = _effect(len(stop), "fewer", demand, count - len(stop))
    return made(Kind.DOWN, cause, f"{finding}: {effect}", stop=stop)


def wanted(rules: Scaling, count: int, demand: float | None, coming: Forecast | None) -> tuple[int, Cause]:
    """How many devices there should be in place of `count`, and what says so.

    Within `min` and `max`. Never less for a higher demand, nor for a higher forecast.
    """
    if count < rules.min:
        return rules.min, Cause.BELOW_MIN
    if count > rules.max:
        return rules.max, Cause.ABOVE_MAX
    if demand is None:
        return count, Cause.NO_DATA
    surge = coming.demand if coming is not None and coming.low > rules.up * count else 0.0
    high = max(demand, surge)
    if high > rules.up * count:
        cause = Cause.ABOVE_UP if demand > rules.up * count else Cause.FORECAST
        return min(max(count, devices_for(high, rules.target)), rules.max), cause
    low = max(demand, coming.demand if coming is not None else 0.0)
    if low < rules.down * count:
        return max(min(count, devices_for(low, rules.target)), rules.min), Cause.BELOW_DOWN
    return count, Cause.IN_BAND


def devices_for(demand: float, target: float) -> int:
    """⌈demand / target⌉: the fewest devices whose utilisation is not above `target`."""
    return math.ceil(demand / target - _ROUNDING)


def _wait_s(cool_down_s: float, last_change_s: float | None, now_s: float) -> float:
    return 0.0 if last_change_s is None else last_change_s + cool_down_s - now_s


def _utilisation(demand: float | None, count: int) -> float | None:
    if demand is None:
        return None
    return demand / count if count else (math.inf if demand else 0.0)


def _finding(rules: Scaling, count: int, demand: float | None, coming: Forecast | None, cause: Cause) -> str:
    """What was found, in words."""
    if cause is Cause.BELOW_MIN:
        return f"{_devices(count)}, and {rules.min} is the minimum"
    if cause is Cause.ABOVE_MAX:
        return f"{_devices(count)}, and {rules.max} is the maximum"
    if demand is None:
        return f"the load is not known for {rules.window:g} s yet"
    if not count:
        return f"{demand:.1f} devices wanted over {rules.window:g} s, and none there"
    share = f"utilisation {demand / count:.2f} over {rules.window:g} s"
    if cause is Cause.FORECAST:
        return f"{share}, but {_ahead(rules, count, coming)}, above {rules.up:g}"
    if demand > rules.up * count:
        return f"{share} is above {rules.up:g}"
    if demand >= rules.down * count:
        return f"{share} is between {rules.down:g} and {rules.up:g}"
    rising = f", but {_ahead(rules, count, coming)}" if cause is Cause.IN_BAND else ""
    return f"{share} is below {rules.down:g}{rising}"


def _ahead(rules: Scaling, count: int, coming: Forecast | None) -> str:
    if coming is None:
        return ""
    low, high = coming.low / count, coming.high / count
    return f"{rules.forecast:g} s from now it will be {coming.demand / count:.2f} ({low:.2f} to {high:.2f})"


def _at_rest(rules: Scaling, count: int, cause: Cause, finding: str) -> tuple[Cause, str]:
    """Why nothing changes."""
    if cause in (Cause.ABOVE_UP, Cause.FORECAST):
        return Cause.AT_MAX, f"{finding}, but {rules.max} is the maximum"
    if cause is Cause.BELOW_DOWN:
        least = f"{rules.min} is the minimum" if count == rules.min else "one device fewer would be too few"
        return Cause.AT_MIN, f"{finding}, but {least}"
    return cause, finding


def _effect(change: int, way: str, demand: float | None, after: int) -> str:
    verb = "brings" if change == 1 else "bring"
    if demand is None or not after:
        return f"{change} {way} {verb} them to {after}"
    return f"{change} {way} {verb} it to {demand / after:.2f}"


def _devices(count: int) -> str:
    return "1 device" if count == 1 else f"{count} devices"
