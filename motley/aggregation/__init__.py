"""How updates become the next model. `AGGREGATIONS` is the table of all ways."""

from __future__ import annotations

from motley.aggregation.adaptive import adaptive
from motley.aggregation.base import Aggregation, Arrays, State, Terms, Update
from motley.aggregation.fedavg import fedavg
from motley.aggregation.fedbuff import fedbuff
from motley.aggregation.fednova import fednova
from motley.aggregation.momentum import momentum
from motley.aggregation.refl import refl
from motley.aggregation.refusing import refusal

__all__ = ["AGGREGATIONS", "Aggregation", "Arrays", "State", "Terms", "Update", "refusal"]

AGGREGATIONS: dict[str, Aggregation] = {
    "adaptive": adaptive,
    "fedavg": fedavg,
    "fednova": fednova,
    "fedbuff": fedbuff,
    "momentum": momentum,
    "refl": refl,
}
