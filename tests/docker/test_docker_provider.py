"""The provider `docker` on a real engine: the contract, and a device that joins a fleet while it trains."""

from __future__ import annotations

import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
import pytest
import requests
import yaml
from engine import Containers, command, generated, wait_for
from provider_contract import Fault, ProviderContract

from motley.clock import SystemClock
from motley.device import Outcome
from motley.providers import make_provider
from motley.providers.base import Launch, Machine, Needs, Provider, State, Unavailable
from motley.providers.docker import DockerProvider, place_of
from motley.providers.docker_engine import Engine

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

MIB = 1024**2
PROJECT = f"motley-contract-{os.getpid()}"
ROOMY = "64"
"""Cores that the provider may hand out, so that other tests' containers leave some."""

FLEET = """
name: joining
seed: 11
training: {task: digits, policy: random, rounds: 5000, local_epochs: 2, deadline: 60s, device_evaluation: never}
data: {partition: iid}
classes:
  plain: {count: 2, cpus: 0.25, memory: 384m}
  shaped: {count: 1, cpus: 0.3, memory: 384m, network: {down: 20mbit, up: 10mbit}}
server: {cpus: 0.5, memory: 1g, join_timeout: 30s, join_quorum: 0.6}
monitoring: {enabled: false}
"""
LATER = "client-3"
"""The shaped one. Its shard is in the image like the others', but Compose does not start it."""

UNTIL_STOPPED = "trap 'exit 0' TERM; while :; do sleep 60 & wait $$!; done"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containers]:
    """The fleet's compose file, with its image built and nothing running."""
    directory = tmp_path_factory.mktemp("joining")
    (directory / "fleet.yaml").write_text(FLEET)
    containers = generated(directory, directory / "fleet.yaml", f"motley-e2e-joining-{os.getpid()}")
    containers.compose("build", "server")
    yield containers
    containers.compose("down", "--volumes", "--remove-orphans", "--timeout", "15")


# The contract


class Line:
    """What stands between a provider and its engine; cuts it, or lets a request fail."""

    def __init__(self) -> None:
        self._step, self._fault, self._seen = "", Fault.REFUSED, 0
        self._is_cut = False

    def connect(self) -> docker.APIClient:
        api = docker.from_env().api
        send = api.send
        api.send = lambda request, **options: self._send(send, request, **options)
        return api

    @contextmanager
    def failing(self, step: str, fault: Fault) -> Iterator[None]:
        self._step, self._fault, self._seen = step, fault, 0
        yield
        self._step, self._is_cut = "", False

    def _send(self, send: Callable[..., Any], request: requests.PreparedRequest, **options: Any) -> Any:
        if self._is_cut or not self._is_due(request):
            if self._is_cut:
                raise requests.ConnectionError("Connection aborted.")
            return send(request, **options)
        if self._fault is Fault.REFUSED:
            return _refusal(request)
        if self._fault is Fault.REPLY_LOST:
            send(request, **options)
        self._is_cut = self._fault is Fault.CUT_OFF
        raise requests.ConnectionError("Connection aborted.")

    def _is_due(self, request: requests.PreparedRequest) -> bool:
        """A step is a request to create or to start; the second of its kind is that of the link."""
        kind, _, part = self._step.partition(" ")
        if not kind or not re.search(rf"/containers/.*{kind}(\?|$)", str(request.url)):
            return False
        self._seen += 1
        return self._seen == (2 if part else 1)


def _refusal(request: requests.PreparedRequest) -> requests.Response:
    answer = requests.Response()
    answer.status_code, answer.request = 500, request
    answer._content = b'{"message": "the disk is\\nfull"}'
    answer.headers["Content-Type"] = "application/json"
    return answer


class DockerHarness:
    needs = Needs(cpus=0.2, memory_bytes=300 * MIB)
    secrets = ("hunter2",)

    def __init__(self, file: Path) -> None:
        self._file = file
        self._line = Line()
        self.provider: Provider = self.another()

    def another(self, **options: str) -> Provider:
        place = place_of({"file": str(self._file), "project": PROJECT, "cpus": ROOMY, **options})
        return DockerProvider(place, self._line.connect, self.secrets)

    def unusable(self) -> Provider:
        return make_provider("docker", {"file": str(self._file), "host": "tcp://me:hunter2@127.0.0.1:1"}, {})

    def remains(self) -> Sequence[str]:
        mine = f"label=com.docker.compose.project={PROJECT}"
        return command("docker", "ps", "--all", "--format", "{{.Names}}", "--filter", mine).split()

    def foreign(self) -> str:
        """A container of the same project, as Compose starts them."""
        name = f"motley-foreign-{os.getpid()}"
        label = f"com.docker.compose.project={PROJECT}"
        image = yaml.safe_load(self._file.read_text())["services"][LATER]["image"]
        command("docker", "run", "--detach", "--name", name, "--label", label, image, "sleep", "60")
        return name

    def fault(self, step: str, fault: Fault) -> Any:
        return self._line.failing(step, fault)

    @contextmanager
    def exhausted(self) -> Iterator[None]:
        roomy, self.provider = self.provider, self.another(cpus="0.1")
        yield
        self.provider = roomy

    def settle(self) -> None:
        """The engine answers when a container is started, and when it is gone."""


@pytest.fixture(scope="module")
def light_file(built: Containers) -> Iterator[Path]:
    """The fleet's compose file, with a shell in place of the agents, and the network that it names."""
    content = yaml.safe_load(built.file.read_text())
    for service in content["services"].values():
        service |= {"command": ["sh", "-c", UNTIL_STOPPED], "stop_grace_period": "2s"}
    file = built.file.with_name("light.yml")
    file.write_text(yaml.safe_dump(content))
    command("docker", "network", "create", "--internal", f"{PROJECT}_fleet")
    yield file
    command("docker", "network", "rm", f"{PROJECT}_fleet")


class LinkedHarness(DockerHarness):
    """Its machines are two containers each."""

    needs = Needs(cpus=0.32, memory_bytes=300 * MIB)


class TestDocker(ProviderContract):
    steps = ("create", "start")

    @pytest.fixture
    def harness(self, light_file: Path) -> Iterator[DockerHarness]:
        yield from emptied(DockerHarness(light_file))


class TestDockerWithLink(ProviderContract):
    steps = ("create", "create link", "start", "start link")

    @pytest.fixture
    def harness(self, light_file: Path) -> Iterator[DockerHarness]:
        yield from emptied(LinkedHarness(light_file))


def emptied(harness: DockerHarness) -> Iterator[DockerHarness]:
    """The harness, and after the test nothing that it left."""
    yield harness
    if left := harness.remains():
        command("docker", "rm", "--force", "--volumes", *left)


# Of this provider alone


def test_the_last_room_is_given_once(light_file: Path) -> None:
    """Of callers at once, each sees those who have created their containers before it."""
    for harness in emptied(DockerHarness(light_file)):
        orders = [TestDocker().order(harness) for _ in range(4)]
        left = Engine(lambda: docker.from_env().api, PROJECT, SystemClock(), float(ROOMY), None).room().cpus
        limited = [harness.another(cpus=f"{float(ROOMY) - left + 0.3:.4f}") for _ in orders]
        with ThreadPoolExecutor(len(orders)) as pool:
            launched = [machine for machine in pool.map(launched_or_none, limited, orders) if machine is not None]
        assert len(launched) == len(harness.provider.list()) <= 1


def launched_or_none(provider: Provider, order: Launch) -> Machine | None:
    try:
        return provider.launch(order)
    except Unavailable:
        return None


def test_an_engine_over_the_network(light_file: Path) -> None:
    with forwarded("/var/run/docker.sock") as port:
        options = {"file": str(light_file), "project": PROJECT, "cpus": ROOMY}
        provider = make_provider("docker", {**options, "host": f"tcp://127.0.0.1:{port}"}, {})
        assert provider.available() == ""
        assert {quote.kind for quote in provider.quote(Needs(cpus=0.1, memory_bytes=MIB))} == {"plain", "shaped"}


@contextmanager
def forwarded(socket_path: str) -> Iterator[int]:
    """A TCP port on the loopback address, behind which the engine answers."""

    def pump(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while piece := source.recv(65536):
                target.sendall(piece)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def serve(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                caller, _ = listener.accept()
                engine = socket.socket(socket.AF_UNIX)
                engine.connect(socket_path)
                for ends in ((caller, engine), (engine, caller)):
                    threading.Thread(target=pump, args=ends, daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


# A device that joins a fleet while it trains


@pytest.fixture(scope="module")
def fleet(built: Containers) -> Containers:
    """The server and the two plain devices, in a run that goes on."""
    built.compose("up", "--detach", "server", "client-1", "client-2")
    wait_for("second round", lambda: built.rounds_done() >= 2, 240, 1)
    return built


def provider_of(fleet: Containers) -> Provider:
    return make_provider("docker", {"file": str(fleet.file), "project": fleet.project, "cpus": ROOMY}, os.environ)


def later_device(fleet: Containers) -> Launch:
    (quote,) = provider_of(fleet).quote(Needs(cpus=0.3, memory_bytes=300 * MIB))
    record = fleet.record()
    assert record is not None
    environment = {"MOTLEY_PARTITION": "2"}
    return Launch(f"later-{os.getpid()}", quote, record.run.run_id, LATER, environment, superlink="server:8000")


def takes_part(fleet: Containers, since_s: float) -> bool:
    record = fleet.record()
    assert record is not None
    return any(
        each.device == LATER and each.outcome is Outcome.FINISHED and each.known_s >= since_s
        for _, each in record.outcomes
    )


def goes_on(fleet: Containers) -> None:
    before = fleet.rounds_done()
    wait_for("further rounds", lambda: fleet.rounds_done() >= before + 2, 120, 1)


def test_a_device_joins_trains_and_leaves_while_training_goes_on(fleet: Containers) -> None:
    provider, order, launched_at = provider_of(fleet), later_device(fleet), time.time()
    machine = provider.launch(order)
    wait_for("round with the new device", lambda: takes_part(fleet, launched_at), 180, 1)
    assert [each.state for each in provider.list(order.run_id)] == [State.RUNNING]
    volumes = [each["Name"] for each in inspect(machine.machine_id)["Mounts"]]
    provider.terminate(machine.machine_id)
    goes_on(fleet)
    assert provider.list() == []
    kept = command("docker", "volume", "ls", "--quiet").split()
    assert volumes
    assert not set(volumes) & set(kept)
    record = fleet.record()
    assert record is not None
    assert record.run.status == "running"
    assert {each.outcome for _, each in record.outcomes if each.device != LATER} == {Outcome.FINISHED}


def inspect(container: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = json.loads(command("docker", "inspect", container))
    return found[0]


def test_a_launched_device_is_like_those_of_compose(fleet: Containers) -> None:
    names = (LATER, f"{LATER}-link")
    fleet.compose("create", *names)
    composed = [fleet.inspect(each) for each in names]
    fleet.compose("rm", "--force", "--volumes", *names)
    machine = provider_of(fleet).launch(later_device(fleet))
    launched = [inspect(f"{machine.machine_id}{suffix}") for suffix in ("", ".link")]
    provider_of(fleet).terminate(machine.machine_id)
    for part in ("HostConfig", "Config"):
        assert [settings(each[part]) for each in launched] == [settings(each[part]) for each in composed]


_ANOTHER = ("Labels", "Hostname", "AttachStdout", "AttachStderr")


def settings(config: dict[str, Any]) -> dict[str, Any]:
    """What is set, without what is each container's own, and what only who starts it in the foreground needs."""
    known = {name: value for name, value in config.items() if value and name not in _ANOTHER}
    if str(known.get("NetworkMode", "")).startswith("container:"):
        del known["NetworkMode"]
    return {**known, "Env": sorted(known["Env"])} if "Env" in known else known


def test_compose_shows_and_ends_what_was_launched(fleet: Containers) -> None:
    machine = provider_of(fleet).launch(replace(later_device(fleet), device="client-9"))
    assert machine.machine_id in fleet.compose("ps", "--all", "--format", "{{.Names}}")
    assert [each.device for each in provider_of(fleet).list()] == ["client-9"]
    fleet.compose("down", "--volumes", "--remove-orphans", "--timeout", "15")
    assert fleet.left_behind() == {"containers": "", "volumes": "", "networks": ""}
