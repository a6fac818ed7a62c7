"""The load of a fleet over time: samples, their mean over a window, and where their trend leads.

Load is counted in devices, not as a share: what is wanted stays the same while devices come and go.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean

CONFIDENCE = 0.8
"""Of the interval of a forecast."""
LEAST_SAMPLES = 8
"""Within the window; a trend of fewer says nothing."""


@dataclass(frozen=True)
class Load:
    """One sample; it holds until the next one."""

    at_s: float
    used: float
    """Devices at work."""
    present: int
    """Devices that are there."""
    queued: float = 0.0
    """Devices wanted for the round that are not there."""

    @property
    def demand(self) -> float:
        """Devices that would be at work if there were enough."""
        return self.used + self.queued


@dataclass(frozen=True)
class Forecast:
    """Devices wanted at a time to come, with the interval that is likely to hold it; none below 0."""

    demand: float
    low: float
    high: float


def kept(loads: Sequence[Load], now_s: float, retention_s: float) -> list[Load]:
    """The samples, in order of time, that say something of the last `retention_s`."""
    return list(loads[_first_of(loads, now_s - retention_s) :])


def mean_demand(loads: Sequence[Load], now_s: float, window_s: float) -> float | None:
    """The mean, weighted by time, over the last `window_s`; None where the samples do not reach back so far."""
    start_s = now_s - window_s
    if not loads or loads[0].at_s > start_s:
        return None
    within = [each for each in loads[_first_of(loads, start_s) :] if each.at_s < now_s]
    ends_s = [*(each.at_s for each in within[1:]), now_s]
    spans_s = [end_s - max(each.at_s, start_s) for each, end_s in zip(within, ends_s, strict=True)]
    return math.fsum(each.demand * span_s for each, span_s in zip(within, spans_s, strict=True)) / window_s


def forecast(loads: Sequence[Load], now_s: float, window_s: float, ahead_s: float) -> Forecast | None:
    """Follow the line through the samples of the window (least squares) for `ahead_s`.

    The interval is the one of a single new value at CONFIDENCE (Draper and Smith, Applied Regression
    Analysis, 1998, section 3.1); it takes samples for independent, so it is narrow where they hang together.
    None with fewer than LEAST_SAMPLES.
    """
    recent = loads[_first_of(loads, now_s - window_s) :]
    points = [(each.at_s - now_s, each.demand) for each in recent if now_s - window_s <= each.at_s <= now_s]
    count = len(points)
    if count < LEAST_SAMPLES or not ahead_s:
        return None
    middle_s, middle = fmean(x for x, _ in points), fmean(y for _, y in points)
    spread = math.fsum((x - middle_s) ** 2 for x, _ in points)
    if spread == 0:
        return None
    slope = math.fsum((x - middle_s) * (y - middle) for x, y in points) / spread
    squares = math.fsum((y - middle - slope * (x - middle_s)) ** 2 for x, y in points)
    demand, distance_s = middle + slope * (ahead_s - middle_s), ahead_s - middle_s
    error = math.sqrt(squares / (count - 2) * (1 + 1 / count + distance_s**2 / spread))
    half = t_quantile((1 + CONFIDENCE) / 2, count - 2) * error
    return Forecast(max(0.0, demand), max(0.0, demand - half), max(0.0, demand + half))


def t_quantile(share: float, freedom: int) -> float:
    """The quantile of Student's t, to 1 % from 4 degrees of freedom on for shares to 0.95.

    Cornish and Fisher's expansion (Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.5).
    """
    z = NormalDist().inv_cdf(share)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


def _first_of(loads: Sequence[Load], start_s: float) -> int:
    """The sample that holds at `start_s`, or the first one."""
    return max(0, bisect_right(loads, start_s, key=lambda each: each.at_s) - 1)
