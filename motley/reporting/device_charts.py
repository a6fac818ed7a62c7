"""The charts of a run over its devices and their orders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from motley.comparison.charts import BASELINE_COLOUR
from motley.page.blocks import Chart, chart_text
from motley.reporting.charts import ABOVE, BLUE, MOST_DEVICES, ORANGE, stack_layout, thinned
from motley.reporting.devices import DeviceFacts
from motley.reporting.forecast import Forecast

MOST_RANKED = 500
MOST_NAMED = 20
"""Bars that have names below them."""


def use_chart(devices: Sequence[DeviceFacts]) -> Chart:
    """Peak memory and CPU use of each device, as shares of what it may use; of many devices as distributions."""
    many = len(devices) > MOST_DEVICES
    series = (
        ("peak memory", ORANGE, "diamond", [each.memory_share for each in devices]),
        ("CPU while training", BLUE, "circle", [each.cpu_share for each in devices]),
    )
    rows = [chart_text(each.device_class if many else each.device) for each in devices]
    data = []
    for name, colour, symbol, shares in series:
        known = [(100 * share, row) for share, row in zip(shares, rows, strict=True) if share is not None]
        kind: Chart = {"type": "box", "boxpoints": False} if many else {"type": "scatter", "mode": "markers"}
        data.append(
            {
                **kind,
                "orientation": "h",
                "name": name,
                "x": [round(share, 2) for share, _ in known],
                "y": [row for _, row in known],
                "marker": {"color": colour, "symbol": symbol, "size": 9},
                "hovertemplate": "%{y}: %{x:.0f} %<extra>" + name + "</extra>",
            }
        )
    labels = list(dict.fromkeys(rows))
    limit = {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "x0": 100, "x1": 100}
    return {
        "data": data,
        "layout": {
            "boxmode": "group",
            "xaxis": {"title": {"text": "% of limit or quota"}, "rangemode": "tozero"},
            "yaxis": {"type": "category", "categoryorder": "array", "categoryarray": labels[::-1]},
            "shapes": [{**limit, "line": {"width": 1, "dash": "dash", "color": BASELINE_COLOUR}}],
            **ABOVE,
            "height": 130 + max(120, len(labels) * (70 if many else 20)),
        },
    }


def forecast_chart(forecast: Forecast, colour: Mapping[str, str]) -> Chart:
    """Seconds taken against seconds expected, one point an order; on the line they are equal."""
    pairs = thinned(forecast.pairs)
    most = 1.05 * max(max(expected_s, taken_s) for _, expected_s, taken_s in pairs)
    line = {"type": "line", "x0": 0, "y0": 0, "x1": most, "y1": most, "layer": "below"}
    data = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": chart_text(name),
            "x": [round(expected_s, 3) for each, expected_s, _ in pairs if each == name],
            "y": [round(taken_s, 3) for each, _, taken_s in pairs if each == name],
            "marker": {"size": 6, "opacity": 0.6, "color": colour[name]},
            "hovertemplate": "expected %{x:.3g} s, took %{y:.3g} s<extra>" + chart_text(name) + "</extra>",
        }
        for name in colour
        if any(each == name for each, _, _ in pairs)
    ]
    return {
        "data": data,
        "layout": {
            "xaxis": {"title": {"text": "seconds expected"}, "rangemode": "tozero"},
            "yaxis": {"title": {"text": "seconds taken"}, "rangemode": "tozero"},
            "shapes": [{**line, "line": {"width": 1, "dash": "dash", "color": BASELINE_COLOUR}}],
            **ABOVE,
            "height": 380,
        },
    }


def part_chart(devices: Sequence[DeviceFacts], colour: Mapping[str, str]) -> Chart:
    """How often each device's update was used, the least first; of many devices every so many."""
    ranked = list(enumerate(sorted(devices, key=lambda each: (each.used, each.device_class)), start=1))
    rows = thinned(ranked, MOST_RANKED)
    data = [
        {
            "type": "bar",
            "name": chart_text(name),
            "x": [place for place, each in rows if each.device_class == name],
            "y": [each.used for _, each in rows if each.device_class == name],
            "text": [chart_text(each.device) for _, each in rows if each.device_class == name],
            "textposition": "none",
            "marker": {"color": colour[name], "line": {"width": 0}},
            "hovertemplate": "%{text}: %{y} used<extra>" + chart_text(name) + "</extra>",
        }
        for name in dict.fromkeys(each.device_class for each in devices)
    ]
    few = len(rows) <= MOST_NAMED
    layout = {
        **stack_layout("updates used", max((each.used for each in devices), default=0)),
        "xaxis": {
            "title": {"text": "devices, those used least first"},
            "showticklabels": few,
            "tickvals": [place for place, _ in rows] if few else [],
            "ticktext": [chart_text(each.device) for _, each in rows] if few else [],
        },
        "bargap": 0.15 if len(rows) <= MOST_DEVICES else 0,
    }
    return {"data": data, "layout": layout}
