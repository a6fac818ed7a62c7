"""Which devices go first when there are too many."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Candidate:
    """A device that was launched, and may be ended."""

    name: str
    joined: bool = True
    """It has come; before that it costs and does nothing."""
    busy: bool = False
    """At work on an order."""
    usefulness: float = 1.0
    """How much the fleet would miss it, 0–1."""
    usd_per_hour: float = 0.0


def stop_order(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Those on their way first, then idle before busy, less useful before more, dear before cheap; then by name."""
    return sorted(candidates, key=lambda each: (each.joined, each.busy, each.usefulness, -each.usd_per_hour, each.name))
