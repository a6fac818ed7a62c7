"""`adaptive`: turns for all, and within a turn first those from whom most is to be learned.

Motley's own, and the default. Choose it when a fleet is unequal and every device's data counts.

How it works: a buffer in place of rounds, so that nobody waits for anybody, as in FedBuff (Nguyen et al.,
AISTATS 2022); and orders that all take the same time, so that the slow are not stale either. A device's
order has as many steps as fit into that time by what is known of its speed and link (`motley.sizing`),
in place of FedProx's partial work, which is cut when time is up (Li et al., MLSys 2020). Updates are
weighed by data and staleness and scaled by the work behind them, between FedAvg and FedNova
(`motley.aggregation.adaptive`).

What is new is how these fit together. Since sized work makes a slow device as good a choice as a fast
one, selection need not trade fairness for speed, as Oort (Lai et al., OSDI 2021) and FedCS (Nishio and
Yonetani, ICC 2019) must: nobody gets a second turn while another waits for the first. Orders are short,
so that each starts from a fresh model; batches are as small as the device's speed allows, since a batch
costs by its examples; and the rate makes up for the local momentum that a short run can't build up.

Where all are asked at once there are no turns, and whoever is done sooner would learn more often: a device
rests while it has had LEAD times the turns of another that is there.

Within a turn come first the devices whose examples the model knows least (Oort's statistical utility),
those that are seldom there (REFL, Abdelmoniem et al., EuroSys 2023) and those with charge to spare. A
device below its energy floor rests.
"""

from __future__ import annotations

import numpy as np

from motley.policies import AdaptiveOptions, options_as
from motley.selection.base import Bools, Floats, Ints, Picks, Pool, Turn
from motley.selection.columns import free_rows, rows_where

MOST_BEHIND = 3
"""Turns that a newcomer has to make up for: more would let it learn alone for a long time."""

LEAD = 3.0
"""Holds Jain's index of participation at 0.75 or above, were two groups of devices as far apart as it allows."""


def adaptive(pool: Pool, turn: Turn) -> Picks:
    """Take the K with the fewest turns; among equals, by value and chance."""
    options = options_as(AdaptiveOptions, turn.options)
    awake = ~_rests(pool, options.floor)
    rows = rows_where(free_rows(pool), awake)
    if not len(rows):
        return Picks(rows, [], rest=f"charge below {options.floor:.0%}")
    rows = rows_where(rows, ~_leads(pool, awake))
    if not len(rows):
        return Picks(rows, [], rest="far ahead of others")
    turns = pool.selected[rows]
    turns = np.maximum(turns, int(np.median(turns)) - MOST_BEHIND)
    worth = _worth(pool, rows)
    keys = turns - options.value * worth + (1 - options.value) * turn.rng.random(len(rows))
    best = _smallest(keys, turn.count)
    reasons = [f"{pool.selected[rows[each]]} turns so far, worth {worth[each]:.2f}" for each in best]
    return Picks(rows[best], reasons, rest="had more turns, or less to teach")


def _rests(pool: Pool, floor: float) -> Bools:
    """Below the floor without being charged; a device without a battery never is."""
    return ~pool.charging & (np.nan_to_num(pool.battery, nan=1.0) < floor)


def _leads(pool: Pool, awake: Bools) -> Bools:
    """Has had far more turns than another that is there would have had by now, had it always been there."""
    there = pool.free & awake | pool.at_work
    fewest = np.min((pool.selected[there] + 1) / pool.ready[there], initial=np.inf)
    return np.asarray(pool.selected + 1 > LEAD * fewest)


def _worth(pool: Pool, rows: Ints) -> Floats:
    """What a turn of each is worth, 0–1: half of it what is to be learned, a quarter each for being
    seldom there and for charge."""
    squared_loss = pool.squared_loss[rows]
    utility = np.where(np.isnan(squared_loss), np.inf, pool.examples[rows] * np.sqrt(squared_loss))
    rank = np.searchsorted(np.sort(utility), utility) / len(rows)
    charge = np.where(pool.charging[rows], 1.0, np.nan_to_num(pool.battery[rows], nan=1.0))
    return np.asarray(0.5 * rank + 0.25 * (1 - pool.ready[rows]) + 0.25 * charge, np.float64)


def _smallest(keys: Floats, count: int) -> Ints:
    """Places of the `count` smallest keys, in order."""
    if count < len(keys):
        near = np.argpartition(keys, count - 1)[:count] if count else np.zeros(0, np.int64)
        return near[np.argsort(keys[near], kind="stable")]
    return np.argsort(keys, kind="stable")
