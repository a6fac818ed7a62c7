"""Work that changes from round to round: passes and batch size drawn anew for each round, the same for all devices.

No fleet file asks for that, but policies to come will; the benchmark of the predictor needs it. `install` wraps
the planner, before the server's modules are imported. The order of `sized` work, whose size the policy
decides itself, changes by its batch alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

SHARES = (0.2, 0.4, 0.6, 0.8, 1.2, 1.6)
"""Of the fleet file's `local_epochs`."""
BATCH_SIZES = (4, 8, 16, 32)


def varied(plan: Callable[..., Any]) -> Callable[..., Any]:
    """The planner with other passes and another batch size in each round."""

    def plan_varied(training: Any, seed: int, knowledge: Any, now: Any, foresee: Any = None) -> Any:
        rng = np.random.default_rng([seed, now.number, 5])
        passes = max(1, round(training.local_epochs * float(rng.choice(SHARES))))
        changes = {"local_epochs": passes, "batch_size": int(rng.choice(BATCH_SIZES))}
        return plan(training.model_copy(update=changes), seed, knowledge, now, foresee)

    return plan_varied


def install() -> None:
    from motley import planning

    planning.plan_round = varied(planning.plan_round)
