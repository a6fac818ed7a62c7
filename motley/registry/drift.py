"""Whether a device still is what its profile says. Pure.

The first speeds measured after a profile show what the profile is worth in the work at hand, and become
the reference. From then on an exponential moving average of the speeds is held against it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from motley.errors import InputError


@dataclass(frozen=True)
class Reassessment:
    """When a device is to be profiled anew."""

    departs_factor: float = 1.5
    """It is due when its speed has changed by more than this factor, up or down,"""
    returns_factor: float = 1.2
    """and stays so until it is back within this one."""
    newest: float = 0.3
    """Weight of the newest speed in the average."""
    reference_samples: int = 3
    """Speeds whose mean is the reference."""
    max_age_s: float = 24 * 3600.0
    """Age at which any profile is due."""

    def __post_init__(self) -> None:
        if not 1 <= self.returns_factor <= self.departs_factor < math.inf:
            raise InputError(
                f"reassessment from a factor of {self.departs_factor} until {self.returns_factor}: "
                "give 1 or more, the second not above the first"
            )
        if not 0 < self.newest <= 1 or self.reference_samples < 1 or not self.max_age_s > 0:
            raise InputError(
                f"reassessment with newest {self.newest}, reference_samples {self.reference_samples}, "
                f"max_age_s {self.max_age_s}: give a share above 0, at least 1, and more than 0"
            )


REASSESSMENT = Reassessment()


@dataclass(frozen=True)
class Drift:
    """What is known of a device's speed since it was profiled, in the unit in which it is reported."""

    samples: int = 0
    reference: float = 0.0
    """Mean of the first samples."""
    recent: float = 0.0
    """Moving average."""
    departs: bool = False

    @property
    def factor(self) -> float:
        """How many times as fast as at its profile; 1 where nothing is known."""
        return self.recent / self.reference if self.samples else 1.0

    def after(self, speed: float, rules: Reassessment) -> Drift:
        """With one more speed. Raises InputError for one that is not a number above 0."""
        if not 0 < speed < math.inf:
            raise InputError(f"a speed of {speed}; give a number above 0")
        samples = self.samples + 1
        if samples <= rules.reference_samples:
            mean = self.reference + (speed - self.reference) / samples
            return Drift(samples, mean, mean)
        known = replace(self, samples=samples, recent=self.recent + rules.newest * (speed - self.recent))
        change = max(known.factor, 1 / known.factor)
        return replace(known, departs=change > (rules.returns_factor if self.departs else rules.departs_factor))
