"""A fleet in real containers, for tests: start it, look into it, disturb it, leave nothing behind."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from motley.deployment import Options, deploy
from motley.fleetfile import read_fleet
from motley.history import History
from motley.records import RunRecord
from motley.spec import Fleet

ROOT = Path(__file__).resolve().parents[2]
NOT_STARTED = ("cadvisor", "grafana")
"""Their images can't be had where there is no registry, and nothing depends on them."""

T = TypeVar("T")

_SCRAPE = "import sys, urllib.request as u; print(u.urlopen('http://127.0.0.1:' + sys.argv[1]).read().decode())"


def command(*argv: str, check: bool = True) -> str:
    """What a command prints. Raises AssertionError with its output when it fails."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, f"{' '.join(argv)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def wait_for(what: str, look: Callable[[], T | None], timeout_s: float, every_s: float = 0.5) -> T:
    """The first answer of `look` that is true. Raises AssertionError when the time is up."""
    until = time.monotonic() + timeout_s
    while not (answer := look()):
        assert time.monotonic() < until, f"no {what} within {timeout_s:g} s"
        time.sleep(every_s)
    return answer


class Containers:
    """The containers of one compose file under a project name of their own."""

    def __init__(self, file: Path, fleet: Fleet, project: str) -> None:
        self.file, self.fleet, self.project = file, fleet, project

    def compose(self, *arguments: str, check: bool = True) -> str:
        return command("docker", "compose", "-p", self.project, "-f", str(self.file), *arguments, check=check)

    def up(self) -> None:
        services = [name for name in self.compose("config", "--services").split() if name not in NOT_STARTED]
        self.compose("up", "--detach", "--build", *services)

    def down(self) -> None:
        self.compose("down", "--volumes", "--remove-orphans", "--timeout", "15")

    def logs(self, service: str) -> str:
        return self.compose("logs", "--no-log-prefix", service)

    def container(self, service: str) -> str:
        return self.compose("ps", "--all", "--quiet", service).strip()

    def inspect(self, service: str) -> dict[str, Any]:
        found: list[dict[str, Any]] = json.loads(command("docker", "inspect", self.container(service)))
        return found[0]

    def execute(self, service: str, *argv: str, user: str | None = None) -> str:
        as_user = ["--user", user] if user else []
        return command("docker", "exec", *as_user, self.container(service), *argv)

    def record(self) -> RunRecord | None:
        """The newest run, read from the server's volume on this host."""
        volume = json.loads(command("docker", "volume", "inspect", f"{self.project}_state"))[0]
        path = Path(volume["Mountpoint"]) / "history.db"
        if not path.exists():
            return None
        history = History(path)
        try:
            run = history.latest_run()
            return history.record(run.run_id) if run else None
        except sqlite3.OperationalError:
            return None
        finally:
            history.close()

    def rounds_done(self) -> int:
        record = self.record()
        return sum(row.duration_s is not None for row in record.rounds) if record else 0

    def left_behind(self) -> dict[str, str]:
        """Containers, volumes and networks of this project that are still there."""
        mine = f"label=com.docker.compose.project={self.project}"
        return {
            "containers": command("docker", "ps", "--all", "--quiet", "--filter", mine),
            "volumes": command("docker", "volume", "ls", "--quiet", "--filter", mine),
            "networks": command("docker", "network", "ls", "--quiet", "--filter", mine),
        }


def committed(project: str) -> Containers:
    """The committed compose file."""
    return Containers(ROOT / "docker-compose.yml", read_fleet(ROOT / "config/fleet.yaml"), project)


def generated(directory: Path, fleet_file: Path, project: str) -> Containers:
    """A compose file made from `fleet_file`, in `directory`."""
    deployment = deploy(Options(fleet=fleet_file, output=directory / "docker-compose.yml"))
    deployment.write()
    return Containers(directory / "docker-compose.yml", deployment.fleet, project)


@contextmanager
def running(directory: Path, fleet_text: str, project: str, log: Path | None = None) -> Iterator[Containers]:
    """The containers of a fleet, from their start to their end; what they say is kept in `log`."""
    fleet_file = directory / "fleet.yaml"
    fleet_file.write_text(fleet_text)
    containers = generated(directory, fleet_file, project)
    containers.down()
    try:
        containers.up()
        yield containers
    finally:
        if log is not None:
            log.write_text(containers.compose("logs", "--timestamps", check=False))
        containers.down()


def query(expression: str, port: int = 9090) -> list[dict[str, Any]]:
    """What the Prometheus on this host's `port` answers."""
    url = f"http://127.0.0.1:{port}/api/v1/query?query={urllib.parse.quote(expression)}"
    with urllib.request.urlopen(url, timeout=10) as answer:
        return list(json.load(answer)["data"]["result"])


def metrics(fleet: Containers, service: str, port: int) -> dict[str, float]:
    """What an exporter shows, by name and labels."""
    text = fleet.execute(service, "python", "-c", _SCRAPE, str(port))
    return {name: float(value) for name, value in re.findall(r"^(\S+) (\S+)$", text, re.MULTILINE)}
