"""Who is asked, and with what: from the plan to the orders that are sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, Message

from motley.device import RoundPlan, WorkOrder
from motley.knowledge import Knowledge
from motley.messages import array_bytes
from motley.planning import Situation, plan_round
from motley.spec import ALL
from server.ledger import Ledger
from server.mailbox import Mailbox, Sent
from server.orders import message, order_content, order_seed
from server.pacing import Pacing
from server.roster import Roster
from server.rounds import Run


class Dispatch:
    """Plans for the round that the ledger has open, as often as its pace wants."""

    def __init__(
        self, run: Run, knowledge: Knowledge, roster: Roster, mailbox: Mailbox, ledger: Ledger, pacing: Pacing
    ) -> None:
        self._run = run
        self._training = run.fleet.training
        self._knowledge = knowledge
        self._roster = roster
        self._mailbox = mailbox
        self._ledger = ledger
        self._pacing = pacing
        self._policy_state: Mapping[str, Any] = {}
        self.last_round_s: float | None = None

    def is_due(self) -> bool:
        """Whether devices are to be asked now: at the start of a round, and when a place becomes free."""
        return not self._ledger.round.plans or self._vacancies() > 0

    def at_work(self) -> list[Sent]:
        """Orders under way that are not overdue."""
        return self._ledger.at_work(self._mailbox.pending("train"))

    def orders(self, config: ConfigRecord) -> list[Message]:
        """Plan for the devices that may be asked now; a message for each, in the order of the plan."""
        run, current, before_s = self._run, self._ledger.round, self._run.clock.now_s()
        plan = run.resources.admit(self._plan())
        self._policy_state = plan.state
        run.history.put_plan(run.run_id, replace(plan, left_out={}) if current.plans else plan)
        current.plans.append(plan)
        self._knowledge.select([self._knowledge.row(order.device) for order in plan.orders], current.number)
        current.plan_s += run.clock.now_s() - before_s
        return [self._message(order, config) for order in plan.orders]

    def send(self, messages: Sequence[Message]) -> None:
        """Send the messages of the latest plan."""
        current, now_s, batch = self._ledger.round, self._run.clock.now_s(), []
        for each, order in zip(messages, current.plans[-1].orders, strict=True):
            node, size = each.metadata.dst_node_id, array_bytes(each.content)
            attempt = current.attempt(order.device)
            batch.append((each, Sent(node, "train", current.number, now_s, order.device, order, attempt, size)))
        self._mailbox.send(batch)

    def state(self) -> dict[str, Any]:
        """What outlasts a round, as plain data; `restore` takes it."""
        return {"policy": self._policy_state, "last_round_s": self.last_round_s}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._policy_state, self.last_round_s = state["policy"], state["last_round_s"]

    def _plan(self) -> RoundPlan:
        """A plan; only the first of a round says who was away or busy."""
        current, free, unavailable = self._ledger.round, self._roster.idle(self._knowledge), {}
        under_way, at_work = self.at_work(), np.zeros(len(self._knowledge), bool)
        at_work[[self._knowledge.row(each.device) for each in under_way]] = True
        if not current.plans:
            unavailable = self._roster.unavailable(self._knowledge)
        now = Situation(
            number=current.number,
            count=self._vacancies(),
            free=free,
            unavailable=unavailable,
            draw=len(current.plans),
            stale=len(under_way),
            last_round_s=self.last_round_s,
            state=self._policy_state,
            at_work=at_work,
        )
        foresight = self._run.foresight
        foresee = None if foresight is None else partial(foresight.foresee, profiles=self._roster.profiles)
        return plan_round(self._training, self._run.fleet.seed, self._knowledge, now, foresee)

    def _vacancies(self) -> int:
        """How many devices may be asked now."""
        wanted = self._training.devices_per_round
        return self._pacing.vacancies(len(self._knowledge) if wanted == ALL else wanted, len(self.at_work()))

    def _message(self, order: WorkOrder, config: ConfigRecord) -> Message:
        current, task = self._ledger.round, self._training.task
        attempt = current.attempts.get(order.device, 0)
        seed = order_seed(self._run.fleet.seed, current.number, order.device, attempt)
        content = order_content(order, task, seed, current.model.record_of(order.width), config)
        return message(content, self._roster.node_of(order.device), "train", current.number, order.deadline_s)
