"""Local training of many clients at once on one thread; the same results as `loop.train`, sooner.

A small model leaves a processor idle between many small operations. Here each operation serves all
clients of a chunk: a batch that is shorter than its neighbours' is filled up with rows that weigh
nothing, and clients with fewer steps leave the group when they are done. `method_for` tries, for each
model, the ways there are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from motley.training import loop
from motley.training.data import Examples
from motley.training.jobs import Job, Trained, batch_table
from motley.training.layered import LayeredGroup
from motley.training.layers import plain_layers
from motley.training.model import arrays_of
from motley.training.vectorised import VectorisedGroup


class Group(Protocol):
    """Equal models, one of each client."""

    def step(self, rows: Tensor, labels: Tensor, scale: Tensor) -> Tensor:
        """Descend once with the first clients and return the scores (clients, batch, classes) before.

        All arguments have the shape (clients, batch). `rows` points into the pooled inputs; `scale` is
        what an example's loss counts times the client's learning rate, zero for rows that only fill up.
        """
        ...

    def weights(self) -> dict[str, Tensor]:
        """Of shape (clients, …), by name."""
        ...


Start = Callable[[Tensor, Mapping[str, Tensor], float, Tensor | None], Group]
"""Makes a group from the inputs of all clients, the stacked weights, which it may overwrite, the
momentum, and each client's pull (learning rate times μ) if any has one."""


@dataclass(frozen=True)
class Schedule:
    """Which rows of the pooled examples each client takes in each step, of shape (steps, clients, batch).

    `filler` stands where there is none. Whoever has more steps comes first.
    """

    rows: NDArray[np.int64]
    filler: int

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """How many examples each client takes in each step, of shape (steps, clients)."""
        counts: NDArray[np.int64] = np.sum(self.rows != self.filler, axis=2)
        return counts

    @cached_property
    def extents(self) -> list[tuple[int, int]]:
        """For each step, how many clients are still at work, and the longest of their batches."""
        at_work, longest = np.count_nonzero(self.counts, axis=1), self.counts.max(axis=1)
        return list(zip(at_work.tolist(), longest.tolist(), strict=True))

    def in_steps(self, whole: Tensor) -> list[Tensor]:
        """What of an array (steps, clients, batch) each step needs."""
        return [each[:clients, :batch] for each, (clients, batch) in zip(whole.unbind(), self.extents, strict=True)]


def train(model: nn.Module, jobs: Sequence[Job], momentum: float, start: Start | None = None) -> list[Trained]:
    """Do jobs for one and the same model; None for `start` does them one by one with `loop.train`.

    The results equal those of `loop.train` but for rounding, and depend on nothing but the arguments:
    the same jobs in the same order give the same bits.
    """
    if start is None:
        return [loop.train(model, job, momentum) for job in jobs]
    order = sorted(range(len(jobs)), key=lambda index: -jobs[index].steps)
    done = _train_sorted([jobs[index] for index in order], momentum, start)
    return [trained for _, trained in sorted(zip(order, done, strict=True), key=lambda pair: pair[0])]


def _train_sorted(jobs: list[Job], momentum: float, start: Start) -> list[Trained]:
    rates = torch.tensor([job.learning_rate for job in jobs])
    pulls = rates * torch.tensor([job.proximal for job in jobs])
    before = _stacked_weights(jobs)
    inputs, labels = _pooled([job.examples for job in jobs])
    copies = {name: each.clone(memory_format=torch.contiguous_format) for name, each in before.items()}
    group = start(inputs, copies, momentum, pulls if pulls.any() else None)
    schedule = _schedule(jobs)
    rows = torch.from_numpy(schedule.rows)
    every = rows, labels[rows], _scale(schedule, rates)
    scores = [group.step(*each) for each in zip(*map(schedule.in_steps, every), strict=True)]
    updates = {name: (each - before[name]).numpy() for name, each in group.weights().items()}
    figures = _figures(scores, labels, schedule, len(jobs))
    return [
        Trained({name: each[index] for name, each in updates.items()}, job.steps, *figures[index])
        for index, job in enumerate(jobs)
    ]


def _stacked_weights(jobs: list[Job]) -> dict[str, Tensor]:
    """The weights that each job starts from, (jobs, …) by name; one copy where all start from the same."""
    if all(job.weights is jobs[0].weights for job in jobs):
        return {
            name: torch.from_numpy(array).expand(len(jobs), *array.shape) for name, array in jobs[0].weights.items()
        }
    return {name: torch.from_numpy(np.stack([job.weights[name] for job in jobs])) for name in jobs[0].weights}


def _pooled(examples: list[Examples]) -> tuple[Tensor, Tensor]:
    """All inputs and labels one below the other, with a last row of zeros to fill up with."""
    blank = np.zeros((1, *examples[0].inputs.shape[1:]), np.float32)
    inputs = np.concatenate([*(each.inputs for each in examples), blank])
    labels = np.concatenate([*(each.labels for each in examples), np.zeros(1, np.int64)])
    return torch.from_numpy(inputs), torch.from_numpy(labels)


def _schedule(jobs: list[Job]) -> Schedule:
    filler, offset = sum(len(job.examples) for job in jobs), 0
    rows = np.full((jobs[0].steps, len(jobs), max(job.longest_batch for job in jobs)), filler)
    for index, job in enumerate(jobs):
        table = batch_table(len(job.examples), job.batch_size, job.steps, job.seed)
        rows[: job.steps, index, : table.shape[1]] = np.where(table >= 0, table + offset, filler)
        offset += len(job.examples)
    return Schedule(rows, filler)


def _scale(schedule: Schedule, rates: Tensor) -> Tensor:
    """What each example's loss counts times the client's learning rate, of shape (steps, clients, batch)."""
    share = (schedule.rows != schedule.filler) / np.maximum(schedule.counts, 1)[..., None]
    return torch.from_numpy(share.astype(np.float32)) * rates[:, None]


def _figures(
    scores: list[Tensor], labels: Tensor, schedule: Schedule, clients: int
) -> list[tuple[int, float, float, float]]:
    """Of each client: examples processed, mean loss, mean squared loss, accuracy."""
    rows = torch.cat([each.flatten() for each in schedule.in_steps(torch.from_numpy(schedule.rows))])
    owners = np.concatenate([np.repeat(np.arange(count), batch) for count, batch in schedule.extents])
    real = (rows != schedule.filler).numpy()
    flat, expected = torch.cat([each.flatten(0, 1) for each in scores]), labels[rows]
    likely = torch.log_softmax(flat.T.contiguous(), 0).gather(0, expected[None])[0]
    losses = -likely.numpy().astype(np.float64)[real]
    correct = (flat.argmax(1) == expected).numpy()[real]
    counts, *sums = (
        np.bincount(owners[real], values, clients) for values in (None, losses, losses**2, correct.astype(np.float64))
    )
    means = [each / counts for each in sums]
    return [(int(count), *(float(mean[index]) for mean in means)) for index, count in enumerate(counts)]  # type: ignore[misc]


def method_for(model: nn.Module, input_shape: tuple[int, ...], momentum: float) -> Start | None:
    """The fastest way for this model: layer by layer, through torch.func, or None for one by one.

    Each is tried on a few made-up examples, in ragged batches, and taken when it does the same as
    `loop.train`; so the choice depends on the model and the shape of its inputs alone.
    """
    jobs = _trial(model, input_shape)
    return next((start for start in _ways(model) if _comes_to_the_same(model, jobs, momentum, start)), None)


def _comes_to_the_same(model: nn.Module, jobs: list[Job], momentum: float, start: Start) -> bool:
    try:
        pairs = zip(train(model, jobs, momentum, start), train(model, jobs, momentum), strict=True)
    except Exception:  # whatever the model's code raises, this way is not for it
        return False
    return all(_agree(one, other) for one, other in pairs)


def _ways(model: nn.Module) -> list[Start]:
    layers = plain_layers(model)
    vectorised = partial(VectorisedGroup, model)
    return [vectorised] if layers is None else [partial(LayeredGroup, layers), vectorised]


def _trial(model: nn.Module, input_shape: tuple[int, ...]) -> list[Job]:
    """Two jobs of several steps, in batches of four, three and two."""
    rng = np.random.default_rng(0)
    weights = {name: array.copy() for name, array in arrays_of(model).items()}
    made = [Examples(rng.standard_normal((n, *input_shape), np.float32), rng.integers(0, 2, n)) for n in (6, 5)]
    return [Job(weights, made[0], 4, 0.01, 3, 1), Job(weights, made[1], 3, 0.02, 2, 2, proximal=0.5)]


def _agree(one: Trained, other: Trained) -> bool:
    same = all(np.allclose(one.update[name], array, rtol=1e-3, atol=1e-5) for name, array in other.update.items())
    return same and one.update.keys() == other.update.keys() and math.isclose(one.loss, other.loss, rel_tol=1e-3)
