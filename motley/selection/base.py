"""What a selection policy sees, and its shape."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Candidate:
    """A device that could take part, and what is known of it."""

    device: str
    expected_s: float | None
    """Duration that its past rounds let us expect, in seconds; None before its first."""
    gflops: float
    """Result of its speed probe."""
    examples: int
    selected: int
    """How often it was selected so far."""


class Selection(Protocol):
    """Pick `count` of `candidates`; return each pick with the reason, in words."""

    def __call__(self, candidates: Sequence[Candidate], count: int, rng: random.Random) -> dict[str, str]: ...
