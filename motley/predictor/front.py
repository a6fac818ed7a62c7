"""The predictor as the server uses it: answers at once, learns in the background."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from motley.clock import Clock, SystemClock
from motley.device import DeviceProfile, RoundOutcome, WorkOrder
from motley.knowledge import TaskFigures
from motley.predictor.cases import Case, Cases, Sample, Status, Trail
from motley.predictor.learner import Learner
from motley.predictor.model import Estimates, Model
from motley.predictor.scoring import Score, Tier
from motley.records import RunRecord

REFIT_ROWS = 10
"""New samples after which it learns anew."""
REFIT_S = 3600.0
"""Time after which it learns anew from fewer."""

_GROWTH = 0.25
"""Where many samples wait: the share of new ones after which it learns anew, so that it scores itself on the way."""
_REST = 19.0
"""The thread rests for as many times as long as it has learned, so that it takes a twentieth of a core at most."""


class Predictor:
    """Seconds, peak memory and energy of a piece of work on a device, each with a 90 % interval.

    Choose it wherever a figure of work to come is needed: deadlines, admission, the size of a machine. It
    keeps nothing: after a restart it is built anew from the rows of the history (`learn_record`).

    seed: of the forests; clock: for the refit by time; background: learn in a thread of its own while the
    last model answers. Without it, `learn` learns at once when that is due, which makes all answers
    a function of the calls: for tests and for virtual clocks. most_samples: the newest ones count.
    """

    def __init__(
        self, seed: int = 0, clock: Clock | None = None, background: bool = True, most_samples: int = 3000
    ) -> None:
        self._clock = clock or SystemClock()
        self._background = background
        self._learner = Learner(seed, most_samples)
        self._trail = Trail()
        self._pending: list[Sample] = []
        self._fitted_s = self._clock.now_s()
        self._rests_until_s = 0.0
        """By the process's own clock."""
        self._lock = threading.Lock()
        """Of what is pending."""
        self._learning = threading.Lock()
        """Of the learner."""
        self._worker: threading.Thread | None = None

    @property
    def model(self) -> Model:
        """The last one; never changed, but replaced."""
        return self._learner.model

    def predict(
        self, profile: DeviceProfile, order: WorkOrder, task: TaskFigures, status: Status | None = None
    ) -> dict[str, Estimates]:
        """For one order; see `predict_many`. Without a status, it is the one that past outcomes tell."""
        status = status or self.status(profile.device)
        return self.predict_many(Cases.of([Case.of(profile, order, task, status)]))

    def status(self, device: str) -> Status:
        """Its temperature after its last work, and its rest since, as far as outcomes tell."""
        return self._trail.status(device, self._clock.now_s())

    def predict_many(self, cases: Cases) -> dict[str, Estimates]:
        """By target: `seconds` from order to reply, `train_s` on the device, `memory_bytes` and `energy_wh`."""
        self._learn_if_due()
        return self.model.answer(cases)

    def learn(self, number: int, profile: DeviceProfile, outcome: RoundOutcome, task: TaskFigures) -> None:
        """Take in what became of an order of round `number`; outcomes must come in order of `known_s`."""
        with self._lock:
            sample = self._trail.sample(number, profile, outcome, task)
            if sample is not None:
                self._pending.append(sample)
        self._learn_if_due()

    def learn_record(self, record: RunRecord, task: TaskFigures) -> None:
        """Take in a past run; returns when all of it is learned."""
        profiles = {profile.device: profile for profile in record.profiles}
        outcomes = [each for each in record.outcomes if each[1].device in profiles]
        with self._lock:
            for number, outcome in sorted(outcomes, key=lambda each: each[1].known_s):
                sample = self._trail.sample(number, profiles[outcome.device], outcome, task)
                if sample is not None:
                    self._pending.append(sample)
        self.refit()

    def refit(self) -> None:
        """Learn now from all that was taken in; returns when that is done."""
        with self._learning:
            while block := self._next_block():
                self._learner.absorb(block)
            self._fitted_s = self._clock.now_s()

    def scores(self, target: str = "seconds") -> dict[Tier, Score | None]:
        """How each tier did on the newest samples that it had not learned from; None with too few."""
        with self._learning:
            return self._learner.score(target)

    def samples(self) -> Sequence[Sample]:
        """Those that the model was learned from."""
        with self._learning:
            return self._learner.samples

    def state(self) -> dict[str, Any]:
        """Everything learned, as plain data: for a run that is resumed to go on exactly as it would have."""
        with self._learning, self._lock:
            return {
                "learner": self._learner.state(),
                "trail": self._trail.state(),
                "pending": [[list(sample.case), *sample[1:]] for sample in self._pending],
                "fitted_s": self._fitted_s,
            }

    def restore(self, state: Mapping[str, Any]) -> None:
        with self._learning, self._lock:
            self._learner.restore(state["learner"])
            self._trail.restore(state["trail"])
            self._pending = [Sample(Case(*case), *rest) for case, *rest in state["pending"]]
            self._fitted_s = state["fitted_s"]

    def close(self) -> None:
        """Wait for the thread, if one is learning."""
        worker = self._worker
        if worker is not None:
            worker.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _learn_if_due(self) -> None:
        with self._lock:
            if not self._is_due():
                return
            if self._background:
                self._start_worker()
                return
        self.refit()

    def _start_worker(self) -> None:
        is_learning = self._worker is not None and self._worker.is_alive()
        if not is_learning and time.monotonic() >= self._rests_until_s:
            self._worker = threading.Thread(target=self._work, name="predictor", daemon=True)
            self._worker.start()

    def _work(self) -> None:
        before_s = time.monotonic()
        self.refit()
        self._rests_until_s = time.monotonic() + _REST * (time.monotonic() - before_s)

    def _is_due(self) -> bool:
        waiting = len(self._pending)
        return waiting >= REFIT_ROWS or (waiting > 0 and self._clock.now_s() - self._fitted_s >= REFIT_S)

    def _next_block(self) -> list[Sample]:
        """What to learn from next: few at a time while little is known, so that there are errors to learn from."""
        with self._lock:
            size = max(REFIT_ROWS, int(_GROWTH * len(self._learner)))
            block, self._pending = self._pending[:size], self._pending[size:]
            return block
