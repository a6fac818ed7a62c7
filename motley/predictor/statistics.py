"""The second tier: factors of the heuristic's terms, learned for the fleet, each class and each device. Pure.

A robust ridge regression with factors of 0 or more, three times: the fleet's factors are drawn towards the
heuristic's, those of a class towards the fleet's, those of a device towards its class's. The pull is that of a normal
prior whose width is set below, against noise as large as the residuals are: a device with few
samples stays near its class, one with many goes its own way (partial pooling: Gelman and Hill, "Data
Analysis Using Regression and Multilevel/Hierarchical Models", 2007, chapter 12). Errors are
relative to what is expected; large ones count less (Huber, "Robust Estimation of a Location
Parameter", 1964), and a device's samples count the less the older they are, so that its factors drift with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from motley.selection.base import Floats, Ints

HALF_LIFE = 20.0
"""Samples of a device after which one counts half."""

_WIDTHS = (10.0, 0.5, 0.15)
"""Of the priors of fleet, class and device: a deviation that is common, as a multiple of the factor above."""
_PACE_WIDTHS = (0.01, 1.0)
"""Limits of the prior's width for a factor that all terms of a device share; it follows how far devices differ."""
_LEAST_NOISE, _MOST_NOISE = 0.003, 1.0
_HUBER = 1.345
_ROUNDS = 5
_ALTERNATIONS = 4
_LEAST_FACTORS = (1.0, 0.1, 0.1)
"""The same of a factor that is smaller than this."""


@dataclass(frozen=True)
class Groups:
    """The group of each sample, and the names of all groups."""

    index: Ints
    row_of: dict[str, int]

    @classmethod
    def of(cls, names: Sequence[str]) -> Groups:
        row_of = {name: row for row, name in enumerate(dict.fromkeys(names))}
        return cls(np.array([row_of[name] for name in names], np.int64), row_of)

    def __len__(self) -> int:
        return len(self.row_of)

    def rows(self, names: Sequence[str]) -> Ints:
        """Of any names; -1 for unknown ones."""
        return np.array([self.row_of.get(name, -1) for name in names], np.int64)

    def first(self) -> Ints:
        """For each group, its first sample."""
        return np.unique(self.index, return_index=True)[1]


@dataclass(frozen=True)
class Factors:
    """What `fit` has learned: factors of the terms, shape (groups, terms), by device, class and fleet."""

    fleet: Floats
    classes: Groups
    of_class: Floats
    devices: Groups
    of_device: Floats

    def expect(self, terms: Floats, devices: Sequence[str], classes: Sequence[str]) -> Floats:
        """Expected values of cases with `terms`, shape (n,); an unknown device is as its class, else the fleet."""
        by_class, by_device = self.classes.rows(classes), self.devices.rows(devices)
        factors = np.where((by_class >= 0)[:, None], self.of_class[by_class], self.fleet)
        factors = np.where((by_device >= 0)[:, None], self.of_device[by_device], factors)
        return np.asarray(np.einsum("ij,ij->i", terms, factors))


def fit(
    terms: Floats, values: Floats, devices: Sequence[str], classes: Sequence[str], prior: Sequence[float]
) -> tuple[Factors, Floats]:
    """Learn from samples in time order: terms (n, terms) and what was measured, above 0; `prior` has the factors
    that hold where nothing is known.

    Also returns for each sample about what would be expected of it had it not been among them, for the third tier.
    """
    by_class, by_device = Groups.of(classes), Groups.of(devices)
    all_one, even = np.zeros(len(values), np.int64), np.ones(len(values))
    fleet = _typical(terms, values, all_one, by_device, np.array([prior]), 0)
    above = np.repeat(fleet, len(by_class), axis=0)
    above = above * _pace(terms, values, by_class.index, above, even)[:, None]
    of_class = _typical(terms, values, by_class.index, by_device, above, 1)
    above, weights = of_class[by_class.index[by_device.first()]], recency(by_device.index)
    above = above * _pace(terms, values, by_device.index, above, weights)[:, None]
    of_device, left_out = _level(terms, values, by_device.index, above, 2, weights)
    return Factors(fleet, by_class, of_class, by_device, of_device), left_out


def _typical(terms: Floats, values: Floats, groups: Ints, devices: Groups, prior: Floats, level: int) -> Floats:
    """Factors of each group for a device of its usual pace: what devices are quicker or slower is taken out."""
    factors, paces, even = prior, np.ones(len(devices)), np.ones(len(values))
    of_device = groups[devices.first()]
    for _ in range(_ALTERNATIONS):
        factors, _ = _level(terms, values / paces[devices.index], groups, prior, level, even)
        paces = _pace(terms, values, devices.index, factors[of_device], even)
    return factors


def recency(groups: Ints) -> Floats:
    """Weights of samples in time order: halved with each HALF_LIFE newer samples of the same group."""
    newer = np.zeros(len(groups), np.int64)
    order = np.argsort(groups, kind="stable")
    ends = np.cumsum(np.bincount(groups))
    newer[order] = ends[groups[order]] - 1 - np.arange(len(groups))
    return np.asarray(0.5 ** (newer / HALF_LIFE), np.float64)


def _pace(terms: Floats, values: Floats, groups: Ints, above: Floats, weights: Floats) -> Floats:
    """By how much each group as a whole is above what is expected: a shrunk mean of logarithms, shape (groups,).

    The prior's width is how far the groups' means spread beyond what noise makes of them (empirical Bayes).
    """
    logs = np.log(values / np.maximum(_dot(terms, above[groups]), 1e-12))
    within = logs - _median_of(logs, groups)[groups]
    noise = _noise(within[np.bincount(groups)[groups] > 1])
    weights = weights * _huber(within / noise)
    counts = np.bincount(groups, weights, len(above))
    means = np.bincount(groups, weights * logs, len(above)) / counts
    width = math.sqrt(np.clip(np.mean(means**2 - noise**2 / counts), *np.square(_PACE_WIDTHS)))
    return np.exp(means * counts / (counts + (noise / width) ** 2))


def _level(
    terms: Floats, values: Floats, groups: Ints, prior: Floats, level: int, weights: Floats
) -> tuple[Floats, Floats]:
    """Factors of each group, drawn towards its row of `prior`; and what to expect of each sample without itself."""
    factors, widths = prior, _WIDTHS[level] * np.maximum(prior, _LEAST_FACTORS[level])
    for _ in range(_ROUNDS):
        expected = np.maximum(_dot(terms, factors[groups]), 1e-12)
        scaled, wanted = terms / expected[:, None], values / expected
        noise = _noise(wanted - 1)
        robust = weights * _huber((wanted - 1) / noise)
        pull = (noise / widths) ** 2
        gram = _sums(robust[:, None, None] * scaled[:, :, None] * scaled[:, None, :], groups, len(prior))
        gram += pull[:, :, None] * np.eye(prior.shape[1])
        factors = non_negative(gram, _sums((robust * wanted)[:, None] * scaled, groups, len(prior)) + pull * prior)
    leverage = robust * np.einsum("ij,ijk,ik->i", scaled, np.linalg.inv(gram)[groups], scaled)
    fitted = _dot(terms, factors[groups])
    left_out = values - (values - fitted) / (1 - np.minimum(leverage, 0.9))
    return factors, np.maximum(left_out, 0.1 * fitted)


def non_negative(gram: Floats, right: Floats) -> Floats:
    """Minimise bᵀGb − 2hᵀb over b ≥ 0 for each of many small problems: G (m, p, p), h (m, p); returns (m, p).

    Tries every set of terms that may be above 0, so it is exact; for p of a few only.
    """
    count = right.shape[1]
    best, least = np.zeros_like(right), np.zeros(len(right))
    for active in product((False, True), repeat=count):
        used = np.array(active)
        system = np.where(used[:, None] & used[None, :], gram, np.eye(count))
        found = np.linalg.solve(system, np.where(used, right, 0.0)[:, :, None])[:, :, 0]
        cost = np.einsum("ij,ijk,ik->i", found, gram, found) - 2 * _dot(right, found)
        better = (found >= 0).all(axis=1) & (cost < least)
        best, least = np.where(better[:, None], found, best), np.where(better, cost, least)
    return best


def _dot(one: Floats, other: Floats) -> Floats:
    return np.asarray(np.einsum("ij,ij->i", one, other))


def _sums(values: Floats, groups: Ints, count: int) -> Floats:
    sums = np.zeros((count, *values.shape[1:]))
    np.add.at(sums, groups, values)
    return sums


def _noise(residuals: Floats) -> float:
    """A robust standard deviation."""
    if not len(residuals):
        return _MOST_NOISE
    return float(np.clip(1.4826 * np.median(np.abs(residuals)), _LEAST_NOISE, _MOST_NOISE))


def _huber(scores: Floats) -> Floats:
    return np.minimum(1.0, _HUBER / np.maximum(np.abs(scores), 1e-12))


def _median_of(values: Floats, groups: Ints) -> Floats:
    order = np.lexsort((values, groups))
    counts = np.bincount(groups)
    starts = np.cumsum(counts) - counts
    low, high = values[order[starts + (counts - 1) // 2]], values[order[starts + counts // 2]]
    return np.asarray((low + high) / 2)
