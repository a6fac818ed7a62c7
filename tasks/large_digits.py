"""A task that fills memory: `task: large_digits:load`. The digits, which the model enlarges to 160×160.

Choose it to see how devices size their batch: an example takes megabytes, while the data stay small.
"""

from __future__ import annotations

from torch import nn

from motley.training.data import DataSet, load_digits
from motley.training.model import Recipe


def load(seed: int) -> DataSet:
    """The 1,797 scans of 8×8, a fifth of them held out."""
    return load_digits(seed)


def network() -> nn.Module:
    return nn.Sequential(
        nn.Upsample(scale_factor=20),
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(8),
        nn.Flatten(),
        nn.Linear(1024, 10),
    )


load.recipe = Recipe(network, 0.05, bytes_per_example=8 * 1024**2, ms_per_example=5)  # type: ignore[attr-defined]
