"""A straight line learned from one observation at a time. Pure."""

from __future__ import annotations

from dataclasses import dataclass

FORGETTING = 0.8
"""What an observation counts when the next one of its kind has come."""
_UNSURE = 1e4


@dataclass(frozen=True)
class Line:
    """y = base + slope · x by recursive least squares; keep x near 0–1.

    Forgetting is directional (Kulhavý, Restricted exponential forgetting in real-time identification,
    Automatica, 1987): only what the new observation speaks about is forgotten, so that nothing grows
    without bound while x does not vary. The last three fields are the covariance of base and slope.
    """

    base: float = 0.0
    slope: float = 0.0
    base_variance: float = _UNSURE
    covariance: float = 0.0
    slope_variance: float = _UNSURE

    def at(self, x: float) -> float:
        return self.base + self.slope * x

    def learned(self, x: float, y: float) -> Line:
        """The line after one more observation."""
        to_base = self.base_variance + self.covariance * x
        to_slope = self.covariance + self.slope_variance * x
        unsure = to_base + to_slope * x
        error = (y - self.at(x)) / (1 + unsure)
        news = FORGETTING - (1 - FORGETTING) / unsure
        shrink = news / (1 + news * unsure)
        return Line(
            self.base + to_base * error,
            self.slope + to_slope * error,
            self.base_variance - shrink * to_base**2,
            self.covariance - shrink * to_base * to_slope,
            self.slope_variance - shrink * to_slope**2,
        )
