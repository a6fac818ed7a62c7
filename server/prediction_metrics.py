"""How well orders were foreseen, for Prometheus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from motley.device import Outcome, RoundOutcome

NEWEST = 100
_BY = ("profile", "statistics", "forest")
"""Profile and last rounds, and the tiers of the predictor that say more than those."""


def prediction_metrics(outcomes: Sequence[RoundOutcome]) -> Iterator[Any]:
    """Of the orders that were finished and of which something was expected."""
    foreseen = [each for each in outcomes if each.outcome is Outcome.FINISHED and each.expected_s is not None]
    counts = Counter(each.expected_by or "profile" for each in foreseen)
    family = CounterMetricFamily(
        "motley_predictions", "Orders finished, by who said what they would take.", labels=["by"]
    )
    for by in _BY:
        family.add_metric([by], counts[by])
    yield family
    newest = [each for each in foreseen[-NEWEST:] if each.round_trip_s > 0]
    if newest:
        errors = [abs((each.expected_s or 0.0) / each.round_trip_s - 1) for each in newest]
        text = f"Median error of the seconds that were expected of the last {NEWEST} orders, over those they took."
        yield GaugeMetricFamily("motley_prediction_error_ratio", text, value=median(errors))
    within = [
        each.expected_low_s <= each.round_trip_s <= each.expected_high_s
        for each in newest
        if each.expected_low_s is not None and each.expected_high_s is not None
    ]
    if within:
        text = f"Share of the last {NEWEST} orders that took as long as the interval of 90 % said."
        yield GaugeMetricFamily("motley_prediction_coverage_ratio", text, value=sum(within) / len(within))
