"""The charts of a comparison as plotly figures: plain mappings of data and layout, without colours of the page.

The page's script adds what depends on light or dark: see `motley.page`.
"""

from __future__ import annotations

import math
import statistics
from bisect import bisect_right
from collections.abc import Mapping, Sequence

from motley.comparison.figures import Point, RunFigures
from motley.comparison.summary import BASELINE, OURS, PolicySummary
from motley.page.blocks import Chart

Curves = Sequence[tuple[RunFigures, Sequence[Point]]]

MOST_POINTS = 200
"""Moments at which a curve is drawn."""

_OURS_COLOUR = "#e4572e"
BASELINE_COLOUR = "#8a8f98"
TRAIN: Chart = {"color": "#2b8a6e"}
WASTED: Chart = {
    "color": "#d64545",
    "pattern": {"shape": "/", "fillmode": "overlay", "fgcolor": "#ffffff", "size": 5, "solidity": 0.25},
}
PALETTE = (
    "#2f7ed8",
    "#17a398",
    "#9b5de5",
    "#d99a00",
    "#c2478b",
    "#5a9e3a",
    "#00a5cf",
    "#b5651d",
    "#7a86d1",
    "#4f9d7f",
    "#cf6679",
    "#a0a000",
    "#6c8ead",
    "#b07aa1",
    "#8f7a4a",
    "#3d8b8b",
)
_DECIMALS = 4


def colours(policies: Sequence[str]) -> dict[str, str]:
    """One colour for each policy, the same on every chart; random is grey and ours stands out."""
    others = [name for name in policies if name not in (BASELINE, OURS)]
    found = {name: PALETTE[index % len(PALETTE)] for index, name in enumerate(others)}
    return {**found, BASELINE: BASELINE_COLOUR, OURS: _OURS_COLOUR}


def accuracy_chart(curves: Curves, rows: Sequence[PolicySummary], colour: Mapping[str, str]) -> Chart:
    """Accuracy over virtual time: for each policy the median over seeds, in a band from least to greatest."""
    end_s = max((points[-1].end_s for _, points in curves if points), default=0.0)
    data: list[Chart] = []
    for row in reversed(rows):
        runs = [points for run, points in curves if run.policy == row.policy and points]
        moments, low, middle, high = band(runs, end_s)
        emphasis = row.policy in (OURS, BASELINE)
        shared = {"x": moments, "mode": "lines", "legendgroup": row.policy, "hoverinfo": "skip", "showlegend": False}
        if len(runs) > 1 and emphasis:
            data.append({**shared, "y": low, "line": {"width": 0}})
            data.append(
                {**shared, "y": high, "line": {"width": 0}, "fill": "tonexty", "fillcolor": colour[row.policy] + "2e"}
            )
        data.append(
            {
                **shared,
                "y": middle,
                "name": row.policy,
                "showlegend": True,
                "line": {"color": colour[row.policy], "width": 3 if emphasis else 1.4, "shape": "hv"},
                "hoverinfo": "all",
                "hovertemplate": "%{y:.3f} at %{x:.0f} s",
            }
        )
    layout: Chart = {
        "xaxis": {"title": {"text": "virtual time, s"}, "rangemode": "tozero"},
        "yaxis": {"title": {"text": "test accuracy"}},
        "legend": {"traceorder": "reversed", "orientation": "h", "y": -0.2, "yanchor": "top"},
        "hovermode": "closest",
        "height": 460,
    }
    target = next((row.target for row in rows if row.target is not None), None)
    if target is not None:
        layout |= target_line(target)
    return {"data": data, "layout": layout}


def target_line(target: float) -> Chart:
    """A dashed line at an accuracy, for a layout."""
    line = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": target, "y1": target}
    note = {"xref": "paper", "x": 1, "y": target, "text": f"target {target:.3f}", "xanchor": "right", "yanchor": "top"}
    return {
        "shapes": [{**line, "line": {"width": 1, "dash": "dash", "color": BASELINE_COLOUR}}],
        "annotations": [{**note, "showarrow": False, "font": {"size": 11}}],
    }


Values = list[float | None]


def band(runs: Sequence[Sequence[Point]], end_s: float) -> tuple[list[float], Values, Values, Values]:
    """At `MOST_POINTS` moments up to `end_s`: the least, median and greatest accuracy over runs.

    A run has the accuracy of its newest evaluated round, and none before the first; a curve ends
    with the longest run.
    """
    steps = [[(each.end_s, each.accuracy) for each in points if each.accuracy is not None] for points in runs]
    last_s = max((each[-1][0] for each in steps if each), default=0.0)
    count = MOST_POINTS if end_s > 0 else 0
    grid = [end_s * index / (count - 1) for index in range(count)]
    moments = [moment for moment in grid if moment < last_s] + ([last_s] if last_s > 0 else [])
    known = [[value for each in steps if (value := _at(each, moment)) is not None] for moment in moments]
    low, middle, high = ([_rounded(pick(each)) if each else None for each in known] for pick in _PICKS)
    return [_rounded(moment, 2) for moment in moments], low, middle, high


_PICKS = (min, statistics.median, max)


def _at(steps: Sequence[tuple[float, float]], moment_s: float) -> float | None:
    index = bisect_right(steps, moment_s, key=lambda step: step[0])
    return steps[index - 1][1] if index else None


def _rounded(value: float, decimals: int = _DECIMALS) -> float:
    return round(value, decimals)


def time_chart(runs: Sequence[RunFigures], rows: Sequence[PolicySummary], colour: Mapping[str, str]) -> Chart:
    """Time to accuracy: one point for each run, a line at the median; runs that never arrive stand at the edge."""
    names = [row.policy for row in reversed(rows)]
    arrived = [each for each in runs if each.tta_s is not None and each.policy in names]
    lost = [each for each in runs if each.tta_s is None and each.status != "failed" and each.policy in names]
    edge = 1.08 * max([each.tta_s or 0.0 for each in arrived] + [each.virtual_s for each in lost], default=1.0)
    median = {row.policy: row.tta_s.median for row in rows if row.tta_s and math.isfinite(row.tta_s.median)}
    data: list[Chart] = [
        _points(
            [round(each.tta_s or 0.0, 2) for each in arrived],
            [each.policy for each in arrived],
            {"color": [colour[each.policy] for each in arrived], "size": 9, "opacity": 0.75},
            [f"seed {each.seed}: {each.tta_s:.1f} s" for each in arrived],
        ),
        _points(
            [round(value, 2) for value in median.values()],
            list(median),
            {"symbol": "line-ns-open", "size": 20, "line": {"width": 3}, "color": [colour[name] for name in median]},
            [f"median {value:.1f} s" for value in median.values()],
        ),
        _points(
            [round(edge, 2)] * len(lost),
            [each.policy for each in lost],
            {
                "symbol": "x-thin-open",
                "size": 10,
                "line": {"width": 2},
                "color": [colour[each.policy] for each in lost],
            },
            [f"seed {each.seed} never arrives" for each in lost],
        ),
    ]
    layout = {
        "xaxis": {"title": {"text": "virtual seconds to target; × never arrives"}, "rangemode": "tozero"},
        "yaxis": {"type": "category", "categoryorder": "array", "categoryarray": names},
        "margin": {"l": 10, "r": 12, "t": 32, "b": 44},
        "height": 96 + 24 * len(names),
    }
    return {"data": data, "layout": layout}


def _points(x: Sequence[float], y: Sequence[str], marker: Chart, notes: Sequence[str]) -> Chart:
    return {
        "type": "scatter",
        "mode": "markers",
        "x": list(x),
        "y": list(y),
        "marker": marker,
        "text": list(notes),
        "hovertemplate": "%{y}: %{text}<extra></extra>",
        "showlegend": False,
    }


def work_chart(rows: Sequence[PolicySummary]) -> Chart:
    """Device-seconds that went into the model, and those that did not."""
    names = [row.policy for row in reversed(rows)]
    shown = [row for row in reversed(rows) if row.used_device_s and row.wasted_device_s]

    def bars(name: str, values: Sequence[float], marker: Chart) -> Chart:
        return {
            "type": "bar",
            "orientation": "h",
            "name": name,
            "x": [round(value, 1) for value in values],
            "y": [row.policy for row in shown],
            "marker": marker,
            "hovertemplate": "%{y}: %{x:,.0f} device-seconds<extra>" + name + "</extra>",
        }

    used = [row.used_device_s.median for row in shown if row.used_device_s]
    wasted = [row.wasted_device_s.median for row in shown if row.wasted_device_s]
    layout = {
        "barmode": "stack",
        "xaxis": {"title": {"text": "device-seconds"}},
        "yaxis": {"type": "category", "categoryorder": "array", "categoryarray": names},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "margin": {"l": 10, "r": 12, "t": 32, "b": 44},
        "height": 96 + 24 * len(names),
    }
    return {"data": [bars("used", used, TRAIN), bars("wasted", wasted, WASTED)], "layout": layout}


def fairness_chart(rows: Sequence[PolicySummary], colour: Mapping[str, str]) -> Chart:
    """Final accuracy against fairness: the upper right corner is where one wants to be."""
    shown = [row for row in rows if row.jain and row.final_accuracy]
    data = {
        "type": "scatter",
        "mode": "markers+text",
        "x": [_rounded(row.jain.median) for row in shown if row.jain],
        "y": [_rounded(row.final_accuracy.median) for row in shown if row.final_accuracy],
        "text": [row.policy for row in shown],
        "textposition": "top center",
        "textfont": {"size": 10},
        "marker": {"size": 11, "color": [colour[row.policy] for row in shown]},
        "hovertemplate": "%{text}: Jain %{x:.2f}, accuracy %{y:.3f}<extra></extra>",
        "showlegend": False,
        "cliponaxis": False,
    }
    layout = {
        "xaxis": {"title": {"text": "Jain's index of participation"}, "range": [0, 1.05]},
        "yaxis": {"title": {"text": "final accuracy"}},
        "height": 400,
    }
    return {"data": [data], "layout": layout}
