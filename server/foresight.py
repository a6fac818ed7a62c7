"""The predictor in a running server: it learns from each outcome, and says of each order what it will take."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from motley.device import DeviceProfile, RoundOutcome, WorkOrder
from motley.history import History
from motley.knowledge import TaskFigures
from motley.predictor import Case, Cases, Estimates, Predictor, Tier
from motley.records import RunRecord

_MOST_ROWS = 3000
"""Of past outcomes; older runs are left out."""
_HALVINGS = 16

Profiles = Mapping[str, DeviceProfile]


class Foresight(Protocol):
    """What the strategy tells of outcomes, and asks of orders."""

    def foresee(self, orders: Sequence[WorkOrder], profiles: Profiles) -> Sequence[WorkOrder]:
        """The orders with what is expected of them; in smaller pieces where a device's memory would not do."""

    def learn(self, number: int, profile: DeviceProfile, outcome: RoundOutcome) -> None:
        """An order of round `number` has come to this."""


class Foreseeing:
    """Asks the predictor, for the task of a run."""

    def __init__(self, predictor: Predictor, task: TaskFigures) -> None:
        self._predictor, self._task = predictor, task

    def learn(self, number: int, profile: DeviceProfile, outcome: RoundOutcome) -> None:
        self._predictor.learn(number, profile, outcome, self._task)

    def foresee(self, orders: Sequence[WorkOrder], profiles: Profiles) -> Sequence[WorkOrder]:
        """What stands in an order stays where nothing was learned that knows better."""
        said = self._ask(orders, profiles)
        seconds, memory = said["seconds"], said["memory_bytes"]
        if memory.tier is not Tier.HEURISTIC:
            orders = [
                self._in_pieces(order, profiles[order.device], need)
                for order, need in zip(orders, memory.value, strict=True)
            ]
        if seconds.tier is Tier.HEURISTIC:
            return orders
        rows = zip(orders, seconds.value.tolist(), seconds.low.tolist(), seconds.high.tolist(), strict=True)
        return [
            replace(order, expected_s=value, expected_low_s=low, expected_high_s=high, expected_by=seconds.tier.value)
            for order, value, low, high in rows
        ]

    def _in_pieces(self, order: WorkOrder, profile: DeviceProfile, need_bytes: float) -> WorkOrder:
        """The largest piece, by halves, that the device's memory is expected to hold; it may find a smaller one.

        A device that fits its batch by itself knows its memory better.
        """
        if order.fit or need_bytes <= profile.memory_bytes:
            return order
        piece = min(order.batch_size, order.physical_batch or order.batch_size)
        sizes = [max(1, piece >> shift) for shift in range(1, _HALVINGS)]
        tried = [replace(order, physical_batch=size) for size in sizes]
        needs = self._ask(tried, {order.device: profile})["memory_bytes"].value
        fits = (each for each, need in zip(tried, needs, strict=True) if need <= profile.memory_bytes)
        return next(fits, tried[-1])

    def _ask(self, orders: Sequence[WorkOrder], profiles: Profiles) -> Mapping[str, Estimates]:
        status = self._predictor.status
        cases = [Case.of(profiles[each.device], each, self._task, status(each.device)) for each in orders]
        return self._predictor.predict_many(Cases.of(cases))


def learn_history(predictor: Predictor, history: History, task: str, figures: TaskFigures) -> int:
    """Let a predictor learn the newest runs of a task, one that goes on too; returns how many orders they tell of."""
    records, rows = list[RunRecord](), 0
    for run in history.runs():
        if rows >= _MOST_ROWS:
            break
        if json.loads(run.spec).get("training", {}).get("task") == task:
            records.append(history.record(run.run_id))
            rows += len(records[-1].outcomes)
    for record in reversed(records):
        predictor.learn_record(record, figures)
    return rows
