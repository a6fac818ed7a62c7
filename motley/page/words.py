"""Figures as people read them."""

from __future__ import annotations

import math
from collections.abc import Sequence

NOTHING = "–"


def seconds(value: float) -> str:
    """A time for people: `61 s`, `8.3 s`, `1 h 25 min`."""
    if value < 10:
        return f"{value:.1f} s"
    if value < 3600:
        return f"{value:.0f} s"
    hours, minutes = divmod(round(value / 60), 60)
    return f"{hours} h {minutes:02d} min"


def number(value: float | None, unit: str = "") -> str:
    """Three digits, or all that stand before the point: `0.00123`, `1.20`, `12.3`, `1,234`; counts in full."""
    if value is None or not math.isfinite(value):
        return NOTHING
    text = f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 99.95 or not value else f"{value:#.3g}"
    return f"{text} {unit}".rstrip()


def percent(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.0%}"


def decimals(value: float | None, places: int = 3) -> str:
    return NOTHING if value is None else f"{value:.{places}f}"


def mib(value: float) -> str:
    return f"{value / 1024**2:,.0f}"


def counted(count: int, word: str, plural: str = "") -> str:
    """`1 device`, `12 devices`."""
    return f"{count:,} {word if count == 1 else plural or word + 's'}"


def listed(names: Sequence[str], most: int = 5) -> str:
    """`client-1, client-2 and 7 more`"""
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[:most])} and {len(names) - most} more"


def dollars(value: float) -> str:
    return f"${value:,.2f}" if value >= 1 or not value else f"${value:.2g}"
