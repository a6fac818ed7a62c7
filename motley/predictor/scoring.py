"""How well each tier did on work that it had not learned from, and which of them answers therefore. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from motley.selection.base import Floats

WINDOW = 200
"""Newest samples that the choice of a tier looks at."""

_LEAST_SCORED = 5
_MARGIN = 1.05
_NEWEST = 0.3


class Tier(StrEnum):
    """Where a prediction comes from, the simplest first."""

    HEURISTIC = "heuristic"
    STATISTICS = "statistics"
    FOREST = "forest"


LEAST_SAMPLES = {Tier.HEURISTIC: 0, Tier.STATISTICS: 5, Tier.FOREST: 30}
"""Samples from which on a tier is there."""


class Error(NamedTuple):
    """What a tier made of one sample, as logarithms of measured over predicted."""

    device: str
    error: float
    average: float
    """The peer's error; NaN where the device is new to it."""


class Averages:
    """The peer: an exponential moving average of what each device took, the newest weighing 0.3."""

    def __init__(self) -> None:
        self.values: dict[str, float] = {}

    def error(self, device: str, measured: float) -> float:
        """The logarithm of measured over average, NaN for a new device; takes the measurement in."""
        before = self.values.get(device)
        self.values[device] = measured if before is None else (1 - _NEWEST) * before + _NEWEST * measured
        return float(np.log(measured / before)) if before else float("nan")


@dataclass(frozen=True)
class Score:
    """Of one tier on the newest samples: medians of |ln(measured/predicted)|.

    That is near to the relative error where it is small, and as bad for a tenth of the truth as for ten times it.
    """

    samples: int
    error: float
    known_error: float
    """On those samples alone whose device the moving average knows; NaN where there are too few."""
    average_error: float
    """Of the moving average on the same ones."""


def score(errors: Sequence[Error], newest: int = WINDOW) -> Score | None:
    """On at most `newest` samples; None with too few."""
    table = np.abs([(each.error, each.average) for each in errors[-min(newest, WINDOW) :]]).reshape(-1, 2)
    if len(table) < _LEAST_SCORED:
        return None
    known = table[~np.isnan(table[:, 1])]
    own, peer = np.median(known, axis=0).tolist() if len(known) >= _LEAST_SCORED else (math.nan, math.nan)
    return Score(len(table), float(np.median(table[:, 0])), own, peer)


def relative(logs: Floats) -> Floats:
    """|predicted − measured|/measured, from the logarithm of measured over predicted."""
    return np.asarray(np.abs(np.expm1(-logs)), np.float64)


def chosen(available: Sequence[Tier], errors: Mapping[Tier, Sequence[Error]]) -> Tier:
    """The highest tier that is there, or a lower one that does better on the samples that both were scored on.

    A tier steps down where the moving average does better, or where the lower tier does by 5 %; but never to
    a tier that does worse still. The forest must have been scored before it answers.
    """
    best = available[-1]
    for lower in reversed(available[:-1]):
        if _steps_down(errors.get(best, ()), errors.get(lower, ()), best is Tier.FOREST):
            best = lower
    return best


def _steps_down(errors: Sequence[Error], lower: Sequence[Error], must_be_scored: bool) -> bool:
    both = min(len(errors), len(lower))
    mine, other = score(errors, both), score(lower, both)
    if mine is None or other is None:
        return must_be_scored
    is_worse = mine.error > _MARGIN * other.error or mine.known_error > mine.average_error
    return is_worse and other.error < mine.error
