"""A run and its round under way: who was asked, what came back, and what the model was."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

from flwr.app import ArrayRecord, MetricRecord

from motley.aggregation import Update
from motley.clock import Clock
from motley.device import RoundOutcome, RoundPlan
from motley.history import History
from motley.messages import to_arrays, to_record
from motley.records import RoundRow
from motley.spec import Fleet
from motley.widths import narrow
from server.foresight import Foresight
from server.mailbox import Sent
from server.replies import Arrays
from server.resources import Resources, Unlimited

Shapes = Callable[[float], Mapping[str, tuple[int, ...]]]
Saved = Mapping[str, Any]
"""The state of a strategy between two rounds: plain data and arrays."""


@dataclass(frozen=True)
class Run:
    """What all parts of a run share."""

    fleet: Fleet
    history: History
    run_id: str
    """Under which history keeps it."""
    clock: Clock
    say: Callable[[str], None]
    """Takes each line of progress."""
    resources: Resources = field(default_factory=Unlimited)
    """Who is told of devices and their work, and may refuse an order."""
    foresight: Foresight | None = None
    """What says how long orders will take; None leaves that to what the profiles and the last rounds tell."""


class Keeper(Protocol):
    """Keeps the state of a run, so that it can be resumed."""

    def goes_on(self, state: Callable[[], Saved]) -> bool:
        """Whether another round may begin; `state` gives the run's at the end of this one."""

    def finish(self) -> None:
        """No round will follow."""


@dataclass(frozen=True)
class Arrival:
    """A sound update, with the order that it answers."""

    sent: Sent
    outcome: RoundOutcome
    delta: Arrays

    def as_update(self, version: int, share: float) -> Update:
        """What aggregation sees; `version` is the round that uses it, `share` the device's part of all examples."""
        return Update(
            delta=self.delta,
            examples=self.outcome.examples,
            steps=self.outcome.steps,
            staleness=version - self.sent.round,
            share=share,
            width=self.sent.order.width if self.sent.order else 1.0,
        )

    def as_used(self, version: int) -> tuple[int, RoundOutcome]:
        """Its outcome, with the round to which that belongs."""
        return self.sent.round, replace(self.outcome, used=True, staleness=version - self.sent.round)


class Model:
    """One version of the model, as arrays and as it travels, at any width."""

    def __init__(self, record: ArrayRecord, shapes: Shapes) -> None:
        self.record = record
        self._shapes = shapes
        self._arrays: dict[float, Arrays] = {}
        self._records = {1.0: record}

    @cached_property
    def arrays(self) -> Arrays:
        return to_arrays(self.record)

    def arrays_of(self, width: float) -> Arrays:
        """The leading entries that a model of this width has."""
        if width == 1:
            return self.arrays
        if width not in self._arrays:
            self._arrays[width] = dict(narrow(self.arrays, self._shapes(width)))
        return self._arrays[width]

    def record_of(self, width: float) -> ArrayRecord:
        if width not in self._records:
            self._records[width] = to_record(self.arrays_of(width))
        return self._records[width]


@dataclass
class Round:
    """One round: from one version of the model to the next."""

    number: int
    started_s: float
    model: Model
    plans: list[RoundPlan] = field(default_factory=list)
    arrivals: list[Arrival] = field(default_factory=list)
    settled: list[tuple[int, RoundOutcome]] = field(default_factory=list)
    """Outcomes without an update to use, each with the round to which it belongs."""
    attempts: dict[str, int] = field(default_factory=dict)
    closed: bool = False
    """Its model is made: what comes now is for the next round."""
    plan_s: float = 0.0
    train_s: float = 0.0
    aggregate_s: float = 0.0

    def start(self, now_s: float) -> None:
        """Nobody has been asked so far."""
        self.plans.clear()
        self.started_s = now_s

    @property
    def asked(self) -> int:
        return sum(len(plan.orders) for plan in self.plans)

    @property
    def deadline_s(self) -> float:
        return self.plans[-1].deadline_s if self.plans else 0.0

    @property
    def quorum(self) -> int:
        return self.plans[0].quorum if self.plans else 0

    def attempt(self, device: str) -> int:
        """How many orders the device had in this round so far; counts one more from now on."""
        so_far = self.attempts.get(device, 0)
        self.attempts[device] = so_far + 1
        return so_far

    def sound(self) -> int:
        """Updates of this round's own orders."""
        return sum(each.sent.round == self.number for each in self.arrivals)

    def answered(self) -> set[tuple[str, int]]:
        """Orders of this round that have an answer: device and attempt."""
        settled = {(each.device, each.attempt) for number, each in self.settled if number == self.number}
        arrived = {
            (each.outcome.device, each.outcome.attempt) for each in self.arrivals if each.sent.round == self.number
        }
        return settled | arrived

    def outcomes(self) -> list[RoundOutcome]:
        """The outcomes that became known in this round."""
        return [each.as_used(self.number)[1] for each in self.arrivals] + [each for _, each in self.settled]

    def as_row(self, run_id: str, duration_s: float, judged: MetricRecord | None) -> RoundRow:
        """The round as history keeps it; `judged` has its `accuracy` and `loss`."""
        return RoundRow(
            run_id=run_id,
            round=self.number,
            selected=self.asked,
            deadline_s=self.deadline_s,
            started_s=self.started_s,
            duration_s=duration_s,
            plan_s=self.plan_s,
            train_s=self.train_s,
            aggregate_s=self.aggregate_s,
            evaluate_s=duration_s - self.plan_s - self.train_s - self.aggregate_s,
            accuracy=float(judged["accuracy"]) if judged else None,  # type: ignore[arg-type]
            loss=float(judged["loss"]) if judged else None,  # type: ignore[arg-type]
        )

    def train_loss(self) -> tuple[float, int] | None:
        """Mean loss over the examples processed, and their number."""
        known = [each.outcome for each in self.arrivals if each.outcome.train_loss is not None]
        examples = sum(each.examples for each in known)
        if not examples:
            return None
        return sum((each.train_loss or 0.0) * each.examples for each in known) / examples, examples
