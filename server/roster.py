"""Which device is which Flower node, what it says of itself, and who can be asked now."""

from __future__ import annotations

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from motley.clock import Clock
from motley.device import DeviceProfile
from server.mailbox import Mailbox, Sent

QUERY_TTL_S = 600.0


class Roster:
    """Devices by name. A device whose container is made anew comes back as another Flower node."""

    def __init__(self, grid: Grid, mailbox: Mailbox, clock: Clock) -> None:
        self._grid = grid
        self._mailbox = mailbox
        self._clock = clock
        self._asked: set[int] = set()
        self._nodes: dict[str, int] = {}
        self.profiles: dict[str, DeviceProfile] = {}
        self.online: set[int] = set()

    def look(self) -> None:
        """See who is connected, and ask those who are new for their profile."""
        self.online = set(self._grid.get_node_ids())
        new = sorted(self.online - self._asked)
        self._asked |= set(new)
        now_s = self._clock.now_s()
        self._mailbox.send((self._query(node_id), Sent(node_id, "query", 0, now_s)) for node_id in new)

    def take(self, node_id: int, profile: DeviceProfile) -> list[Sent]:
        """Take a device in; returns what it owed under its former node."""
        former = self._nodes.get(profile.device)
        owed = self._mailbox.forget(former) if former is not None and former != node_id else []
        self._nodes[profile.device] = node_id
        self.profiles[profile.device] = profile
        return owed

    def ask_again(self, node_id: int) -> None:
        """Ask a node for its profile once more at the next look."""
        self._asked.discard(node_id)

    def node_of(self, device: str) -> int:
        return self._nodes[device]

    def device_of(self, node_id: int) -> str:
        return next(device for device, node in self._nodes.items() if node == node_id)

    def unavailable(self) -> dict[str, str]:
        """Known devices that can't be asked now, and why."""
        busy = {sent.node_id: sent.round for sent in self._mailbox.pending("train")}
        reasons = {}
        for device, node_id in self._nodes.items():
            if node_id not in self.online:
                reasons[device] = "not connected"
            elif node_id in busy:
                reasons[device] = f"still at work on round {busy[node_id]}"
        return reasons

    def unanswered(self) -> int:
        """How many connected nodes have not given their profile yet."""
        return sum(sent.node_id in self.online for sent in self._mailbox.pending("query"))

    def _query(self, node_id: int) -> Message:
        return Message(RecordDict({"ask": ConfigRecord()}), node_id, "query", ttl=QUERY_TTL_S)
