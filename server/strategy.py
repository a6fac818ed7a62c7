"""The resource-aware strategy: plan, give each device its own share, read replies as they come, aggregate.

Rounds end when enough devices have answered, or at their deadline. With a buffered policy nobody waits:
a device that is done is followed by another at once, and each buffer of updates makes a round.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

from motley.aggregation import AGGREGATIONS, State, Terms
from motley.aggregation.adaptive import SERVED
from motley.clock import Clock
from motley.device import RoundOutcome
from motley.history import History
from motley.knowledge import Knowledge, TaskFigures
from motley.messages import to_arrays, to_record
from motley.records import RoundRow
from motley.report import round_line
from motley.spec import Fleet
from server.desk import Desk
from server.dispatch import Dispatch
from server.evaluation import DeviceEvaluation
from server.foresight import Foresight
from server.ledger import Ledger
from server.mailbox import Mailbox, Sent
from server.pacing import pacing_of
from server.resources import Resources, Unlimited
from server.roster import Roster
from server.rounds import Keeper, Model, Round, Run, Saved, Shapes

EvaluateFn = Callable[[int, ArrayRecord], MetricRecord | None]
Watch = Callable[[RoundRow, Sequence[RoundOutcome]], bool | None]


class ResourceAware(Strategy):
    """One run over a fleet of unequal devices.

    Choose it over Flower's own strategies when devices differ: a policy of `motley.policies` decides who
    takes part and how much each does, and a device that is late, killed or gone costs its own share of
    the round and nothing else.

    fleet: the fleet file; task: what planning must know of its task; shapes: of the model at a share of
    its channels; history: where everything is stored, under `run_id`; say: takes each line of progress;
    watch: is given each round that has ended, with the outcomes that it brought, and ends the run where it
    says True; saved: the state from which to go on; keeper: asked after each round whether there is another;
    resources: keeps the registry; without them nothing is kept, and every order admitted; foresight: the
    predictor; without it plans expect what the profiles and the last rounds tell.
    """

    def __init__(
        self,
        fleet: Fleet,
        task: TaskFigures,
        shapes: Shapes,
        history: History,
        run_id: str,
        clock: Clock,
        say: Callable[[str], None] = print,
        watch: Watch | None = None,
        saved: Saved | None = None,
        keeper: Keeper | None = None,
        resources: Resources | None = None,
        foresight: Foresight | None = None,
    ) -> None:
        self._run = Run(fleet, history, run_id, clock, say, resources or Unlimited(), foresight)
        self._training, self._policy = fleet.training, fleet.training.chosen
        self._options, self._pacing = fleet.training.policy_options, pacing_of(fleet.training, fleet.total_devices)
        self._shapes = shapes
        self._watch = watch
        self._saved, self._keeper = saved, keeper
        self._knowledge = Knowledge(task)
        self._memory: State = {}
        self._first_round, self._began_s = 1, 0.0

    def summary(self) -> None:
        """Say what will be done."""
        training = self._training
        wanted = training.devices_per_round or "all"
        self._run.say(
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
        """Run `num_rounds` rounds, or until `max_time`; return the final arrays with the metrics of each.

        timeout: patience in seconds for devices to join and to give their profiles; evaluate_fn: gives
        `loss` and `accuracy` of arrays on held-out data. Raises RunFailed when for so long no device
        answers, or none can be asked.
        """
        self.summary()
        self._arrays = initial_arrays
        self._open(grid, timeout)
        result = Result(arrays=self._served())
        for number in range(self._first_round, num_rounds + 1):
            if self._run.clock.now_s() >= self._ends_s:
                break
            self._open_round(number, timeout)
            replies = self._collect(grid, train_config or ConfigRecord(), timeout)
            new_arrays, metrics = self.aggregate_train(number, replies)
            self._arrays = new_arrays or self._arrays
            result.arrays = self._served()
            if metrics is not None:
                result.train_metrics_clientapp[number] = metrics
            self._evaluate(number, num_rounds, result, evaluate_fn, evaluate_config or ConfigRecord(), grid)
            enough = self._end_round(result.evaluate_metrics_serverapp.get(number), num_rounds)
            if self._keeper is not None and not self._keeper.goes_on(self.state):
                return result
            if enough:
                break
        if self._keeper is not None:
            self._keeper.finish()
        self._ledger.note_unfinished(self._mailbox.pending("train"))
        return result

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Plan for the devices that may be asked now; one message for each, whose `order` says what it is to do."""
        return self._dispatch.orders(config)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Make the next model of the sound updates that have arrived; note what became of every order.

        The replies themselves were read as they came.
        """
        current, before_s = self._round, self._run.clock.now_s()
        self._phase("aggregate")
        if not self._pacing.refills:
            self._ledger.note_missing(self._mailbox.pending("train"))
        record = self._aggregate() if current.arrivals else None
        current.closed = True
        current.aggregate_s = self._run.clock.now_s() - before_s
        loss = current.train_loss()
        return record, MetricRecord({"train_loss": loss[0], "num-examples": loss[1]}) if loss else None

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """One message for each device that can be asked now."""
        return self._evaluation.messages(server_round, arrays, self._round.deadline_s, config)

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Loss and accuracy over all examples of the devices that answered."""
        return self._evaluation.result(replies)

    def state(self) -> Saved:
        """All that the rounds to come depend on: plain data and arrays. For the end of a round."""
        return {
            "round": self._round.number,
            "began_s": self._began_s,
            "arrays": to_arrays(self._arrays),
            "memory": self._memory,
            "dispatch": self._dispatch.state(),
            "knowledge": self._knowledge.state(),
            "mailbox": self._mailbox.state(),
            "roster": self._roster.state(),
            "ledger": self._ledger.state(),
        }

    @property
    def _round(self) -> Round:
        return self._ledger.round

    def _open(self, grid: Grid, timeout_s: float) -> None:
        """Meet the devices, or those of the state from which to go on."""
        run = self._run
        self._mailbox = Mailbox(grid, run.clock)
        self._roster = Roster(grid, self._mailbox, run.clock)
        self._ledger = Ledger(run, self._knowledge, self._roster, self._pacing, self._policy.uses_stale)
        self._dispatch = Dispatch(run, self._knowledge, self._roster, self._mailbox, self._ledger, self._pacing)
        self._desk = Desk(run, self._mailbox, self._roster, self._knowledge, self._ledger)
        self._evaluation = DeviceEvaluation(
            run, self._knowledge, self._roster, self._mailbox, self._desk, self._on_time
        )
        if self._saved is None:
            self._phase("join")
            self._desk.await_profiles(timeout_s)
            self._began_s = run.clock.now_s()
        else:
            self._restore(self._saved)
        self._ends_s = self._began_s + (self._training.max_time or math.inf)

    def _restore(self, saved: Saved) -> None:
        self._first_round, self._began_s = saved["round"] + 1, saved["began_s"]
        self._arrays, self._memory = to_record(saved["arrays"]), saved["memory"]
        self._knowledge.restore(saved["knowledge"])
        ended = Round(saved["round"], self._run.clock.now_s(), Model(self._arrays, self._shapes), closed=True)
        self._ledger.open(ended)
        self._mailbox.restore(saved["mailbox"])
        self._roster.restore(saved["roster"], self._run.history.profiles(self._run.run_id))
        self._ledger.restore(saved["ledger"])
        self._dispatch.restore(saved["dispatch"])
        self._run.say(f"going on after round {saved['round']}")

    def _open_round(self, number: int, timeout_s: float) -> None:
        self._desk.await_device(timeout_s, lambda: self._pacing.refills and bool(self._dispatch.at_work()))
        self._phase("train")
        self._ledger.open(Round(number, self._run.clock.now_s(), Model(self._arrays, self._shapes)))

    def _collect(self, grid: Grid, config: ConfigRecord, timeout_s: float) -> list[Message]:
        """Ask devices and read replies until the round has what it needs, or its time is up."""
        current, clock, replies = self._round, self._run.clock, list[Message]()
        self._desk.await_turn(timeout_s, lambda: self._begins(grid, config))
        while not self._is_over():
            self._mailbox.rest(self._next_due_s() - clock.now_s())
            replies += self._desk.receive("train")
            if not self._pacing.is_full(current) and clock.now_s() < self._ends_s:
                self._roster.look()
                self._ask(grid, config)
        current.train_s = clock.now_s() - current.started_s - current.plan_s
        return replies

    def _begins(self, grid: Grid, config: ConfigRecord) -> bool:
        """Start the round, anew where nobody was taken before; whether it has something or no time to wait for."""
        current, now_s = self._round, self._run.clock.now_s()
        current.start(now_s)
        self._run.history.start_round(self._run.run_id, current.number, now_s, 0.0)
        self._ask(grid, config)
        is_fed = self._pacing.refills and bool(self._dispatch.at_work())
        return current.asked > 0 or is_fed or now_s >= self._ends_s

    def _ask(self, grid: Grid, config: ConfigRecord) -> None:
        """Send orders to those whom the plan takes."""
        if self._dispatch.is_due():
            current = self._round
            self._dispatch.send(list(self.configure_train(current.number, current.model.record, config, grid)))

    def _is_over(self) -> bool:
        now_s = self._run.clock.now_s()
        return now_s >= self._ends_s or self._pacing.is_over(self._round, self._mailbox.pending("train"), now_s)

    def _next_due_s(self) -> float:
        """The next time at which something is due whether or not a reply comes."""
        under_way = self._mailbox.pending("train")
        if self._pacing.refills:
            self._ledger.note_overdue(under_way)
        return min([self._ends_s, *self._pacing.dues_s(self._round, self._ledger.at_work(under_way))])

    def _on_time(self) -> list[Sent]:
        """Orders whose replies will come; in rounds whoever is still at work is late already."""
        return self._dispatch.at_work() if self._pacing.refills else []

    def _aggregate(self) -> ArrayRecord:
        current, knowledge = self._round, self._knowledge
        examples = knowledge.column("examples")
        total = float(examples.sum()) or 1.0
        updates = []
        for each in current.arrivals:
            own = float(examples[knowledge.row(each.sent.device)])
            updates.append(each.as_update(current.number, own / total))
        terms = Terms(self._options, knowledge.task.momentum, self._memory)
        model, self._memory = AGGREGATIONS[self._policy.aggregation](current.model.arrays, updates, terms)
        return to_record(model)

    def _served(self) -> ArrayRecord:
        """The model that is judged and given out, where the aggregation has another than the one it trains."""
        return to_record(self._memory[SERVED]) if SERVED in self._memory else self._arrays

    def _evaluate(
        self,
        number: int,
        num_rounds: int,
        result: Result,
        evaluate_fn: EvaluateFn | None,
        config: ConfigRecord,
        grid: Grid,
    ) -> None:
        """Judge the model here, and on the devices in the rounds in which the fleet file wants that."""
        self._phase("evaluate")
        if evaluate_fn is not None and (judged := evaluate_fn(number, result.arrays)) is not None:
            result.evaluate_metrics_serverapp[number] = judged
        when = self._training.device_evaluation
        is_last = number == num_rounds or self._run.clock.now_s() >= self._ends_s
        if when == "every" or (when == "last" and is_last):
            messages = list(self.configure_evaluate(number, result.arrays, config, grid))
            answers = self._evaluation.answers(number, messages, self._round.deadline_s)
            on_devices = self.aggregate_evaluate(number, answers)
            if on_devices is not None:
                result.evaluate_metrics_clientapp[number] = on_devices

    def _end_round(self, judged: MetricRecord | None, num_rounds: int) -> bool:
        """Store the round; whether whoever watches has seen enough."""
        current = self._round
        duration_s = self._dispatch.last_round_s = self._run.clock.now_s() - current.started_s
        row = current.as_row(self._run.run_id, duration_s, judged)
        self._run.history.end_round(row, [each.as_used(current.number) for each in current.arrivals])
        outcomes = current.outcomes()
        self._run.say(round_line(row, outcomes, num_rounds))
        return bool(self._watch is not None and self._watch(row, outcomes))

    def _phase(self, phase: str) -> None:
        self._run.history.set_phase(self._run.run_id, phase)
