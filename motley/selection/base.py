"""What a selection policy sees, and its shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from motley.policies import Options

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Pool:
    """What the server knows of every device: one row a device, each column of shape (devices,).

    Nothing here is a true duration of the future: seconds are estimates from past rounds, or from the
    profile where a device has not taken part yet. NaN stands for what is not known.
    """

    names: Sequence[str]
    free: Bools
    """Can be asked now."""
    at_work: Bools
    """Has an order whose reply is not overdue."""
    examples: Ints
    memory_bytes: Ints
    download_s: Floats
    """Expected seconds to receive the model."""
    compute_s: Floats
    """Expected seconds for the fixed local work (`local_epochs` passes)."""
    upload_s: Floats
    tried: Bools
    """Has sent at least one update."""
    selected: Ints
    """How often selected so far."""
    last_selected: Ints
    """Round in which it was last selected; 0 for never."""
    loss: Floats
    """Mean training loss over its local examples, last reported."""
    squared_loss: Floats
    """Mean of the squared losses of its local examples, last reported."""
    accuracy: Floats
    """Share of its local examples that the model got right while training, last reported."""
    battery: Floats
    """Charge, 0–1; NaN without a battery."""
    charging: Bools
    ready: Floats
    """Share of the looks at which it was connected, 0–1."""
    priority: Floats

    @property
    def duration_s(self) -> Floats:
        """Expected seconds from order to reply, for the fixed local work."""
        return self.download_s + self.compute_s + self.upload_s


@dataclass(frozen=True)
class Turn:
    """One call of a policy."""

    number: int
    """The round, from 1."""
    rounds: int
    """Rounds in all."""
    count: int
    """Devices wanted: K."""
    rng: np.random.Generator
    """Made from the seed and the round."""
    options: Options
    deadline_s: float | None = None
    """The fleet file's deadline; None where the policy may set one."""
    stale: int = 0
    """Devices still at work on an earlier round."""
    last_round_s: float | None = None
    """How long the round before took."""
    state: Mapping[str, Any] = field(default_factory=dict)
    """What the policy returned the last time; plain data. Empty at first."""


@dataclass(frozen=True)
class Picks:
    """Whom a policy takes."""

    rows: Ints
    """Rows of the pool, the best first."""
    reasons: Sequence[str]
    """For each row, why, in a few words."""
    keep: int | None = None
    """Replies that end the round; None for all."""
    deadline_s: float | None = None
    """Seconds after which the round ends; None for no opinion."""
    state: Mapping[str, Any] = field(default_factory=dict)
    """Plain data for the next turn."""
    rest: str = ""
    """Why the others were left out; a general phrase where empty."""


class Selection(Protocol):
    """Pick about `turn.count` of the pool's free devices. Pure: same pool and turn, same picks."""

    def __call__(self, pool: Pool, turn: Turn) -> Picks: ...
