"""The third tier: a random forest that learns what the statistics leave unexplained. Pure, but for its import.

A forest predicts means of values it has seen, so it can't follow work that grows beyond them. Here it
learns the logarithm of what was measured over what the second tier expects of it, which extrapolates
as that tier does (`benchmarks/predictor.py` measures both kinds). What is expected of a sample in training is
taken without that sample, else the forest would learn from residuals that are too small. Random forests:
Breiman, "Random Forests", Machine Learning 45, 2001.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from motley.predictor.cases import Cases
from motley.selection.base import Floats

FEATURES = (
    *("host_cores", "cpus", "memory_bytes", "memory_used_bytes", "gflops", "threads"),
    *("batch_size", "physical_batch", "steps", "examples", "width", "example_gflop", "example_bytes", "parameters"),
    *("down_bytes", "up_bytes", "down_bits_per_s", "up_bits_per_s", "latency_s", "celsius", "rest_s"),
)

TREES = 60
_LEAST_LEAF = 3
_FEATURE_SHARE = 0.5
_MOST_LOG = 2.0


def fit(cases: Cases, logs: Floats, seed: int) -> Any:
    """A scikit-learn forest for logarithms of shape (n,); the same for the same seed."""
    from sklearn.ensemble import RandomForestRegressor

    forest = RandomForestRegressor(
        n_estimators=TREES, min_samples_leaf=_LEAST_LEAF, max_features=_FEATURE_SHARE, random_state=seed, n_jobs=1
    )
    return forest.fit(_inputs(cases), np.clip(logs, -_MOST_LOG, _MOST_LOG))


def predict(forest: Any, cases: Cases) -> Floats:
    """Logarithms, shape (n,)."""
    return np.asarray(forest.predict(_inputs(cases)), np.float64) if len(cases) else np.empty(0)


def _inputs(cases: Cases) -> Floats:
    return cases.matrix(FEATURES).astype(np.float32)
