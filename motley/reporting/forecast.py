"""Seconds that the server expected of its orders, against those that they took."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from motley.device import Outcome, RoundOutcome

PROFILE = "profile"
NEAR = 0.25
"""A forecast is near when it is off by at most this share of what the order took."""


@dataclass(frozen=True)
class Forecast:
    """How good the expectations were. An error is a share of the seconds that the order took."""

    orders: int
    """Finished ones that had an expectation."""
    median_error: float
    near_share: float
    """Of these orders, those that were expected to within a quarter."""
    median_ratio: float
    """Seconds taken over seconds expected; above 1, orders took longer."""
    covered_share: float | None
    """Of the orders that had an interval, those whose seconds it held; 90 % is meant. None without intervals."""
    pairs: Sequence[tuple[str, float, float]]
    """Class, seconds expected, seconds taken: in the order of their ends."""


def by_source(outcomes: Iterable[RoundOutcome]) -> dict[str, Forecast]:
    """The forecasts by what made them: a tier of the predictor, or "profile" where none was asked."""
    groups: dict[str, list[RoundOutcome]] = defaultdict(list)
    for each in outcomes:
        groups[each.expected_by or PROFILE].append(each)
    found = {source: forecast_of(groups[source]) for source in sorted(groups)}
    return {source: forecast for source, forecast in found.items() if forecast is not None}


def forecast_of(outcomes: Iterable[RoundOutcome]) -> Forecast | None:
    """None where no finished order had an expectation. Late ones count not: how long they would take is unknown."""
    known = sorted((each for each in outcomes if _is_known(each)), key=lambda each: (each.known_s, each.device))
    pairs = [(each.device_class, each.expected_s or 0.0, each.round_trip_s) for each in known]
    if not pairs:
        return None
    held = [
        each.expected_low_s <= each.round_trip_s <= each.expected_high_s
        for each in known
        if each.expected_low_s is not None and each.expected_high_s is not None
    ]
    errors = [abs(expected_s - taken_s) / taken_s for _, expected_s, taken_s in pairs]
    return Forecast(
        orders=len(pairs),
        median_error=statistics.median(errors),
        near_share=sum(error <= NEAR for error in errors) / len(errors),
        median_ratio=statistics.median(taken_s / expected_s for _, expected_s, taken_s in pairs),
        covered_share=sum(held) / len(held) if held else None,
        pairs=pairs,
    )


def _is_known(outcome: RoundOutcome) -> bool:
    return outcome.outcome is Outcome.FINISHED and bool(outcome.expected_s) and outcome.round_trip_s > 0
