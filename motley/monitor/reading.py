"""What sources give, and how it becomes a Sample.

A source is asked once for each sample and answers for its fields. What it can't tell is `Missing`, with a
reason that a user can act on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from motley.samples import GpuSample, Sample

MODELLED = "modelled"
FIRST = "the first sample has no rate"
_SOURCE_OF = {
    "power_w": "power_source",
    "celsius": "celsius_source",
    "battery_level": "battery_source",
    "charging": "battery_source",
}


@dataclass(frozen=True)
class Missing:
    """There is no value, and why."""

    reason: str
    for_now: bool = False
    """The source knows it another time, so none that comes after it steps in: a series has one source."""


Reading = Mapping[str, Any]
"""Fields of a Sample, or of a GPU such as `gpu0_power_w`, by name: a value, or Missing."""


class Source(Protocol):
    """One thing that can be measured. May raise: the monitor then takes all its fields for missing."""

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of a Sample that it answers for."""

    def read(self, now_s: float) -> Reading:
        """The fields, now. `now_s` is of a clock that never jumps; rates are since the call before."""

    def close(self) -> None:
        """Give back what it holds; a later `read` takes it again."""


def read_all(sources: Iterable[Source], ticks_s: Callable[[], float]) -> list[Reading]:
    """One reading of each source. What one of them raises is the reason why its fields are missing.

    The clock is read for each: under a quota this thread may be held back between two of them, which would
    pass for time in which nothing, or too much, was used.
    """
    return [_read(source, ticks_s()) for source in sources]


def _read(source: Source, now_s: float) -> Reading:
    try:
        return source.read(now_s)
    except Exception as error:
        return dict.fromkeys(source.fields, Missing(reason_of(error)))


def reason_of(error: BaseException) -> str:
    """One line about an error."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def assemble(at_s: float, readings: Iterable[Reading]) -> Sample:
    """One sample. Of several sources for a field the first that knows it counts; GPUs add to what RAPL says."""
    values: dict[str, Any] = {}
    lacking: dict[str, list[Missing]] = {}
    for reading in readings:
        for name, value in reading.items():
            if (why := _why_missing(value)) is not None:
                lacking.setdefault(name, []).append(why)
            elif name not in values and not _is_awaited(lacking, name):
                values[name] = value
    values |= _of_gpus(values, lacking, values.get("gpus", ()))
    for mark in set(_SOURCE_OF.values()) - {mark for name, mark in _SOURCE_OF.items() if name in values}:
        values.pop(mark, None)
    missing = {name: _in_words(each) for name, each in lacking.items() if name not in values}
    return Sample(at_s, **values, missing=missing)


def _why_missing(value: Any) -> Missing | None:
    if isinstance(value, float) and not math.isfinite(value):
        return Missing(f"{value!r} is no figure")
    return value if isinstance(value, Missing) else None


def _is_awaited(lacking: Mapping[str, Sequence[Missing]], name: str) -> bool:
    return any(each.for_now for each in lacking.get(name, ()))


def _in_words(lacking: Iterable[Missing]) -> str:
    return "; ".join(dict.fromkeys(each.reason for each in lacking))


def _of_gpus(
    values: Mapping[str, Any], lacking: Mapping[str, Sequence[Missing]], gpus: tuple[GpuSample, ...]
) -> Reading:
    """Power and temperature with the GPUs' in it: a battery measures them already, RAPL does not."""
    watts = [gpu.power_w for gpu in gpus if gpu.power_w is not None]
    celsius = [gpu.celsius for gpu in gpus if gpu.celsius is not None]
    changes: dict[str, Any] = {}
    if watts and values.get("power_source") == "rapl":
        changes |= {"power_w": values["power_w"] + sum(watts), "power_source": "rapl+nvml"}
    elif watts and "power_w" not in values and not _is_awaited(lacking, "power_w"):
        changes |= {"power_w": sum(watts), "power_source": "nvml"}
    if celsius and "celsius" not in values:
        changes |= {"celsius": max(celsius), "celsius_source": "nvml"}
    return changes


def with_model(sample: Sample, modelled: Mapping[str, Any]) -> Sample:
    """`sample` with what a model says instead, marked as such. None leaves a field as it was measured.

    Raises ValueError for a field that is not for models, or a value that is not a finite number.
    """
    known = {name: value for name, value in modelled.items() if value is not None}
    for name, value in known.items():
        if name not in _SOURCE_OF:
            raise ValueError(f"a model gave {name!r}; it may give {', '.join(_SOURCE_OF)}")
        if not math.isfinite(value):
            raise ValueError(f"a model gave {value!r} for {name}")
    marks = {_SOURCE_OF[name]: MODELLED for name in known}
    missing = {name: reason for name, reason in sample.missing.items() if name not in known}
    changes: dict[str, Any] = {**known, **marks, "missing": missing}
    return replace(sample, **changes)
