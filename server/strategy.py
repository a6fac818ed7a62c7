"""The resource-aware strategy: plan a round, give each device its own share, read replies as they come."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

from motley.aggregation import weighted_average
from motley.clock import Clock
from motley.device import Outcome, RoundOutcome, RoundPlan, WorkOrder
from motley.errors import RunFailed
from motley.history import History
from motley.messages import to_arrays, to_record
from motley.planning import NO_HISTORY, DeviceHistory, plan_round
from motley.records import RoundRow
from motley.report import round_line
from motley.spec import Fleet
from server.mailbox import Mailbox, Sent
from server.replies import Arrays, failure, missing, read_evaluation, read_profile, read_update
from server.roster import Roster

EvaluateFn = Callable[[int, ArrayRecord], MetricRecord | None]
TTL_BEYOND_DEADLINE_S = 60.0
PROFILE_PATIENCE_S = 2.0


@dataclass
class _Round:
    """The round under way."""

    plan: RoundPlan
    started_s: float
    like: Arrays
    """The global model as arrays, before this round."""
    outcomes: list[RoundOutcome]
    plan_s: float = 0.0
    train_s: float = 0.0
    aggregate_s: float = 0.0


class ResourceAware(Strategy):
    """Rounds with a deadline and a quorum, in which each device gets work that fits it.

    Choose it over Flower's own strategies when devices differ: a policy of `motley.selection` decides
    who takes part, its limits how much each does, and a device that is late, killed or gone costs its
    own share of the round and nothing else.

    fleet: the fleet file; learning_rate: the task's own, right at a batch of 32; history: where
    everything is stored, under `run_id`; say: takes each line of progress.
    """

    def __init__(
        self,
        fleet: Fleet,
        learning_rate: float,
        history: History,
        run_id: str,
        clock: Clock,
        say: Callable[[str], None] = print,
    ) -> None:
        self._fleet, self._training = fleet, fleet.training
        self._learning_rate = learning_rate
        self._history = history
        self._run_id = run_id
        self._clock = clock
        self._say = say
        self._past: dict[str, DeviceHistory] = {}

    def summary(self) -> None:
        """Say what will be done."""
        training = self._training
        wanted = training.devices_per_round or "all"
        self._say(
            f"{training.rounds} rounds of '{training.task}', policy '{training.policy}', devices a round: {wanted}"
        )

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: EvaluateFn | None = None,
    ) -> Result:
        """Run `num_rounds` rounds and return the final arrays with the metrics of each.

        timeout: patience in seconds for devices to join and to give their profiles; evaluate_fn: gives
        `loss` and `accuracy` of arrays on held-out data. Raises RunFailed when for so long no device
        answers, or none can be asked.
        """
        self.summary()
        self._mailbox = Mailbox(grid, self._clock)
        self._roster = Roster(grid, self._mailbox, self._clock)
        train_config, evaluate_config = train_config or ConfigRecord(), evaluate_config or ConfigRecord()
        result, arrays = Result(arrays=initial_arrays), initial_arrays
        self._await_profiles(timeout)
        for number in range(1, num_rounds + 1):
            self._await_free_device(timeout)
            self._phase("train")
            orders = list(self.configure_train(number, arrays, train_config, grid))
            replies = self._exchange("train", orders, self._round.plan.deadline_s, self._round.plan.quorum)
            self._round.train_s = self._since_start() - self._round.plan_s
            self._phase("aggregate")
            new_arrays, metrics = self.aggregate_train(number, replies)
            arrays = result.arrays = new_arrays or arrays
            if metrics is not None:
                result.train_metrics_clientapp[number] = metrics
            self._phase("evaluate")
            if evaluate_fn is not None and (judged := evaluate_fn(number, arrays)) is not None:
                result.evaluate_metrics_serverapp[number] = judged
            if self._evaluates_on_devices(number, num_rounds):
                asked = list(self.configure_evaluate(number, arrays, evaluate_config, grid))
                answers = self._exchange("evaluate", asked, self._patience_s(), len(asked))
                if (on_devices := self.aggregate_evaluate(number, answers)) is not None:
                    result.evaluate_metrics_clientapp[number] = on_devices
            self._end_round(result.evaluate_metrics_serverapp.get(number), num_rounds)
        return result

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Plan the round; one message for each device, whose `order` says what it is to do."""
        started_s = self._clock.now_s()
        plan = plan_round(
            server_round,
            self._training,
            self._fleet.seed,
            self._learning_rate,
            self._roster.profiles,
            self._past,
            self._roster.unavailable(),
        )
        self._history.start_round(self._run_id, plan, started_s)
        self._round = _Round(plan, started_s, to_arrays(arrays), [])
        messages = [self._order_message(order, arrays, config) for order in plan.orders]
        for order in plan.orders:
            past = self._past.get(order.device, NO_HISTORY)
            self._past[order.device] = replace(past, selected=past.selected + 1)
        self._round.plan_s = self._since_start()
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Average what is sound, weighted by the examples really processed; note every outcome."""
        current, updates, now_s = self._round, [], self._clock.now_s()
        before_s = self._since_start()
        for reply in replies:
            if reply.has_error():
                continue
            sent, arrived_s = self._arrived[reply.metadata.reply_to_message_id]
            outcome, update = read_update(sent, reply, self._roster.profiles[sent.device], current.like, arrived_s)
            self._note(outcome)
            if update is not None:
                updates.append((update, float(outcome.examples)))
        answered = {outcome.device for outcome in current.outcomes}
        for order in current.plan.orders:
            if order.device not in answered:
                self._note_missing(order, now_s)
        averaged = to_record(weighted_average(updates, current.like)) if updates else None
        current.aggregate_s = self._since_start() - before_s
        losses = [(each.train_loss, each.examples) for each in current.outcomes if each.train_loss is not None]
        total = sum(examples for _, examples in losses)
        if not total:
            return averaged, None
        mean = sum(loss * examples for loss, examples in losses) / total
        return averaged, MetricRecord({"train_loss": mean, "num-examples": total})

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """One message for each device that can be asked now."""
        busy = self._roster.unavailable()
        order = ConfigRecord({**config, "task": self._training.task})
        content = RecordDict({"arrays": arrays, "order": order})
        return [
            self._message(content, device, "evaluate", server_round, self._patience_s())
            for device in sorted(self._roster.profiles)
            if device not in busy
        ]

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Loss and accuracy over all examples of the devices that answered."""
        answers = {
            self._arrived[each.metadata.reply_to_message_id][0].device: read_evaluation(each) for each in replies
        }
        sound = {device: answer for device, answer in answers.items() if answer is not None}
        if not sound:
            return None
        self._history.set_device_accuracy(self._run_id, {device: each.accuracy for device, each in sound.items()})
        total = sum(each.examples for each in sound.values())
        accuracy = sum(each.accuracy * each.examples for each in sound.values()) / total
        loss = sum(each.loss * each.examples for each in sound.values()) / total
        return MetricRecord({"accuracy": accuracy, "loss": loss})

    def _await_profiles(self, timeout_s: float) -> None:
        """Wait until a device is there and all that are have said what they are."""
        self._phase("join")
        self._look(timeout_s)
        until_s = self._clock.now_s() + timeout_s
        while not self._roster.profiles and self._clock.now_s() < until_s:
            self._clock.sleep(1.0)
            self._look(timeout_s)
        if not self._roster.profiles:
            raise RunFailed(f"no device answered within {timeout_s:g} s; see the devices' logs")
        silent = self._roster.unanswered()
        rest = f"; {silent} more have not answered yet" if silent else ""
        self._say(f"{len(self._roster.profiles)} devices are ready{rest}")

    def _await_free_device(self, timeout_s: float) -> None:
        """Wait until a device can be asked: a round without any would end before it has begun."""
        self._look(PROFILE_PATIENCE_S)
        until_s, said = self._clock.now_s() + timeout_s, False
        while not self._roster.profiles.keys() - self._roster.unavailable().keys():
            if self._clock.now_s() >= until_s:
                raise RunFailed(f"no device could be asked for {timeout_s:g} s; see the devices' logs")
            if not said:
                self._say("  every device is busy or away; waiting for one")
                said = True
            self._clock.sleep(1.0)
            self._look(PROFILE_PATIENCE_S)

    def _look(self, patience_s: float) -> None:
        """See who is there; give those who are new `patience_s` to say what they are."""
        self._roster.look()
        until_s = self._clock.now_s() + patience_s
        self._receive()
        while self._roster.unanswered() and (left_s := until_s - self._clock.now_s()) > 0:
            self._mailbox.rest(left_s)
            self._receive()

    def _exchange(self, kind: str, messages: Sequence[Message], patience_s: float, enough: int) -> list[Message]:
        """Send, and collect replies until all are in, `enough` are without error, or time is up."""
        now_s = self._clock.now_s()
        orders = {self._roster.node_of(order.device): order for order in self._round.plan.orders}
        self._arrived: dict[str, tuple[Sent, float]] = {}
        sent = [
            Sent(node, kind, self._round.plan.round, now_s, self._roster.device_of(node), orders.get(node))
            for node in (message.metadata.dst_node_id for message in messages)
        ]
        self._mailbox.send(zip(messages, sent, strict=True))
        replies: list[Message] = []
        while len(replies) < len(messages) and sum(not each.has_error() for each in replies) < enough:
            left_s = now_s + patience_s - self._clock.now_s()
            if left_s <= 0:
                break
            self._mailbox.rest(left_s)
            replies += self._receive(kind)
        return replies

    def _receive(self, kind: str = "") -> list[Message]:
        """Read what is there; return replies of this round and `kind`, deal with all others."""
        wanted = []
        for sent, reply in self._mailbox.receive():
            if sent.kind == "query":
                self._take_profile(sent, reply)
            elif sent.kind == kind and sent.round == self._round.plan.round:
                self._arrived[reply.metadata.reply_to_message_id] = sent, self._clock.now_s()
                wanted.append(reply)
                if kind == "train" and reply.has_error():
                    self._note(failure(sent, reply, self._roster.profiles[sent.device], self._clock.now_s()))
            elif sent.kind == "train":
                self._take_late(sent, reply)
        return wanted

    def _take_profile(self, sent: Sent, reply: Message) -> None:
        profile = read_profile(reply)
        if isinstance(profile, str):
            self._say(f"a device could not give its profile: {profile}")
            self._roster.ask_again(sent.node_id)
            return
        owed = self._roster.take(sent.node_id, profile)
        self._history.see_device(self._run_id, profile, self._clock.now_s())
        for each in owed:
            if each.kind == "train":
                gone = missing(each, profile, self._clock.now_s(), Outcome.UNREACHABLE, "its container was made anew")
                self._history.put_outcome(self._run_id, each.round, gone)

    def _take_late(self, sent: Sent, reply: Message) -> None:
        """A reply to an earlier round: what became of it replaces the bare 'late' in the history."""
        now_s = self._clock.now_s()
        outcome, update = read_update(sent, reply, self._roster.profiles[sent.device], self._round.like, now_s)
        if update is not None:
            over_s = now_s - sent.sent_s - (sent.order.deadline_s if sent.order else 0.0)
            outcome = replace(outcome, outcome=Outcome.LATE, reason=f"arrived {over_s:.1f} s after the deadline")
        self._learn(outcome)
        self._history.put_outcome(self._run_id, sent.round, outcome)
        self._say(f"  {outcome.device}, round {sent.round}: {outcome.outcome.value}, {outcome.reason}")

    def _note(self, outcome: RoundOutcome) -> None:
        self._round.outcomes.append(outcome)
        self._learn(outcome)
        if outcome.outcome is not Outcome.FINISHED:
            self._history.put_outcome(self._run_id, self._round.plan.round, outcome)
            self._say(f"  {outcome.device}: {outcome.outcome.value}, {outcome.reason}")

    def _note_missing(self, order: WorkOrder, now_s: float) -> None:
        owed = {sent.device: sent for sent in self._mailbox.pending("train")}.get(order.device)
        profile = self._roster.profiles[order.device]
        if owed is None:
            sent = Sent(0, "train", self._round.plan.round, self._round.started_s, order.device, order)
            self._note(missing(sent, profile, now_s, Outcome.UNREACHABLE, "the order could not be sent"))
        else:
            why = f"no reply within {now_s - owed.sent_s:.1f} s"
            self._note(missing(owed, profile, now_s, Outcome.LATE, why))

    def _learn(self, outcome: RoundOutcome) -> None:
        """Keep what the next plan needs to know of this device."""
        past = self._past.get(outcome.device, NO_HISTORY)
        if outcome.outcome is Outcome.OUT_OF_MEMORY:
            past = replace(past, batch_limit=max(1, outcome.batch_size // 2))
        if outcome.outcome in (Outcome.FINISHED, Outcome.LATE) and outcome.examples:
            past = replace(past, expected_s=past.after_round_trip(outcome.round_trip_s))
        self._past[outcome.device] = past

    def _end_round(self, judged: MetricRecord | None, num_rounds: int) -> None:
        current = self._round
        duration_s = self._since_start()
        row = RoundRow(
            run_id=self._run_id,
            round=current.plan.round,
            selected=len(current.plan.orders),
            deadline_s=current.plan.deadline_s,
            started_s=current.started_s,
            duration_s=duration_s,
            plan_s=current.plan_s,
            train_s=current.train_s,
            aggregate_s=current.aggregate_s,
            evaluate_s=duration_s - current.plan_s - current.train_s - current.aggregate_s,
            accuracy=float(judged["accuracy"]) if judged else None,  # type: ignore[arg-type]
            loss=float(judged["loss"]) if judged else None,  # type: ignore[arg-type]
        )
        self._history.end_round(row, current.outcomes)
        self._say(round_line(row, current.outcomes, num_rounds))

    def _order_message(self, order: WorkOrder, arrays: ArrayRecord, config: ConfigRecord) -> Message:
        number = self._round.plan.round
        what: dict[str, Any] = {
            "task": self._training.task,
            "batch_size": order.batch_size,
            "learning_rate": order.learning_rate,
            "local_epochs": order.local_epochs,
            "seed": zlib.crc32(f"{self._fleet.seed}/{number}/{order.device}".encode()),
        }
        content = RecordDict({"arrays": arrays, "order": ConfigRecord({**config, **what})})
        return self._message(content, order.device, "train", number, order.deadline_s)

    def _message(self, content: RecordDict, device: str, kind: str, number: int, patience_s: float) -> Message:
        return Message(
            content,
            self._roster.node_of(device),
            kind,
            ttl=patience_s + TTL_BEYOND_DEADLINE_S,
            group_id=str(number),
        )

    def _sent(self, reply: Message) -> Sent:
        return self._arrived[reply.metadata.reply_to_message_id][0]

    def _evaluates_on_devices(self, number: int, num_rounds: int) -> bool:
        when = self._training.device_evaluation
        return when == "every" or (when == "last" and number == num_rounds)

    def _patience_s(self) -> float:
        return self._round.plan.deadline_s

    def _phase(self, phase: str) -> None:
        self._history.set_phase(self._run_id, phase)

    def _since_start(self) -> float:
        return self._clock.now_s() - self._round.started_s
