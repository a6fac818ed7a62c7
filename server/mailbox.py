"""Messages under way: sent with push, read with pull as they come, never waited for one by one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from flwr.app import Message
from flwr.serverapp import Grid

from motley.clock import Clock, ProportionalWait
from motley.device import WorkOrder

REPLY_WAIT = ProportionalWait(share=0.05, first_s=0.02, last_s=0.5)


@dataclass(frozen=True)
class Sent:
    """A message that has no reply yet."""

    node_id: int
    kind: str
    """query, train or evaluate."""
    round: int
    sent_s: float
    device: str = ""
    order: WorkOrder | None = None


class Mailbox:
    """All messages under way on one Grid."""

    def __init__(self, grid: Grid, clock: Clock) -> None:
        self._grid = grid
        self._clock = clock
        self._pending: dict[str, Sent] = {}
        self._sent_s = clock.now_s()

    def send(self, messages: Iterable[tuple[Message, Sent]]) -> None:
        """Push all messages at once. Arrays that they share travel to the SuperLink once."""
        batch = list(messages)
        ids = self._grid.push_messages([message for message, _ in batch])
        self._pending.update({id_: sent for id_, (_, sent) in zip(ids, batch, strict=True) if id_})
        self._sent_s = self._clock.now_s()

    def receive(self) -> list[tuple[Sent, Message]]:
        """The replies that are there now, each with what was sent."""
        if not self._pending:
            return []
        arrived = []
        for reply in self._grid.pull_messages(list(self._pending)):
            sent = self._pending.pop(reply.metadata.reply_to_message_id, None)
            if sent is not None:
                arrived.append((sent, reply))
        return arrived

    def rest(self, at_most_s: float) -> None:
        """Sleep between two looks: short at first, longer the longer nothing has been sent."""
        wait_s = REPLY_WAIT.next_s(self._clock.now_s() - self._sent_s)
        self._clock.sleep(max(0.0, min(wait_s, at_most_s)))

    def pending(self, kind: str) -> list[Sent]:
        return [sent for sent in self._pending.values() if sent.kind == kind]

    def forget(self, node_id: int) -> list[Sent]:
        """Give up on a node that has gone; returns what it still owed."""
        owed = {id_: sent for id_, sent in self._pending.items() if sent.node_id == node_id}
        for id_ in owed:
            del self._pending[id_]
        return list(owed.values())
