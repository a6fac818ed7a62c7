"""The rows of the history, as they cross from store to report and exporter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from motley.device import DeviceProfile, RoundOutcome


@dataclass(frozen=True)
class RunRow:
    """One run. `status` is running, completed, stopped or failed; `phase` is what it is doing now."""

    run_id: str
    fleet: str
    spec: str
    policy: str
    seed: int
    runtime: str
    rounds: int
    target_accuracy: float | None
    started_s: float
    ended_s: float | None
    status: str
    phase: str
    detail: str


@dataclass(frozen=True)
class RoundRow:
    """One round. Durations are None until known."""

    run_id: str
    round: int
    selected: int
    deadline_s: float
    started_s: float
    duration_s: float | None
    plan_s: float | None
    train_s: float | None
    aggregate_s: float | None
    evaluate_s: float | None
    accuracy: float | None
    loss: float | None


@dataclass(frozen=True)
class DecisionRow:
    """Devices that one plan of a round asked, or left out, for the same reason."""

    round: int
    selected: bool
    reason: str
    devices: Sequence[str]


@dataclass(frozen=True)
class RunRecord:
    """All that history holds of one run."""

    run: RunRow
    rounds: Sequence[RoundRow]
    outcomes: Sequence[tuple[int, RoundOutcome]]
    profiles: Sequence[DeviceProfile]
    accuracies: Mapping[str, float]
    """Accuracy of the final model on each device's own examples."""
