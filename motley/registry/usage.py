"""Utilisation of a class of devices: cores in use over cores there are, integrated over time. Pure.

Between two events both are constant, so two running integrals hold everything. Their values are noted at
the bounds of buckets of 10 s; a window that begins within a bucket takes a value between two bounds.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace

from motley.registry.amounts import MICRO

BUCKET_S = 10.0
RETENTION_S = 24 * 3600.0


@dataclass(frozen=True)
class Point:
    """The integrals at one moment."""

    at_s: float
    used_core_s: float
    core_s: float
    """Of all cores there were."""


@dataclass(frozen=True)
class Tally:
    """A class now: its connected devices, and the integrals up to the last event."""

    point: Point
    devices: int = 0
    cpu_micros: int = 0
    used_micros: int = 0

    def at(self, now_s: float) -> Point:
        """The integrals at `now_s`, or at the last event where a clock was put back."""
        passed_s = max(0.0, now_s - self.point.at_s)
        return Point(
            self.point.at_s + passed_s,
            self.point.used_core_s + passed_s * self.used_micros / MICRO,
            self.point.core_s + passed_s * self.cpu_micros / MICRO,
        )

    def changed(self, now_s: float, devices: int, cpu_micros: int, used_micros: int) -> Tally:
        """After an event that adds so many devices, units of cores, and units of cores in use."""
        return replace(
            self,
            point=self.at(now_s),
            devices=self.devices + devices,
            cpu_micros=self.cpu_micros + cpu_micros,
            used_micros=self.used_micros + used_micros,
        )

    def bounds(self, now_s: float) -> list[Point]:
        """The integrals at the first and the last bound of a bucket that are passed by `now_s`."""
        first, last = math.floor(self.point.at_s / BUCKET_S) + 1, math.floor(now_s / BUCKET_S)
        return [self.at(number * BUCKET_S) for number in sorted({first, last})] if first <= last else []


@dataclass(frozen=True)
class Use:
    """Core-seconds over a window."""

    used_core_s: float
    core_s: float

    @property
    def share(self) -> float:
        """0–1; 0 where there were no cores."""
        return self.used_core_s / self.core_s if self.core_s > 0 else 0.0


def use_since(start_s: float, points: Sequence[Point]) -> Use:
    """From `start_s`, or from the first point if that is later, to the last. The points are in order of time."""
    begin, end = _between(start_s, points), points[-1]
    return Use(end.used_core_s - begin.used_core_s, end.core_s - begin.core_s)


def _between(at_s: float, points: Sequence[Point]) -> Point:
    after = bisect_right(points, at_s, key=lambda point: point.at_s)
    if after in (0, len(points)):
        return points[0 if after == 0 else -1]
    a, b = points[after - 1], points[after]
    part = (at_s - a.at_s) / (b.at_s - a.at_s)
    return Point(at_s, a.used_core_s + part * (b.used_core_s - a.used_core_s), a.core_s + part * (b.core_s - a.core_s))
