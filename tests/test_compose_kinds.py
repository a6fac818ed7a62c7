"""The device classes of a compose file as kinds of machines, and as the engine takes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from factories import MIB, ROOT, fleet

from motley.compose import Origin, compose_file
from motley.deployment import dump
from motley.errors import InputError
from motley.providers.compose_kinds import Kind, container_config, environment_of, kinds, read_kinds


def kinds_of(**classes: dict[str, Any]) -> dict[str, Kind]:
    """The kinds of a fleet's compose file, as it is read back."""
    text = dump(compose_file(fleet(classes=classes), Origin("fleet.yaml")))
    return kinds(yaml.safe_load(text)["services"])


def test_kinds_of_the_committed_file() -> None:
    found = read_kinds(ROOT / "docker-compose.yml")
    assert found.project == "motley-laptop"
    sizes = {name: (kind.cpus, kind.memory_bytes // MIB) for name, kind in found.kinds.items()}
    assert sizes == {
        "fast-small": (0.575, 416),
        "fast": (0.5, 544),
        "middle": (0.425, 672),
        "slow-large": (0.2, 800),
    }


def test_a_class_without_a_link_has_none() -> None:
    kind = kinds_of(plain={"count": 2, "cpus": 0.25, "memory": "512m"})["plain"]
    assert (kind.cpus, kind.memory_bytes, kind.accelerators, kind.link) == (0.25, 512 * MIB, 0, None)


def test_a_class_that_differs_from_device_to_device_is_like_its_first_one() -> None:
    drawn = {"count": 3, "cpus": {"uniform": {"low": 0.2, "high": 0.9}}, "memory": "512m"}
    services = yaml.safe_load(dump(compose_file(fleet(classes={"drawn": drawn}), Origin("f"))))["services"]
    limits = services["client-1"]["deploy"]["resources"]["limits"]
    assert kinds(services)["drawn"].cpus == float(limits["cpus"])


def test_the_environment_is_that_of_the_class() -> None:
    kind = kinds_of(plain={"count": 2, "cpus": 0.25, "memory": "512m", "batch_size": 8})["plain"]
    assert environment_of(kind.device) == {
        "MOTLEY_DEVICE_CLASS": "plain",
        "MOTLEY_CPUS": "0.25",
        "MOTLEY_MEMORY": str(512 * MIB),
        "MOTLEY_BATCH_SIZE": "8",
        "MOTLEY_SUPERLINK": "server:8000",
        "MOTLEY_DATA": "/data",
    }


def test_limits_and_rights_as_the_engine_takes_them() -> None:
    kind = kinds_of(plain={"cpus": 0.25, "memory": "512m"})["plain"]
    config = container_config(kind.device, {"B": "2", "A": "1"})
    assert config["HostConfig"] == {
        "NanoCpus": 250_000_000,
        "Memory": 512 * MIB,
        "MemorySwap": 512 * MIB,
        "PidsLimit": 256,
        "ReadonlyRootfs": True,
        "CapDrop": ["ALL"],
        "CapAdd": [],
        "SecurityOpt": ["no-new-privileges:true"],
        "Tmpfs": {"/tmp": "size=64m,mode=1777"},
        "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 0},
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}},
        "DeviceRequests": [],
    }
    assert (config["User"], config["StopTimeout"]) == ("10001:10001", 15)
    assert config["Cmd"] == ["python", "-m", "client.agent"]
    assert config["Env"] == ["A=1", "B=2"]
    assert config["Healthcheck"] == {
        "Test": ["CMD-SHELL", 'test -n "$(find /tmp/ready -mmin -1 2>/dev/null)"'],
        "Retries": 6,
        "Interval": 5 * 10**9,
        "Timeout": 5 * 10**9,
        "StartPeriod": 120 * 10**9,
    }


def test_the_link_alone_may_shape_a_network() -> None:
    kind = kinds_of(shaped={"cpus": 0.25, "memory": "512m", "network": {"up": "1mbit"}})["shaped"]
    assert kind.link is not None
    assert container_config(kind.link, {})["HostConfig"]["CapAdd"] == ["NET_ADMIN"]
    assert container_config(kind.device, {})["HostConfig"]["CapAdd"] == []
    assert environment_of(kind.link)["LINK_UP_BIT"] == "1000000"


def test_accelerators_are_asked_for() -> None:
    kind = kinds_of(strong={"cpus": 1, "memory": "1g", "accelerators": 2})["strong"]
    assert kind.accelerators == 2
    asked = container_config(kind.device, {})["HostConfig"]["DeviceRequests"]
    assert asked == [{"Driver": "nvidia", "Count": 2, "Capabilities": [["gpu"]]}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- list\n", "is not a compose file of Motley's"),
        ("name: x\nservices: {web: {image: nginx}}\n", "has no device"),
        ("name: x\nservices: {c: {environment: {MOTLEY_DEVICE_CLASS: fast}}}\n", "is not a compose file of Motley's"),
        ("a: [", "is not YAML"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "docker-compose.yml"
    path.write_text(text)
    with pytest.raises(InputError, match=f"docker-compose.yml.*{message}.*motley compose"):
        read_kinds(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none.yml: can't read it: No such file.*motley compose --output"):
        read_kinds(tmp_path / "none.yml")
