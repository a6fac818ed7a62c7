"""How long one round is and what it costs, from what is expected of each order; and how many rounds are needed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from motley.device import RoundPlan
from motley.objectives import Cost, Participant, cost_of


@dataclass(frozen=True)
class Resource:
    """What one device costs; `row` is its place among what is known of devices."""

    row: int
    device_class: str
    usd_per_hour: float
    idle_w: float
    busy_w: float


@dataclass(frozen=True)
class Work:
    """One order as it is expected to go."""

    resource: Resource
    duration_s: float
    compute_s: float
    examples: int

    def participant(self, compute_s: float) -> Participant:
        own = self.resource
        return Participant("", self.duration_s, compute_s, own.usd_per_hour, own.idle_w, own.busy_w)


def synchronous(works: Sequence[Work], plan: RoundPlan, uses_late: bool) -> tuple[Cost, Sequence[Work], float]:
    """A round that ends with its quorum or at its deadline, whose work is used, and how many examples that is."""
    in_time = sorted(each.duration_s for each in works if each.duration_s <= plan.deadline_s)
    enough = 0 < plan.quorum <= len(in_time)
    round_s = in_time[plan.quorum - 1] if enough else plan.deadline_s
    participants = [each.participant(min(each.compute_s, round_s)) for each in works]
    used = works if uses_late else [each for each in works if each.duration_s <= round_s]
    return cost_of(participants, round_s), used, float(sum(each.examples for each in used))


def buffered(works: Sequence[Work], buffer: int, rotates: bool) -> tuple[Cost, Sequence[Work], float]:
    """A version of the model, of `buffer` arrivals, where each order is followed by another at once.

    Where there are more devices than are at work at a time they take turns, so that all send equally many
    updates; else the quick ones send more.
    """
    if rotates:
        orders = [buffer / len(works)] * len(works)
        version_s = math.fsum(each.duration_s for each in works) * buffer / len(works) ** 2
    else:
        version_s = buffer / math.fsum(1 / each.duration_s for each in works)
        orders = [version_s / each.duration_s for each in works]
    participants = [each.participant(each.compute_s * count) for each, count in zip(works, orders, strict=True)]
    examples = math.fsum(each.examples * count for each, count in zip(works, orders, strict=True))
    return cost_of(participants, version_s), works, examples


def rounds_for(known_rounds: int, known_examples: float, examples: float) -> int:
    """Rounds of `examples` each that get as far as `known_rounds` of `known_examples` each are known to.

    More examples a round spare rounds, but ever fewer, and fewer examples spare examples: S = S₀/2·(1 + x₀/x),
    the law (S/Sₘᵢₙ − 1)(E/Eₘᵢₙ − 1) = 1 of McCandlish et al. (arXiv:1812.06162, section 2.3), for known rounds
    that lie at its knee, where twice the least rounds take twice the least examples.
    """
    return max(1, math.ceil(known_rounds / 2 * (1 + known_examples / examples) - 1e-9))
