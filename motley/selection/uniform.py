"""`random`: every device is as likely as any other.

The baseline (FedAvg, McMahan et al., AISTATS 2017). Choose it when fairness to the data matters
more than time: each round lasts as long as its slowest device.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from motley.selection.base import Candidate


def uniform(candidates: Sequence[Candidate], count: int, rng: random.Random) -> dict[str, str]:
    """Draw `count` candidates without replacement."""
    picks = rng.sample(sorted(each.device for each in candidates), count)
    return {device: f"drawn at random, {count} of {len(candidates)}" for device in picks}
