"""The environment variables by which a runtime tells a device's agent what it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from motley.errors import InputError

if TYPE_CHECKING:
    from motley.hardware import DeviceSpec
    from motley.spec import Device


def device_environment(device: Device) -> dict[str, str]:
    """All of a device's own variables."""
    return {"MOTLEY_DEVICE": device.name, "MOTLEY_PARTITION": str(device.partition), **class_environment(device)}


def class_environment(device: Device) -> dict[str, str]:
    """The variables that a device shares with its class; what the fleet file leaves out is left out."""
    spec = device.spec
    network = spec.network
    known: dict[str, object] = {
        "DEVICE_CLASS": device.class_name,
        "CPUS": spec.cpus,
        "MEMORY": spec.memory,
        "BATCH_SIZE": spec.batch_size,
        "LEARNING_RATE": spec.learning_rate,
        "DOWN": network and network.down,
        "UP": network and network.up,
        "LATENCY": network and network.latency,
        **_body(spec),
        **_limits(spec),
        "ACCELERATORS": spec.accelerators or None,
        "PRIORITY": None if spec.priority == 1 else spec.priority,
    }
    return {f"MOTLEY_{name}": _text(value) for name, value in known.items() if value is not None}


def _body(spec: DeviceSpec) -> dict[str, object]:
    """What the emulation of battery and heat needs; client.emulation reads it."""
    battery, power, heat = spec.battery, spec.power, spec.heat
    has_window = battery is not None and 0 < battery.charging_share < 1
    return {
        "BATTERY_CAPACITY": battery and battery.capacity,
        "BATTERY_LEVEL": battery and battery.level,
        "BATTERY_FLOOR": battery and battery.floor,
        "BATTERY_CHARGE": battery and battery.charge,
        "BATTERY_CHARGING_SHARE": battery and (battery.charging_share or None),
        "BATTERY_CHARGING_FROM": battery.charging_from if battery and has_window else None,
        "POWER_IDLE": power and power.idle,
        "POWER_BUSY": power and power.busy,
        "HEAT_AMBIENT": heat and heat.ambient_celsius,
        "HEAT_THROTTLE": heat and heat.throttle_celsius,
        "HEAT_LIMIT": heat and heat.limit_celsius,
    }


def _limits(spec: DeviceSpec) -> dict[str, object]:
    """What the device's governor needs; client.governor reads it."""
    own = spec.limits
    return {
        "GOVERNOR": None if spec.governor == "none" else spec.governor,
        "LIMIT_MEMORY": own and own.memory,
        "LIMIT_CPU_PERCENT": own and own.cpu_percent,
        "LIMIT_GPU_MEMORY": own and own.gpu_memory,
        "LIMIT_POWER": own and own.power,
        "LIMIT_CELSIUS": own and own.celsius,
        "LIMIT_BATTERY_FLOOR": own and own.battery_floor,
    }


def port_of(environment: Mapping[str, str], name: str, default: int) -> int:
    """The port that a variable names. Raises InputError when it is none."""
    text = environment.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) <= 5) or not 1 <= int(text) <= 65535:
        raise InputError(f"{name} '{text}' is not a port; write 1 to 65535")
    return int(text)


def _text(value: object) -> str:
    return f"{value:.15g}" if isinstance(value, float) else str(value)
