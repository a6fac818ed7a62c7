"""Strategies that keep a load within its limits.

A strategy (`Governor`) is pure: its state and a sample in, its next state and an adjustment out.
`GOVERNORS` is the table of all of them; `motley.governing` applies one to a running load.
"""

from __future__ import annotations

from motley.governor.adaptive import Adaptive
from motley.governor.base import Adjustment, Governor, Grant, Load
from motley.governor.cooperative import Cooperative
from motley.governor.dynamic import Dynamic
from motley.governor.predictive import Predictive

__all__ = ["GOVERNORS", "Adjustment", "Cooperative", "Governor", "Grant", "Load"]

GOVERNORS: dict[str, Governor] = {
    "dynamic": Dynamic(),
    "predictive": Predictive(),
    "adaptive": Adaptive(),
    "cooperative": Cooperative(),
}
