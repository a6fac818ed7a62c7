"""Who did what when: the bars of a gantt chart, and which stretch of a run to draw."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from motley.comparison.figures import Point
from motley.device import DeviceProfile, Outcome, RoundOutcome

MOST_BARS = 600
"""More than this are neither read nor quickly drawn."""


@dataclass(frozen=True)
class Bar:
    """One device's work on one order: transfer, training between `train_start_s` and `train_end_s`, transfer.

    The history holds the sum of both transfers; half of it is drawn on each side.
    """

    device: str
    start_s: float
    train_start_s: float
    train_end_s: float
    end_s: float
    used: bool
    note: str
    outcome: Outcome


@dataclass(frozen=True)
class Speed:
    """Where a device stands in the chart: its class, and its speed in billions of operations a second."""

    device_class: str
    gflops: float


@dataclass(frozen=True)
class Trace:
    """What a gantt chart of one run needs."""

    policy: str
    bars: Sequence[Bar]
    round_ends_s: Sequence[float]
    speeds: Mapping[str, Speed]


def bar(outcome: RoundOutcome) -> Bar:
    train_s = min(outcome.wall_s, outcome.round_trip_s)
    transfer_s = (outcome.round_trip_s - train_s) / 2
    start_s = outcome.known_s - outcome.round_trip_s
    return Bar(
        outcome.device,
        start_s,
        start_s + transfer_s,
        outcome.known_s - transfer_s,
        outcome.known_s,
        outcome.used,
        _note(outcome),
        outcome.outcome,
    )


def _note(outcome: RoundOutcome) -> str:
    if outcome.used:
        return f"used {outcome.staleness} versions late" if outcome.staleness else "used"
    if outcome.outcome is Outcome.FINISHED:
        return "finished, not used"
    return f"{outcome.outcome.value.replace('_', ' ')}: {outcome.reason}".rstrip(": ")


def trace(
    policy: str, outcomes: Sequence[RoundOutcome], points: Sequence[Point], profiles: Sequence[DeviceProfile]
) -> Trace:
    """The chart's data of a whole run."""
    bars = sorted((bar(each) for each in outcomes if each.round_trip_s > 0), key=lambda each: each.start_s)
    speeds = {each.device: Speed(each.device_class, each.gflops) for each in profiles}
    return Trace(policy, bars, [each.end_s for each in points], speeds)


def window(first: Trace, others: Sequence[Trace], rounds: int = 3) -> tuple[float, float] | None:
    """A stretch of `rounds` rounds of `first`, a third into its run; fewer where the bars get too many.

    None where `first` has no rounds.
    """
    ends = [0.0, *first.round_ends_s]
    if len(ends) < 2:
        return None
    begin = max(0, min(len(ends) // 3, len(ends) - 1 - rounds))
    for count in range(min(rounds, len(ends) - 1 - begin), 0, -1):
        stretch = ends[begin], ends[begin + count]
        if count == 1 or all(len(_touching(each, stretch)) <= MOST_BARS for each in (first, *others)):
            return stretch
    return None


def inside(trace: Trace, stretch: tuple[float, float]) -> list[Bar]:
    """The bars that touch a stretch of time, at most `MOST_BARS` of them."""
    return _touching(trace, stretch)[:MOST_BARS]


def _touching(trace: Trace, stretch: tuple[float, float]) -> list[Bar]:
    start_s, end_s = stretch
    return [each for each in trace.bars if each.start_s < end_s and each.end_s > start_s]


def order(traces: Sequence[Trace], devices: Sequence[str]) -> list[str]:
    """`devices` by class, the slowest class first, and within a class by speed."""
    speeds = {device: speed for each in traces for device, speed in each.speeds.items()}
    unknown = Speed("", 0.0)
    by_class: dict[str, list[float]] = {}
    for speed in speeds.values():
        by_class.setdefault(speed.device_class, []).append(speed.gflops)
    medians = {name: statistics.median(values) for name, values in by_class.items()}

    def place(device: str) -> tuple[float, str, float, str]:
        speed = speeds.get(device, unknown)
        return medians.get(speed.device_class, 0.0), speed.device_class, speed.gflops, device

    return sorted(set(devices), key=place)
