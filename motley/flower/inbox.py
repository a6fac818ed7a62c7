"""What the SuperLink knows by heart about the inboxes of nodes, so that idle polls cost no statement."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import Any

EMPTY_S = 1.0
"""How long an inbox counts as empty without another look; a new message ends it at once."""

HOLD_S = 5.0
"""How long a message waits for the objects that it needs, at most."""

POLL_S = 1.0
"""How long a device's poll waits for a message, at most; httpx would wait for 30 s."""

Now = Callable[[], float]


class Inboxes:
    """Which nodes have no message, and which have one whose objects are still on their way.

    This process alone writes messages. A node that got a message before its objects would ask for each
    of them again and again: with eight devices that was half of all requests.
    """

    def __init__(self, now_s: Now = time.monotonic) -> None:
        self._now_s = now_s
        self._lock = threading.Lock()
        self._version = 0
        self._empty_until: dict[int, float] = {}
        self._held: dict[int, tuple[float, set[str]]] = {}
        self._waiting: dict[int, tuple[asyncio.AbstractEventLoop, asyncio.Event]] = {}

    @property
    def version(self) -> int:
        """Changes with each new message."""
        return self._version

    def is_closed(self, node: int) -> bool:
        """Is there nothing that the node could be given now?"""
        with self._lock:
            until_s, missing = self._held.get(node, (0.0, set()))
            return self._empty_until.get(node, 0.0) > self._now_s() or (bool(missing) and until_s > self._now_s())

    async def opened(self, node: int) -> None:
        """Wait until the node may have a message, at most `POLL_S`."""
        waiter = asyncio.get_running_loop(), asyncio.Event()
        with self._lock:
            self._waiting[node] = waiter
        if self.is_closed(node):
            with suppress(TimeoutError):
                await asyncio.wait_for(waiter[1].wait(), POLL_S)
        with self._lock:
            if self._waiting.get(node) is waiter:
                del self._waiting[node]

    def found_empty(self, node: int, version: int) -> None:
        """The database had nothing for the node; `version` is from before it was asked."""
        with self._lock:
            if version == self._version:
                self._empty_until[node] = self._now_s() + EMPTY_S

    def stored(self, node: int, missing: list[str]) -> None:
        """A message for the node has been committed; these objects of it have yet to be uploaded."""
        with self._lock:
            self._version += 1
            self._empty_until.pop(node, None)
            _, before = self._held.get(node, (0.0, set()))
            self._hold(node, before | set(missing))

    def uploaded(self, object_id: str) -> None:
        """An object has been committed."""
        with self._lock:
            for node, (_, missing) in list(self._held.items()):
                if object_id in missing:
                    self._hold(node, missing - {object_id})

    def _hold(self, node: int, missing: set[str]) -> None:
        """Call with the lock held."""
        if missing:
            self._held[node] = self._now_s() + HOLD_S, missing
            return
        self._held.pop(node, None)
        if node in self._waiting:
            loop, event = self._waiting[node]
            with suppress(RuntimeError):  # the loop has been closed
                loop.call_soon_threadsafe(event.set)


class Replies:
    """Whether a run may have a reply that its ServerApp has not been given, by the replies stored since.

    Errors for nodes that have gone are found by asking, so each answer holds for `EMPTY_S` at most.
    """

    def __init__(self, now_s: Now = time.monotonic) -> None:
        self._now_s = now_s
        self._stored: Counter[int] = Counter()
        self._empty: dict[int, tuple[float, int, frozenset[str]]] = {}

    def stored(self, run: int) -> None:
        """A reply has been committed."""
        self._stored[run] += 1

    def count(self, run: int) -> int:
        """Changes with each reply."""
        return self._stored[run]

    def are_none(self, run: int, message_ids: set[str]) -> bool:
        until_s, count, asked = self._empty.get(run, (0.0, 0, frozenset()))
        return until_s > self._now_s() and count == self._stored[run] and message_ids <= asked

    def found_none(self, run: int, count: int, message_ids: set[str]) -> None:
        """The database had no reply to these; `count` is from before it was asked."""
        self._empty[run] = self._now_s() + EMPTY_S, count, frozenset(message_ids)


def asked_when_replied(replies: Replies) -> Callable[[Any], Any]:
    """Wraps `get_message_res`."""

    def wrapper(method: Any) -> Any:
        @wraps(method)
        def get(self: Any, message_ids: set[str], run_id: int) -> Any:
            if replies.are_none(run_id, message_ids):
                return []
            count = replies.count(run_id)
            messages = method(self, message_ids, run_id)
            if not messages:
                replies.found_none(run_id, count, message_ids)
            return messages

        return get

    return wrapper


def asked_when_open(inboxes: Inboxes) -> Callable[[Any], Any]:
    """Wraps `get_message_ins`: a device's poll of a closed inbox is answered from memory."""

    def wrapper(method: Any) -> Any:
        @wraps(method)
        def get(self: Any, node_id: int, limit: int | None, *, run_id: int | None = None) -> Any:
            if limit is None or run_id is not None:
                return method(self, node_id, limit, run_id=run_id)
            if inboxes.is_closed(node_id):
                return []
            version = inboxes.version
            messages = method(self, node_id, limit)
            if not messages:
                inboxes.found_empty(node_id, version)
            return messages

        return get

    return wrapper


def noting_messages(inboxes: Inboxes, replies: Replies) -> Callable[[Any], Any]:
    """Wraps `store_message_and_object_tree`."""

    def wrapper(method: Any) -> Any:
        @wraps(method)
        def store(self: Any, message: Any, object_tree: Any, session_id: str) -> Any:
            kept, missing = method(self, message, object_tree, session_id)
            if kept and message.metadata.reply_to_message_id:
                replies.stored(message.metadata.run_id)
            elif kept:
                inboxes.stored(message.metadata.dst_node_id, missing)
            return kept, missing

        return store

    return wrapper


def noting_uploads(inboxes: Inboxes) -> Callable[[Any], Any]:
    """Wraps `store_object`, and makes it safe to repeat.

    After a restart of the SuperLink a device uploads again what had arrived but was not acknowledged.
    Flower refuses that, the device gives up on the reply, and the ServerApp waits for it in vain.
    """

    def wrapper(method: Any) -> Any:
        @wraps(method)
        def store(self: Any, run_id: int, session_id: str, object_id: str, object_content: bytes) -> Any:
            kept = method(self, run_id, session_id, object_id, object_content)
            if kept:
                inboxes.uploaded(object_id)
            return kept or bool(self.get_object(run_id, object_id))

        return store

    return wrapper
