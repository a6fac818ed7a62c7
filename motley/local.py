"""A whole fleet as processes of this machine: the same agents as in containers, without their limits.

Choose it where there is no Docker. Threads follow each device's quota, but nothing holds it back
otherwise: durations say little about the real devices.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import yaml

from motley.environment import device_environment
from motley.processes import die_with_parent
from motley.spec import Fleet

_STOP_S = 15.0


class LocalFleet:
    """Server and devices as processes that live in `directory`; a context manager.

    data: directory of the shards; warm: modules that devices import once.
    """

    def __init__(self, fleet: Fleet, directory: Path, data: Path, warm: str = "client.app") -> None:
        self._fleet, self._directory, self._data, self._warm = fleet, directory, data, warm
        self._processes: list[subprocess.Popen[bytes]] = []
        self.state = directory / "state"
        self.log = directory / "log.txt"
        self.port = free_port()

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start(self) -> None:
        self.state.mkdir(parents=True, exist_ok=True)
        server = {
            "MOTLEY_FLEET": yaml.safe_dump(self._fleet.as_mapping(), sort_keys=False),
            "MOTLEY_STATE": str(self.state),
            "MOTLEY_DATA": str(self._data),
            "MOTLEY_HOST": "127.0.0.1",
            "MOTLEY_PORT": str(self.port),
            "MOTLEY_METRICS_PORT": str(free_port()),
            "MOTLEY_READY_FILE": str(self._directory / "server-ready"),
        }
        self._spawn("server.agent", "server", server)
        for device in self._fleet.devices():
            of_device = {
                **device_environment(device),
                "MOTLEY_SUPERLINK": f"127.0.0.1:{self.port}",
                "MOTLEY_DATA": str(self._data),
                "MOTLEY_RUNTIME_PORT": str(free_port()),
                "MOTLEY_METRICS_PORT": str(free_port()),
                "MOTLEY_READY_FILE": str(self._directory / f"{device.name}-ready"),
                "MOTLEY_WARM": self._warm,
            }
            self._spawn("client.agent", device.name, of_device)

    def _spawn(self, module: str, name: str, settings: Mapping[str, str]) -> None:
        home = self._directory / "flower" / name
        home.mkdir(parents=True, exist_ok=True)
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("MOTLEY_")}
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", module],
                env={**inherited, **settings, "FLWR_HOME": str(home), "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=partial(die_with_parent, os.getpid(), signal.SIGTERM),
            )
        self._processes.append(process)

    @property
    def pids(self) -> list[int]:
        """Process ids of the agents, the server's first."""
        return [process.pid for process in self._processes]

    def ended(self) -> list[int]:
        """Exit codes of agents that have ended although nobody stopped them."""
        return [code for process in self._processes if (code := process.poll()) is not None]

    def stop(self) -> None:
        """End the devices, then the server; SIGKILL for what is left after 15 s."""
        for process in reversed(self._processes):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + _STOP_S
        for process in self._processes:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self._processes.clear()


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
