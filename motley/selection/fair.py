"""`fair`: those who took part least often.

Choose it when every device's data must count alike. The order of turns is random, but over any
number of rounds two devices that are always available differ by at most one turn.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from motley.selection.base import Candidate


def fair(candidates: Sequence[Candidate], count: int, rng: random.Random) -> dict[str, str]:
    """Take the `count` least often selected; ties are broken at random."""
    ordered = sorted(candidates, key=lambda each: each.device)
    ranked = sorted(ordered, key=lambda each: (each.selected, rng.random()))
    return {each.device: f"took part {each.selected} times so far" for each in ranked[:count]}
