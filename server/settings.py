"""The server's settings, from the environment that the generated compose file gives it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from motley.environment import port_of
from motley.errors import InputError


@dataclass(frozen=True)
class Settings:
    """Where things are, and which ports to serve."""

    fleet: str
    """The fleet file itself, not its path."""
    state: Path
    """Directory that outlives the container: history, models, Flower's database."""
    data: Path
    """Directory of the shards; the server reads only the test set."""
    host: str
    port: int
    metrics_port: int
    runtime: str
    ready_file: Path


def from_environment(environment: Mapping[str, str]) -> Settings:
    """Read the variables `MOTLEY_…`. Raises InputError when one that is needed is missing."""
    for name in ("MOTLEY_FLEET", "MOTLEY_STATE", "MOTLEY_DATA"):
        if not environment.get(name):
            raise InputError(f"{name} is not set; the agent is meant to be started from the generated compose file")
    return Settings(
        fleet=environment["MOTLEY_FLEET"],
        state=Path(environment["MOTLEY_STATE"]),
        data=Path(environment["MOTLEY_DATA"]),
        host=environment.get("MOTLEY_HOST", "0.0.0.0"),
        port=port_of(environment, "MOTLEY_PORT", 8000),
        metrics_port=port_of(environment, "MOTLEY_METRICS_PORT", 9100),
        runtime=environment.get("MOTLEY_RUNTIME", "processes"),
        ready_file=Path(environment.get("MOTLEY_READY_FILE", "/tmp/ready")),
    )
