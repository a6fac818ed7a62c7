"""Read the kernel's small text files under /proc and /sys, whatever stands in them.

A figure that is missing, signed, too long or garbage is None. Source of the pressure files: the kernel's
Documentation/accounting/psi.rst.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

_MOST_DIGITS = 20
_MOST_BYTES = 1 << 20


def read_text(path: str | Path) -> str:
    """All of a small file of the kernel's, without the cost of a Python file object. Raises OSError, ValueError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        parts, length = [], 0
        while length < _MOST_BYTES and (part := os.read(descriptor, 65536)):
            parts.append(part)
            length += len(part)
    finally:
        os.close(descriptor)
    return b"".join(parts).decode("utf-8", "surrogateescape")


def text_or_nothing(path: str | Path) -> str:
    """All of a file; empty where it can't be read."""
    try:
        return read_text(path)
    except (OSError, ValueError):
        return ""


def parse_number(text: str) -> int | None:
    """A count as the kernel writes it; None for anything else, such as `max`, a sign or no digits at all."""
    digits = text.strip()
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= _MOST_DIGITS else None


def parse_table(text: str) -> dict[str, int]:
    """Lines of a name and a count; the other lines are left out."""
    rows = (line.split() for line in text.splitlines())
    pairs = ((row[0], parse_number(row[1])) for row in rows if len(row) == 2)
    return {name: value for name, value in pairs if value is not None}


def count_of(text: str, name: str) -> int | None:
    """The count of one line of a table, such as `MemTotal:` with its unit; cheaper than the whole table."""
    for line in text.splitlines():
        if line.startswith(name) and (words := line.split())[0] == name:
            return parse_number(words[1]) if len(words) > 1 else None
    return None


def pressure_share(text: str) -> float | None:
    """The `some avg10` of a pressure file as a share, 0–1."""
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["some"] and len(words) > 1 and words[1].startswith("avg10="):
            return _share_of_percent(words[1].removeprefix("avg10="))
    return None


def _share_of_percent(text: str) -> float | None:
    try:
        percent = float(text)
    except ValueError:
        return None
    return percent / 100 if math.isfinite(percent) and 0 <= percent <= 100 else None
