"""The charts of a run over its rounds."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from motley.comparison.charts import TRAIN, target_line
from motley.page.blocks import Chart
from motley.records import RoundRow
from motley.reporting.charts import BLUE, KINDS, ORANGE, stack_layout, thinned
from motley.reporting.facts import Facts
from motley.reporting.outcomes import kind_of
from motley.reporting.words import done_rounds, judged

MOST_BARS = 100
MOST_MARKERS = 60
"""A curve of more points has no marker at each."""

_PARTS = {"plan": "#9b5de5", "train": TRAIN["color"], "aggregate": "#d99a00", "evaluate": BLUE}


def accuracy_chart(facts: Facts, clock: str) -> Chart:
    """Test accuracy at the end of each round, with the target."""
    chart = _curve(judged(facts), "accuracy", "test accuracy", clock, BLUE)
    target = facts.record.run.target_accuracy
    if target is not None:
        chart["layout"] |= target_line(target)
    if facts.reached is not None:
        at_round, at_s = facts.reached
        accuracy = next(row.accuracy for row in judged(facts) if row.round == at_round)
        marker = {"symbol": "star", "size": 14, "color": ORANGE}
        chart["data"].append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": [round(at_s, 3)],
                "y": [accuracy],
                "marker": marker,
                "hovertemplate": f"target reached in round {at_round}<extra></extra>",
            }
        )
    return chart


def loss_chart(facts: Facts, clock: str) -> Chart:
    """Test loss at the end of each round."""
    return _curve([row for row in judged(facts) if row.loss is not None], "loss", "test loss", clock, ORANGE)


def _curve(rows: Sequence[RoundRow], name: str, title: str, clock: str, colour: str) -> Chart:
    shown = thinned(rows)
    data = {
        "type": "scatter",
        "mode": "lines+markers" if len(shown) <= MOST_MARKERS else "lines",
        "x": [round(row.started_s + (row.duration_s or 0.0), 3) for row in shown],
        "y": [round(getattr(row, name), 5) for row in shown],
        "text": [f"round {row.round}" for row in shown],
        "line": {"color": colour, "width": 2},
        "marker": {"size": 5},
        "hovertemplate": "%{text}: %{y:.3f} at %{x:.1f} s<extra></extra>",
    }
    return {
        "data": [data],
        "layout": {
            "xaxis": {"title": {"text": clock}, "rangemode": "tozero"},
            "yaxis": {"title": {"text": title}},
            "showlegend": False,
            "height": 320,
        },
    }


def parts_chart(facts: Facts) -> Chart:
    """What each round's seconds went into; of many rounds the mean of neighbours."""
    groups = _groups(done_rounds(facts))
    data = [
        _stacked(
            name,
            [_span([row.round for row in group]) for group in groups],
            [statistics.fmean(getattr(row, f"{name}_s") or 0.0 for row in group) for group in groups],
            {"color": colour},
            "%{y:.3g} s",
        )
        for name, colour in _PARTS.items()
        if any(getattr(row, f"{name}_s") for row in done_rounds(facts))
    ]
    return {"data": data, "layout": stack_layout("seconds a round")}


def outcome_chart(facts: Facts) -> Chart:
    """What became of the orders of each round; of many rounds the sum of neighbours."""
    by_round: dict[int, Counter[str]] = defaultdict(Counter)
    for number, each in facts.record.outcomes:
        by_round[number][kind_of(each)] += 1
    groups = _groups(sorted(by_round))
    found = [kind for kind in KINDS if any(counts[kind] for counts in by_round.values())]
    data = [
        _stacked(
            kind,
            [_span(group) for group in groups],
            [sum(by_round[number][kind] for number in group) for group in groups],
            KINDS[kind],
            "%{y}",
        )
        for kind in found
    ]
    most = max((sum(by_round[number].total() for number in group) for group in groups), default=0)
    return {"data": data, "layout": stack_layout("orders", most)}


def _groups(rows: Sequence[Any]) -> list[list[Any]]:
    """Neighbours together, so that there are at most `MOST_BARS` groups."""
    size = -(-len(rows) // MOST_BARS) or 1
    return [list(rows[start : start + size]) for start in range(0, len(rows), size)]


def _span(rounds: Sequence[int]) -> str:
    return str(rounds[0]) if len(rounds) == 1 else f"{rounds[0]}–{rounds[-1]}"


def _stacked(name: str, x: Sequence[str], y: Sequence[float], marker: Chart, value: str) -> Chart:
    return {
        "type": "bar",
        "name": name,
        "x": list(x),
        "y": [round(each, 5) for each in y],
        "marker": {**marker, "line": {"width": 0}},
        "hovertemplate": "round %{x}: " + value + "<extra>" + name + "</extra>",
    }
