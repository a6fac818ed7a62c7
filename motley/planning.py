"""Plan a round: who takes part, how much each does, until when, and why. Pure."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from motley.device import DeviceProfile, RoundPlan, WorkOrder
from motley.selection import SELECTIONS, Candidate
from motley.spec import ALL, Training
from motley.workload import auto_batch_size, auto_learning_rate

FIRST_DEADLINE_S = 120.0
"""Patience with devices of which nothing is known yet."""

_SLACK = 3.0
_SLACK_S = 5.0
_MEMORY_OF_PAST = 0.3


@dataclass(frozen=True)
class DeviceHistory:
    """What past rounds tell of one device."""

    selected: int = 0
    expected_s: float | None = None
    """Exponential moving average of its round trips, in seconds."""
    batch_limit: int | None = None
    """Half the batch size that last ran out of memory; None where none did."""

    def after_round_trip(self, seconds: float) -> float:
        """The moving average with one more round trip, the newest weighing 0.3."""
        if self.expected_s is None:
            return seconds
        return (1 - _MEMORY_OF_PAST) * self.expected_s + _MEMORY_OF_PAST * seconds


NO_HISTORY = DeviceHistory()


def plan_round(
    number: int,
    training: Training,
    seed: int,
    reference_rate: float,
    profiles: Mapping[str, DeviceProfile],
    history: Mapping[str, DeviceHistory],
    unavailable: Mapping[str, str],
) -> RoundPlan:
    """Plan round `number`.

    `profiles` holds every known device, `unavailable` those that can't be asked now, with the
    reason; `reference_rate` is the task's learning rate at a batch of 32. The plan depends on
    nothing else, so equal inputs give equal plans.
    """
    free = [profiles[device] for device in sorted(profiles) if device not in unavailable]
    wanted = len(free) if training.devices_per_round == ALL else min(training.devices_per_round, len(free))
    picks = SELECTIONS[training.policy](
        [_candidate(profile, history.get(profile.device, NO_HISTORY)) for profile in free],
        wanted,
        random.Random(f"{seed}/{number}"),
    )
    deadline_s = training.deadline or _auto_deadline_s([history.get(device, NO_HISTORY) for device in picks])
    orders = tuple(
        _order(profiles[device], history.get(device, NO_HISTORY), training, reference_rate, deadline_s)
        for device in sorted(picks)
    )
    left_out = {profile.device: f"not picked by '{training.policy}'" for profile in free if profile.device not in picks}
    return RoundPlan(
        round=number,
        orders=orders,
        deadline_s=deadline_s,
        quorum=max(1, round(training.quorum * len(orders))) if orders else 0,
        reasons={**unavailable, **left_out, **picks},
    )


def _candidate(profile: DeviceProfile, past: DeviceHistory) -> Candidate:
    return Candidate(profile.device, past.expected_s, profile.gflops, profile.examples, past.selected)


def _order(
    profile: DeviceProfile, past: DeviceHistory, training: Training, reference_rate: float, deadline_s: float
) -> WorkOrder:
    batch = profile.pinned_batch_size or training.batch_size or auto_batch_size(profile.memory_bytes, profile.examples)
    if past.batch_limit is not None:
        batch = min(batch, past.batch_limit)
    rate = profile.pinned_learning_rate or training.learning_rate or auto_learning_rate(reference_rate, batch)
    return WorkOrder(profile.device, batch, rate, training.local_epochs, deadline_s, past.expected_s)


def _auto_deadline_s(pasts: Sequence[DeviceHistory]) -> float:
    """Three times the slowest expected duration and five seconds; two minutes while any is unknown."""
    known = [past.expected_s for past in pasts if past.expected_s is not None]
    if len(known) < len(pasts) or not known:
        return FIRST_DEADLINE_S
    return _SLACK_S + _SLACK * max(known)
