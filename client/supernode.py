"""Flower's own SuperNode as a forked child of the executor, at the other end of a socket."""

from __future__ import annotations

import gc
import importlib
import os
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Sequence

from client.bridge import Bridge
from motley.flower import adapt_supernode
from motley.processes import die_with_parent

_STOP_S = 8.0
_LOOK_S = 0.1
_FIRST_BACK_OFF_S, _LAST_BACK_OFF_S = 0.5, 15.0


class SuperNode:
    """The SuperNode that connects to `superlink`; where Flower can't be adapted, it serves `port` too.

    private: file descriptors of this process that the SuperNode must not hold open.
    """

    def __init__(self, superlink: str, port: int, node_config: str, private: Sequence[int] = ()) -> None:
        self._private = private
        self._argv = ["flower-supernode", "--insecure", "--superlink", superlink]
        self._argv += ["--host", "127.0.0.1", "--port", str(port)]
        if node_config:
            self._argv += ["--node-config", node_config]
        self._back_off_s = _FIRST_BACK_OFF_S
        self._started_s = 0.0
        self._pid = 0
        self.channel: socket.socket
        """Frames of client.bridge; closed at the other end once the SuperNode has ended."""

    def start(self) -> None:
        """Fork it. Call while this process has one thread."""
        importlib.import_module("flwr.supernode.cli.flower_supernode")
        if threading.active_count() != 1:
            raise RuntimeError("the SuperNode must be forked while there is one thread")
        gc.collect()
        gc.freeze()
        self.channel, theirs = socket.socketpair()
        parent, self._started_s = os.getpid(), time.monotonic()
        self._pid = os.fork()
        if self._pid == 0:
            self.channel.close()
            for descriptor in self._private:
                os.close(descriptor)
            _run(self._argv, theirs, parent)
        theirs.close()

    def restart(self) -> None:
        """Fork it again, after a wait that doubles while it keeps ending early."""
        if time.monotonic() - self._started_s > 60:
            self._back_off_s = _FIRST_BACK_OFF_S
        time.sleep(self._back_off_s)
        self._back_off_s = min(2 * self._back_off_s, _LAST_BACK_OFF_S)
        self.channel.close()
        self.start()

    def wait(self) -> int:
        """Wait for its end; returns its wait status. With SIGKILL if it has closed the channel but stays."""
        if not self._has_ended(_STOP_S):
            os.kill(self._pid, signal.SIGKILL)
        _, status = os.waitpid(self._pid, 0)
        self._pid = 0
        return status

    def stop(self) -> None:
        """End it with SIGTERM, so that it signs off; with SIGKILL if that takes too long."""
        if self._pid:
            os.kill(self._pid, signal.SIGTERM)
            self.wait()

    def _has_ended(self, within_s: float) -> bool:
        """Wait for its end at most so long; its status stays to be collected."""
        process = os.pidfd_open(self._pid)
        try:
            return bool(select.select([process], [], [], within_s)[0])
        finally:
            os.close(process)


def _await_server(address: str) -> None:
    """Until somebody listens on `address`: Flower's own retries soon wait for 5 s and more."""
    host, _, port = address.rpartition(":")
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
            return
        except OSError:
            time.sleep(_LOOK_S)


def _run(argv: list[str], channel: socket.socket, parent: int) -> None:
    """In the forked child: be the SuperNode; never return."""
    code = 1
    try:
        die_with_parent(parent, signal.SIGTERM)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        bridge = Bridge(channel)
        adapted = adapt_supernode(bridge.connected, bridge.answer)
        from flwr.supernode.cli.flower_supernode import flower_supernode

        sys.argv = [*argv, "--isolation", "process" if adapted else "subprocess"]
        _await_server(argv[argv.index("--superlink") + 1])
        flower_supernode()
        code = 0
    except SystemExit as leave:
        code = leave.code if isinstance(leave.code, int) else 1
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
