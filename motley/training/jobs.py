"""One device's local training as data: what it starts from, what it is to do, what came of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from motley.aggregation import Arrays
from motley.training.data import Examples


@dataclass(frozen=True)
class Job:
    """Local SGD on one device.

    `weights` holds the model as it was sent, by the names of its state; `seed` alone decides the order
    of the examples.
    """

    weights: Arrays
    examples: Examples
    batch_size: int
    learning_rate: float
    steps: int
    seed: int
    proximal: float = 0.0
    """μ of FedProx: μ/2·‖w − weights‖² is added to the loss."""
    width: float = 1.0
    """Share of the channels, where `weights` are a narrower model's (HeteroFL)."""
    physical_batch: int = 0
    """Most examples in memory at one time; 0 stands for the whole batch. Larger batches are gone through
    in pieces whose gradients are summed."""

    def __post_init__(self) -> None:
        for name, value in (("examples", len(self.examples)), ("batch_size", self.batch_size), ("steps", self.steps)):
            if value < 1:
                raise ValueError(f"{name} of a job is {value}; must be at least 1")

    @property
    def longest_batch(self) -> int:
        return min(self.batch_size, len(self.examples))

    @property
    def work(self) -> float:
        """Examples to be processed, about, at full width."""
        return self.steps * self.longest_batch * self.width


@dataclass(frozen=True)
class Trained:
    """What one job came to; figures are means over the examples processed, before each step."""

    update: dict[str, NDArray[np.generic]]
    """New weights less the ones it started from, in the dtype of the weights."""
    steps: int
    examples: int
    loss: float
    squared_loss: float
    """Mean of the squared losses of single examples (Oort's statistical utility)."""
    accuracy: float
    physical_batch: int = 0
    """Most examples that were in memory at one time; 0 where nobody looked."""


def batch_table(examples: int, batch_size: int, steps: int, seed: int) -> NDArray[np.int64]:
    """Indices of the examples of each step, of shape (steps, batch): shuffled passes one after the other.

    A pass may end in a smaller batch, which is filled up with -1.
    """
    rng = np.random.default_rng(seed)
    batch = min(batch_size, examples)
    in_pass = -(-examples // batch)
    passes = np.full((-(-steps // in_pass), in_pass * batch), -1)
    for each in passes:
        each[:examples] = rng.permutation(examples)
    return passes.reshape(-1, batch)[:steps]


def batches(examples: int, batch_size: int, steps: int, seed: int) -> list[NDArray[np.int64]]:
    """`batch_table`, one array for each step."""
    return [row[row >= 0] for row in batch_table(examples, batch_size, steps, seed)]
