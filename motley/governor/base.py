"""What every governor has in common: a state and a sample in, a state and an adjustment out. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from motley.resource_limits import ResourceLimits
from motley.samples import Sample


@dataclass(frozen=True)
class Grant:
    """What a broker lets one of several components on a host use."""

    memory_bytes: int
    cores: float | None = None
    """None where the budget says nothing of CPU."""
    final: bool = True
    """False while others still give back what this one is entitled to: more comes, so waiting helps."""


@dataclass(frozen=True)
class Load:
    """What the governed work does now, and how far it may be adjusted."""

    batch_size: int
    """Physical batch: examples in memory at one time."""
    threads: int
    most_batch_size: int
    """What it would use if nothing limited it."""
    most_threads: int
    least_batch_size: int = 1
    step_s: float = 0.0
    """Of the last step, pauses left out."""
    steps: int = 0
    """Steps done so far. A batch is only raised after whole steps at the present size."""
    grant: Grant | None = None
    """Where a budget is shared, this load's part of it."""


@dataclass(frozen=True)
class Adjustment:
    """What the work shall do from now on. None leaves a thing as it is."""

    batch_size: int | None = None
    threads: int | None = None
    pause_s: float = 0.0
    """Between two steps: a duty cycle."""
    wait: bool = False
    """Do no further step until an adjustment says otherwise: too hot, or out of budget for a moment."""
    stop: bool = False
    """End now with what is done."""
    reason: str = ""
    """In words; empty when nothing changes."""


class Governor(Protocol):
    """A strategy. Its state is plain data, so it can be kept and compared."""

    def start(self, limits: ResourceLimits, load: Load) -> Any:
        """The state before the first sample."""

    def adjust(self, state: Any, sample: Sample, load: Load) -> tuple[Any, Adjustment]:
        """The next state, and what the load shall do. Deterministic."""
