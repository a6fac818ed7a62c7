"""The models of the built-in tasks, and their way to arrays and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from motley.errors import InputError
from motley.training.data import LOADERS, resolve


@dataclass(frozen=True)
class Recipe:
    """How a task is learned.

    build: makes a fresh model; learning_rate: right for SGD at a batch of 32;
    bytes_per_example: memory that one example of a batch takes in training, activations and gradients.
    """

    build: Callable[[], nn.Module]
    learning_rate: float
    bytes_per_example: int


def small_cnn(channels: int, width: int = 16, classes: int = 10) -> nn.Module:
    """Two convolutions, one pooling step, two linear layers; for images of any size."""
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(2 * width * 16, 64),
        nn.ReLU(),
        nn.Linear(64, classes),
    )


RECIPES: dict[str, Recipe] = {
    "digits": Recipe(lambda: small_cnn(1), 0.1, 64 * 1024),
    "fashion_mnist": Recipe(lambda: small_cnn(1), 0.05, 512 * 1024),
    "cifar10": Recipe(lambda: small_cnn(3, width=32), 0.05, 1024 * 1024),
}


def recipe_of(task: str) -> Recipe:
    """The recipe of a built-in task, or the attribute `recipe` of the user's data function.

    Raises InputError when a user's function has none.
    """
    if task in LOADERS:
        return RECIPES[task]
    recipe = getattr(resolve(task), "recipe", None)
    if not isinstance(recipe, Recipe):
        raise InputError(f"task '{task}' has no recipe; set {task.replace(':', '.')}.recipe = Recipe(...)")
    return recipe


def build(task: str, seed: int) -> nn.Module:
    """A fresh model of `task` whose initial weights depend on `seed` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return recipe_of(task).build()


def arrays_of(model: nn.Module) -> dict[str, NDArray[np.generic]]:
    """The model's state as arrays by name."""
    return {name: tensor.detach().cpu().numpy() for name, tensor in model.state_dict().items()}


def load_arrays(model: nn.Module, arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """Put arrays into the model; names and shapes must be the model's own."""
    model.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in arrays.items()})
