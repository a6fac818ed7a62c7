"""The exceptions that Motley raises on purpose.

Each carries one line that a user can act on. `motley.cli` is the only place that turns them into
exit codes.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path


class MotleyError(Exception):
    """Something went wrong that a user should read as one line; exit code 1."""

    exit_code = 1


class InputError(MotleyError):
    """The user's input can't be used as it is; exit code 2."""

    exit_code = 2


class FleetFileError(InputError):
    """A fleet file is wrong; names the file, the line and the value."""

    def __init__(self, path: Path | str, line: int, message: str) -> None:
        super().__init__(f"{path}:{line}: {message}")
        self.line = line


class HostError(InputError):
    """The fleet does not fit this machine, or the machine lacks something the fleet needs."""


class RunFailed(MotleyError):
    """A training run ended without a usable model."""


def did_you_mean(value: str, known: Iterable[str]) -> str:
    """Return `"; did you mean 'x'?"` for the nearest known word, else the list of known ones.

    `known` may hold words of any kind; matching ignores case.
    """
    words = sorted(known)
    by_lower = {word.lower(): word for word in words}
    near = get_close_matches(value.lower(), by_lower, n=1, cutoff=0.6)
    if near:
        return f"; did you mean '{by_lower[near[0]]}'?"
    return f"; known: {', '.join(words)}" if words else ""
