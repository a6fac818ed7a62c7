"""The figures of one run, from its rows: how soon, how good, how fair, at what cost."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from motley.comparison.usage import available_s, spans, useful_s
from motley.device import Outcome, RoundOutcome
from motley.fairness import jain_index
from motley.records import RoundRow, RunRecord
from motley.spec import ALL, Fleet

TARGET_SHARE = 0.95
"""Without a target, a run's own is this share of the best accuracy that it reaches."""

_LAST = 5
_J_PER_WH = 3600.0


@dataclass(frozen=True)
class Point:
    """The model after one round: seconds from the start of the run, test accuracy and loss."""

    round: int
    end_s: float
    accuracy: float | None
    loss: float | None


@dataclass(frozen=True)
class RunFigures:
    """One run in figures; None where there is no such figure."""

    workload: str
    policy: str
    seed: int
    target: float | None
    tta_s: float | None
    """Time to accuracy: virtual seconds until the end of the first round that reached the target."""
    final_accuracy: float | None
    """Mean of the last five accuracies."""
    best_accuracy: float | None
    jain: float | None
    """Jain's index, over all devices that were there at any time, of how often each one's update was used."""
    useful_share: float | None
    """Device-seconds that went into the model, of those available: see `motley.comparison.usage`."""
    steady_useful_share: float | None
    """The same over the last two thirds of the run."""
    used_device_s: float
    wasted_device_s: float
    """At work on what was never used."""
    energy_j: float
    used_updates: int
    unused_updates: int
    participants: int
    """Devices of which at least one update was used."""
    devices: int
    rounds: int
    virtual_s: float
    """Length of the run on its own clock."""
    wall_s: float
    """Length of the run on this machine."""
    status: str = "completed"
    reason: str = ""
    """Why it failed, in one line."""

    def as_mapping(self) -> dict[str, Any]:
        return asdict(self)


def failed_run(workload: str, policy: str, seed: int, devices: int, wall_s: float, reason: str) -> RunFigures:
    """The row of a run that came to nothing."""
    return RunFigures(
        workload=workload,
        policy=policy,
        seed=seed,
        target=None,
        tta_s=None,
        final_accuracy=None,
        best_accuracy=None,
        jain=None,
        useful_share=None,
        steady_useful_share=None,
        used_device_s=0.0,
        wasted_device_s=0.0,
        energy_j=0.0,
        used_updates=0,
        unused_updates=0,
        participants=0,
        devices=devices,
        rounds=0,
        virtual_s=0.0,
        wall_s=wall_s,
        status="failed",
        reason=reason,
    )


def run_figures(
    record: RunRecord,
    target: float | None,
    *,
    concurrency: int,
    devices: int,
    wall_s: float = 0.0,
    horizon_s: float | None = None,
) -> RunFigures:
    """Work out the figures of a run whose clock began at 0.

    `concurrency` is how many devices the policy may have at work at once, `devices` how many the
    fleet has. Rounds that ended after `horizon_s` do not count, so that runs compare at equal time.
    Without a `target` the run's own is 95 % of its best accuracy.
    """
    points = curve(record.rounds, horizon_s)
    accuracies = [each.accuracy for each in points if each.accuracy is not None]
    if target is None and accuracies:
        target = TARGET_SHARE * max(accuracies)
    outcomes = counted(record.outcomes, points) if horizon_s is not None else [each for _, each in record.outcomes]
    used = [each for each in outcomes if each.used]
    unused = [each for each in outcomes if not each.used]
    end_s = points[-1].end_s if points else 0.0
    return RunFigures(
        workload=record.run.fleet,
        policy=record.run.policy,
        seed=record.run.seed,
        target=target,
        tta_s=time_to_accuracy(points, target),
        final_accuracy=statistics.fmean(accuracies[-_LAST:]) if accuracies else None,
        best_accuracy=max(accuracies, default=None),
        jain=participation(outcomes, len(record.profiles) or devices),
        useful_share=useful_share(outcomes, concurrency, 0.0, end_s),
        steady_useful_share=useful_share(outcomes, concurrency, end_s / 3, end_s),
        used_device_s=sum(each.round_trip_s for each in used),
        wasted_device_s=sum(each.round_trip_s for each in unused),
        energy_j=_J_PER_WH * sum(each.energy_wh for each in outcomes),
        used_updates=len(used),
        unused_updates=len(unused),
        participants=len({each.device for each in used}),
        devices=devices,
        rounds=len(points),
        virtual_s=end_s,
        wall_s=wall_s,
        status=record.run.status,
        reason=record.run.detail if record.run.status == "failed" else "",
    )


def counted(outcomes: Sequence[tuple[int, RoundOutcome]], points: Sequence[Point]) -> list[RoundOutcome]:
    """The outcomes of rounds that count; all of them where no round does, for then all was in vain."""
    last = max((each.round for each in points), default=None)
    return [outcome for number, outcome in outcomes if last is None or number <= last]


def concurrency(fleet: Fleet) -> int:
    """How many devices a policy may have at work at one time, before over-committing."""
    asked = fleet.training.devices_per_round
    return fleet.total_devices if asked == ALL else min(asked, fleet.total_devices)


def curve(rounds: Sequence[RoundRow], horizon_s: float | None = None) -> list[Point]:
    """The rounds that ended, and not after `horizon_s`, in order of their ends."""
    points = [
        Point(row.round, row.started_s + row.duration_s, row.accuracy, row.loss)
        for row in rounds
        if row.duration_s is not None
    ]
    within = [each for each in points if horizon_s is None or each.end_s <= horizon_s * (1 + 1e-9)]
    return sorted(within, key=lambda each: (each.end_s, each.round))


def time_to_accuracy(points: Sequence[Point], target: float | None) -> float | None:
    """When the first round that reached `target` ended; None if none did."""
    if target is None:
        return None
    return next((each.end_s for each in points if each.accuracy is not None and each.accuracy >= target), None)


def participation(outcomes: Sequence[RoundOutcome], devices: int) -> float | None:
    """Jain's index of used updates over `devices` devices; None where nothing was used."""
    counts = Counter(each.device for each in outcomes if each.used)
    if not counts:
        return None
    return jain_index([*counts.values(), *[0] * (devices - len(counts))])


def useful_share(outcomes: Sequence[RoundOutcome], concurrency: int, start_s: float, end_s: float) -> float | None:
    """Useful over available device-seconds between two moments; None where nothing was available."""
    worked = spans(outcomes)
    available = available_s(worked, concurrency, start_s, end_s)
    return useful_s(worked, start_s, end_s) / available if available > 0 else None


def kinds(outcomes: Sequence[RoundOutcome]) -> Mapping[str, int]:
    """How many finished, came late, and were lost in any other way."""
    counts = Counter(each.outcome for each in outcomes)
    finished, late = counts[Outcome.FINISHED], counts[Outcome.LATE]
    return {"finished": finished, "late": late, "lost": len(outcomes) - finished - late}
