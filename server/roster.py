"""Which device is which Flower node, what it says of itself, and who can be asked now."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from motley.clock import Clock
from motley.device import DeviceProfile
from motley.knowledge import Knowledge
from motley.selection.base import Bools
from server.mailbox import Mailbox, Sent

QUERY_TTL_S = 600.0
BETWEEN_PROFILES_S = 30.0
"""A device that is to charge or to cool is not asked more often: an answer takes charge and heats, too."""


class Roster:
    """Devices by name. A device whose container is made anew comes back as another Flower node."""

    def __init__(self, grid: Grid, mailbox: Mailbox, clock: Clock) -> None:
        self._grid = grid
        self._mailbox = mailbox
        self._clock = clock
        self._asked_s: dict[int, float] = {}
        self._silent: set[int] = set()
        self._to_measure: set[int] = set()
        self._nodes: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._rows: dict[int, int] = {}
        self._connected: Bools | None = None
        self.profiles: dict[str, DeviceProfile] = {}
        self.online: set[int] = set()

    def look(self) -> None:
        """See who is connected, and ask those who are new for their profile."""
        self.online = set(self._grid.get_node_ids())
        self._connected = None
        new = sorted(self.online - self._asked_s.keys())
        now_s = self._clock.now_s()
        self._asked_s |= dict.fromkeys(new, now_s)
        if new:
            self._mailbox.send((self._query(node_id), Sent(node_id, "query", 0, now_s)) for node_id in new)
        self._silent = {sent.node_id for sent in self._mailbox.pending("query")} & self.online

    def take(self, node_id: int, profile: DeviceProfile, row: int) -> list[Sent]:
        """Take in a device that has this row among what is known; returns what it owed under its former node."""
        former = self._nodes.get(profile.device)
        owed = self._mailbox.forget(former) if former is not None and former != node_id else []
        if former is not None:
            self._rows.pop(former, None)
        self._silent.discard(node_id)
        self._connected = None
        self._nodes[profile.device] = node_id
        self._names[node_id] = profile.device
        self._rows[node_id] = row
        self.profiles[profile.device] = profile
        return owed

    def ask_again(self, node_id: int) -> None:
        """Ask a node for its profile once more at the next look."""
        self._asked_s.pop(node_id, None)
        self._silent.discard(node_id)

    def ask_anew(self, device: str) -> None:
        """Ask a device for its profile at the next look, with its speed measured anew. At most each half a minute."""
        node_id = self._nodes[device]
        if self._asked_s.get(node_id, -math.inf) <= self._clock.now_s() - BETWEEN_PROFILES_S:
            self._to_measure.add(node_id)
            self.ask_again(node_id)

    def present(self) -> list[str]:
        """The devices that were connected at the last look."""
        return [device for device, node_id in self._nodes.items() if node_id in self.online]

    def ask_idle_again(self, knowledge: Knowledge) -> None:
        """Ask whoever is free for its profile once more: batteries charge unseen."""
        self._ask_rows_again(self.idle(knowledge))

    def ask_resting_again(self, knowledge: Knowledge) -> None:
        """The same of those who were too hot, or without charge."""
        self._ask_rows_again(knowledge.column("resting"))

    def node_of(self, device: str) -> int:
        return self._nodes[device]

    def device_of(self, node_id: int) -> str:
        return self._names[node_id]

    def unavailable(self, knowledge: Knowledge) -> dict[str, list[str]]:
        """The devices that can't be asked now, by reason."""
        away = np.flatnonzero(~self.connected(knowledge)).tolist()
        gone = {"not connected": [knowledge.names[row] for row in away]} if away else {}
        busy: dict[str, list[str]] = {}
        for sent in self._mailbox.pending("train"):
            busy.setdefault(f"at work on round {sent.round}", []).append(sent.device)
        at_work = {device for each in busy.values() for device in each}
        resting = [device for device in knowledge.resting() if self._is_online(device) and device not in at_work]
        return {**gone, **busy, **({"too hot, or without charge": resting} if resting else {})}

    def idle(self, knowledge: Knowledge) -> Bools:
        """Which rows are connected, not at work, and fit to work."""
        idle: Bools = self.connected(knowledge) & ~knowledge.column("resting")
        idle[[knowledge.row(sent.device) for sent in self._mailbox.pending("train")]] = False
        return idle

    def connected(self, knowledge: Knowledge) -> Bools:
        """Which rows were connected at the last look; not to be changed."""
        if self._connected is None or len(self._connected) != len(knowledge):
            self._connected = np.zeros(len(knowledge), bool)
            self._connected[[row for node_id, row in self._rows.items() if node_id in self.online]] = True
        return self._connected

    def unanswered(self) -> int:
        """How many connected nodes have not given their profile yet."""
        return len(self._silent)

    def state(self) -> dict[str, Any]:
        """Who is who, as plain data; profiles are in history. `restore` takes it."""
        return {
            "asked_s": [[node, at_s] for node, at_s in self._asked_s.items()],
            "devices": [[name, node, self._rows[node]] for name, node in self._nodes.items()],
            "former": [[node, name] for node, name in self._names.items() if self._nodes[name] != node],
            "online": sorted(self.online),
        }

    def restore(self, state: Mapping[str, Any], profiles: Iterable[DeviceProfile]) -> None:
        known = {profile.device: profile for profile in profiles}
        self._names = dict(state["former"])
        for name, node, row in state["devices"]:
            self.take(node, known[name], row)
        self._asked_s, self.online = dict(state["asked_s"]), set(state["online"])

    def _ask_rows_again(self, which: Bools) -> None:
        if not which.any():
            return
        before_s = self._clock.now_s() - BETWEEN_PROFILES_S
        for node_id, row in self._rows.items():
            if which[row] and self._asked_s.get(node_id, before_s) <= before_s:
                self.ask_again(node_id)

    def _is_online(self, device: str) -> bool:
        return self._nodes[device] in self.online

    def _query(self, node_id: int) -> Message:
        ask = ConfigRecord({"measure": node_id in self._to_measure})
        self._to_measure.discard(node_id)
        return Message(RecordDict({"ask": ask}), node_id, "query", ttl=QUERY_TTL_S)
