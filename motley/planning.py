"""Plan who takes part, how much each does, until when, and why. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress
from typing import Any

import numpy as np

from motley.device import RoundPlan, WorkOrder
from motley.knowledge import Knowledge
from motley.local_work import Estimate
from motley.selection import SELECTIONS, Picks, Turn
from motley.selection.base import Bools, Floats, Pool
from motley.sizing import order_for, shared_time_s
from motley.spec import Training

FIRST_PATIENCE_S = 120.0
"""Least patience with devices that have not taken part yet."""

_SLACK, _SLACK_UNTRIED, _SLACK_FORESEEN, _SLACK_S = 3.0, 10.0, 2.0, 5.0


@dataclass(frozen=True)
class Situation:
    """What a plan depends on besides the fleet file and what is known of the devices."""

    number: int
    """The round, from 1."""
    count: int
    """Devices wanted."""
    free: Bools
    """Who can be asked now; shape (devices,)."""
    unavailable: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Who can't, by reason."""
    draw: int = 0
    """How many plans were made in this round before."""
    stale: int = 0
    """Devices still at work on an earlier round."""
    last_round_s: float | None = None
    state: Mapping[str, Any] = field(default_factory=dict)
    """What the policy returned the last time."""
    at_work: Bools | None = None
    """Who has an order whose reply is not overdue; nobody where None."""


Foresee = Callable[[Sequence[WorkOrder]], Sequence[WorkOrder]]
"""Gives the same orders with what is expected of each, and with smaller pieces where the memory would not do."""


def plan_round(
    training: Training, seed: int, knowledge: Knowledge, now: Situation, foresee: Foresee | None = None
) -> RoundPlan:
    """Plan a round, or a part of one where devices are asked one after the other.

    foresee: says what each order will take, where that is known better than from the profiles. It depends on
    nothing but its arguments, so equal arguments give equal plans.
    """
    pool = knowledge.pool(now.free, training.local_epochs, now.at_work)
    turn = Turn(
        number=now.number,
        rounds=training.rounds,
        count=min(now.count, int(now.free.sum())),
        rng=np.random.default_rng([seed, now.number, now.draw]),
        options=training.policy_options,
        deadline_s=training.deadline,
        stale=now.stale,
        last_round_s=now.last_round_s,
        state=now.state,
    )
    picks = SELECTIONS[training.chosen.selection](pool, turn)
    time_s = training.deadline or picks.deadline_s or _shared_time_s(training, pool)
    patience_s = time_s if time_s is not None and training.chosen.pacing == "rounds" else None
    deadline_s = patience_s or _patience_s(pool.duration_s[picks.rows], pool.tried[picks.rows])
    orders = _orders(training, knowledge, pool, picks, deadline_s, time_s)
    if foresee is not None and orders:
        orders = tuple(foresee(orders))
        if patience_s is None:
            deadline_s = _foreseen_patience_s(orders) or deadline_s
            orders = tuple(replace(order, deadline_s=deadline_s) for order in orders)
    names = [pool.names[row] for row in picks.rows]
    return RoundPlan(
        round=now.number,
        orders=orders,
        deadline_s=deadline_s,
        quorum=_quorum(training, picks),
        reasons=dict(zip(names, picks.reasons, strict=True)),
        left_out={**now.unavailable, **_others(training, pool.names, now.free, picks)},
        state=picks.state,
    )


def _quorum(training: Training, picks: Picks) -> int:
    if not len(picks.rows):
        return 0
    return min(len(picks.rows), picks.keep or max(1, round(training.quorum * len(picks.rows))))


def _others(training: Training, names: Sequence[str], free: Bools, picks: Picks) -> dict[str, list[str]]:
    others = free.copy()
    others[picks.rows] = False
    reason = picks.rest or f"not picked by '{training.policy}'"
    return {reason: list(compress(names, others.tolist()))} if others.any() else {}


def _shared_time_s(training: Training, pool: Pool) -> float | None:
    """The time that work is cut to, where neither file nor policy sets one; None where nothing is cut."""
    if training.chosen.local_work == "fixed" or not len(pool.names):
        return None
    if training.chosen.local_work == "sized":
        return shared_time_s(pool, training)
    quantile = getattr(training.policy_options, "quantile", 0.5)
    return float(np.quantile(pool.duration_s, quantile))


def _patience_s(durations_s: Floats, tried: Bools) -> float:
    """How long to wait for all: thrice the longest that is expected, more where it is but a guess."""
    known = _SLACK_S + _SLACK * float(durations_s[tried].max(initial=0.0))
    if tried.all():
        return known
    return max(known, FIRST_PATIENCE_S, _SLACK_UNTRIED * float(durations_s[~tried].max()))


def _foreseen_patience_s(orders: Sequence[WorkOrder]) -> float | None:
    """Twice the longest time that any order may well take; None where that is not known of all."""
    longest_s = 0.0
    for order in orders:
        if order.expected_high_s is None:
            return None
        longest_s = max(longest_s, order.expected_high_s)
    return _SLACK_S + _SLACK_FORESEEN * longest_s


def _orders(
    training: Training, knowledge: Knowledge, pool: Pool, picks: Picks, deadline_s: float, time_s: float | None
) -> tuple[WorkOrder, ...]:
    example_s = pool.compute_s / np.maximum(pool.examples * training.local_epochs, 1)
    return tuple(
        order_for(
            training,
            knowledge,
            row,
            Estimate(float(pool.download_s[row]), float(example_s[row]), float(pool.upload_s[row])),
            deadline_s,
            time_s,
        )
        for row in picks.rows.tolist()
    )
