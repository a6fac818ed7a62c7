"""A provider whose machines are files, so that they outlive the process that launched them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from tempfile import NamedTemporaryFile

from motley.providers.base import Launch, Machine, Needs, ProviderError, Quote, State, Unavailable

GIB = 1024**3
NEEDS = Needs(1, GIB)


def nothing(step: str) -> None:
    """What happens at a step, unless a test says otherwise."""


class FileProvider:
    """One machine a file in `directory`, named after its token: two launches with one token give one machine.

    at: called with the name of each step as it begins and ends, such as 'launch:begun' and 'launch:done'.
    """

    def __init__(
        self,
        directory: Path,
        now_s: Callable[[], float],
        usd_per_hour: float = 1.0,
        name: str = "fake",
        at: Callable[[str], None] = nothing,
    ) -> None:
        self.directory, self.now_s, self.usd_per_hour, self.name, self.at = directory, now_s, usd_per_hour, name, at
        self.problem, self.lost, self.kinds, self.exhausted = "", False, ("small",), set[str]()
        directory.mkdir(parents=True, exist_ok=True)

    def available(self) -> str:
        return self.problem

    def quote(self, needs: Needs, spot: bool = False) -> Sequence[Quote]:
        return [
            Quote(self.name, kind, "here", 2.0, 4 * GIB, self.usd_per_hour * (1 + number), spot)
            for number, kind in enumerate(self.kinds)
        ]

    def launch(self, launch: Launch) -> Machine:
        self.at("launch:begun")
        self._reach()
        if launch.quote.kind in self.exhausted:
            raise Unavailable(f"{self.name}: no '{launch.quote.kind}' is to be had")
        self.launch_seen = launch
        quote = launch.quote
        parts = (self.name, f"m-{launch.token}", launch.token, launch.run_id, launch.device, State.RUNNING)
        price = (quote.kind, quote.place, self.usd_per_hour, quote.spot, self.now_s())
        self._write(self.directory / launch.token, Machine(*parts, *price))
        self.at("launch:done")
        if self.lost:
            raise ProviderError(f"{self.name}: the connection was lost")
        return self._read(self.directory / launch.token)

    def list(self, run_id: str | None = None) -> Sequence[Machine]:
        self._reach()
        found = [self._read(path) for path in sorted(self.directory.iterdir())]
        return [each for each in found if run_id in (None, each.run_id)]

    def status(self, machine_id: str) -> Machine | None:
        self._reach()
        path = self.directory / machine_id.removeprefix("m-")
        return self._read(path) if path.exists() else None

    def terminate(self, machine_id: str) -> None:
        self.at("terminate:begun")
        self._reach()
        (self.directory / machine_id.removeprefix("m-")).unlink(missing_ok=True)
        self.at("terminate:done")

    def _reach(self) -> None:
        if self.problem:
            raise ProviderError(f"{self.name}: {self.problem}")

    def _write(self, path: Path, machine: Machine) -> None:
        """All at once, and only where there is none: whoever comes later finds the first one."""
        with NamedTemporaryFile("w", dir=self.directory.parent) as file, suppress(FileExistsError):
            file.write(json.dumps(asdict(machine)))
            file.flush()
            os.link(file.name, path)

    def _read(self, path: Path) -> Machine:
        plain = json.loads(path.read_text())
        return Machine(**{**plain, "state": State(plain["state"])})
