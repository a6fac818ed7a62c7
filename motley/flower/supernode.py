"""Flower's SuperNode with its ClientApp at hand: shorter waits, and each message answered in place.

The loop of the SuperNode pulls a message, waits until somebody has claimed it over its Runtime API and
handed in a reply, and pushes that. Adapted, it calls `answer` between pull and push, in its own thread,
and its Runtime API is not started: what took about 12 HTTP requests a message on the device takes none.
"""

from __future__ import annotations

import threading
import time as real_time
from collections.abc import Callable
from importlib import import_module
from types import SimpleNamespace
from typing import Any

from motley.clock import ProportionalWait
from motley.flower.shape import SURPRISES, expect_parameters, expect_source, stay_stock

IDLE_WAIT = ProportionalWait(share=0.15, first_s=0.05, last_s=3.0)
"""Of a SuperNode between messages; Flower's own wait is always 3 s."""

_PUSH = ["state", "object_store", "send", "push_object"]
_PULL = ["state", "object_store", "node_config", "receive", "get_run", "get_fab"]
_PULL += ["pull_object", "confirm_message_received", "trusted_entities"]
_HANDLERS: tuple[str, ...] = ("pull_task_input", "pull_messages", "confirm_message_received")
_HANDLERS += ("push_messages", "push_object", "push_task_output")
_API_USES = ("http_server.should_exit = True", "http_thread.join(", "http_thread.is_alive()")


class SleepProxy:
    """Stands in for the module `time` in one module of Flower; only the idle wait differs."""

    def __init__(self) -> None:
        self._since_s = real_time.monotonic()

    def __getattr__(self, name: str) -> Any:
        return getattr(real_time, name)

    def mark(self) -> None:
        """Something has happened: be quick again."""
        self._since_s = real_time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Flower sleeps 3 s where no message has come."""
        if seconds >= 1:
            seconds = min(seconds, IDLE_WAIT.next_s(real_time.monotonic() - self._since_s))
        real_time.sleep(seconds)


def adapt_supernode(on_connect: Callable[[], None], answer: Callable[[Any], None]) -> bool:
    """Let the SuperNode of this process wait adaptively and have `answer` answer each message.

    answer: takes the NodeState, which holds the message. Returns whether Flower could be adapted. Call
    once, before the SuperNode starts.
    """
    try:
        command = import_module("flwr.supernode.cli.flower_supernode")
        loop = import_module("flwr.supernode.start_client_internal")
        expect_source(loop, "import time\n", "time.sleep(3)", "run_id = _pull_and_store_message(", "_push_messages(")
        expect_source(command.flower_supernode, "http_server, http_thread = _start", *_API_USES)
        expect_parameters(command, "_start_supernode_http_api", ["config", "state_factory"])
        _expect_handlers()
        pull = expect_parameters(loop, "_pull_and_store_message", _PULL)
        push = expect_parameters(loop, "_push_messages", _PUSH)
    except SURPRISES as problem:
        return stay_stock("SuperNode", problem)
    proxy = SleepProxy()
    vars(loop).update(time=proxy, _pull_and_store_message=_telling(pull, proxy, on_connect))
    vars(loop).update(_push_messages=_answering(push, proxy, answer))
    vars(command).update(_start_supernode_http_api=_no_http_api)
    return True


def _expect_handlers() -> None:
    from flwr.supercore.corestate import CoreState
    from flwr.supernode.servicer.runtime import runtime_handlers

    expect_parameters(runtime_handlers, "acquire_task", ["request", "state"])
    for name in _HANDLERS:
        expect_parameters(runtime_handlers, name, ["request", "state", "task"])
    expect_parameters(CoreState, "get_object", ["self", "run_id", "object_id"])
    expect_parameters(CoreState, "get_task_by_token", ["self", "token"])
    expect_parameters(CoreState, "acknowledge_task_heartbeat", ["self", "task_id"])


def _telling(pull: Any, proxy: SleepProxy, on_connect: Callable[[], None]) -> Any:
    connected = False

    def pull_and_tell(**arguments: Any) -> Any:
        nonlocal connected
        run_id = pull(**arguments)
        if not connected:
            connected = True
            on_connect()
        if run_id is not None:
            proxy.mark()
        return run_id

    return pull_and_tell


def _answering(push: Any, proxy: SleepProxy, answer: Callable[[Any], None]) -> Any:
    def answer_and_push(state: Any, **arguments: Any) -> None:
        try:
            answer(state)
            push(state=state, **arguments)
        finally:
            proxy.mark()

    return answer_and_push


def _no_http_api(config: Any, state_factory: Any) -> tuple[Any, threading.Thread]:
    """A server that has nothing to stop, and its thread, which has ended."""
    thread = threading.Thread(target=lambda: None)
    thread.start()
    return SimpleNamespace(), thread
