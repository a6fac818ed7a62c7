"""The local loop: plain SGD on one device, and evaluation."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.optim.sgd import sgd

from motley.training.data import Examples

MOMENTUM = 0.9
_EVALUATION_BATCH = 512


@dataclass(frozen=True)
class TrainResult:
    """What one local run did. `loss` is the mean over all examples processed."""

    steps: int
    examples: int
    loss: float


def train(
    model: nn.Module, data: Examples, batch_size: int, learning_rate: float, epochs: int, seed: int
) -> TrainResult:
    """Train `model` in place with SGD and momentum 0.9; the order of examples depends on `seed` alone."""
    weights = [each for each in model.parameters() if each.requires_grad]
    momenta: list[torch.Tensor | None] = [None] * len(weights)
    model.train()
    total_loss, examples, steps = 0.0, 0, 0
    for images, labels in _batches(data, batch_size, epochs, seed):
        loss = functional.cross_entropy(model(images), labels)
        _descend(weights, torch.autograd.grad(loss, weights), momenta, learning_rate)
        total_loss += loss.item() * len(labels)
        examples += len(labels)
        steps += 1
    return TrainResult(steps, examples, total_loss / max(examples, 1))


@torch.no_grad()
def _descend(
    weights: list[nn.Parameter],
    gradients: tuple[torch.Tensor, ...],
    momenta: list[torch.Tensor | None],
    learning_rate: float,
) -> None:
    """One step of PyTorch's functional SGD: the class `SGD` takes a second to import its compiler."""
    sgd(
        weights,  # type: ignore[arg-type]
        list(gradients),
        momenta,
        weight_decay=0.0,
        momentum=MOMENTUM,
        lr=learning_rate,
        dampening=0.0,
        nesterov=False,
        maximize=False,
    )


@torch.no_grad()
def evaluate(model: nn.Module, data: Examples) -> tuple[float, float]:
    """Mean cross-entropy loss and accuracy of `model` on `data`."""
    model.eval()
    loss, correct = 0.0, 0
    for start in range(0, len(data), _EVALUATION_BATCH):
        images = torch.from_numpy(data.images[start : start + _EVALUATION_BATCH])
        labels = torch.from_numpy(data.labels[start : start + _EVALUATION_BATCH])
        scores = model(images)
        loss += functional.cross_entropy(scores, labels, reduction="sum").item()
        correct += int((scores.argmax(1) == labels).sum())
    return loss / len(data), correct / len(data)


def _batches(data: Examples, batch_size: int, epochs: int, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    rng = np.random.default_rng(seed)
    images, labels = torch.from_numpy(data.images), torch.from_numpy(data.labels)
    for _ in range(epochs):
        for indices in torch.from_numpy(rng.permutation(len(data))).split(batch_size):
            yield images[indices], labels[indices]


def set_threads(threads: int) -> None:
    """Size PyTorch's pool; call before the first operation."""
    torch.set_num_threads(threads)


def speed_probe(seconds: float = 0.2, side: int = 128) -> float:
    """Billions of floating-point operations a second, from products of `side`×`side` matrices."""
    matrix = torch.ones(side, side)
    deadline, started, products = time.perf_counter() + seconds, time.perf_counter(), 0
    while time.perf_counter() < deadline:
        torch.mm(matrix, matrix)
        products += 1
    return 2 * side**3 * products / (time.perf_counter() - started) / 1e9


def torch_version() -> str:
    return torch.__version__
