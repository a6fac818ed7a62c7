"""`fastest`: those who are expected to be done first.

Choose it to see how short rounds can be, and what they cost: slow devices never take part, so what
only they hold is never learned. Devices without a history are tried by their speed probe.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from motley.selection.base import Candidate


def fastest(candidates: Sequence[Candidate], count: int, rng: random.Random) -> dict[str, str]:
    """Take the `count` smallest expected durations; ties are broken at random."""
    ranked = sorted(candidates, key=lambda each: (estimate_s(each, candidates), rng.random(), each.device))
    return {
        each.device: f"rank {rank} by expected {estimate_s(each, candidates):.2f} s"
        for rank, each in enumerate(ranked[:count], start=1)
    }


def estimate_s(candidate: Candidate, others: Sequence[Candidate]) -> float:
    """The candidate's own past, else its examples over its probed speed, in units of the known ones.

    Without any known duration the scale is arbitrary, which does not matter for a ranking.
    """
    if candidate.expected_s is not None:
        return candidate.expected_s
    known = [each for each in others if each.expected_s is not None]
    scale = sum((each.expected_s or 0.0) / _cost(each) for each in known) / len(known) if known else 1.0
    return scale * _cost(candidate)


def _cost(candidate: Candidate) -> float:
    return max(candidate.examples, 1) / max(candidate.gflops, 1e-3)
