"""What a plan costs in time, dollars and energy, and which of several plans to take. Pure.

Choose `time` where somebody waits for the model, `dollars` where devices are rented, `energy` where they
run on batteries; a weighted sum where more than one counts, and bounds for what must not be exceeded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from motley.errors import InputError, did_you_mean

_HOUR_S, _KILO = 3600.0, 1000.0


@dataclass(frozen=True)
class Cost:
    """Of a round or a run."""

    time_s: float = 0.0
    usd: float = 0.0
    energy_wh: float = 0.0

    def times(self, factor: float) -> Cost:
        return Cost(self.time_s * factor, self.usd * factor, self.energy_wh * factor)

    def dominates(self, other: Cost) -> bool:
        """No worse in time, dollars and energy, and better in one of them; equal costs dominate nobody."""
        mine, theirs = self.as_tuple(), other.as_tuple()
        return all(a <= b for a, b in zip(mine, theirs, strict=True)) and mine != theirs

    def as_tuple(self) -> tuple[float, float, float]:
        return self.time_s, self.usd, self.energy_wh


@dataclass(frozen=True)
class Weights:
    """What an hour, a dollar and a kilowatt-hour are worth against each other; none below 0."""

    time: float = 0.0
    dollars: float = 0.0
    energy: float = 0.0

    def score(self, cost: Cost) -> float:
        """The weighted sum of hours, dollars and kilowatt-hours; less is better."""
        hours, kwh = cost.time_s / _HOUR_S, cost.energy_wh / _KILO
        return self.time * hours + self.dollars * cost.usd + self.energy * kwh

    def in_words(self) -> str:
        named = {"time": self.time, "dollars": self.dollars, "energy": self.energy}
        used = {name: weight for name, weight in named.items() if weight}
        return next(iter(used)) if len(used) == 1 else " + ".join(f"{weight:g}·{name}" for name, weight in used.items())


@dataclass(frozen=True)
class Bounds:
    """What must not be exceeded."""

    time_s: float = math.inf
    usd: float = math.inf
    energy_wh: float = math.inf

    def allow(self, cost: Cost) -> bool:
        return cost.time_s <= self.time_s and cost.usd <= self.usd and cost.energy_wh <= self.energy_wh


OBJECTIVES = ("time", "dollars", "energy")


def parse_objective(text: str) -> Weights:
    """`'time'`, or weights such as `'time=1,dollars=0.2'`. Raises InputError for anything else."""
    weights: dict[str, float] = {}
    for part in text.split(","):
        name, equals, number = (each.strip() for each in part.partition("="))
        if name not in OBJECTIVES:
            raise InputError(f"--objective: '{name[:60]}' is not known{did_you_mean(name[:60], OBJECTIVES)}")
        if name in weights:
            raise InputError(f"--objective '{text[:60]}': {name} stands twice")
        weights[name] = _weight(name, number) if equals else 1.0
    if not any(weights.values()):
        raise InputError(f"--objective '{text[:60]}': all weights are 0; write at least one above")
    return Weights(**weights)


def _weight(name: str, number: str) -> float:
    try:
        weight = float(number)
    except ValueError:
        weight = math.nan
    if not 0 <= weight < math.inf:
        raise InputError(f"--objective: the weight of {name}, '{number[:60]}', must be a number from 0")
    return weight


def pareto_front(costs: Sequence[Cost]) -> list[int]:
    """The places of those that no other dominates, in order.

    After Kung, Luccio and Preparata (Journal of the ACM 22, 1975), without the divide: in the order of their
    costs only an earlier one can dominate a later one.
    """
    front: list[int] = []
    for place in sorted(range(len(costs)), key=lambda each: costs[each].as_tuple()):
        if not any(costs[other].dominates(costs[place]) for other in front):
            front.append(place)
    return sorted(front)


def best(costs: Sequence[Cost], weights: Weights, bounds: Bounds = Bounds()) -> int | None:
    """The place of the least weighted sum within the bounds; None where nothing keeps within them.

    Equal sums are decided by time, then dollars, then energy, so that the best is never dominated.
    """
    allowed = [place for place, cost in enumerate(costs) if bounds.allow(cost)]
    return min(allowed, key=lambda place: (weights.score(costs[place]), costs[place].as_tuple()), default=None)


@dataclass(frozen=True)
class Participant:
    """What one device is expected to do and to cost in a round in which it takes part."""

    name: str
    duration_s: float
    """From order to reply."""
    compute_s: float = 0.0
    """Of that, at full power."""
    usd_per_hour: float = 0.0
    idle_w: float = 0.0
    busy_w: float = 0.0

    def cost(self, round_s: float) -> Cost:
        """Of a round of that length, in which it waits once it is done; its time is that of the round."""
        energy_wh = (self.idle_w * round_s + (self.busy_w - self.idle_w) * self.compute_s) / _HOUR_S
        return Cost(round_s, self.usd_per_hour * round_s / _HOUR_S, energy_wh)


def cost_of(participants: Sequence[Participant], round_s: float) -> Cost:
    """What a round of that length costs with all of these: time once, dollars and energy of each."""
    costs = [each.cost(round_s) for each in participants]
    return Cost(round_s, math.fsum(each.usd for each in costs), math.fsum(each.energy_wh for each in costs))


_Device = TypeVar("_Device", bound=Participant)


def choose(
    candidates: Sequence[_Device], wanted: int, weights: Weights, bounds: Bounds = Bounds()
) -> list[_Device] | None:
    """The `wanted` devices of which a round, as long as its slowest, has the least weighted sum; None where none has.

    For each length that a round may have, those who can keep it are taken by what each adds. Exact with a
    bound on time or none. With bounds on dollars or energy, those that are cheapest in them are tried too,
    and a choice between the tried ones may be missed. Time grows with the square of the candidates.
    """
    if not 0 < wanted <= len(candidates):
        return [] if not wanted else None
    ways = [weights]
    ways += [Weights(dollars=1.0)] if bounds.usd < math.inf else []
    ways += [Weights(energy=1.0)] if bounds.energy_wh < math.inf else []
    found: list[tuple[float, tuple[float, float, float], list[_Device]]] = []
    for round_s in sorted({each.duration_s for each in candidates if each.duration_s <= bounds.time_s}):
        able = [each for each in candidates if each.duration_s <= round_s]
        if len(able) < wanted:
            continue
        for way in ways:
            chosen = sorted(able, key=lambda each: way.score(each.cost(round_s)))[:wanted]
            cost = cost_of(chosen, max(each.duration_s for each in chosen))
            if bounds.allow(cost):
                found.append((weights.score(cost), cost.as_tuple(), chosen))
    return min(found, key=lambda each: each[:2])[2] if found else None
