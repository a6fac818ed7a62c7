"""The SuperLink's state: most of the database statements that each request makes are spared."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import wraps
from typing import Any

from motley.flower.inbox import (
    Inboxes,
    Replies,
    asked_when_open,
    asked_when_replied,
    noting_messages,
    noting_uploads,
)
from motley.flower.shape import SURPRISES, expect_parameters, stay_stock

HOUSEKEEPING_S, REMEMBER_S, MOST_REMEMBERED = 1.0, 1.0, 10_000
MOST_CACHED_BYTES = 64_000_000

_STORE_MESSAGE = ["self", "message", "object_tree", "session_id"]
_STORE_OBJECT = ["self", "run_id", "session_id", "object_id", "object_content"]

Now = Callable[[], float]


def adapt_superlink() -> bool:
    """Spare the SuperLink of this process most of the database statements that each request makes.

    Housekeeping runs once a second; the status of a run, a node's key and a task's token are looked up
    once a second; traffic is added up and written once a second; an object that several devices pull is
    read once; an inbox without messages or replies is known to be empty. On a database on disk that is
    most of what a request costs. Returns whether Flower could be adapted.
    """
    from flwr.server.superlink.linkstate.sql_linkstate import SqlLinkState
    from flwr.supercore.corestate.sql_corestate import SqlCoreState

    inboxes, replies = Inboxes(), Replies()
    wrappers: list[tuple[type, str, list[str], Callable[[Any], Any]]] = [
        (SqlCoreState, "_cleanup_expired_task_tokens", ["self"], at_most_once_in),
        (SqlCoreState, "_cleanup_invalid_task_messages", ["self"], at_most_once_in),
        (SqlCoreState, "get_task_by_token", ["self", "token"], remembered),
        (SqlLinkState, "get_run_status", ["self", "run_ids"], remembered),
        (SqlLinkState, "get_node_id_by_public_key", ["self", "public_key"], remembered),
        (SqlLinkState, "store_traffic", ["self", "run_id", "bytes_sent", "bytes_recv"], added_up),
        (SqlCoreState, "get_object", ["self", "run_id", "object_id"], cached),
        (SqlLinkState, "get_message_ins", ["self", "node_id", "limit", "run_id"], asked_when_open(inboxes)),
        (SqlLinkState, "get_message_res", ["self", "message_ids", "run_id"], asked_when_replied(replies)),
        (SqlLinkState, "store_message_and_object_tree", _STORE_MESSAGE, noting_messages(inboxes, replies)),
        (SqlCoreState, "store_object", _STORE_OBJECT, noting_uploads(inboxes)),
    ]
    try:
        methods = [expect_parameters(owner, name, parameters) for owner, name, parameters, _ in wrappers]
    except SURPRISES as problem:
        return stay_stock("SuperLink", problem)
    for (owner, name, _, wrapper), method in zip(wrappers, methods, strict=True):
        setattr(owner, name, wrapper(method))
    SqlLinkState.inboxes = inboxes  # type: ignore[attr-defined]
    return True


def at_most_once_in(method: Callable[[Any], None], now_s: Now = time.monotonic) -> Callable[[Any], None]:
    """Calls within `HOUSEKEEPING_S` of the last one do nothing."""
    due_s = 0.0

    @wraps(method)
    def limited(self: Any) -> None:
        nonlocal due_s
        if now_s() >= due_s:
            due_s = now_s() + HOUSEKEEPING_S
            method(self)

    return limited


def remembered(method: Callable[[Any, Any], Any], now_s: Now = time.monotonic) -> Callable[[Any, Any], Any]:
    """Answers are kept for `REMEMBER_S`; a missing one (None) is not."""
    known: dict[Any, tuple[float, Any]] = {}

    @wraps(method)
    def remembering(self: Any, key: Any) -> Any:
        now, name = now_s(), frozenset(key) if isinstance(key, set) else key
        until_s, answer = known.get(name, (0.0, None))
        if until_s <= now:
            if len(known) > MOST_REMEMBERED:
                known.clear()
            answer = method(self, key)
            if answer is not None:
                known[name] = now + REMEMBER_S, answer
        return answer

    return remembering


def added_up(method: Callable[..., None], now_s: Now = time.monotonic) -> Callable[..., None]:
    """Amounts are summed by run and handed on once in `HOUSEKEEPING_S`."""
    sums: dict[int, list[int]] = {}
    due_s, lock = 0.0, threading.Lock()

    @wraps(method)
    def adding(self: Any, run_id: int, *, bytes_sent: int, bytes_recv: int) -> None:
        nonlocal due_s
        with lock:
            total = sums.setdefault(run_id, [0, 0])
            total[0] += bytes_sent
            total[1] += bytes_recv
            if now_s() < due_s:
                return
            due_s = now_s() + HOUSEKEEPING_S
            due = dict(sums)
            sums.clear()
        for each, (sent, received) in due.items():
            method(self, each, bytes_sent=sent, bytes_recv=received)

    return adding


def cached(method: Callable[[Any, int, str], Any], now_s: Now = time.monotonic) -> Callable[[Any, int, str], Any]:
    """Contents that are there are kept for `REMEMBER_S`, up to `MOST_CACHED_BYTES` of them.

    An object's name is the hash of its content, so what is kept can't be out of date.
    """
    known: dict[str, tuple[float, bytes]] = {}

    @wraps(method)
    def get(self: Any, run_id: int, object_id: str) -> Any:
        until_s, content = known.get(object_id, (0.0, b""))
        if until_s > now_s():
            return content
        content = method(self, run_id, object_id)
        if content:
            known[object_id] = now_s() + REMEMBER_S, content
            _shrink(known, now_s())
        return content

    return get


def _shrink(known: dict[str, tuple[float, bytes]], now_s: float) -> None:
    size = 0
    for name, (until_s, content) in reversed(list(known.items())):
        size += len(content)
        if until_s <= now_s or size > MOST_CACHED_BYTES:
            known.pop(name, None)
