"""What the charts of a run share: colours, the legend's place, bars on top of each other, and how much is drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from motley.comparison.charts import BASELINE_COLOUR, TRAIN
from motley.device import Outcome
from motley.page.blocks import Chart
from motley.reporting.outcomes import NOT_USED, USED, USED_LATE, in_words

BLUE, ORANGE = "#2f7ed8", "#e4572e"

MOST_POINTS = 1000
MOST_DEVICES = 60
"""More than this are drawn as a distribution."""

ABOVE: Chart = {
    "showlegend": True,
    "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "traceorder": "normal"},
    "margin": {"l": 10, "r": 12, "t": 44, "b": 44},
}
"""The legend above the chart, and room for it."""

_FEW = 10
_HATCHED: Chart = {"pattern": {"shape": "/", "fillmode": "overlay", "fgcolor": "#ffffff", "size": 5, "solidity": 0.2}}

KINDS: Mapping[str, Chart] = {
    USED: TRAIN,
    USED_LATE: {"color": "#8cc63f"},
    NOT_USED: {"color": BASELINE_COLOUR, **_HATCHED},
    in_words(Outcome.LATE): {"color": "#e0a100", **_HATCHED},
    in_words(Outcome.OUT_OF_MEMORY): {"color": "#9b5de5", **_HATCHED},
    in_words(Outcome.CRASHED): {"color": "#d64545", **_HATCHED},
    in_words(Outcome.REFUSED): {"color": "#c2478b", **_HATCHED},
    in_words(Outcome.BATTERY_EMPTY): {"color": "#8f5b2e", **_HATCHED},
    in_words(Outcome.TOO_HOT): {"color": "#ff7f50", **_HATCHED},
    in_words(Outcome.UNREACHABLE): {"color": "#4a5a6a", **_HATCHED},
}
"""What may become of an order, in the order of legends; hatched where it was not used."""


def thinned(rows: Sequence[Any], most: int = MOST_POINTS) -> list[Any]:
    """Evenly many of a long sequence, the first and the last among them."""
    if len(rows) <= most:
        return list(rows)
    return [rows[round(index * (len(rows) - 1) / (most - 1))] for index in range(most)]


def stack_layout(title: str, most: float = math.inf) -> Chart:
    """Of bars on top of each other, `most` high together; few have whole numbers only beside them."""
    return {
        "barmode": "stack",
        "bargap": 0.1,
        "xaxis": {"title": {"text": "round"}, "type": "category", "nticks": 12},
        "yaxis": {"title": {"text": title}, "rangemode": "tozero", **({"dtick": 1} if most <= _FEW else {})},
        **ABOVE,
        "height": 320,
    }
