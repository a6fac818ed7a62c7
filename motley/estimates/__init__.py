"""What a round and a run are expected to cost with fewer devices of some classes, or another deadline. Pure.

Seconds come from the plan that the running server would make (`motley.planning`), for devices that stand
for those of their class: evenly spaced among them by expected duration. How accurate the model gets is
not predicted: `rounds_for` says how many rounds count as equal.
"""

from __future__ import annotations

from motley.estimates.choices import count_choices
from motley.estimates.estimator import Alternative, Estimator, RoundEstimate, RunEstimate
from motley.estimates.rounds import Resource, rounds_for

__all__ = [
    "Alternative",
    "Estimator",
    "Resource",
    "RoundEstimate",
    "RunEstimate",
    "count_choices",
    "rounds_for",
]
