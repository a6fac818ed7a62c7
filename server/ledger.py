"""What became of every order: learned from, stored and said, whether a reply came or not."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any

from flwr.app import Message, MetricRecord

from motley.device import DeviceProfile, Outcome, RoundOutcome
from motley.knowledge import Knowledge
from server.mailbox import Sent
from server.pacing import Pacing
from server.replies import missing, read_update
from server.roster import Roster
from server.rounds import Arrival, Round, Run


class Ledger:
    """Keeps the books of the round that was opened last.

    uses_stale: whether an update counts that comes too late for its order.
    """

    def __init__(self, run: Run, knowledge: Knowledge, roster: Roster, pacing: Pacing, uses_stale: bool) -> None:
        self._run = run
        self._knowledge = knowledge
        self._roster = roster
        self._pacing = pacing
        self._uses_stale = uses_stale
        self._overdue: set[tuple[int, str, int]] = set()
        self._early: list[Arrival] = []
        self._round: Round | None = None

    @property
    def round(self) -> Round:
        """The round under way. Raises RuntimeError before the first."""
        if self._round is None:
            raise RuntimeError("no round was opened")
        return self._round

    def open(self, current: Round) -> None:
        """From here on, what comes in belongs to this round, and so does what came after the last was closed."""
        current.arrivals, self._early = self._early, []
        self._round = current

    def take(self, sent: Sent, reply: Message) -> None:
        """Read an update: keep it for this round, or note why it can't be used."""
        now_s, current = self._run.clock.now_s(), self.round
        like = current.model.arrays_of(sent.order.width if sent.order else 1.0)
        outcome, delta = read_update(sent, reply, self._roster.profiles[sent.device], like, now_s)
        self._overdue.discard(sent.key)
        is_late = self._pacing.is_late(sent, current, now_s)
        if delta is not None and is_late:
            outcome = replace(outcome, outcome=Outcome.LATE, reason=_how_late(now_s - sent.due_s))
        self._knowledge.learn(outcome)
        self._run.resources.settle(sent.device, outcome)
        if self._run.foresight is not None:
            self._run.foresight.learn(sent.round, self._roster.profiles[sent.device], outcome)
        self._learn_battery(sent.device, reply)
        if delta is not None and (self._uses_stale or not is_late):
            (self._early if current.closed else current.arrivals).append(Arrival(sent, outcome, delta))
        else:
            self._settle(sent.round, outcome)

    def at_work(self, under_way: Iterable[Sent]) -> list[Sent]:
        """Orders that are not overdue."""
        return [sent for sent in under_way if sent.key not in self._overdue]

    def note_overdue(self, under_way: Iterable[Sent]) -> None:
        """Note the orders whose time is up, once each; their replies may still come."""
        now_s = self._run.clock.now_s()
        for sent in under_way:
            if sent.due_s <= now_s and sent.key not in self._overdue:
                self._overdue.add(sent.key)
                self._note_late(sent)

    def note_missing(self, under_way: Collection[Sent]) -> None:
        """Every order of this round has an outcome when the round ends, if only that none is known."""
        current, answered = self.round, self.round.answered()
        pending = {sent.key: sent for sent in under_way}
        for order in (order for plan in current.plans for order in plan.orders):
            if (order.device, 0) in answered:
                continue
            sent = pending.get((current.number, order.device, 0))
            if sent is not None:
                self._note_late(sent)
            else:
                lost = Sent(0, "train", current.number, current.started_s, order.device, order)
                self._settle(current.number, self._missing(lost, Outcome.UNREACHABLE, "the order could not be sent"))

    def note_unfinished(self, under_way: Iterable[Sent]) -> None:
        """The run has ended: what is still at work will not be used."""
        for sent in self.at_work(under_way) if self._pacing.refills else ():
            self._settle(sent.round, self._missing(sent, Outcome.LATE, "the run ended before its reply"))

    def note_gone(self, owed: Iterable[Sent], profile: DeviceProfile) -> None:
        """A device came back as another node: what it owed under the former one will not come."""
        for sent in owed:
            if sent.kind == "train":
                why = "its container was made anew"
                outcome = missing(sent, profile, self._run.clock.now_s(), Outcome.UNREACHABLE, why)
                self._run.resources.settle(sent.device, outcome)
                self._settle(sent.round, outcome)

    def state(self) -> dict[str, Any]:
        """What outlasts a round, as plain data and arrays; `restore` takes it."""
        early = [
            {"sent": asdict(each.sent), "outcome": asdict(each.outcome), "delta": each.delta} for each in self._early
        ]
        return {"overdue": sorted(self._overdue), "early": early}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._overdue = {(number, device, attempt) for number, device, attempt in state["overdue"]}
        self._early = [
            Arrival(Sent.from_mapping(each["sent"]), _outcome(each["outcome"]), each["delta"])
            for each in state["early"]
        ]

    def _learn_battery(self, device: str, reply: Message) -> None:
        report = None if reply.has_error() else reply.content.get("report")
        if not isinstance(report, MetricRecord):
            return
        level = report.get("battery_level", -1.0)
        if isinstance(level, float) and 0 <= level <= 1:
            self._knowledge.set_battery(device, level, bool(report.get("charging", 0)))

    def _note_late(self, sent: Sent) -> None:
        why = f"no reply within {self._run.clock.now_s() - sent.sent_s:.1f} s"
        self._settle(sent.round, self._missing(sent, Outcome.LATE, why))

    def _missing(self, sent: Sent, outcome: Outcome, why: str) -> RoundOutcome:
        return missing(sent, self._roster.profiles[sent.device], self._run.clock.now_s(), outcome, why)

    def _settle(self, number: int, outcome: RoundOutcome) -> None:
        """Note an outcome that brings no update."""
        self.round.settled.append((number, outcome))
        self._run.history.put_outcome(self._run.run_id, number, outcome)
        of_round = "" if number == self.round.number else f", round {number}"
        self._run.say(f"  {outcome.device}{of_round}: {outcome.outcome.value}, {outcome.reason}")


def _how_late(over_s: float) -> str:
    return f"arrived {over_s:.1f} s after the deadline" if over_s > 0 else "arrived after its round had ended"


def _outcome(values: Mapping[str, Any]) -> RoundOutcome:
    return RoundOutcome(**{**values, "outcome": Outcome(values["outcome"])})
