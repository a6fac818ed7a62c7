"""A device's settings, from the environment that the generated compose file gives it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from client.emulator import KEYS
from motley.environment import port_of
from motley.errors import InputError

PREFIX = "MOTLEY_"
_AGENT_ONLY = ("superlink", "runtime-port", "metrics-port", "warm", "ready-file")
_TEXT = ("device", "device-class", "data", "condition", "governor")


@dataclass(frozen=True)
class Settings:
    """What the agent needs; `node` goes on to the ClientApp as Flower's node configuration."""

    superlink: str
    runtime_port: int
    metrics_port: int
    warm: str
    ready_file: str
    node: Mapping[str, str]

    @property
    def node_config(self) -> str:
        """`node` in the form that flower-supernode takes: text in quotes, numbers bare."""
        return " ".join(f'{key}="{value}"' if key in _TEXT else f"{key}={value}" for key, value in self.node.items())


def from_environment(environment: Mapping[str, str]) -> Settings:
    """Read the variables `MOTLEY_…`. Raises InputError when one that is needed is missing or odd."""
    given = {
        name.removeprefix(PREFIX).lower().replace("_", "-"): value
        for name, value in environment.items()
        if name.startswith(PREFIX)
    }
    for key in ("device", "device-class", "superlink"):
        if not given.get(key):
            name = PREFIX + key.upper().replace("-", "_")
            raise InputError(f"{name} is not set; the agent is meant to be started from the generated compose file")
    ready_file = given.get("ready-file", "/tmp/ready")
    if given.keys() & KEYS.keys():
        given.setdefault("condition", f"{ready_file}-condition.json")
    return Settings(
        superlink=given["superlink"],
        runtime_port=port_of(environment, "MOTLEY_RUNTIME_PORT", 9094),
        metrics_port=port_of(environment, "MOTLEY_METRICS_PORT", 9101),
        warm=given.get("warm", "client.app"),
        ready_file=ready_file,
        node={key: value for key, value in sorted(given.items()) if key not in _AGENT_ONLY},
    )
