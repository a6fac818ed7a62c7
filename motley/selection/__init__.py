"""Who takes part in a round.

A policy is one pure function: candidates, how many, what is known of them, and a random generator
made from (seed, round). `SELECTIONS` is the table of all of them.
"""

from __future__ import annotations

from motley.selection.base import Candidate, Selection
from motley.selection.fair import fair
from motley.selection.fastest import fastest
from motley.selection.uniform import uniform

__all__ = ["SELECTIONS", "Candidate", "Selection"]

SELECTIONS: dict[str, Selection] = {
    "random": uniform,
    "fastest": fastest,
    "fair": fair,
}
