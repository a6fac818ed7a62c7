"""When a fleet should grow or shrink, by how many devices, and which ones go. Pure: it only recommends.

Choose it for fleets that can be rented or started on demand; `motley.scaler` carries out what it says.
"""

from __future__ import annotations

from motley.scaling.advice import Cause, Kind, Recommendation, recommend, wanted
from motley.scaling.load import Forecast, Load, forecast, kept, mean_demand
from motley.scaling.stopping import Candidate, stop_order

__all__ = [
    "Candidate",
    "Cause",
    "Forecast",
    "Kind",
    "Load",
    "Recommendation",
    "forecast",
    "kept",
    "mean_demand",
    "recommend",
    "stop_order",
    "wanted",
]
