"""What was learned from samples so far: frozen, and swapped as a whole. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from motley.predictor import forest, heuristic, statistics
from motley.predictor.cases import TARGETS, Cases, Sample, targets
from motley.predictor.intervals import Band, Usual
from motley.predictor.scoring import LEAST_SAMPLES, Tier
from motley.predictor.statistics import Factors
from motley.selection.base import Bools, Floats

_UNKNOWN = Band(Usual.of(np.empty(0), []))
_LEAST_TRANSFER_S = 0.001


@dataclass(frozen=True)
class Estimates:
    """One target for many cases, each of shape (n,)."""

    value: Floats
    low: Floats
    high: Floats
    """With `low`, an interval that holds the outcome in 90 of 100 cases."""
    tier: Tier


@dataclass(frozen=True)
class Model:
    """Predicts all targets of any cases; without anything learned, by the heuristic."""

    factors: Mapping[str, Factors] = field(default_factory=dict)
    """Of `train_s`, `transfer_s`, `memory_bytes` and `energy_wh`, where there are samples enough."""
    forests: Mapping[str, Any] = field(default_factory=dict)
    tiers: Mapping[str, Tier] = field(default_factory=dict)
    """The tier that answers, by target."""
    bands: Mapping[tuple[str, Tier], Band] = field(default_factory=dict)

    def available(self, target: str) -> list[Tier]:
        """The tiers there are, the simplest first."""
        learned = "train_s" if target == "seconds" else target
        tiers = [Tier.HEURISTIC]
        if learned in self.factors:
            tiers.append(Tier.STATISTICS)
        return [*tiers, Tier.FOREST] if target in self.forests else tiers

    def answer(self, cases: Cases) -> dict[str, Estimates]:
        """By target, from the tier that answers for it."""
        values = {tier: self.values(cases, tier) for tier in {self.tier(target) for target in TARGETS}}
        return {
            target: self.estimates(cases, target, self.tier(target), values[self.tier(target)]) for target in TARGETS
        }

    def estimates(self, cases: Cases, target: str, tier: Tier, values: Mapping[str, Floats]) -> Estimates:
        low, high = self.band(target, tier).around(values[target], cases.devices)
        return Estimates(values[target], low, high, tier)

    def tier(self, target: str) -> Tier:
        return self.tiers.get(target, self.available(target)[-1])

    def band(self, target: str, tier: Tier) -> Band:
        return self.bands.get((target, tier), _UNKNOWN)

    def values(self, cases: Cases, tier: Tier) -> dict[str, Floats]:
        """All targets by one tier, each of shape (n,); where it is not there for a target, by the next lower one."""
        factors = {} if tier is Tier.HEURISTIC else self.factors
        expected = expectations(cases, factors)
        if tier is Tier.FOREST:
            for target, each in self.forests.items():
                expected[target] = expected[target] * np.exp(forest.predict(each, cases))
        return expected


def expectations(cases: Cases, factors: Mapping[str, Factors]) -> dict[str, Floats]:
    """All targets by the sums of the heuristic's terms, each times its factor where that is known."""

    def expect(name: str, terms: Floats) -> Floats:
        learned = factors.get(name)
        if learned is None:
            return np.asarray(terms @ np.array(heuristic.FACTORS[name]))
        return learned.expect(terms, cases.devices, cases.classes)

    train_s = expect("train_s", heuristic.training_terms(cases))
    seconds = train_s + expect("transfer_s", heuristic.transfer_terms(cases))
    return {
        "seconds": seconds,
        "train_s": train_s,
        "memory_bytes": expect("memory_bytes", heuristic.memory_terms(cases)),
        "energy_wh": expect("energy_wh", heuristic.energy_terms(seconds, train_s)),
    }


def fit(samples: Sequence[Sample], seed: int, with_forests: bool = True) -> Model:
    """Learn from samples in time order; equal samples and seed give equal models."""
    cases, measured = Cases.of([each.case for each in samples]), targets(samples)
    factors, expected = _fit_factors(cases, measured)
    forests = {}
    for target in TARGETS if with_forests else ():
        known = ~np.isnan(measured[target])
        if target in expected and known.sum() >= LEAST_SAMPLES[Tier.FOREST]:
            logs = np.log(measured[target][known] / expected[target][known])
            forests[target] = forest.fit(chosen_rows(cases, known), logs, seed)
    return Model(factors, forests)


def _fit_factors(cases: Cases, measured: Mapping[str, Floats]) -> tuple[dict[str, Factors], dict[str, Floats]]:
    """Factors, and by target what is expected of each sample by all others; NaN where it was not measured."""
    terms = {
        "train_s": heuristic.training_terms(cases),
        "transfer_s": heuristic.transfer_terms(cases),
        "memory_bytes": heuristic.memory_terms(cases),
        "energy_wh": heuristic.energy_terms(measured["seconds"], measured["train_s"]),
    }
    transfer_s = np.maximum(measured["seconds"] - measured["train_s"], _LEAST_TRANSFER_S)
    factors, expected = dict[str, Factors](), dict[str, Floats]()
    for name, values in {**measured, "transfer_s": transfer_s}.items():
        known = ~np.isnan(values)
        if name in terms and known.sum() >= LEAST_SAMPLES[Tier.STATISTICS]:
            some = chosen_rows(cases, known)
            expected[name] = np.full(len(cases), np.nan)
            factors[name], expected[name][known] = statistics.fit(
                terms[name][known], values[known], some.devices, some.classes, heuristic.FACTORS[name]
            )
    if "train_s" in expected:
        expected["seconds"] = expected["train_s"] + expected.pop("transfer_s")
    return factors, expected


def chosen_rows(cases: Cases, rows: Bools) -> Cases:
    """Some of the cases."""
    if rows.all():
        return cases
    numbers = np.flatnonzero(rows).tolist()
    columns = {name: column[rows] for name, column in cases.columns.items()}
    return Cases([cases.devices[row] for row in numbers], [cases.classes[row] for row in numbers], columns)
