"""The chart of who did what when, one for each run; they share rows and time scale."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from motley.comparison.bars import Bar, Trace, inside, order
from motley.comparison.charts import BASELINE_COLOUR, TRAIN, WASTED
from motley.page.blocks import Chart, chart_text

_TRANSFER: Chart = {"color": "#7fb2e5"}

_ROOMY = 20
"""Pixels a row from which labels may be of usual size."""

MOST_MARKS = 40
"""More new models than this are counted in the title, and not marked."""


@dataclass(frozen=True)
class Look:
    """What may differ from chart to chart."""

    markers: Mapping[str, Chart]
    """How work that was not used is drawn, by name and in the order of the legend."""
    name_of: Callable[[Bar], str]
    """Which of these names such work has."""
    clock: str
    row_height: int
    """Pixels."""


COMPARED = Look({"wasted": WASTED}, lambda _: "wasted", "virtual time, s", 7)


def gantt_chart(trace: Trace, traces: Sequence[Trace], stretch: tuple[float, float], look: Look = COMPARED) -> Chart:
    """Who of `trace` did what between two moments; rows and time scale are the same for all of `traces`."""
    devices = order(traces, [each.device for one in traces for each in inside(one, stretch)])
    labels = {device: _label(device, traces) for device in devices}
    start_s, end_s = stretch
    ends = [moment for moment in trace.round_ends_s if start_s < moment <= end_s]
    height = 110 + max(look.row_height * len(devices), 120)
    return {
        "data": _data(inside(trace, stretch), labels, look),
        "layout": {
            "barmode": "overlay",
            "bargap": 0.15,
            "title": {
                "text": f"{chart_text(trace.policy)}: {len(ends)} new models",
                "font": {"size": 14},
                "x": 0.01,
                "xanchor": "left",
            },
            "xaxis": {"title": {"text": look.clock}, "range": [start_s, end_s]},
            "yaxis": {
                "type": "category",
                "categoryorder": "array",
                "categoryarray": [labels[device] for device in devices],
                "range": [-0.5, len(devices) - 0.5],
                "tickfont": {"size": 9 if look.row_height < _ROOMY else 12},
            },
            "legend": {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 1, "xanchor": "right"},
            "shapes": [_mark(moment) for moment in ends] if len(ends) <= MOST_MARKS else [],
            "margin": {"l": 10, "r": 12, "t": 48, "b": 44},
            "height": height,
        },
    }


def _data(bars: Sequence[Bar], labels: Mapping[str, str], look: Look) -> list[Chart]:
    used, others = [each for each in bars if each.used], [each for each in bars if not each.used]
    down = [(each.start_s, each.train_start_s, each) for each in used]
    up = [(each.train_end_s, each.end_s, each) for each in used]
    lost = {name: [each for each in others if look.name_of(each) == name] for name in look.markers}
    return [
        _segments("transfer", sorted(down + up, key=lambda part: part[0]), _TRANSFER, labels),
        _segments("training", [(each.train_start_s, each.train_end_s, each) for each in used], TRAIN, labels),
        *(
            _segments(name, [(each.start_s, each.end_s, each) for each in lost[name]], marker, labels)
            for name, marker in look.markers.items()
        ),
    ]


def _mark(moment_s: float) -> Chart:
    """A dotted line where a new model was made."""
    line = {"width": 1, "dash": "dot", "color": BASELINE_COLOUR}
    place = {"x0": round(moment_s, 2), "x1": round(moment_s, 2), "y0": 0, "y1": 1}
    return {"type": "line", "layer": "below", "yref": "paper", **place, "line": line}


def _label(device: str, traces: Sequence[Trace]) -> str:
    speed = next((each.speeds[device] for each in traces if device in each.speeds), None)
    return chart_text(f"{device} {speed.device_class}" if speed else device)


def _segments(name: str, parts: Sequence[tuple[float, float, Bar]], marker: Chart, labels: Mapping[str, str]) -> Chart:
    return {
        "type": "bar",
        "orientation": "h",
        "name": name,
        "base": [round(start_s, 3) for start_s, _, _ in parts],
        "x": [round(end_s - start_s, 3) for start_s, end_s, _ in parts],
        "y": [labels[bar.device] for _, _, bar in parts],
        "marker": {**marker, "line": {"width": 0}},
        "text": [chart_text(bar.note) for _, _, bar in parts],
        "textposition": "none",
        "hovertemplate": "%{y}: " + name + " %{x:.1f} s, from %{base:.1f} s (%{text})<extra></extra>",
    }
