"""What is asked and what was learned from: a device with a piece of work, as a row of numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from motley.compression import UPLOAD_SHARE
from motley.device import DeviceProfile, Outcome, RoundOutcome, WorkOrder
from motley.knowledge import REFERENCE_GFLOPS, TaskFigures
from motley.selection.base import Floats
from motley.workload import processed, threads_for

PARAMETER_BYTES = 4
_KNOWN = (Outcome.FINISHED, Outcome.LATE)


@dataclass(frozen=True)
class Status:
    """What changes about a device. None where it is not known."""

    celsius: float | None = None
    rest_s: float | None = None
    """Since its last work ended."""


class Case(NamedTuple):
    """A device and a piece of work; NaN stands for what is not known."""

    device: str
    device_class: str
    host_cores: float
    cpus: float
    memory_bytes: float
    memory_used_bytes: float
    gflops: float
    down_bits_per_s: float
    """0 where the link is not shaped; so is `up_bits_per_s`."""
    up_bits_per_s: float
    latency_s: float
    threads: float
    batch_size: float
    physical_batch: float
    """Examples in memory at one time."""
    steps: float
    examples: float
    """Processed, epochs counted."""
    width: float
    example_gflop: float
    """Billions of operations that the recipe counts for an example."""
    example_bytes: float
    """Memory that an example of a batch takes by the recipe."""
    parameters: float
    down_bytes: float
    up_bytes: float
    celsius: float
    rest_s: float

    @classmethod
    def of(cls, profile: DeviceProfile, order: WorkOrder, task: TaskFigures, status: Status = Status()) -> Self:
        """A question: this order, as its device would carry it out in full."""
        batch = max(1, min(order.batch_size, profile.examples))
        model_bytes = task.model_bytes * order.width**2
        return cls._make_case(
            profile,
            task,
            status,
            threads=threads_for(profile.cpus, profile.host_cores),
            batch_size=batch,
            physical_batch=min(batch, order.physical_batch or batch),
            steps=order.steps,
            examples=processed(max(1, profile.examples), batch, order.steps),
            width=order.width,
            down_bytes=model_bytes,
            up_bytes=model_bytes * UPLOAD_SHARE[order.compression],
        )

    @classmethod
    def done(cls, profile: DeviceProfile, outcome: RoundOutcome, task: TaskFigures, status: Status) -> Self:
        """What a device did: the same with the figures of its report."""
        model_bytes = task.model_bytes * outcome.width**2
        return cls._make_case(
            profile,
            task,
            status,
            threads=outcome.threads or threads_for(profile.cpus, profile.host_cores),
            batch_size=outcome.batch_size,
            physical_batch=outcome.physical_batch or outcome.batch_size,
            steps=outcome.steps,
            examples=outcome.examples,
            width=outcome.width,
            down_bytes=outcome.down_bytes or model_bytes,
            up_bytes=outcome.up_bytes or model_bytes * UPLOAD_SHARE[outcome.compression],
        )

    @classmethod
    def _make_case(cls, profile: DeviceProfile, task: TaskFigures, status: Status, **work: float) -> Self:
        return cls(
            device=profile.device,
            device_class=profile.device_class,
            host_cores=profile.host_cores,
            cpus=profile.cpus,
            memory_bytes=profile.memory_bytes,
            memory_used_bytes=profile.memory_used_bytes,
            gflops=profile.gflops,
            down_bits_per_s=profile.down_bits_per_s,
            up_bits_per_s=profile.up_bits_per_s,
            latency_s=profile.latency_s,
            example_gflop=task.ms_per_example / 1000 * REFERENCE_GFLOPS,
            example_bytes=task.bytes_per_example,
            parameters=task.model_bytes / PARAMETER_BYTES,
            celsius=math.nan if status.celsius is None else status.celsius,
            rest_s=math.nan if status.rest_s is None else status.rest_s,
            **work,
        )


NUMBERS = Case._fields[2:]
"""The columns of numbers."""


class Sample(NamedTuple):
    """A case and what came of it; NaN where that was not measured."""

    case: Case
    number: int
    """The round."""
    seconds: float
    """From order to reply, at the server."""
    train_s: float
    """On the device."""
    memory_bytes: float
    """At the peak."""
    energy_wh: float


TARGETS = Sample._fields[2:]
"""What is predicted."""


@dataclass(frozen=True)
class Cases:
    """Cases in columns, each of shape (n,)."""

    devices: Sequence[str]
    classes: Sequence[str]
    columns: Mapping[str, Floats]
    """By the names in NUMBERS."""

    @classmethod
    def of(cls, cases: Sequence[Case]) -> Self:
        table = np.array([each[2:] for each in cases], np.float64).reshape(len(cases), len(NUMBERS))
        columns = dict(zip(NUMBERS, np.ascontiguousarray(table.T), strict=True))
        return cls([each.device for each in cases], [each.device_class for each in cases], columns)

    def __len__(self) -> int:
        return len(self.devices)

    def __getitem__(self, name: str) -> Floats:
        return self.columns[name]

    def matrix(self, names: Sequence[str]) -> Floats:
        """Shape (n, names)."""
        return np.column_stack([self.columns[name] for name in names])


class Trail:
    """Makes samples of outcomes, in the order in which they became known: what came before tells the status."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[float, float | None]] = {}

    def status(self, device: str, now_s: float) -> Status:
        """What is known of a device that has not begun yet."""
        last = self._last.get(device)
        return Status() if last is None else Status(last[1], max(0.0, now_s - last[0]))

    def sample(self, number: int, profile: DeviceProfile, outcome: RoundOutcome, task: TaskFigures) -> Sample | None:
        """None for work that was not finished, which tells no duration."""
        status = self.status(outcome.device, outcome.known_s - outcome.round_trip_s)
        self._last[outcome.device] = (outcome.known_s, outcome.celsius)
        if outcome.outcome not in _KNOWN or outcome.examples <= 0 or outcome.wall_s <= 0:
            return None
        return Sample(
            Case.done(profile, outcome, task, status),
            number,
            max(outcome.round_trip_s, outcome.wall_s),
            outcome.wall_s,
            outcome.peak_memory_bytes or math.nan,
            outcome.energy_wh or math.nan,
        )

    def state(self) -> dict[str, list[float | None]]:
        return {device: [known_s, celsius] for device, (known_s, celsius) in self._last.items()}

    def restore(self, state: Mapping[str, Sequence[float | None]]) -> None:
        self._last = {device: (known_s or 0.0, celsius) for device, (known_s, celsius) in state.items()}


def targets(samples: Sequence[Sample]) -> dict[str, Floats]:
    """What came of each sample, in columns."""
    table = np.array([each[2:] for each in samples], np.float64).reshape(len(samples), len(TARGETS))
    return dict(zip(TARGETS, table.T, strict=True))
