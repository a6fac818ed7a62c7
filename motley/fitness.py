"""How fit a device is for a piece of work: one number from 0 to 1. Pure.

The score is the weighted geometric mean of five factors, each from 0 to 1, and 0 where the work does not fit:

    headroom     1 / (1 + load): load is the largest share of a capacity that would be reserved with the work
    speed        v / (v + v₀): v₀ is the speed of a usual device, which so gets a half
    reliability  (successes + 1) / (successes + failures + 2): the mean of a Beta distribution whose prior is
                 uniform (Jøsang and Ismail, "The beta reputation system", 2002)
    battery      the level, 1 while it charges or where there is none
    link         b / (b + b₀): 1 where the link is not limited

A geometric mean, so that one factor of 0 (an empty battery) can't be made up for by the others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from motley.errors import InputError

USUAL_BITS_PER_S = 10e6
"""Rate of a link that gets a half."""


@dataclass(frozen=True)
class Condition:
    """What is known of a device, with the work that is to be added."""

    load: float
    """Largest share of any capacity that would be reserved; above 1 where the work does not fit."""
    speed: float = 0.0
    """In the unit of the usual speed; 0 where nothing is known."""
    successes: float = 0.0
    failures: float = 0.0
    battery_level: float = -1.0
    """0–1; -1 where there is no battery."""
    charging: bool = False
    bits_per_s: float | None = None
    """None: not limited."""


@dataclass(frozen=True)
class Weights:
    """How much each factor counts; only their ratios matter."""

    headroom: float = 2.0
    speed: float = 3.0
    reliability: float = 3.0
    battery: float = 1.0
    link: float = 1.0

    def __post_init__(self) -> None:
        if not all(0 <= each < math.inf for each in self.shares) or not any(self.shares):
            raise InputError(f"weights of {self.shares}; give numbers of 0 or more, and one above 0")

    @property
    def shares(self) -> tuple[float, float, float, float, float]:
        """In the order of the factors."""
        return self.headroom, self.speed, self.reliability, self.battery, self.link


WEIGHTS = Weights()


class Factors(NamedTuple):
    """The parts of a score, each 0–1."""

    headroom: float
    speed: float
    reliability: float
    battery: float
    link: float


def factors(now: Condition, usual_speed: float) -> Factors:
    """usual_speed: 0 where nothing is known of any device; then speed does not tell them apart."""
    has_battery = now.battery_level >= 0 and not now.charging
    return Factors(
        headroom=1 / (1 + max(now.load, 0.0)) if now.load <= 1 else 0.0,
        speed=_saturating(now.speed or usual_speed, usual_speed),
        reliability=(now.successes + 1) / (now.successes + now.failures + 2),
        battery=min(now.battery_level, 1.0) if has_battery else 1.0,
        link=1.0 if now.bits_per_s is None else _saturating(now.bits_per_s, USUAL_BITS_PER_S),
    )


def fitness(now: Condition, usual_speed: float, weights: Weights = WEIGHTS) -> float:
    """The score, 0–1."""
    if now.load > 1:
        return 0.0
    parts, shares = factors(now, usual_speed), weights.shares
    if any(part <= 0 < share for part, share in zip(parts, shares, strict=True)):
        return 0.0
    logarithm = math.fsum(share * math.log(part) for part, share in zip(parts, shares, strict=True) if share)
    return math.exp(logarithm / math.fsum(shares))


def _saturating(value: float, half: float) -> float:
    """From 0 to 1, and a half at `half`; a half everywhere where that is 0."""
    return value / (value + half) if half > 0 else 0.5
