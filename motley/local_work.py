"""How much each device does in a round: three ways, each from estimates to optimiser steps.

`fixed`: the same number of passes for everyone (FedAvg). `partial`: the same, but a device stops when the
deadline nears and sends what it has (FedProx, Li et al., MLSys 2020). `sized`: as many steps as fit into
a time that all share, so that nobody waits for anybody.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from motley.workload import steps_for

MAX_STEPS = 1_000_000
_MARGIN = 1.1


@dataclass(frozen=True)
class Estimate:
    """What one device is expected to need, in seconds."""

    download_s: float
    example_s: float
    """Training, for one example."""
    upload_s: float

    def duration_s(self, examples: int, upload_share: float = 1.0) -> float:
        """From order to reply, with so many examples processed, and an update of so much of its plain size."""
        return self.download_s + self.example_s * examples + upload_share * self.upload_s


def fixed_steps(examples: int, batch_size: int, epochs: int) -> int:
    """The steps of `epochs` passes."""
    return min(MAX_STEPS, steps_for(examples, batch_size, epochs))


def stop_after_s(deadline_s: float, estimate: Estimate, batch_size: int) -> float:
    """When to stop training so that the step under way and the upload, a tenth longer than expected, end in time."""
    return max(estimate.download_s, deadline_s - _MARGIN * (estimate.example_s * batch_size + estimate.upload_s))


def sized_steps(estimate: Estimate, batch_size: int, time_s: float, least: int, most: int) -> int:
    """Steps that fit between download and upload when all shall take `time_s`; within `least` and `most`."""
    left_s, step_s = time_s - estimate.download_s - estimate.upload_s, estimate.example_s * batch_size
    most = min(most, MAX_STEPS)
    if left_s >= most * step_s:
        return max(least, most)
    return max(least, math.floor(left_s / step_s) if left_s > 0 else 0)
