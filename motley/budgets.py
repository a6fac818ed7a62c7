"""What a month allows, what it has cost so far, and what still fits. Pure.

Hours are real time that passed, so a night in which clocks change is as long as it was. Months begin at
midnight of their first day in the account's time zone; what spans that moment is split there, exactly.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from zoneinfo import ZoneInfo

HOUR_S = 3600.0

_SLACK = 1e-9
"""Share of a limit that sums of floating-point numbers may be off by."""


@dataclass(frozen=True)
class Amount:
    """Machine hours, and dollars."""

    hours: float = 0.0
    usd: float = 0.0


@dataclass(frozen=True)
class Budget:
    """What one account may use each month. Infinity stands for "no limit"."""

    zone: ZoneInfo
    hours: float = math.inf
    usd: float = math.inf
    warn_at: float = 0.8
    """Share of either limit from which on a warning is due."""
    stop_at: float = 1.0
    """Share of either limit that nothing may exceed."""


@dataclass(frozen=True)
class Billing:
    """How a provider rounds the time of one machine."""

    increment_s: float = 1.0
    minimum_s: float = 0.0

    def billed_s(self, elapsed_s: float) -> float:
        """At least the minimum, and whole increments."""
        return max(self.minimum_s, math.ceil(elapsed_s / self.increment_s) * self.increment_s)


@dataclass(frozen=True)
class Charge:
    """What one machine costs: billed seconds from `start_s` on, in seconds since the epoch."""

    start_s: float
    billed_s: float
    usd_per_hour: float


@dataclass(frozen=True)
class Month:
    """A month somewhere on earth; `name` is like 2026-11, the end is the start of the next one."""

    name: str
    start_s: float
    end_s: float


class Level(StrEnum):
    """How far a month's budget is used up."""

    OK = "ok"
    WARNING = "warning"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Standing:
    """One account in one month, with all that is reserved counted as used."""

    month: str
    used: Amount
    left: Amount
    share_left: float
    """Of the tighter one of the two limits, 0–1."""
    level: Level


def month_of(moment_s: float, zone: ZoneInfo) -> Month:
    """The month of a moment, in seconds since the epoch."""
    local = datetime.fromtimestamp(moment_s, zone)
    first = datetime(local.year, local.month, 1, tzinfo=zone)
    following = datetime(local.year + local.month // 12, local.month % 12 + 1, 1, tzinfo=zone)
    return Month(f"{local:%Y-%m}", first.timestamp(), following.timestamp())


def months_of(start_s: float, end_s: float, zone: ZoneInfo) -> Iterator[tuple[Month, float]]:
    """Each month that an interval touches, and how many of its seconds lie in it."""
    while start_s < end_s:
        month = month_of(start_s, zone)
        yield month, min(month.end_s, end_s) - start_s
        start_s = month.end_s


def by_month(charges: Iterable[Charge], zone: ZoneInfo) -> dict[str, Amount]:
    """What charges come to in each month, by the month's name."""
    hours: dict[str, list[float]] = defaultdict(list)
    usd: dict[str, list[float]] = defaultdict(list)
    for charge in charges:
        for month, seconds in months_of(charge.start_s, charge.start_s + charge.billed_s, zone):
            hours[month.name].append(seconds / HOUR_S)
            usd[month.name].append(seconds / HOUR_S * charge.usd_per_hour)
    return {name: Amount(math.fsum(hours[name]), math.fsum(usd[name])) for name in hours}


def shortfall(budget: Budget, charges: Iterable[Charge], wanted: Charge) -> str:
    """Why `wanted` does not fit beside `charges` in one of its months, in words; empty where it does."""
    used, needed = by_month(charges, budget.zone), by_month([wanted], budget.zone)
    for name in sorted(needed):
        left = _left(budget, used.get(name, Amount()))
        if needed[name].hours > left.hours + _SLACK * budget.hours:
            return f"{name}: {left.hours:.2f} of {budget.hours:g} hours are left, {needed[name].hours:.2f} are needed"
        if needed[name].usd > left.usd + _SLACK * budget.usd:
            return f"{name}: ${left.usd:.2f} of ${budget.usd:g} are left, ${needed[name].usd:.2f} are needed"
    return ""


def standing(budget: Budget, charges: Iterable[Charge], now_s: float) -> Standing:
    """How the month of `now_s` stands."""
    month = month_of(now_s, budget.zone).name
    used = by_month(charges, budget.zone).get(month, Amount())
    share_used = max(_share(used.hours, budget.hours), _share(used.usd, budget.usd))
    share_left = max(0.0, budget.stop_at - share_used)
    level = Level.WARNING if share_used >= budget.warn_at - _SLACK else Level.OK
    return Standing(month, used, _left(budget, used), share_left, Level.STOPPED if share_left <= _SLACK else level)


def order_by_share_left(standings: Mapping[str, Standing]) -> list[str]:
    """Names of accounts, the one with the largest share of its month left first; equal ones stay in order."""
    return sorted(standings, key=lambda name: -standings[name].share_left)


def _left(budget: Budget, used: Amount) -> Amount:
    return Amount(
        max(0.0, budget.hours * budget.stop_at - used.hours), max(0.0, budget.usd * budget.stop_at - used.usd)
    )


def _share(used: float, limit: float) -> float:
    """Of a limit of nothing, nothing is used until something is."""
    return used / limit if limit else float(used > 0)
