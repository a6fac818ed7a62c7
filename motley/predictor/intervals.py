"""Intervals that hold what they promise, from errors made on work that was not learned from yet. Pure.

Split conformal prediction: the quantiles of past errors give the interval of the next (Lei et al.,
"Distribution-Free Predictive Inference for Regression", JASA 2018). Errors are logarithms of measured over
predicted, divided by what is usual for the device (their section 5.2), and both ends have a quantile of
their own, as in Romano et al., "Conformalized Quantile Regression", NeurIPS 2019. Every error is of a
prediction that is older than its outcome; a device's usual error takes in all of them, so that one sudden
change does not count twice. How much is left outside follows what was missed lately, so that coverage
holds under drift (adaptive conformal inference: Gibbs and Candès, NeurIPS 2021).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from motley.predictor.statistics import Groups, recency
from motley.selection.base import Floats

MISS_RATE = 0.1
"""Share of outcomes that may lie outside."""
LEAST_SCORES = 20
"""With fewer, no quantile is far enough out."""
GUESSED = math.log(4.0)
"""Half the width, as a logarithm, where nothing is known: a factor of four either way."""

_NARROWEST = 0.005
_LEAST_USUAL = 0.002
_PRIOR_SAMPLES = 5.0
_OUTLIER = 3.0
_STEP = 0.01
_LEAST_MISS_RATE, _MOST_MISS_RATE = 0.02, 0.4


@dataclass(frozen=True)
class Usual:
    """How large the errors of each device usually are."""

    devices: Groups
    of_device: Floats
    of_all: float

    @classmethod
    def of(cls, errors: Floats, devices: Sequence[str]) -> Usual:
        """From errors in time order: a root mean square with outliers cut, drawn towards that of all."""
        groups = Groups.of(devices)
        if not len(errors):
            return cls(groups, np.empty(0), GUESSED)
        of_all = max(_LEAST_USUAL, 1.4826 * float(np.median(np.abs(errors))))
        weights = recency(groups.index)
        squares = weights * np.minimum(np.abs(errors), _OUTLIER * of_all) ** 2
        total = np.bincount(groups.index, squares) + _PRIOR_SAMPLES * of_all**2
        count = np.bincount(groups.index, weights) + _PRIOR_SAMPLES
        return cls(groups, np.sqrt(total / count), of_all)

    def expect(self, devices: Sequence[str]) -> Floats:
        rows = self.devices.rows(devices)
        if not len(self.of_device):
            return np.full(len(rows), self.of_all)
        return np.where(rows >= 0, self.of_device[rows], self.of_all)


@dataclass(frozen=True)
class Band:
    """Where the next error lies, as multiples of the device's usual one; None where that can't be said yet."""

    usual: Usual
    low: float | None = None
    high: float | None = None

    def around(self, values: Floats, devices: Sequence[str]) -> tuple[Floats, Floats]:
        """Lower and upper ends of intervals around predictions of shape (n,)."""
        if self.low is None or self.high is None:
            return values * math.exp(-GUESSED), values * math.exp(GUESSED)
        usual = self.usual.expect(devices)
        low, high = np.minimum(self.low * usual, -_NARROWEST), np.maximum(self.high * usual, _NARROWEST)
        return values * np.exp(low), values * np.exp(high)


def band(errors: Sequence[float] | Floats, devices: Sequence[str], miss_rate: float) -> Band:
    """The conformal quantiles of errors in time order, half the miss rate beyond each end."""
    errors = np.asarray(errors, np.float64)
    usual, count = Usual.of(errors, devices), len(errors)
    if count < LEAST_SCORES:
        return Band(usual)
    ordered = np.sort(errors / usual.expect(devices))
    beyond = max(1, math.floor((count + 1) * miss_rate / 2))
    return Band(usual, float(ordered[beyond - 1]), float(ordered[count - beyond]))


def adapted(miss_rate: float, missed: Sequence[bool]) -> float:
    """The share to leave outside from now on: less after outcomes that were missed, more after others."""
    for each in missed:
        miss_rate += _STEP * (MISS_RATE - each)
        miss_rate = min(max(miss_rate, _LEAST_MISS_RATE), _MOST_MISS_RATE)
    return miss_rate
