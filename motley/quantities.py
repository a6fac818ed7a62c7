"""The kinds of value in a fleet file, each with its unit, range and way to text and back.

Text with units is parsed here, once; everywhere else quantities are plain numbers whose names carry
the unit.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from motley import units
from motley.errors import did_you_mean

MEMORY_FLOOR_BYTES = 336 * units.parse_bytes("1m")
"""Least memory in which a device container starts, trains and answers; measured, see docs/limits.md."""

MIN_CPUS = 0.01
"""Docker's smallest CPU quota: 1 ms in each period of 100 ms."""

MAX_CPUS = 1024
MAX_DEVICES = 100_000
MAX_ROUNDS = 100_000
MAX_MEMORY_BYTES = 2**50

ALL = 0
"""The value of `devices_per_round: all`."""

FIT = 0
"""The value of `batch_size: fit`."""

GOVERNORS = ("dynamic", "predictive", "adaptive", "cooperative")
"""What may keep a device within its limits; see `motley.governor`."""

BUILT_IN_TASKS = ("digits", "synthetic", "cifar10", "fashion_mnist")

_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
_OBJECT_REF = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


class RuleError(ValueError):
    """A rule that spans fields is broken; `where` is the path of the value to blame."""

    def __init__(self, where: tuple[str, ...], message: str) -> None:
        super().__init__(message)
        self.where = where


class Strict(BaseModel):
    """A part of the fleet file: frozen, without unknown keys, and nothing is converted on the quiet."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


def _auto(value: object) -> object:
    """`auto` becomes None: whoever plans the round decides."""
    if isinstance(value, str) and value != "auto":
        raise ValueError(f"'{value}' is neither a number nor 'auto'")
    return None if value == "auto" else value


def _auto_or_fit(value: object) -> object:
    """`fit` becomes FIT: each device takes the largest batch that its memory holds."""
    if isinstance(value, str) and value not in ("auto", "fit"):
        raise ValueError(f"'{value}' is neither a number, 'auto' nor 'fit'")
    if value == FIT and not isinstance(value, bool):
        raise ValueError("a batch of 0 learns nothing; write a number from 1, 'auto' or 'fit'")
    return {"auto": None, "fit": FIT}[value] if isinstance(value, str) else value


def _auto_or_seconds(value: object) -> float | None:
    return None if value == "auto" else units.parse_seconds(value)


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError(f"'{value}' is not a name; use lower-case letters, digits and '-', starting with a letter")
    return value


def _task(value: str) -> str:
    if value not in BUILT_IN_TASKS and not _OBJECT_REF.fullmatch(value):
        raise ValueError(f"unknown task '{value}'{did_you_mean(value, BUILT_IN_TASKS)} (or your own 'module:function')")
    return value


def _all(value: object) -> object:
    if isinstance(value, str) and value != "all":
        raise ValueError(f"'{value}' is neither a number nor 'all'")
    if value == ALL and not isinstance(value, bool):
        raise ValueError("0 devices learn nothing; write a number from 1, or 'all'")
    return ALL if value == "all" else value


def _memory(value: int) -> int:
    if value > MAX_MEMORY_BYTES:
        raise ValueError(f"no machine has that much; write at most '{units.format_bytes(MAX_MEMORY_BYTES)}'")
    return value


def _as_text(parse: Any, form: Any) -> Any:
    return [BeforeValidator(parse), PlainSerializer(lambda value: None if value is None else form(value))]


_or_all = PlainSerializer(lambda value: "all" if value == ALL else value)
_or_auto = PlainSerializer(lambda value: "auto" if value is None else value)
_or_fit = PlainSerializer(lambda value: {None: "auto", FIT: "fit"}.get(value, value))

Name = Annotated[str, AfterValidator(_name)]
Task = Annotated[str, AfterValidator(_task)]
Memory = Annotated[int, *_as_text(units.parse_bytes, units.format_bytes), Field(gt=0), AfterValidator(_memory)]
BitRate = Annotated[float, *_as_text(units.parse_bits_per_s, units.format_bits_per_s), Field(gt=0)]
Seconds = Annotated[float, *_as_text(units.parse_seconds, units.format_seconds), Field(ge=0)]
WattHours = Annotated[float, *_as_text(units.parse_watt_hours, units.format_watt_hours), Field(gt=0)]
Watts = Annotated[float, *_as_text(units.parse_watts, units.format_watts), Field(ge=0)]
Cores = Annotated[float, Field(ge=MIN_CPUS, le=MAX_CPUS, allow_inf_nan=False)]
Milliseconds = Annotated[float, Field(gt=0, le=1e7, allow_inf_nan=False)]
Ratio = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Weight = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]
Spread = Annotated[float, Field(ge=0, le=5, allow_inf_nan=False)]
"""σ of a lognormal distribution, or a coefficient of variation."""

DevicesPerRound = Annotated[int, BeforeValidator(_all), _or_all]
BatchSize = Annotated[Annotated[int, Field(ge=1, le=65536)] | None, BeforeValidator(_auto), _or_auto]
FittingBatchSize = Annotated[Annotated[int, Field(ge=0, le=65536)] | None, BeforeValidator(_auto_or_fit), _or_fit]
LearningRate = Annotated[
    Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)] | None, BeforeValidator(_auto), _or_auto
]
Deadline = Annotated[
    Annotated[float, Field(gt=0, le=86_400)] | None,
    BeforeValidator(_auto_or_seconds),
    PlainSerializer(lambda value: "auto" if value is None else units.format_seconds(value)),
]
Port = Annotated[int, Field(ge=1, le=65535)]
