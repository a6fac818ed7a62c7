"""PID 1 of the server container: the exporter, the SuperLink, the ServerApp's executor, the run.

The ServerApp runs as a process of its own (`--isolation process`), so that a run outlives a restart
of the SuperLink; the exporter reads the history and outlives both.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NoReturn

import psutil
from prometheus_client import CollectorRegistry, start_http_server

from motley.errors import MotleyError
from motley.fleetfile import parse_fleet
from motley.flower import quiet_environment
from motley.processes import die_with_parent
from motley.resuming import HISTORY, progress
from server.metrics import FleetCollector
from server.settings import Settings, from_environment

_STOP_S = 5.0
_TICK_S = 0.2
_LOOK_S = 5.0
_FIRST_BACK_OFF_S, _LAST_BACK_OFF_S = 0.5, 15.0


class Service:
    """A process that is started again whenever it ends; not before the file `after` is there."""

    def __init__(self, name: str, argv: list[str], after: Path | None = None) -> None:
        self._name = name
        self._argv = argv
        self._after = after
        self._back_off_s = _FIRST_BACK_OFF_S
        self._start_at = self._started_s = 0.0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """0 while it does not run."""
        return self._process.pid if self._process else 0

    def keep_running(self) -> None:
        """Start it where it is due."""
        is_due = time.monotonic() >= self._start_at and (self._after is None or self._after.exists())
        if self._process is None and is_due:
            self._started_s = time.monotonic()
            self._process = start(self._argv)

    def on_end(self, status: int) -> None:
        """It has ended: note when to start it again, ever later while it keeps ending early."""
        if time.monotonic() - self._started_s > 60:
            self._back_off_s = _FIRST_BACK_OFF_S
        print(f"agent: {self._name} ended (wait status {status}); again in {self._back_off_s:g} s", flush=True)
        self._process, self._start_at = None, time.monotonic() + self._back_off_s
        self._back_off_s = min(2 * self._back_off_s, _LAST_BACK_OFF_S)


def start(argv: list[str]) -> subprocess.Popen[bytes]:
    """Start a Flower process, which ends with the agent.

    The agent reaps all its children by itself. It has to hold on to what is returned: `subprocess` would reap
    a process whose handle is gone.
    """
    environment = {**quiet_environment(), "PYTHONUNBUFFERED": "1"}
    ends = partial(die_with_parent, os.getpid(), signal.SIGKILL)
    return subprocess.Popen(argv, env=environment, preexec_fn=ends)


def _end(processes: list[psutil.Process]) -> None:
    """SIGTERM, and SIGKILL for what is left after 5 s. A zombie counts as gone."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    until = time.monotonic() + _STOP_S
    while (left := [each for each in processes if _is_alive(each)]) and time.monotonic() < until:
        time.sleep(0.02)
    for process in left:
        process.kill()


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


class Agent:
    """Runs the server until `stop` is called, or until the run has ended where the fleet says so."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        fleet = parse_fleet(settings.fleet.encode(), "MOTLEY_FLEET")
        self._leave_after_run = fleet.server.after_run == "exit"
        settings.state.mkdir(parents=True, exist_ok=True)
        self._fleet_file = settings.ready_file.with_name("fleet.yaml")
        self._fleet_file.write_text(settings.fleet)
        self._cleared = settings.ready_file.with_name("cleared")
        self._cleared.unlink(missing_ok=True)
        secret = self._write_secret()
        address = f"127.0.0.1:{settings.port}"
        self._address = address
        superlink = [
            sys.executable,
            "-m",
            "server.superlink",
            "--insecure",
            "--host",
            settings.host,
            "--port",
            str(settings.port),
        ]
        superlink += ["--isolation", "process", "--superexec-auth-secret-file", str(secret)]
        superlink += ["--database", str(settings.state / "superlink.db")]
        executor = ["flower-superexec", "--insecure", "--runtime-api-address", address]
        executor += ["--superexec-auth-secret-file", str(secret)]
        self._services = [Service("SuperLink", superlink), Service("SuperExec", executor, self._cleared)]
        self._submission: subprocess.Popen[bytes] | None = None
        self._progress: tuple[str, int] | None = None
        self._look_at = 0.0
        self._submitted = False
        self._exit_code: int | None = None

    def serve_metrics(self) -> None:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(FleetCollector(self._settings.state / HISTORY))
        start_http_server(self._settings.metrics_port, registry=registry)

    def run(self) -> int:
        """Keep the services running; returns the exit code."""
        while self._exit_code is None:
            for service in self._services:
                service.keep_running()
            self._look_at_superlink()
            self._reap()
            time.sleep(_TICK_S)
        self._end_all()
        return self._exit_code

    def stop(self, *_: object) -> None:
        """Signal handler."""
        self._exit_code = 0

    def _submit_argv(self) -> list[str]:
        settings = self._settings
        argv = [sys.executable, "-m", "server.submit", "--superlink", self._address]
        argv += ["--fleet", str(self._fleet_file), "--state", str(settings.state), "--data", str(settings.data)]
        return [*argv, "--runtime", settings.runtime, "--cleared", str(self._cleared)]

    def _look_at_superlink(self) -> None:
        """Keep the file fresh that the container's health check looks at; submit the run once."""
        if time.monotonic() < self._look_at:
            return
        if not self._superlink_answers():
            self._settings.ready_file.unlink(missing_ok=True)
            return
        self._settings.ready_file.touch()
        self._look_at = time.monotonic() + _LOOK_S
        if not self._submitted:
            self._submission, self._submitted = start(self._submit_argv()), True

    def _superlink_answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self._address}/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def _reap(self) -> None:
        """Wait for whatever has ended, orphans too when this is PID 1."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            for service in self._services:
                if service.pid == pid:
                    service.on_end(status)
            if self._submission is not None and pid == self._submission.pid:
                self._submission = None
                exit_code = self.after_submission(os.waitstatus_to_exitcode(status))
                self._exit_code = exit_code if self._exit_code is None else self._exit_code

    def after_submission(self, code: int) -> int | None:
        """The agent's own exit code now that the submission has ended with `code`; None to go on.

        A run that was not finished, since its ServerApp was killed, is submitted again, unless it has come no
        further since the last time.
        """
        if code == 1 and self._gets_on():
            print("agent: the run is not finished; submitting it again", flush=True)
            self._submitted = False
            return None
        if code:
            print(f"agent: the run did not complete (exit code {code})", flush=True)
        if self._leave_after_run:
            return code
        print("agent: still serving metrics and history; end with: docker compose down", flush=True)
        return None

    def _gets_on(self) -> bool:
        before, self._progress = self._progress, progress(self._settings.state)
        return self._progress is not None and self._progress != before

    def _end_all(self) -> None:
        """The ServerApp and the submission first, so that the run is signed off; then Flower's services."""
        self._settings.ready_file.unlink(missing_ok=True)
        services = {service.pid for service in self._services}
        family = psutil.Process().children(recursive=True)
        for wave in ([each for each in family if each.pid not in services], family):
            _end(wave)

    def _write_secret(self) -> Path:
        """A fresh secret for this start, so that only our own executor can claim the ServerApp."""
        path = self._settings.ready_file.with_name("superexec-secret")
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        path.write_bytes(secrets.token_bytes(32))
        return path


def main() -> NoReturn:
    try:
        agent = Agent(from_environment(os.environ))
    except MotleyError as error:
        print(f"agent: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    signal.signal(signal.SIGTERM, agent.stop)
    signal.signal(signal.SIGINT, agent.stop)
    agent.serve_metrics()
    sys.exit(agent.run())


if __name__ == "__main__":
    main()
