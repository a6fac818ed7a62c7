"""A task that outgrows memory at once: `task: workspace_digits:load`. From a batch of 12 on, a step takes 300 MiB more.

Choose it to see how a device survives the kernel's kill. Libraries behave like this where they change the
algorithm with the size; no measurement of smaller batches foresees it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from motley.training.data import DataSet, load_digits
from motley.training.model import Recipe

FROM_BATCH, WORKSPACE_BYTES = 12, 300 * 1024**2


class Workspace(nn.Module):
    """Passes everything through; large batches need room meanwhile."""

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training and len(inputs) >= FROM_BATCH:
            torch.ones(WORKSPACE_BYTES, dtype=torch.uint8)
        return inputs


def load(seed: int) -> DataSet:
    """The 1,797 scans of 8×8, a fifth of them held out."""
    return load_digits(seed)


def network() -> nn.Module:
    return nn.Sequential(Workspace(), nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


load.recipe = Recipe(network, 0.1, bytes_per_example=4096, ms_per_example=0.05)  # type: ignore[attr-defined]
