"""What this device learns of its memory: kept in Flower's Context, and in a note that outlives a kill.

The Context of a task that the kernel kills is lost, and with it what the task has just learned. So what
was measured, and what is tried next, stands in a small file until the task has ended.
"""

from __future__ import annotations

import json
import resource
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
from flwr.app import ConfigRecord, Context

from client.work import fitted
from motley.limits import Cgroup
from motley.monitor import PeakMemory
from motley.training.jobs import Job
from motley.workload import MemoryModel, fitting_batch, next_batch

_RECORD = "memory"
_TOLERANCE = 1.05


@dataclass(frozen=True)
class Memory:
    """The memory of one device: what the kernel enforces, and where what it learns of it is kept.

    note: a file of its own on this machine.
    """

    cgroup: Cgroup
    limit_bytes: int
    note: Path

    def recall(self, context: Context, key: str, unknown: MemoryModel) -> MemoryModel:
        """`unknown` with all that was measured under `key`, in orders that ended and in one that was killed."""
        record: Mapping[str, Any] = context.state.config_records.get(_RECORD, {})
        model = _with_points(unknown, record, key)
        left = self._left_behind()
        model = _with_points(model, left, key)
        if left.get("key") == key and (self.cgroup.oom_kills() or 0) > left["kills"]:
            model = model.after_kill(left["tried"])
        return model

    def keep(self, context: Context, key: str, model: MemoryModel) -> None:
        """Keep what was measured for the orders to come; the note has done its duty."""
        context.state[_RECORD] = ConfigRecord(_as_record(model, key))
        self.note.unlink(missing_ok=True)

    def note_down(self, key: str, model: MemoryModel, tried: int) -> None:
        """Leave word of what is known, and of the batch that is tried next."""
        said = {**_as_record(model, key), "tried": tried, "kills": self.cgroup.oom_kills() or 0}
        with suppress(OSError):
            self.note.write_text(json.dumps(said))

    def _left_behind(self) -> Mapping[str, Any]:
        try:
            said = json.loads(self.note.read_text())
        except (OSError, ValueError):
            return {}
        return said if isinstance(said, dict) else {}


class Fitting:
    """Suits a job to the memory, and goes on finding out while the job is done how many examples fit.

    key: what the measurements are of; those of another task or width say nothing. unknown: the model of a
    device that has measured nothing yet.
    """

    def __init__(
        self, memory: Memory, context: Context, key: str, unknown: MemoryModel, job: Job, order: Mapping[str, Any]
    ) -> None:
        self._memory, self._context, self._key = memory, context, key
        self.model = memory.recall(context, key, unknown)
        job = fitted(job, order, fitting_batch(self.model, memory.limit_bytes))
        self._most = min(job.batch_size, int(order.get("physical_batch", 0)) or job.batch_size)
        self._largest = self._tried = 0
        self.job = replace(job, physical_batch=self._next_piece())

    def measured(self, examples: int, peak_bytes: int) -> int:
        """A piece of so many examples is done: how many the next one may have."""
        if examples >= self._largest:
            self._largest = examples
            self.model = self.model.learned(examples, peak_bytes)
        return self._next_piece()

    def keep(self) -> None:
        """The job is done: keep what was measured for the orders to come."""
        self._memory.keep(self._context, self._key, self.model)

    def _next_piece(self) -> int:
        piece = min(self._most, next_batch(self.model, self._memory.limit_bytes))
        if piece > self._tried:
            self._tried = piece
            self._memory.note_down(self._key, self.model, piece)
        return piece


class Peak:
    """The most memory that the container has held since this was made, pages of files left out.

    Samples miss what is short; the kernel's own high-water mark of this process does not. Pages of libraries
    that the process came to touch are in that mark, but were in the container's memory before.
    """

    def __init__(self, cgroup: Cgroup, sampled: PeakMemory) -> None:
        self._sampled = sampled
        self._limit_bytes = cgroup.limits().memory_bytes
        own = psutil.Process().memory_info()
        self._others_bytes, self._shared_bytes = (cgroup.held_bytes() or 0) - own.rss, own.shared
        self._mark_bytes = _high_water_bytes()

    @property
    def bytes(self) -> int:
        """Below the limit, since the process was not killed."""
        mark_bytes, seen = _high_water_bytes(), 0
        if mark_bytes > self._mark_bytes:
            touched_bytes = max(0, psutil.Process().memory_info().shared - self._shared_bytes)
            seen = self._others_bytes + mark_bytes - touched_bytes
        peak_bytes = max(seen, self._sampled.peak_bytes)
        return peak_bytes if self._limit_bytes is None else min(peak_bytes, self._limit_bytes - 1)


def own_limit_bytes(enforced_bytes: int | None, said_bytes: int) -> int | None:
    """The limit that the kernel enforces on this device alone; None where there is none.

    said_bytes: the fleet file's memory, 0 where it is not told. Where more is enforced than that, the
    cgroup is a whole machine's, with other devices in it.
    """
    if enforced_bytes is None or (said_bytes and enforced_bytes > _TOLERANCE * said_bytes):
        return None
    return enforced_bytes


def _high_water_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _as_record(model: MemoryModel, key: str) -> dict[str, Any]:
    batches, peaks = [each[0] for each in model.points], [each[1] for each in model.points]
    return {"key": key, "batches": batches, "peaks": peaks, "killed": model.killed}


def _with_points(model: MemoryModel, record: Mapping[str, Any], key: str) -> MemoryModel:
    if record.get("key") != key:
        return model
    for batch, peak_bytes in zip(record["batches"], record["peaks"], strict=True):
        model = model.learned(batch, peak_bytes)
    killed = int(record.get("killed", 0))
    return model.after_kill(killed) if killed else model
