"""The limits that a device sets itself, as the fleet file has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from client.emulator import number_of
from motley.resource_limits import ResourceLimits

KEYS = {
    "limit-memory": "memory_bytes",
    "limit-cpu-percent": "cpu_percent",
    "limit-gpu-memory": "gpu_memory_bytes",
    "limit-power": "power_w",
    "limit-celsius": "celsius",
    "limit-battery-floor": "battery_floor",
}
"""Keys of the node configuration, and the fields of ResourceLimits that they set."""


def limits_of(node: Mapping[str, object]) -> ResourceLimits:
    """The limits that the device sets itself, by the fleet file."""
    known: dict[str, Any] = {field: number_of(node, key) for key, field in KEYS.items() if key in node}
    whole = {field: int(value) for field, value in known.items() if field.endswith("_bytes")}
    return ResourceLimits(**{**known, **whole})
