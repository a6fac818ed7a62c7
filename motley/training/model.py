"""The models of the built-in tasks, at any width, and their way to arrays and back."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from motley.errors import InputError
from motley.training.data import LOADERS, resolve
from motley.widths import WIDTHS

Build = Callable[[float], nn.Module] | Callable[[], nn.Module]


@dataclass(frozen=True)
class Recipe:
    """How a task is learned.

    build: makes a fresh model of a width, one of WIDTHS; a function without an argument makes one
    model, and its task can't be learned at other widths. Width never narrows inputs or classes.
    learning_rate: right for SGD at a batch of 32.
    bytes_per_example: memory that one example of a batch takes in training, activations and gradients.
    momentum: of the local SGD.
    ms_per_example: milliseconds that one core takes for forward and backward of one example.
    """

    build: Build
    learning_rate: float
    bytes_per_example: int
    momentum: float = 0.9
    ms_per_example: float = 0.1


def small_cnn(channels: int, hidden: int = 16, classes: int = 10, width: float = 1.0) -> nn.Module:
    """Two convolutions, one pooling step, two linear layers; for images of any size."""
    first, second, last = (narrowed(each, width) for each in (hidden, 2 * hidden, 64))
    return nn.Sequential(
        nn.Conv2d(channels, first, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(first, second, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(second * 16, last),
        nn.ReLU(),
        nn.Linear(last, classes),
    )


def narrowed(channels: int, width: float) -> int:
    """How many of `channels` a model of that width keeps: the share rounded up, so at least one."""
    return math.ceil(channels * width)


RECIPES: dict[str, Recipe] = {
    "digits": Recipe(lambda width: small_cnn(1, width=width), 0.1, 64 * 1024, ms_per_example=0.1),
    "fashion_mnist": Recipe(lambda width: small_cnn(1, width=width), 0.05, 512 * 1024, ms_per_example=0.25),
    "cifar10": Recipe(lambda width: small_cnn(3, hidden=32, width=width), 0.05, 1024 * 1024, ms_per_example=0.7),
    "synthetic": Recipe(lambda width: nn.Linear(60, 10), 0.01, 4096, momentum=0.0, ms_per_example=0.01),
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


def build(task: str, seed: int, width: float = 1.0) -> nn.Module:
    """A fresh model of `task` whose initial weights depend on `seed` alone.

    Raises InputError for a width that is not one of WIDTHS, or that the task's recipe can't make.
    """
    made = recipe_of(task).build
    if width not in WIDTHS:
        raise InputError(f"width {width:g} of task '{task}' is not one of {', '.join(f'{each:g}' for each in WIDTHS)}")
    arguments = (width,) if takes_width(made) else ()
    if width != 1 and not arguments:
        raise InputError(f"task '{task}' has no model of width {width:g}; let its recipe's build take the width")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return made(*arguments)


def takes_width(made: Build) -> bool:
    """Whether a recipe's builder has a parameter `width`, or one that must be given."""
    parameters = inspect.signature(made).parameters.values()
    return any(
        each.name == "width" or (each.default is each.empty and each.kind is not each.VAR_KEYWORD)
        for each in parameters
    )


@lru_cache
def shapes_of(task: str, width: float = 1.0) -> dict[str, tuple[int, ...]]:
    """Shapes of the model's arrays by name, without making any."""
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in build(task, 0, width).state_dict().items()}


def arrays_of(model: nn.Module) -> dict[str, NDArray[np.generic]]:
    """The model's state as arrays by name."""
    return {name: tensor.detach().cpu().numpy() for name, tensor in model.state_dict().items()}


def load_arrays(model: nn.Module, arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """Put arrays into the model; names and shapes must be the model's own."""
    model.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in arrays.items()})
