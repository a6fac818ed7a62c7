"""A budget divided among wishes. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping


def max_min_shares(
    budget: float, wishes: Mapping[str, float], weights: Mapping[str, float] | None = None
) -> dict[str, float]:
    """Who gets how much: max-min fair, by water-filling.

    Nobody gets more than it wishes, and what one leaves goes to the others in proportion to their
    weights (1 where none is given). So nobody can get more without taking from one that has less for
    its weight. Wishes may be infinite. Bertsekas and Gallager, Data Networks, 1992, section 6.5.2.
    """
    weight = {name: (weights or {}).get(name, 1.0) for name in wishes}
    by_need = sorted(wishes, key=lambda name: (wishes[name] / weight[name], name))
    shares: dict[str, float] = {}
    left = max(0.0, budget)
    for place, name in enumerate(by_need):
        level = left / math.fsum(weight[each] for each in by_need[place:])
        shares[name] = min(max(0.0, wishes[name]), level * weight[name], left)
        left -= shares[name]
    return shares
