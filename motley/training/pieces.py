"""How the steps of a job are cut into pieces that fit into memory, and what is asked between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from motley.governor.base import Adjustment
from motley.training.jobs import Job

ASK_AGAIN_S = 0.5
"""While an adjustment says to wait, unless it names a pause."""


class Pieces:
    """Cuts each step's indices, and obeys `control` and `measured` between the pieces; see `loop.train`."""

    def __init__(
        self,
        job: Job,
        should_stop: Callable[[], bool],
        control: Callable[[], Adjustment] | None,
        measured: Callable[[int], int] | None,
        sleep: Callable[[float], None],
    ) -> None:
        self._should_stop, self._control, self._measured, self._sleep = should_stop, control, measured, sleep
        self._fitting = job.physical_batch or job.batch_size
        self._allowed = job.batch_size
        self._stopped = False
        self.largest = 0
        """Examples of the largest piece so far."""

    def stopped_before(self, steps: int) -> bool:
        """Whether to end with what is done; asks `control` where steps have been done."""
        if steps:
            self._obey()
        return self._stopped

    def of(self, indices: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        """The indices of one step, piece by piece."""
        done = 0
        while done < len(indices):
            if done:
                self._obey()
            piece = indices[done : done + max(1, min(self._fitting, self._allowed))]
            yield piece
            done += len(piece)
            self.largest = max(self.largest, len(piece))
            if self._measured is not None:
                self._fitting = self._measured(len(piece))

    def _obey(self) -> None:
        """Do what `control` says now. A wait lasts until it says otherwise or the deadline has come."""
        if self._control is None:
            return
        told = self._control()
        while told.wait and not told.stop and not self._should_stop():
            self._sleep(told.pause_s or ASK_AGAIN_S)
            told = self._control()
        if told.batch_size is not None:
            self._allowed = told.batch_size
        if told.threads is not None:
            torch.set_num_threads(told.threads)
        self._stopped = self._stopped or told.stop or told.wait
        if told.pause_s > 0 and not self._stopped:
            self._sleep(told.pause_s)
