"""PID 1 of a device container: the exporter, and the executor that it keeps alive.

The exporter starts first and outlives whatever happens to the rest; so do battery and heat, where the
fleet file has them. This process imports neither Flower nor PyTorch nor pydantic (13 MB in place of 21);
all that it knows of their work comes as JSON lines over a pipe.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

from prometheus_client import CollectorRegistry, start_http_server

from client.emulator import Emulator, modelled
from client.limits import limits_of
from client.metrics import DeviceCollector
from client.settings import Settings, from_environment
from motley.errors import MotleyError
from motley.flower import quiet_environment
from motley.limits import Cgroup
from motley.monitor import ResourceMonitor
from motley.samples import Sample

_STOP_S = 10.0
_TICK_S = 5.0
_FIRST_BACK_OFF_S, _LAST_BACK_OFF_S = 0.5, 15.0
_SAMPLES_KEPT = 60


class Agent:
    """Runs one device until `stop` is called."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        cgroup = Cgroup()
        self._emulator = Emulator.of_node(settings.node, cgroup)
        self._monitor = ResourceMonitor(limits=limits_of(settings.node), history=_SAMPLES_KEPT, model=self._model)
        device, device_class = settings.node["device"], settings.node["device-class"]
        self.collector = DeviceCollector(device, device_class, cgroup, self._monitor, self._emulator)
        self._stopping = False
        self._executor = 0

    def serve_metrics(self) -> None:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self.collector)
        start_http_server(self._settings.metrics_port, registry=registry)

    def run(self) -> int:
        """Keep an executor running; return 0 once stopped."""
        if self._emulator is not None:
            self._emulator.start()
        self._monitor.start()
        back_off = _FIRST_BACK_OFF_S
        while not self._stopping:
            started = time.monotonic()
            events = self._start_executor()
            self._follow(events)
            os.close(events)
            status = self._reap()
            self._mark_ready(False)
            if self._is_stopping():
                break
            self.collector.executor_lost()
            back_off = _FIRST_BACK_OFF_S if time.monotonic() - started > 60 else min(2 * back_off, _LAST_BACK_OFF_S)
            print(f"agent: the executor ended (wait status {status}); again in {back_off:g} s", flush=True)
            self._pause(back_off)
        return 0

    def stop(self, *_: object) -> None:
        """Signal handler: let the executor sign off; it has 10 s."""
        if not self._stopping:
            self._stopping = True
            signal.setitimer(signal.ITIMER_REAL, _STOP_S)
            self._signal_executor(signal.SIGTERM)

    def give_up(self, *_: object) -> None:
        """Signal handler: the 10 s are over."""
        self._signal_executor(signal.SIGKILL)

    def _model(self, sample: Sample) -> dict[str, float | bool]:
        """What is emulated stands for the sensors."""
        emulator = self._emulator
        return modelled(emulator.body, emulator.reading, time.monotonic()) if emulator else {}

    def _is_stopping(self) -> bool:
        """Asked anew, since a signal may have come meanwhile."""
        return self._stopping

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._stopping and time.monotonic() < until:
            time.sleep(0.1)

    def _signal_executor(self, number: int) -> None:
        if self._executor:
            os.kill(self._executor, number)

    def _start_executor(self) -> int:
        """Start the executor; return the end of the pipe where its events arrive."""
        events, told = os.pipe()
        argv = [sys.executable, "-m", "client", "--superlink", self._settings.superlink]
        argv += ["--port", str(self._settings.runtime_port), "--warm", self._settings.warm]
        argv += ["--node-config", self._settings.node_config, "--events", str(told)]
        argv += ["--cpus", self._settings.node.get("cpus", "0")]
        environment = {**quiet_environment(), "PYTHONUNBUFFERED": "1"}
        self._executor = subprocess.Popen(argv, env=environment, pass_fds=[told]).pid
        os.close(told)
        if self._stopping:
            self._signal_executor(signal.SIGTERM)
        return events

    def _follow(self, events: int) -> None:
        """Take events until the executor and all its children have closed the pipe, or it has ended."""
        pending = b""
        while True:
            if select.select([events], [], [], _TICK_S)[0]:
                piece = os.read(events, 65536)
                if not piece:
                    return
                *lines, pending = (pending + piece).split(b"\n")
                for line in lines:
                    self.collector.take(json.loads(line))
            self._mark_ready(self.collector.connected)

    def _reap(self) -> int:
        """Wait for the executor, and as PID 1 for every orphan that it leaves."""
        status = 0
        while self._executor:
            pid, status = os.waitpid(-1 if os.getpid() == 1 else self._executor, 0)
            if pid == self._executor:
                self._executor = 0
        return status

    def _mark_ready(self, ready: bool) -> None:
        """Touch or remove the file that the container's health check looks at."""
        path = Path(self._settings.ready_file)
        if ready:
            path.touch()
        else:
            path.unlink(missing_ok=True)


def main() -> NoReturn:
    try:
        agent = Agent(from_environment(os.environ))
    except MotleyError as error:
        print(f"agent: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    signal.signal(signal.SIGTERM, agent.stop)
    signal.signal(signal.SIGINT, agent.stop)
    signal.signal(signal.SIGALRM, agent.give_up)
    agent.serve_metrics()
    sys.exit(agent.run())


if __name__ == "__main__":
    main()
