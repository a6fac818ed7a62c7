"""A task of one's own: `task: breast_cancer:load` in a fleet file.

A function from a seed to a DataSet, with a recipe. The data are the 569 real cases in scikit-learn
(Wolberg et al., 1995): 30 figures of cell nuclei each, shaped as images of 1 by 30.
"""

from __future__ import annotations

import numpy as np
from torch import nn

from motley.training.data import DataSet, Examples
from motley.training.model import Recipe


def load(seed: int) -> DataSet:
    """The cases, standardised, a fifth of them held out."""
    from sklearn.datasets import load_breast_cancer

    bunch = load_breast_cancer()
    figures = (bunch.data - bunch.data.mean(0)) / bunch.data.std(0)
    everything = Examples(figures[:, None, None, :].astype(np.float32), bunch.target.astype(np.int64))
    order = np.random.default_rng(seed).permutation(len(everything))
    return DataSet(everything.take(order[114:]), everything.take(order[:114]))


def network() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(30, 32), nn.ReLU(), nn.Linear(32, 2))


load.recipe = Recipe(network, learning_rate=0.05, bytes_per_example=4096)  # type: ignore[attr-defined]
