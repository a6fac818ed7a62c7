"""How the loop speaks with a running server: one question at each look, which takes along what was done before."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from motley.errors import MotleyError
from motley.scaler import Facts, Measured
from motley.scaling_log import ScalingStep

_PATIENCE_S = 60.0


class NoServer(MotleyError):
    """The server does not answer now."""


@dataclass(frozen=True)
class Seen:
    """What the server says of its newest run."""

    run_id: str
    """Empty before the first."""
    active: bool
    used: float
    queued: float
    busy: Sequence[str]
    fitness: Mapping[str, float]
    """Of each device that is there."""

    def measured(self, usd_per_hour: Mapping[str, float]) -> Measured:
        """What the scaler wants to know; prices are those of the devices that were launched."""
        facts = {
            name: Facts(name in self.busy, usefulness, usd_per_hour.get(name, 0.0))
            for name, usefulness in self.fitness.items()
        }
        return Measured(self.used, self.queued, facts)


class Link(Protocol):
    """A way to the server."""

    def look(self, window_s: float, step: ScalingStep | None) -> Seen:
        """What is the load, as a mean over `window_s`; `step` is kept. Raises NoServer."""


class ComposeLink:
    """To the server of a Compose project on this host's engine."""

    def __init__(self, file: Path, project: str) -> None:
        self._argv = ["docker", "compose", "-f", str(file), "-p", project, "exec", "-T", "server"]
        self._argv += ["python", "-m", "server.scaling", "--state", "/state"]

    def look(self, window_s: float, step: ScalingStep | None) -> Seen:
        kept = [] if step is None else ["--step", json.dumps(asdict(step))]
        argv = [*self._argv, "--window", f"{window_s:g}", *kept]
        try:
            done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=_PATIENCE_S)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NoServer(f"the server can't be asked: {type(error).__name__}") from None
        if done.returncode:
            said = done.stderr.strip().splitlines()
            raise NoServer(f"the server can't be asked: {said[-1] if said else f'exit code {done.returncode}'}")
        return Seen(**json.loads(done.stdout))
