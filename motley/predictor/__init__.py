"""How long a piece of work takes on a device, how much memory and energy, each with a 90 % interval.

Three tiers, said with each answer: the heuristic of device and task where nothing was measured, statistics
from 5 samples, a random forest on top of them from 30. Each is scored on work that it has not seen.
"""

from __future__ import annotations

from motley.predictor.advice import BatchScaling, Ranked, batch_scaling, best_platform, importance
from motley.predictor.cases import TARGETS, Case, Cases, Sample, Status, Trail
from motley.predictor.front import REFIT_ROWS, REFIT_S, Predictor
from motley.predictor.learner import Learner
from motley.predictor.model import Estimates, Model
from motley.predictor.scoring import Score, Tier

__all__ = [
    "REFIT_ROWS",
    "REFIT_S",
    "TARGETS",
    "BatchScaling",
    "Case",
    "Cases",
    "Estimates",
    "Learner",
    "Model",
    "Predictor",
    "Ranked",
    "Sample",
    "Score",
    "Status",
    "Tier",
    "Trail",
    "batch_scaling",
    "best_platform",
    "importance",
]
