"""The device classes of a compose file as kinds of machines, and their services as Docker's Engine API takes them.

A device that joins later is made from what the compose file says of its class, so that it has the same limits,
the same rights and the same image. Pure, but for `read_kinds`. Reference: Docker Engine API v1.41,
ContainerCreate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from motley import units
from motley.errors import InputError

Service = Mapping[str, Any]

_CLASS = "MOTLEY_DEVICE_CLASS"
_OF_ONE_DEVICE = ("MOTLEY_DEVICE", "MOTLEY_PARTITION")
_NANO = 1_000_000_000


@dataclass(frozen=True)
class Kind:
    """A device class. Where it leaves something to chance, it is like its first device."""

    name: str
    cpus: float
    """Of the device and its link together."""
    memory_bytes: int
    accelerators: int
    device: Service
    link: Service | None
    """The sidecar that shapes the device's network, where the class has one."""


@dataclass(frozen=True)
class ComposeFile:
    """What is needed of one."""

    project: str
    kinds: Mapping[str, Kind]


def read_kinds(path: Path) -> ComposeFile:
    """Read a compose file that Motley wrote. Raises InputError where it is missing or something else."""
    hint = "write it with: motley compose"
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise InputError(f"{path}: can't read it: {error.strerror}; {hint} --output {path}") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise InputError(f"{path} is not YAML; {hint}") from None
    try:
        found = ComposeFile(str(content["name"]), kinds(content["services"]))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is not a compose file of Motley's ({error!r}); {hint}") from None
    if not found.kinds:
        raise InputError(f"{path} has no device, so nothing says what another one is like; {hint}")
    return found


def kinds(services: Mapping[str, Service]) -> dict[str, Kind]:
    """The device classes among `services`, by name."""
    found: dict[str, Kind] = {}
    for name, service in services.items():
        class_name = service.get("environment", {}).get(_CLASS)
        if class_name is not None and class_name not in found:
            found[class_name] = _kind(class_name, service, services.get(f"{name}-link"))
    return found


def _kind(name: str, device: Service, link: Service | None) -> Kind:
    parts = [each for each in (device, link) if each is not None]
    return Kind(
        name=name,
        cpus=round(sum(float(_limits(each)["cpus"]) for each in parts), 9),
        memory_bytes=sum(units.parse_bytes(_limits(each)["memory"]) for each in parts),
        accelerators=sum(int(each["count"]) for each in _reserved(device)),
        device=device,
        link=link,
    )


def environment_of(service: Service) -> dict[str, str]:
    """The variables that a class's devices share, as the container sees them."""
    given = service.get("environment", {})
    return {name: _plain(text) for name, text in given.items() if name not in _OF_ONE_DEVICE}


def container_config(service: Service, environment: Mapping[str, str]) -> dict[str, Any]:
    """The body of ContainerCreate for a service, without its network, names and labels."""
    return {
        "Image": service["image"],
        "Cmd": [_plain(word) for word in service["command"]],
        "User": service["user"],
        "Env": [f"{name}={text}" for name, text in sorted(environment.items())],
        "StopTimeout": int(units.parse_seconds(service["stop_grace_period"])),
        **({"Healthcheck": _health_check(service["healthcheck"])} if "healthcheck" in service else {}),
        "HostConfig": _host_config(service),
    }


def _host_config(service: Service) -> dict[str, Any]:
    limits, logging = _limits(service), service["logging"]
    return {
        "NanoCpus": round(float(limits["cpus"]) * _NANO),
        "Memory": units.parse_bytes(limits["memory"]),
        "MemorySwap": units.parse_bytes(service["memswap_limit"]),
        "PidsLimit": int(limits["pids"]),
        "ReadonlyRootfs": bool(service["read_only"]),
        "CapDrop": list(service["cap_drop"]),
        "CapAdd": list(service.get("cap_add", ())),
        "SecurityOpt": list(service["security_opt"]),
        "Tmpfs": dict(text.partition(":")[::2] for text in service.get("tmpfs", ())),
        "RestartPolicy": {"Name": service["restart"], "MaximumRetryCount": 0},
        "LogConfig": {"Type": logging["driver"], "Config": dict(logging["options"])},
        "DeviceRequests": [_device_request(each) for each in _reserved(service)],
    }


def _device_request(reserved: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "Driver": reserved["driver"],
        "Count": int(reserved["count"]),
        "Capabilities": [list(reserved["capabilities"])],
    }


def _health_check(check: Mapping[str, Any]) -> dict[str, Any]:
    times = {"Interval": "interval", "Timeout": "timeout", "StartPeriod": "start_period"}
    return {
        "Test": [_plain(word) for word in check["test"]],
        "Retries": int(check["retries"]),
        **{name: round(units.parse_seconds(check[key]) * _NANO) for name, key in times.items()},
    }


def _limits(service: Service) -> Mapping[str, Any]:
    limits: Mapping[str, Any] = service["deploy"]["resources"]["limits"]
    return limits


def _reserved(service: Service) -> list[Mapping[str, Any]]:
    return list(service["deploy"]["resources"].get("reservations", {}).get("devices", ()))


def _plain(text: object) -> str:
    """A compose file writes `$$` for a dollar sign."""
    return str(text).replace("$$", "$")
