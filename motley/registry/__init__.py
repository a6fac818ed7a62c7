"""The registry: devices, what they have, and who holds how much of it until when."""

from motley.registry.amounts import Amounts, Capacity, Short, Shortage
from motley.registry.drift import Reassessment
from motley.registry.records import (
    ClassOverview,
    News,
    Quota,
    Refusal,
    Registration,
    Request,
    Reservation,
    Snapshot,
    Utilisation,
    registration_of,
)
from motley.registry.registry import Registry

__all__ = [
    "Amounts",
    "Capacity",
    "ClassOverview",
    "News",
    "Quota",
    "Reassessment",
    "Refusal",
    "Registration",
    "Registry",
    "Request",
    "Reservation",
    "Short",
    "Shortage",
    "Snapshot",
    "Utilisation",
    "registration_of",
]
