"""How well the model serves the devices: each judges it on its own examples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from motley.knowledge import Knowledge
from server.desk import Desk
from server.mailbox import Mailbox, Sent
from server.orders import message
from server.replies import read_evaluation
from server.roster import Roster
from server.rounds import Run

AtWork = Callable[[], Sequence[Sent]]
"""Gives the orders whose replies are not overdue."""


class DeviceEvaluation:
    """Sends the model to all who are idle or soon done, and waits for their answers."""

    def __init__(
        self, run: Run, knowledge: Knowledge, roster: Roster, mailbox: Mailbox, desk: Desk, at_work: AtWork
    ) -> None:
        self._run = run
        self._knowledge = knowledge
        self._roster = roster
        self._mailbox = mailbox
        self._desk = desk
        self._at_work = at_work

    def messages(self, number: int, arrays: ArrayRecord, patience_s: float, config: ConfigRecord) -> list[Message]:
        """One message for each device that can be asked now, or that is at work and not late.

        Where every place is kept filled, hardly anybody is idle at the end.
        """
        asked, task = self._roster.idle(self._knowledge), self._run.fleet.training.task
        asked[[self._knowledge.row(each.device) for each in self._at_work()]] = True
        content = RecordDict({"arrays": arrays, "order": ConfigRecord({**config, "task": task})})
        return [
            message(content, self._roster.node_of(device), "evaluate", number, patience_s)
            for device in sorted(self._knowledge.names)
            if asked[self._knowledge.row(device)]
        ]

    def answers(self, number: int, messages: Sequence[Message], patience_s: float) -> list[Message]:
        """Send them, and wait until all have answered or the patience is at its end."""
        clock, answers = self._run.clock, list[Message]()
        now_s = clock.now_s()
        sent = [Sent(each.metadata.dst_node_id, "evaluate", number, now_s) for each in messages]
        self._mailbox.send(zip(messages, sent, strict=True))
        while len(answers) < len(messages) and (left_s := now_s + patience_s - clock.now_s()) > 0:
            self._mailbox.rest(left_s)
            answers += self._desk.receive("evaluate")
        return answers

    def result(self, replies: Iterable[Message]) -> MetricRecord | None:
        """Loss and accuracy over all examples of the devices that answered; each one's goes to history."""
        answers = {self._roster.device_of(each.metadata.src_node_id): read_evaluation(each) for each in replies}
        sound = {device: answer for device, answer in answers.items() if answer is not None}
        if not sound:
            return None
        accuracies = {device: each.accuracy for device, each in sound.items()}
        self._run.history.set_device_accuracy(self._run.run_id, accuracies)
        total = sum(each.examples for each in sound.values())
        accuracy = sum(each.accuracy * each.examples for each in sound.values()) / total
        loss = sum(each.loss * each.examples for each in sound.values()) / total
        return MetricRecord({"accuracy": accuracy, "loss": loss})
