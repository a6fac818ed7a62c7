"""The fleet file's section `scaling`: when devices are added and taken away, of which class, and by whom.

`motley.scaling` says what the figures do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from motley.errors import did_you_mean
from motley.quantities import MAX_DEVICES, Name, Ratio, RuleError, Seconds, Strict
from motley.units import format_seconds

ProviderName = Literal["docker", "aws", "gcp", "lambda_cloud", "fake"]

_BESIDE_THE_SERVER = ("docker", "fake")

_Span = Annotated[Seconds, Field(gt=0)]
_Bound = Annotated[int, Field(ge=0, le=MAX_DEVICES)]


class Scaling(Strict):
    """Grow and shrink the fleet with its load; the defaults suit rounds of seconds to minutes."""

    enabled: bool = True
    device_class: Name
    """The class of the devices that are added."""
    min: _Bound = 0
    """Devices below which nothing is taken away; those of the fleet file count, and always stay."""
    max: Annotated[int, Field(ge=1, le=MAX_DEVICES)]
    """Devices above which nothing is added; those of the fleet file count."""
    target: Ratio = 0.7
    """Utilisation that a change aims at."""
    up: Ratio = 0.8
    """Utilisation above which devices are added."""
    down: Ratio = 0.3
    """Utilisation below which devices are taken away."""
    window: _Span = 300.0
    """What utilisation is a mean over."""
    forecast: Seconds = 120.0
    """How far the trend of the window is followed; about as long as a device takes to come. 0 turns it off."""
    cool_down_up: Seconds = 300.0
    """Least time from the last change, of either kind, to the next addition."""
    cool_down_down: Seconds = 600.0
    """Least time from the last change, of either kind, to the next removal."""
    start_timeout: _Span = 600.0
    """A device that has not joined so long after its launch is given up."""
    lease: _Span = 3600.0
    """The longest that a device may run unless that is extended; its price is set aside when it is launched."""
    retention: _Span = 86_400.0
    """How long samples of the load are kept."""
    interval: _Span = 15.0
    """Between two looks at the load."""
    provider: ProviderName = "docker"
    account: Name | None = None
    """One of the accounts of that provider; None takes whichever has most budget left."""
    superlink: Annotated[str, Field(pattern=r"^[\w.:\[\]-]+:\d{1,5}$")] | None = None
    """host:port under which machines elsewhere reach the server; devices on the same engine need none."""
    spot: bool = False
    """Machines that may be taken away at short notice, for less."""

    @model_validator(mode="after")
    def _in_order(self) -> Scaling:
        if self.min > self.max:
            raise RuleError(("min",), f"min {self.min} is above max {self.max}; swap them")
        if not self.down < self.target:
            raise RuleError(("down",), f"down {self.down:g} must be below target {self.target:g}")
        if not self.target < self.up:
            raise RuleError(("up",), f"up {self.up:g} must be above target {self.target:g}")
        if self.superlink is None and self.provider not in _BESIDE_THE_SERVER:
            raise RuleError(
                ("provider",),
                f"provider '{self.provider}' starts machines elsewhere; write superlink, the server's host:port",
            )
        for name in ("window", "retention"):
            longer, shorter = getattr(self, name), self.interval if name == "window" else self.window
            if longer < shorter:
                other = "interval" if name == "window" else "window"
                raise RuleError(
                    (name,), f"{name} '{format_seconds(longer)}' is shorter than {other} '{format_seconds(shorter)}'"
                )
        return self

    def check_against(self, counts: Mapping[str, int]) -> None:
        """Raise RuleError where a fleet with so many devices of each class can't be scaled like this."""
        if self.device_class not in counts:
            hint = did_you_mean(self.device_class, counts)
            raise RuleError(
                ("scaling", "device_class"), f"device_class '{self.device_class}' is no class of this fleet{hint}"
            )
        total = sum(counts.values())
        if self.max < total:
            raise RuleError(
                ("scaling", "max"),
                f"max {self.max} is below the {total} devices that the fleet begins with; write at least {total}",
            )
