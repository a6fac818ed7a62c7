"""What the provider `docker` does with an engine: create, find and remove containers, and see what room is left.

Knows of containers and labels only; what they are for is in `motley.providers.docker`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import docker
from docker.errors import APIError, NotFound

from motley.clock import Clock
from motley.providers.base import TOKEN_TAG, ProviderError

Connect = Callable[[], docker.APIClient]
Part = Mapping[str, Any]
"""A container as the engine lists it: one of those that make up a machine."""
_Details = Mapping[str, Any]
"""A container as the engine tells of it alone."""

PROJECT_LABEL = "com.docker.compose.project"
_CREATED, _RUNS = "created", ("running", "paused", "restarting")
_CONFLICT = 409
_WAIT_S, _LOOK_S = 20.0, 0.1
"""How long another caller's request may take to show, and how often to look."""
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Room:
    """What containers hold, or may hold."""

    cpus: float
    memory_bytes: float

    def holds(self, other: Room) -> bool:
        return other.cpus <= self.cpus + _ROUNDING and other.memory_bytes <= self.memory_bytes


class Engine:
    """Motley's containers of one Compose project. Raises what the SDK raises, and ProviderError.

    cpus, memory_bytes: what all containers of the engine together may hold; None: what its host has.
    """

    def __init__(
        self, connect: Connect, project: str, clock: Clock, cpus: float | None, memory_bytes: float | None
    ) -> None:
        self._connect = connect
        self._project = project
        self._clock = clock
        self._cpus, self._memory_bytes = cpus, memory_bytes

    @cached_property
    def api(self) -> docker.APIClient:
        """Connects where it is first needed."""
        return self._connect()

    def labelled(self, labels: Mapping[str, str | None]) -> Sequence[Part]:
        """Motley's containers with these labels; None stands for any value."""
        wanted = {PROJECT_LABEL: self._project, TOKEN_TAG: None, **labels}
        texts = [key if text is None else f"{key}={text}" for key, text in wanted.items()]
        found: Sequence[Part] = self.api.containers(all=True, filters={"label": texts})
        return found

    def create(self, name: str, config: Mapping[str, Any]) -> str:
        """The id of a new container, or of the one that has this name already.

        Of several callers the engine lets one create it. It lists the container a moment before it knows it by its id.
        """
        until_s = self._clock.now_s() + _WAIT_S
        while True:
            try:
                made = self.api.create_container_from_config(dict(config), name)  # type: ignore[no-untyped-call]
                return str(made["Id"])
            except APIError as error:
                if error.status_code != _CONFLICT:
                    raise
            same = self.labelled({TOKEN_TAG: config["Labels"][TOKEN_TAG]})
            for each in same:
                if name_of(each) == name and self._knows(each["Id"]):
                    return str(each["Id"])
            if self._clock.now_s() >= until_s:
                raise ProviderError(f"docker: the name {name} belongs to a container that is not Motley's; remove it")
            self._clock.sleep(_LOOK_S)

    def _knows(self, container: str) -> bool:
        try:
            self.api.inspect_container(container)
        except NotFound:
            return False
        return True

    def is_started(self, container: str) -> bool:
        """Whether it was, even if it has ended."""
        return not _waits(self.api.inspect_container(container))

    def stop(self, container: str) -> None:
        """Have it sign off; it has the time that it was created with. No error where it has ended, or is gone."""
        with suppress(NotFound):
            self.api.stop(container)

    def remove(self, containers: Sequence[str]) -> None:
        """Remove them one after the other, with their anonymous volumes; no error where they are gone."""
        until_s = self._clock.now_s() + _WAIT_S
        for container in containers:
            while not self._is_removed(container, is_last_try=self._clock.now_s() >= until_s):
                self._clock.sleep(_LOOK_S)

    def _is_removed(self, container: str, is_last_try: bool) -> bool:
        """Remove it; False while another caller is at it."""
        try:
            self.api.remove_container(container, v=True, force=True)
        except NotFound:
            return True
        except APIError as error:
            if error.status_code != _CONFLICT or is_last_try:
                raise
            return False
        return True

    def room(self, token: str | None = None) -> Room:
        """What is left beside all that runs, of this project and of others, and beside what waits to be started.

        token: of a machine that waits itself. Then of the others that wait only those count that were created
        whole before it: of two callers who look at the same time, one at least sees the other.
        """
        containers = self._holding()
        created: dict[str, str] = {}
        for each in filter(_waits, containers):
            created[_token(each)] = max(created.get(_token(each), ""), each["Created"].rstrip("Z"))
        own = (created[token], token) if token in created else None

        def counts(container: _Details) -> bool:
            other = _token(container)
            return not _waits(container) or own is None or (created[other], other) < own

        held = [_held(each) for each in containers if counts(each)]
        info = self.api.info()
        return Room(
            (info["NCPU"] if self._cpus is None else self._cpus) - sum(each.cpus for each in held),
            (info["MemTotal"] if self._memory_bytes is None else self._memory_bytes)
            - sum(each.memory_bytes for each in held),
        )

    def _holding(self) -> list[_Details]:
        """The engine's containers that run, and those of Motley's that wait to be started."""
        details = []
        for each in self.api.containers(all=True):
            if each["State"] in _RUNS or (each["State"] == _CREATED and TOKEN_TAG in each["Labels"]):
                with suppress(NotFound):
                    details.append(self.api.inspect_container(each["Id"]))
        return details


def name_of(part: Part) -> str:
    """A container to which others link has further names, with more slashes."""
    return next((name[1:] for name in part["Names"] if "/" not in name[1:]), "")


def _held(container: _Details) -> Room:
    """A container's hard limits; one without holds nothing for sure."""
    host = container["HostConfig"]
    quota = host["CpuQuota"] / host["CpuPeriod"] if host["CpuQuota"] > 0 and host["CpuPeriod"] else 0.0
    return Room(host["NanoCpus"] / 1e9 or quota, host["Memory"])


def _waits(container: _Details) -> bool:
    return bool(container["State"]["Status"] == _CREATED)


def _token(container: _Details) -> str:
    return str((container["Config"]["Labels"] or {}).get(TOKEN_TAG, ""))
