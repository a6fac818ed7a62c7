"""Takes in samples in time order: first scores each tier on them, then learns from them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from motley.predictor.cases import TARGETS, Case, Cases, Sample, targets
from motley.predictor.intervals import MISS_RATE, Band, adapted, band
from motley.predictor.model import Estimates, Model, fit
from motley.predictor.scoring import Averages, Error, Score, Tier, chosen, score

KEPT_ERRORS = 500
"""Newest errors of each tier that intervals come from."""


class Learner:
    """Keeps the newest `most_samples`, and `model`, which is replaced as a whole.

    What it comes to depends on the samples, on how they were divided among calls, and on the seed alone.
    """

    def __init__(self, seed: int = 0, most_samples: int = 3000) -> None:
        self._seed, self._most = seed, most_samples
        self._samples: list[Sample] = []
        self._errors: dict[tuple[str, Tier], list[Error]] = defaultdict(list)
        self._averages = {target: Averages() for target in TARGETS}
        self._miss_rates = dict.fromkeys(TARGETS, MISS_RATE)
        self.model = Model()

    def __len__(self) -> int:
        return len(self._samples)

    @property
    def samples(self) -> Sequence[Sample]:
        """Those it learns from, the newest last."""
        return tuple(self._samples)

    def absorb(self, samples: Sequence[Sample]) -> None:
        """Score all tiers on samples that are newer than all before, then learn from them too."""
        if not samples:
            return
        self._score(samples)
        self._samples = [*self._samples, *samples][-self._most :]
        self._learn()

    def score(self, target: str = "seconds") -> dict[Tier, Score | None]:
        """How each tier did on the newest samples, each before it had learned from them."""
        return {tier: score(self._errors[target, tier]) for tier in self.model.available(target)}

    def state(self) -> dict[str, Any]:
        """All that was learned, as plain data; `restore` takes it."""
        return {
            "samples": [[*sample.case, *sample[1:]] for sample in self._samples],
            "errors": [[*key, list(map(list, errors))] for key, errors in self._errors.items()],
            "averages": {target: dict(each.values) for target, each in self._averages.items()},
            "miss_rates": dict(self._miss_rates),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on as the one that gave the state would."""
        size = len(Case._fields)
        self._samples = [Sample(Case(*row[:size]), *row[size:]) for row in state["samples"]]
        for target, tier, errors in state["errors"]:
            self._errors[target, Tier(tier)] = [Error(*each) for each in errors]
        for target, values in state["averages"].items():
            self._averages[target].values = dict(values)
        self._miss_rates = dict(state["miss_rates"])
        if self._samples:
            self._learn()

    def _score(self, samples: Sequence[Sample]) -> None:
        cases, measured = Cases.of([each.case for each in samples]), targets(samples)
        values = {tier: self.model.values(cases, tier) for tier in Tier}
        for target in TARGETS:
            averages = [
                math.nan if math.isnan(value) else self._averages[target].error(device, float(value))
                for device, value in zip(cases.devices, measured[target], strict=True)
            ]
            answer = self.model.tier(target)
            estimates = self.model.estimates(cases, target, answer, values[answer])
            self._adapt(target, estimates, measured[target])
            for tier in self.model.available(target):
                errors = np.log(measured[target] / values[tier][target])
                rows = zip(cases.devices, errors.tolist(), averages, strict=True)
                self._errors[target, tier] += [Error(*row) for row in rows if not math.isnan(row[1])]
                del self._errors[target, tier][:-KEPT_ERRORS]

    def _adapt(self, target: str, estimates: Estimates, measured: Any) -> None:
        if self.model.band(target, estimates.tier).low is not None:
            known = ~np.isnan(measured)
            missed = (measured < estimates.low) | (measured > estimates.high)
            self._miss_rates[target] = adapted(self._miss_rates[target], missed[known].tolist())

    def _learn(self) -> None:
        """Fit anew, then choose the tier that answers and how wide the intervals are."""
        model = fit(self._samples, self._seed)
        tiers = {
            target: chosen(model.available(target), {tier: self._errors[target, tier] for tier in Tier})
            for target in TARGETS
        }
        self.model = replace(model, tiers=tiers, bands={key: self._band(*key) for key in list(self._errors)})

    def _band(self, target: str, tier: Tier) -> Band:
        errors = self._errors[target, tier]
        return band(
            np.array([each.error for each in errors]), [each.device for each in errors], self._miss_rates[target]
        )
