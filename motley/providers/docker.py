"""Containers on a local or a remote Docker Engine: a fleet that grows and shrinks while it trains.

Choose it to add devices to a fleet that `motley up` has started. Its kinds are the device classes of the
fleet's compose file, and what it launches is what Compose would have started: the same limits, the same
rights, the same network. Its machines are those of one Compose project on one engine; they carry Compose's
labels too, so that `docker compose ps` shows them and `docker compose down --remove-orphans` ends them.
"""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import docker
from docker.errors import APIError, DockerException

from motley import units
from motley.clock import Clock, SystemClock
from motley.errors import InputError, did_you_mean
from motley.providers import check_options
from motley.providers.base import (
    DEVICE_TAG,
    RUN_TAG,
    TOKEN_TAG,
    Launch,
    Machine,
    Needs,
    ProviderError,
    Quote,
    State,
    Unavailable,
    conceal,
)
from motley.providers.compose_kinds import Kind, Service, container_config, environment_of, read_kinds
from motley.providers.docker_engine import PROJECT_LABEL, Connect, Engine, Part, Room, name_of

OPTIONS = frozenset({"file", "project", "network", "host", "cpus", "memory", "usd_per_cpu_hour"})
DEFAULT_FILE = "docker-compose.yml"

_PREFIX, _LINK_SUFFIX = "motley-", ".link"
"""Of containers' names; a token stands between them, and has no dot."""
_KIND_TAG, _PRICE_TAG, _CALL_TAG = "motley-kind", "motley-usd-per-hour", "motley-call"
_SERVICE_LABEL = "com.docker.compose.service"
_COMPOSE_LABELS = {
    "com.docker.compose.config-hash": "motley",
    "com.docker.compose.container-number": "1",
    "com.docker.compose.oneoff": "False",
}
"""Without which Compose would not take a container for one of the project's."""
_WITHOUT_ALIASES = ("bridge", "host", "none")
"""The engine's own networks, where a container has no name for others."""

_STATES = {
    "created": State.STARTING,
    "restarting": State.STARTING,
    "running": State.RUNNING,
    "paused": State.RUNNING,
}
"""By what the engine calls them; all others have ended and are still to be removed."""
_LEAST_FIRST = (State.STOPPING, State.STARTING, State.RUNNING)

_HINTS = {
    "No such image": "build it with: docker compose build",
    "network .* not found": "start the fleet first, with: motley up",
    "fetching server API version": "start Docker, or name an engine with DOCKER_HOST",
}
"""What to do, by what is said, as patterns."""


@dataclass(frozen=True)
class Place:
    """Where devices are started, and what they may take."""

    project: str
    """Of Compose."""
    network: str
    kinds: Mapping[str, Kind]
    cpus: float | None = None
    """That all containers of the engine together may hold; None: what its host has."""
    memory_bytes: float | None = None
    usd_per_cpu_hour: float = 0.0


def make(options: Mapping[str, str], environment: Mapping[str, str]) -> DockerProvider:
    """A provider as `OPTIONS` and Docker's own variables (DOCKER_HOST, DOCKER_TLS_VERIFY …) say.

    file: the fleet's compose file; project and network: where they are not the file's own; host: the engine,
    in place of DOCKER_HOST; cpus and memory: what all containers may hold, in place of what the engine's
    host has; usd_per_cpu_hour: a price, of what is free otherwise. Raises InputError.
    """
    known = {**environment, **({"DOCKER_HOST": options["host"]} if "host" in options else {})}
    secret = urlsplit(known.get("DOCKER_HOST", "")).password
    return DockerProvider(place_of(options), lambda: _connect(known), [secret] if secret else [])


def place_of(options: Mapping[str, str]) -> Place:
    """What `options` and the compose file that they name say. Raises InputError."""
    check_options("docker", options, OPTIONS)
    compose = read_kinds(Path(options.get("file", DEFAULT_FILE)))
    project = options.get("project", compose.project)
    return Place(
        project=project,
        network=options.get("network", f"{project}_fleet"),
        kinds=compose.kinds,
        cpus=_number(options, "cpus"),
        memory_bytes=_memory(options),
        usd_per_cpu_hour=_number(options, "usd_per_cpu_hour") or 0.0,
    )


def _connect(environment: Mapping[str, str]) -> docker.APIClient:
    return docker.from_env(environment=dict(environment), use_ssh_client=True).api


class DockerProvider:
    """The devices that were added to one Compose project. See `motley.providers.base.Provider`."""

    name = "docker"

    def __init__(self, place: Place, connect: Connect, secrets: Sequence[str] = (), clock: Clock | None = None) -> None:
        self._place = place
        self._secrets = secrets
        self._engine = Engine(connect, place.project, clock or SystemClock(), place.cpus, place.memory_bytes)

    def available(self) -> str:
        try:
            with self._asking("asking whether the engine answers"):
                self._engine.api.ping()
        except ProviderError as error:
            return str(error)
        return ""

    def quote(self, needs: Needs, spot: bool = False) -> Sequence[Quote]:
        if spot:
            return []
        with self._asking("asking what the engine has left"):
            room = self._engine.room()
        fitting = [each for each in self._place.kinds.values() if _meets(each, needs) and room.holds(_size(each))]
        return sorted(map(self._quote, fitting), key=lambda each: (each.usd_per_hour, each.cpus, each.memory_bytes))

    def launch(self, launch: Launch) -> Machine:
        kind = self._place.kinds.get(launch.quote.kind)
        if kind is None:
            hint = did_you_mean(launch.quote.kind, self._place.kinds)
            raise ProviderError(f"docker: the compose file has no device class '{launch.quote.kind}'{hint}")
        call = uuid.uuid4().hex
        with self._asking(f"launching {launch.device}"):
            try:
                self._bring_up(launch, kind, call)
                parts = self._engine.labelled({TOKEN_TAG: launch.token})
                if not parts:
                    raise ProviderError(f"docker: {launch.device} was ended while it was launched")
                return _machine(parts)
            except BaseException:
                self._take_back(call)
                raise

    def list(self, run_id: str | None = None) -> Sequence[Machine]:
        with self._asking("listing the devices"):
            parts = self._engine.labelled({} if run_id is None else {RUN_TAG: run_id})
        return [_machine(list(each)) for _, each in groupby(sorted(parts, key=_token), _token)]

    def status(self, machine_id: str) -> Machine | None:
        with self._asking(f"looking for {machine_id}"):
            parts = self._of(machine_id)
        return _machine(parts) if parts else None

    def terminate(self, machine_id: str) -> None:
        """The device is given the time that its class's `stop_grace_period` says, to sign off."""
        with self._asking(f"ending {machine_id}"):
            parts = self._of(machine_id)
            for each in parts:
                if not _is_link(each):
                    self._engine.stop(each["Id"])
            self._remove(parts)

    def _bring_up(self, launch: Launch, kind: Kind, call: str) -> None:
        """Create what is not there, see whether it fits, start what is not started.

        A container's name holds the token, so that the engine lets only one of several callers create it. All
        are created before anyone sees whether they fit, so that no two callers take the same room.
        """
        name, labels = f"{_PREFIX}{launch.token}", {**self._labels(launch), _CALL_TAG: call}
        device = self._engine.create(name, {**self._device_config(launch, kind), "Labels": labels})
        parts = [device]
        if kind.link is not None:
            of_link = {**labels, _SERVICE_LABEL: f"{launch.device}-link"}
            config = {**_link_config(kind.link, device), "Labels": of_link}
            parts.append(self._engine.create(f"{name}{_LINK_SUFFIX}", config))
        waiting = [each for each in parts if not self._engine.is_started(each)]
        if device in waiting and not self._engine.room(launch.token).holds(_size(kind)):
            raise Unavailable(
                f"docker: no room for {launch.device}, which takes {kind.cpus:g} cores and "
                f"{units.mebibytes(kind.memory_bytes)}; end another device, or use a larger engine"
            )
        for each in waiting:
            self._engine.api.start(each)

    def _device_config(self, launch: Launch, kind: Kind) -> dict[str, Any]:
        given = {"MOTLEY_DEVICE": launch.device, "MOTLEY_SUPERLINK": launch.superlink}
        config = container_config(kind.device, {**environment_of(kind.device), **launch.environment, **given})
        if launch.image:
            config["Image"] = launch.image
        network = self._place.network
        config["HostConfig"]["NetworkMode"] = network
        if network not in _WITHOUT_ALIASES:
            config["NetworkingConfig"] = {"EndpointsConfig": {network: {"Aliases": [launch.device]}}}
        return {**config, "Hostname": launch.device}

    def _labels(self, launch: Launch) -> dict[str, str]:
        return {
            **launch.all_tags(),
            _KIND_TAG: launch.quote.kind,
            _PRICE_TAG: repr(launch.quote.usd_per_hour),
            **_COMPOSE_LABELS,
            PROJECT_LABEL: self._place.project,
            _SERVICE_LABEL: launch.device,
        }

    def _take_back(self, call: str) -> None:
        """Remove what one call has created; what can't be removed now is listed, and can be ended later."""
        with suppress(DockerException, OSError):
            self._remove(self._engine.labelled({_CALL_TAG: call}))

    def _remove(self, parts: Sequence[Part]) -> None:
        """The device last: a machine is listed for as long as there is something of it."""
        self._engine.remove([each["Id"] for each in sorted(parts, key=_is_link, reverse=True)])

    def _of(self, machine_id: str) -> Sequence[Part]:
        token = machine_id.removeprefix(_PREFIX)
        return [] if token == machine_id else self._engine.labelled({TOKEN_TAG: token})

    def _quote(self, kind: Kind) -> Quote:
        return Quote(
            provider=self.name,
            kind=kind.name,
            place="",
            cpus=kind.cpus,
            memory_bytes=kind.memory_bytes,
            usd_per_hour=kind.cpus * self._place.usd_per_cpu_hour,
            accelerators=kind.accelerators,
        )

    @contextmanager
    def _asking(self, doing: str) -> Iterator[None]:
        """What the SDK raises becomes a ProviderError of one line, without the password in the engine's address."""
        try:
            yield
        except (DockerException, OSError) as error:
            said = conceal(_said(error), self._secrets)
            hint = next((f"; {hint}" for pattern, hint in _HINTS.items() if re.search(pattern, said)), "")
            raise ProviderError(f"docker: {doing}: {said}{hint}") from None


def _said(error: Exception) -> str:
    text = error.explanation if isinstance(error, APIError) and error.explanation else error
    return " ".join(str(text).split())


def _link_config(link: Service, device: str) -> dict[str, Any]:
    config = container_config(link, environment_of(link))
    config["HostConfig"]["NetworkMode"] = f"container:{device}"
    return config


def _machine(parts: Sequence[Part]) -> Machine:
    """One machine from its containers."""
    first = min(parts, key=_is_link)
    labels = first["Labels"]
    states = {_STATES.get(part["State"], State.STOPPING) for part in parts}
    return Machine(
        provider=DockerProvider.name,
        machine_id=f"{_PREFIX}{labels[TOKEN_TAG]}",
        token=labels[TOKEN_TAG],
        run_id=labels[RUN_TAG],
        device=labels[DEVICE_TAG],
        state=State.STOPPING if _is_link(first) else min(states, key=_LEAST_FIRST.index),
        kind=labels[_KIND_TAG],
        place="",
        usd_per_hour=float(labels[_PRICE_TAG]),
        spot=False,
        launched_s=float(first["Created"]),
    )


def _size(kind: Kind) -> Room:
    return Room(kind.cpus, kind.memory_bytes)


def _meets(kind: Kind, needs: Needs) -> bool:
    """Neither the engine nor a compose file says how much memory an accelerator has."""
    return (
        kind.cpus >= needs.cpus
        and kind.memory_bytes >= needs.memory_bytes
        and kind.accelerators >= needs.accelerators
        and not needs.accelerator_memory_bytes
    )


def _token(part: Part) -> str:
    return str(part["Labels"][TOKEN_TAG])


def _is_link(part: Part) -> bool:
    return name_of(part).endswith(_LINK_SUFFIX)


def _number(options: Mapping[str, str], name: str) -> float | None:
    if name not in options:
        return None
    try:
        value = float(options[name])
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise InputError(f"provider 'docker': {name} '{options[name]}' is not a number from 0 on")
    return value


def _memory(options: Mapping[str, str]) -> float | None:
    try:
        return units.parse_bytes(options["memory"]) if "memory" in options else None
    except ValueError as error:
        raise InputError(f"provider 'docker': memory: {error}") from None
