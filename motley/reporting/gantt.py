"""Who did what when in one run, by outcome: which stretch of it is drawn, and which devices."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from motley.comparison.bars import MOST_BARS, Bar, Trace, inside, trace
from motley.comparison.figures import Point, curve
from motley.comparison.gantt import Look, gantt_chart
from motley.device import Outcome
from motley.page.blocks import Chart
from motley.reporting.charts import KINDS
from motley.reporting.facts import Facts
from motley.reporting.origin import clock
from motley.reporting.outcomes import NOT_USED, USED, USED_LATE, in_words

MOST_ROWS = 120
_FEW_ROWS = 30
_VIEWS = 6


@dataclass(frozen=True)
class Gantt:
    """A chart, and what of the run it holds."""

    chart: Chart
    rounds: tuple[int, int]
    """The first and the last that it shows."""
    orders: int
    devices: int
    hidden: int
    """Devices at work in these rounds for which there was no room."""
    views: Sequence[tuple[str, tuple[float, float]]]
    """Parts of the stretch, in words and as moments."""


def gantt_of(facts: Facts) -> Gantt | None:
    """The longest stretch of rounds that can be read, the whole run where it can; None where no round has ended."""
    record = facts.record
    points = curve(record.rounds)
    if not points:
        return None
    whole = trace(record.run.policy, [each for _, each in record.outcomes], points, record.profiles)
    begin, end = _stretch(whole)
    moments = [0.0, *whole.round_ends_s]
    bars = inside(whole, (moments[begin], moments[end]))
    shown = _busiest(bars)
    part = replace(whole, bars=[each for each in bars if each.device in shown])
    look = Look(_MARKERS, _name, clock(record.run.runtime), 22 if len(shown) <= _FEW_ROWS else 9)
    return Gantt(
        chart=gantt_chart(part, [part], (moments[begin], moments[end]), look),
        rounds=(points[begin].round, points[end - 1].round),
        orders=len(part.bars),
        devices=len(shown),
        hidden=len({each.device for each in bars} - shown),
        views=_views(points[begin:end], moments[begin]),
    )


_MARKERS = {kind: marker for kind, marker in KINDS.items() if kind not in (USED, USED_LATE)}


def _name(bar: Bar) -> str:
    return NOT_USED if bar.outcome is Outcome.FINISHED else in_words(bar.outcome)


def _stretch(whole: Trace) -> tuple[int, int]:
    """The first round and the one after the last, from 0: all, or half as many until they have few enough bars.

    A part of a run begins at a third of it.
    """
    total = len(whole.round_ends_s)
    moments = [0.0, *whole.round_ends_s]
    count = total
    while True:
        begin = min(total // 3, total - count)
        if count == 1 or _bars(whole, moments[begin], moments[begin + count]) <= MOST_BARS:
            return begin, begin + count
        count //= 2


def _bars(whole: Trace, start_s: float, end_s: float) -> int:
    return sum(each.start_s < end_s and each.end_s > start_s for each in whole.bars)


def _busiest(bars: Sequence[Bar]) -> frozenset[str]:
    """The devices that were at work for longest."""
    worked: dict[str, float] = defaultdict(float)
    for each in bars:
        worked[each.device] += each.end_s - each.start_s
    return frozenset(sorted(worked, key=lambda device: (-worked[device], device))[:MOST_ROWS])


def _views(points: Sequence[Point], start_s: float) -> list[tuple[str, tuple[float, float]]]:
    """The whole stretch, and a few parts of it of equally many rounds; nothing where there are few."""
    if len(points) < 2 * _VIEWS:
        return []
    size = -(-len(points) // _VIEWS)
    starts = range(0, len(points), size)
    moments = [start_s, *(each.end_s for each in points)]
    parts = [(0, len(points)), *((start, min(start + size, len(points))) for start in starts)]
    return [
        (f"rounds {points[begin].round}–{points[end - 1].round}", (moments[begin], moments[end]))
        for begin, end in parts
    ]
