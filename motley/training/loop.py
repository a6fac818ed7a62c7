"""The local loop: plain SGD on one device, in pieces where a batch is too large, and evaluation."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional
from torch.optim.sgd import sgd

from motley.governor.base import Adjustment
from motley.training.data import Examples
from motley.training.jobs import Job, Trained, batches
from motley.training.model import arrays_of, load_arrays
from motley.training.pieces import Pieces

MOMENTUM = 0.9
EVALUATION_BATCH = 512


def train(
    model: nn.Module,
    job: Job,
    momentum: float = MOMENTUM,
    should_stop: Callable[[], bool] = lambda: False,
    *,
    control: Callable[[], Adjustment] | None = None,
    measured: Callable[[int], int] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Trained:
    """Do `job` with `model`, whose own weights are overwritten first.

    The job's seed also decides what a model draws at random, such as dropout. `should_stop` is asked
    between steps, so at least one is done; a device stops at its deadline with what it has.

    A batch above the job's `physical_batch` is gone through in pieces. `measured` is told after each
    piece how many examples it had, and says how many the next may have. `control` is asked before each
    piece but the first, and obeyed at once, but for a stop, which lets the step at hand be finished.
    """
    load_arrays(model, job.weights)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.seed)
        return _train(model, job, momentum, should_stop, Pieces(job, should_stop, control, measured, sleep))


def _train(model: nn.Module, job: Job, momentum: float, should_stop: Callable[[], bool], pieces: Pieces) -> Trained:
    weights = [each for each in model.parameters() if each.requires_grad]
    anchors = [each.detach().clone() for each in weights] if job.proximal else []
    momenta: list[torch.Tensor | None] = [None] * len(weights)
    inputs, labels = torch.from_numpy(job.examples.inputs), torch.from_numpy(job.examples.labels)
    losses, correct, steps = [], 0, 0
    model.train()
    for indices in batches(len(labels), job.batch_size, job.steps, job.seed):
        if pieces.stopped_before(steps):
            break
        gradients: list[torch.Tensor] = []
        for piece in pieces.of(indices):
            taken = torch.from_numpy(piece)
            loss, right, own = _gradients(model, weights, inputs[taken], labels[taken], len(indices))
            gradients = _added(gradients, own)
            losses.append(loss)
            correct += right
        _descend(weights, _with_pull(gradients, weights, anchors, job.proximal), momenta, job.learning_rate, momentum)
        steps += 1
        if should_stop():
            break
    return _trained(model, job, steps, np.concatenate(losses).astype(np.float64), correct, pieces.largest)


def _gradients(
    model: nn.Module, weights: list[nn.Parameter], inputs: torch.Tensor, labels: torch.Tensor, batch: int
) -> tuple[NDArray[np.float32], int, list[torch.Tensor]]:
    """Losses of a piece of `batch` examples, how many it has right, and its share of the batch's gradients."""
    scores = model(inputs)
    loss = functional.cross_entropy(scores, labels, reduction="none")
    gradients = torch.autograd.grad(loss.mean() * (len(labels) / batch), weights)
    return loss.detach().numpy(), int((scores.argmax(1) == labels).sum()), list(gradients)


def _added(sums: list[torch.Tensor], more: list[torch.Tensor]) -> list[torch.Tensor]:
    return [one.add_(other) for one, other in zip(sums, more, strict=True)] if sums else more


def _trained(
    model: nn.Module, job: Job, steps: int, losses: NDArray[np.float64], correct: int, largest: int
) -> Trained:
    update = {name: np.subtract(array, job.weights[name]) for name, array in arrays_of(model).items()}
    squared = float(np.mean(losses**2))
    return Trained(update, steps, len(losses), float(np.mean(losses)), squared, correct / len(losses), largest)


@torch.no_grad()
def _with_pull(
    gradients: list[torch.Tensor], weights: list[nn.Parameter], anchors: list[torch.Tensor], proximal: float
) -> list[torch.Tensor]:
    """Gradients with that of FedProx's term, μ·(w − anchor); unchanged where there are no anchors."""
    if not anchors:
        return gradients
    return [each + proximal * (at - start) for each, at, start in zip(gradients, weights, anchors, strict=True)]


@torch.no_grad()
def _descend(
    weights: list[nn.Parameter],
    gradients: list[torch.Tensor],
    momenta: list[torch.Tensor | None],
    learning_rate: float,
    momentum: float,
) -> None:
    """One step of PyTorch's functional SGD: the class `SGD` takes a second to import its compiler."""
    sgd(
        weights,  # type: ignore[arg-type]
        gradients,
        momenta,
        weight_decay=0.0,
        momentum=momentum,
        lr=learning_rate,
        dampening=0.0,
        nesterov=False,
        maximize=False,
    )


@torch.no_grad()
def evaluate(model: nn.Module, data: Examples, batch_size: int = EVALUATION_BATCH) -> tuple[float, float]:
    """Mean cross-entropy loss and accuracy of `model` on `data`, `batch_size` examples at a time."""
    model.eval()
    loss, correct = 0.0, 0
    for start in range(0, len(data), batch_size):
        inputs = torch.from_numpy(data.inputs[start : start + batch_size])
        labels = torch.from_numpy(data.labels[start : start + batch_size])
        scores = model(inputs)
        loss += functional.cross_entropy(scores, labels, reduction="sum").item()
        correct += int((scores.argmax(1) == labels).sum())
    return loss / len(data), correct / len(data)


def set_threads(threads: int) -> None:
    """Size PyTorch's pool; call before the first operation."""
    torch.set_num_threads(threads)


def threads() -> int:
    """The size of PyTorch's pool."""
    return torch.get_num_threads()


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
