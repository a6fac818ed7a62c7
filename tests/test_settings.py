"""What the agents read from their environment."""

from __future__ import annotations

from pathlib import Path

import pytest
from factories import fleet

import server.settings
from client.settings import from_environment
from motley.environment import device_environment
from motley.errors import InputError

NEEDED = {"MOTLEY_DEVICE": "client-1", "MOTLEY_DEVICE_CLASS": "fast", "MOTLEY_SUPERLINK": "server:8000"}
SERVER = {"MOTLEY_FLEET": "name: tiny", "MOTLEY_STATE": "/state", "MOTLEY_DATA": "/data"}


def test_a_device_reads_what_its_class_is_given() -> None:
    made = fleet(
        classes={
            "slow": {
                "cpus": 0.15,
                "memory": "768m",
                "learning_rate": 0.00001,
                "network": {"down": "6mbit", "latency": "20ms"},
                "battery": {"capacity": "10wh", "level": 0.4, "charging_share": 0.25, "charging_from": 0.5},
                "power": {"idle": "0.5w", "busy": "3w"},
                "heat": {"ambient_celsius": 20.0},
            }
        }
    )
    environment = device_environment(next(made.devices())) | {"MOTLEY_SUPERLINK": "server:8000", "MOTLEY_DATA": "/data"}
    settings = from_environment(environment)
    assert settings.node == {
        "battery-capacity": "10",
        "battery-charge": "10",
        "battery-charging-from": "0.5",
        "battery-charging-share": "0.25",
        "battery-floor": "0.2",
        "battery-level": "0.4",
        "condition": "/tmp/ready-condition.json",
        "cpus": "0.15",
        "data": "/data",
        "device": "client-1",
        "device-class": "slow",
        "down": "6000000",
        "heat-ambient": "20",
        "heat-limit": "60",
        "heat-throttle": "45",
        "latency": "0.02",
        "learning-rate": "1e-05",
        "memory": str(768 * 1024**2),
        "partition": "0",
        "power-busy": "3",
        "power-idle": "0.5",
    }
    assert 'device="client-1"' in settings.node_config.split()
    assert "memory=805306368" in settings.node_config.split()


def test_what_the_file_leaves_out_is_left_out() -> None:
    environment = device_environment(next(fleet().devices()))
    assert environment.keys() == {
        f"MOTLEY_{name}" for name in ("DEVICE", "PARTITION", "DEVICE_CLASS", "CPUS", "MEMORY")
    }


def test_the_agent_s_own_settings_stay_with_the_agent() -> None:
    own = {"MOTLEY_METRICS_PORT": "9999", "MOTLEY_WARM": "client.app,os", "MOTLEY_READY_FILE": "/tmp/r", "HOME": "/"}
    settings = from_environment(NEEDED | own)
    assert (settings.metrics_port, settings.warm, settings.ready_file) == (9999, "client.app,os", "/tmp/r")
    assert settings.superlink == "server:8000"
    assert settings.node == {"device": "client-1", "device-class": "fast"}


@pytest.mark.parametrize("name", NEEDED)
@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_variable_is_named(name: str, value: str | None) -> None:
    environment = {key: held for key, held in NEEDED.items() if key != name} | (
        {name: value} if value is not None else {}
    )
    with pytest.raises(InputError, match=f"{name} is not set"):
        from_environment(environment)


@pytest.mark.parametrize("text", ["", "0", "65536", "-1", "http", "9.5", "²", "9" * 5000])
def test_a_port_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"MOTLEY_METRICS_PORT '.*' is not a port; write 1 to 65535"):
        from_environment(NEEDED | {"MOTLEY_METRICS_PORT": text})


def test_the_server_reads_its_own() -> None:
    settings = server.settings.from_environment(SERVER | {"MOTLEY_PORT": "8001", "MOTLEY_RUNTIME": "compose"})
    assert (settings.fleet, settings.state, settings.data) == ("name: tiny", Path("/state"), Path("/data"))
    assert (settings.port, settings.metrics_port, settings.runtime) == (8001, 9100, "compose")


@pytest.mark.parametrize("name", SERVER)
def test_the_server_names_what_it_lacks(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} is not set"):
        server.settings.from_environment({**SERVER, name: ""})
