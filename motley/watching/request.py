"""What `motley monitor` is asked for, checked before anything starts."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

import psutil

from motley.errors import InputError, did_you_mean
from motley.resource_limits import ResourceLimits
from motley.units import parse_bytes, parse_seconds, parse_watts

SUFFIXES = (".jsonl", ".csv")
DEFAULT_STRATEGY = "dynamic"
_LEAST_INTERVAL_S = 0.02
_MOST_S = 366 * 86400.0


@dataclass(frozen=True)
class Request:
    """The options of the command line, as typed."""

    interval: str = "1s"
    duration: str | None = None
    max_memory: str | None = None
    max_cpu_percent: float | None = None
    max_gpu_memory: str | None = None
    max_temp: float | None = None
    max_power: str | None = None
    min_battery: str | None = None
    strategy: str | None = None
    simulate_load: bool = False
    save: Path | None = None
    serve: int | None = None
    otel: bool = False
    json_file: Path | None = None
    pid: int | None = None


@dataclass(frozen=True)
class Plan:
    """The same, understood."""

    interval_s: float
    duration_s: float | None
    limits: ResourceLimits
    strategy: str | None
    """None where no load is simulated."""
    save: Path | None = None
    serve: int | None = None
    otel: bool = False
    json_file: Path | None = None
    pid: int | None = None
    """Whose memory is the process's; None: this one."""


def plan_of(request: Request) -> Plan:
    """Raises InputError that names the option and its value."""
    for option, path in (("--save", request.save), ("--json", request.json_file)):
        _check_file(option, path)
    if request.save is not None and request.save.suffix.lower() not in SUFFIXES:
        raise InputError(f"--save {request.save}: the name must end with {' or '.join(SUFFIXES)}")
    return Plan(
        interval_s=_interval_s(request.interval),
        duration_s=None if request.duration is None else _seconds("--duration", request.duration),
        limits=limits_of(request),
        strategy=_strategy(request),
        save=request.save,
        serve=request.serve,
        otel=request.otel,
        json_file=request.json_file,
        pid=_pid(request),
    )


def limits_of(request: Request) -> ResourceLimits:
    """Raises InputError for a limit that can't be one."""
    return ResourceLimits(
        memory_bytes=_bytes("--max-memory", request.max_memory),
        cpu_percent=_positive("--max-cpu-percent", request.max_cpu_percent),
        gpu_memory_bytes=_bytes("--max-gpu-memory", request.max_gpu_memory),
        power_w=_watts("--max-power", request.max_power),
        celsius=_positive("--max-temp", request.max_temp),
        battery_floor=_share("--min-battery", request.min_battery),
    )


def _strategy(request: Request) -> str | None:
    from motley.governor import GOVERNORS

    if request.strategy is not None and request.strategy not in GOVERNORS:
        raise InputError(
            f"--strategy: unknown strategy '{request.strategy}'{did_you_mean(request.strategy, GOVERNORS)}"
        )
    if not request.simulate_load:
        if request.strategy is not None:
            raise InputError("--strategy governs a load; add --simulate-load, or leave it out")
        return None
    if request.strategy == "cooperative" and request.max_memory is None:
        raise InputError("--strategy cooperative shares a budget of memory; say how much with --max-memory")
    return request.strategy or DEFAULT_STRATEGY


def _pid(request: Request) -> int | None:
    if request.pid is not None and request.simulate_load:
        raise InputError("--simulate-load runs in this process; leave out --pid")
    if request.pid is not None and not psutil.pid_exists(request.pid):
        raise InputError(f"--pid {request.pid}: there is no such process")
    return request.pid


def _check_file(option: str, path: Path | None) -> None:
    if path is None:
        return
    if path.is_dir():
        raise InputError(f"{option} {path}: that is a directory")
    if not path.absolute().parent.is_dir():
        raise InputError(f"{option} {path}: there is no directory {path.parent}")
    if not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
        raise InputError(f"{option} {path}: it can't be written")


def _interval_s(text: str) -> float:
    interval_s = _seconds("--interval", text)
    if interval_s < _LEAST_INTERVAL_S:
        raise InputError(f"--interval {text}: the shortest is 20ms")
    return interval_s


def _seconds(option: str, text: str) -> float:
    """`'30s'`, `'5m'`, or a bare number of seconds."""
    try:
        seconds = _number(text) if _is_number(text) else parse_seconds(text)
    except ValueError as error:
        raise InputError(f"{option}: {error}") from None
    if not 0 < seconds <= _MOST_S:
        raise InputError(f"{option} {text}: it must be more than 0 and at most a year")
    return seconds


def _bytes(option: str, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        value = parse_bytes(text)
    except ValueError as error:
        raise InputError(f"{option}: {error}") from None
    if value <= 0:
        raise InputError(f"{option} {text}: it must be more than 0")
    return value


def _watts(option: str, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return _positive(option, _number(text) if _is_number(text) else parse_watts(text))
    except ValueError as error:
        raise InputError(f"{option}: {error}") from None


def _share(option: str, text: str | None) -> float | None:
    """`'0.2'` or `'20%'`."""
    if text is None:
        return None
    percent, bare = text.strip().endswith("%"), text.strip().removesuffix("%")
    value = (_number(bare) / (100 if percent else 1)) if _is_number(bare) else math.nan
    if not 0 <= value <= 1:
        raise InputError(f"{option} '{text}' is not a share of the charge; write it like 0.2 or 20%")
    return value


def _positive(option: str, value: float | None) -> float | None:
    if value is not None and not (math.isfinite(value) and value > 0):
        raise InputError(f"{option} {value}: it must be a number above 0")
    return value


def _is_number(text: str) -> bool:
    return text.strip().replace(".", "", 1).isdecimal()


def _number(text: str) -> float:
    return float(text.strip())
