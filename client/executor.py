"""The warm executor: Flower's SuperNode and a ClientApp that is imported once and forked per message.

    python -m client --superlink HOST:PORT --events FD …

Order matters. The SuperNode is forked before PyTorch is imported, while there is one thread and the
pages of Flower can be shared; then the ClientApp is imported; then each message runs in a forked child,
which only computes. Whatever becomes of the child, exactly one reply goes back for it, at once.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from client import runtime
from client.bridge import ABANDONED, CANCEL, CONNECTED, REPLY, TASK
from client.frames import Frames, pack
from client.supernode import SuperNode
from client.watch import LOOK_S, Watch, age_s
from motley.device import DeviceStop, Outcome
from motley.flower import adapt_object_pulls
from motley.limits import Cgroup, host_cores
from motley.processes import die_with_parent
from motley.workload import threads_for

_CHILD_OOM_SCORE = "1000"
_STOPS = (Outcome.BATTERY_EMPTY, Outcome.TOO_HOT)


class Stopped(BaseException):
    """SIGTERM or SIGINT has come."""


class Executor:
    """Runs one message at a time, each in a child of its own.

    tell: takes each event as a mapping; execute: what the child does with a task.
    """

    def __init__(
        self,
        tell: Callable[[dict[str, Any]], None],
        execute: Callable[[runtime.Task], runtime.Reply],
        cgroup: Cgroup,
    ) -> None:
        self._tell = tell
        self._execute = execute
        self._cgroup = cgroup
        self._child = 0

    def answer(self, task: runtime.Task, channel: socket.socket, frames: Frames) -> runtime.Reply | None:
        """The reply to a task; None when the SuperNode, at the end of `channel`, takes the task back."""
        started, kills = time.monotonic(), self._cgroup.oom_kills()
        kind = task.envelope.metadata.message_type
        self._tell({"event": "start", "type": kind})
        reply, reason = self._run(task, channel, frames)
        if reason:
            reason = self._with_cause(reason, kills)
            reply = runtime.error_reply(task, reason)
        self._tell(_event(kind, reply, reason, time.monotonic() - started))
        return reply

    def kill_child(self) -> None:
        if self._child:
            os.kill(self._child, signal.SIGKILL)

    def _run(self, task: runtime.Task, channel: socket.socket, frames: Frames) -> tuple[runtime.Reply | None, str]:
        """The child's reply, or the reason why there is none; neither when nobody wants it any more."""
        ours, theirs = socket.socketpair()
        parent = os.getpid()
        self._child = os.fork()
        if self._child == 0:
            ours.close()
            channel.close()
            die_with_parent(parent, signal.SIGKILL)
            _child(theirs, task, self._execute)
        theirs.close()
        sent = task.envelope.metadata
        watch = Watch(self._child, sent.ttl, time.monotonic() - age_s(sent.created_at, time.time()))
        try:
            parts, wanted, given_up = _collect(ours, channel, frames, watch)
        finally:
            ours.close()
        if given_up or not wanted:
            self.kill_child()
        _, status = os.waitpid(self._child, 0)
        self._child = 0
        if given_up or not wanted:
            return None, given_up
        if parts is not None:
            return runtime.Reply.from_parts(parts), ""
        if os.WIFSIGNALED(status):
            return None, f"crashed: ClientApp killed by signal {os.WTERMSIG(status)}"
        return None, f"crashed: ClientApp left with exit code {os.waitstatus_to_exitcode(status)}"

    def _with_cause(self, reason: str, kills_before: int | None) -> str:
        """Name the memory limit as the cause when the kernel has counted a kill meanwhile."""
        kills = self._cgroup.oom_kills()
        if kills is None or kills_before is None or kills <= kills_before:
            return reason
        limit = self._cgroup.limits().memory_bytes or 0
        return f"out_of_memory: ClientApp killed at the memory limit of {limit // 1024**2} MiB"


def _collect(
    ours: socket.socket, channel: socket.socket, frames: Frames, watch: Watch
) -> tuple[list[bytes] | None, bool, str]:
    """What the child sends, None if it ends first; whether it is still wanted; and why it was given up on, if so."""
    from_child = Frames(ours)
    while True:
        ready = select.select([ours, channel], [], [], LOOK_S)[0]
        if channel in ready and [CANCEL] in frames.read():
            return None, False, ""
        if ours in ready:
            try:
                for parts in from_child.read():
                    return parts, True, ""
            except EOFError:
                return None, True, ""
        elif given_up := watch.look(time.monotonic()):
            return None, True, given_up


def _event(kind: str, reply: runtime.Reply | None, reason: str, seconds: float) -> dict[str, Any]:
    outcome = reason.partition(":")[0]
    if not outcome:
        outcome = "abandoned" if reply is None else _outcome(reply.failure)
    figures = json.loads(reply.figures) if reply and reply.figures else {}
    return {"event": "end", "type": kind, "outcome": outcome, "wall_s": seconds, "figures": figures}


def _outcome(failure: str) -> str:
    """How a child ended that has given a reply: device stops have their own names."""
    kind = failure.partition(":")[0]
    return kind if kind in _STOPS else "raised" if failure else "finished"


def _child(channel: socket.socket, task: runtime.Task, execute: Callable[[Any], runtime.Reply]) -> None:
    """In the forked child: compute, send, leave; never return."""
    code = 1
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        _be_first_to_go()
        try:
            reply = execute(task)
        except DeviceStop as stop:
            reply = runtime.error_reply(task, f"{stop.outcome}: {stop}")
            reply = replace(reply, figures=json.dumps(dict(stop.figures)))
        channel.sendall(pack(reply.parts()))
        code = 0
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _be_first_to_go() -> None:
    """Let the kernel, when memory runs out, take this task and not the SuperNode."""
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write(_CHILD_OOM_SCORE)
    except OSError as error:
        warnings.warn(f"can't raise this task's OOM score: {error}", stacklevel=2)


def main(argv: Sequence[str] | None = None) -> int:
    options = _parse(argv)

    def tell(event: dict[str, Any]) -> None:
        os.write(options.events, json.dumps(event).encode() + b"\n")

    cgroup = Cgroup()
    os.environ["OMP_NUM_THREADS"] = str(threads_for(cgroup.limits().cpus or options.cpus or None, host_cores()))
    adapt_object_pulls()
    supernode = SuperNode(options.superlink, options.port, options.node_config, private=[options.events])
    supernode.start()
    for module in filter(None, options.warm.split(",")):
        importlib.import_module(module)
    from client.apps import execute

    gc.collect()
    gc.freeze()
    executor = Executor(tell, execute, cgroup)

    def stop(*_: object) -> None:
        raise Stopped

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    tell({"event": "warm"})
    try:
        _keep_serving(executor, supernode, tell)
    except Stopped:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        executor.kill_child()
        supernode.stop()
    return 0


def _keep_serving(executor: Executor, supernode: SuperNode, tell: Callable[[dict[str, Any]], None]) -> None:
    """Serve the SuperNode, and start it again whenever it has ended."""
    while True:
        try:
            _serve(executor, supernode.channel, tell)
        except (EOFError, BrokenPipeError):
            executor.kill_child()
        tell({"event": "disconnected", "status": supernode.wait()})
        supernode.restart()


def _serve(executor: Executor, channel: socket.socket, tell: Callable[[dict[str, Any]], None]) -> None:
    """Answer task after task. Raises EOFError or BrokenPipeError when the SuperNode has ended."""
    frames = Frames(channel)
    while True:
        for kind, *parts in frames.read():
            if kind == CONNECTED:
                tell({"event": "connected"})
            elif kind == TASK:
                reply = executor.answer(runtime.Task.from_parts(parts), channel, frames)
                channel.sendall(pack([REPLY, *reply.parts()] if reply else [ABANDONED]))


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m client", description=__doc__)
    parser.add_argument("--superlink", required=True, help="Fleet API, host:port")
    parser.add_argument("--port", type=int, default=9094, help="port of the SuperNode's Runtime API, on loopback")
    parser.add_argument("--node-config", default="", help="key=value pairs, as flower-supernode takes them")
    parser.add_argument("--warm", default="client.app", help="modules to import once, with commas between them")
    parser.add_argument("--cpus", type=float, default=0.0, help="cores to count with where no cgroup limits them")
    parser.add_argument("--events", type=int, default=1, help="file descriptor for events, a JSON object a line")
    return parser.parse_args(argv)
