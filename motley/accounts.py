"""The accounts file as strict, frozen models: the accounts that one owns, and what each may use.

It holds no keys, only references to them (`motley.credentials`). `motley.accounts_file` reads the text.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, model_validator

from motley.budgets import Billing, Budget
from motley.credentials import broken_reference
from motley.errors import did_you_mean
from motley.quantities import Ratio, RuleError, Seconds, Strict
from motley.shutdown import Nightly, Shutdown, parse_nightly

_BILLING = {
    "aws": Billing(1, 60),
    "gcp": Billing(1, 60),
    "lambda_cloud": Billing(60, 60),
    "docker": Billing(1, 0),
    "fake": Billing(1, 0),
}
"""As the providers' public pages say: EC2 and Compute Engine by the second from a minute on, Lambda by the minute."""


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        known = available_timezones()
        if not known:
            raise ValueError("this machine has no table of time zones; install the package tzdata") from None
        raise ValueError(f"'{value[:60]}' is not a time zone{_nearest_zone(value[:60], known)}") from None
    return value


def _nearest_zone(value: str, known: Iterable[str]) -> str:
    hint = did_you_mean(value, known)
    return hint if "did you mean" in hint else "; write it like 'Europe/Berlin' or 'UTC'"


def _unlimited(value: object) -> object:
    if value is None:
        raise ValueError("monthly is empty; write hours, usd or both below it, or 'monthly: unlimited'")
    return None if value == "unlimited" else value


def _day(value: object) -> object:
    try:
        return date.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        raise ValueError(f"'{value}' is not a day; write it like 2027-03-31") from None


def _options(value: dict[str, Any]) -> dict[str, str]:
    for name, each in value.items():
        if not isinstance(each, (str, int, float)) or isinstance(each, bool):
            raise RuleError((name,), f"option '{name}' must be a text or a number")
        if wrong := broken_reference(str(each)):
            raise RuleError((name,), f"option '{name}' {wrong}")
    return {name: str(each) for name, each in value.items()}


_Span = Annotated[Seconds, Field(gt=0)]


class Monthly(Strict):
    """What a calendar month may use; either may be left out."""

    hours: Annotated[float, Field(gt=0, le=1e7, allow_inf_nan=False)] | None = None
    """Of machines, added up."""
    usd: Annotated[float, Field(ge=0, le=1e7, allow_inf_nan=False)] | None = None

    @model_validator(mode="after")
    def _limits_something(self) -> Monthly:
        if self.hours is None and self.usd is None:
            raise RuleError((), "monthly limits nothing; write hours, usd or both, or 'monthly: unlimited'")
        return self


class Eligibility(Strict):
    """Why the account may be used for this work, and how long."""

    evidence: Annotated[str, Field(min_length=1, max_length=500)]
    """An institutional address, a programme's approval, or that it is one's own."""
    until: Annotated[date | None, BeforeValidator(_day)] = None
    """Last day, in the account's time zone; None where it does not expire."""


class Rounding(Strict):
    """How the provider rounds a machine's time, where it is not as Motley knows it."""

    increment: _Span = 1.0
    minimum: Seconds = 0.0


class Stops(Strict):
    """Scheduled shutdown."""

    idle: _Span | None = None
    nightly: Annotated[Nightly | None, BeforeValidator(parse_nightly), PlainSerializer(str)] = None

    @model_validator(mode="after")
    def _stops_something(self) -> Stops:
        if self.idle is None and self.nightly is None:
            raise RuleError((), "shutdown does nothing; write idle, nightly or both, or leave it out")
        return self


class Account(Strict):
    """One account, or one project of an account, at one provider."""

    provider: Literal["docker", "aws", "gcp", "lambda_cloud", "fake"]
    options: Annotated[dict[str, Any], AfterValidator(_options)] = Field(default_factory=dict)
    """Of the provider; `${NAME}` and `keyring:SERVICE/USER` in place of keys."""
    monthly: Annotated[Monthly | None, BeforeValidator(_unlimited)]
    eligibility: Eligibility
    time_zone: Annotated[str, AfterValidator(_zone)] = "UTC"
    warn_at: Ratio = 0.8
    stop_at: Ratio = 1.0
    rounding: Rounding | None = None
    shutdown: Stops | None = None

    @model_validator(mode="after")
    def _warns_before_it_stops(self) -> Account:
        if self.warn_at > self.stop_at:
            raise RuleError(("warn_at",), f"warn_at {self.warn_at:g} is above stop_at {self.stop_at:g}; swap them")
        return self

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.time_zone)

    @property
    def budget(self) -> Budget:
        limits = self.monthly.model_dump(exclude_none=True) if self.monthly else {}
        return Budget(self.zone, **limits, warn_at=self.warn_at, stop_at=self.stop_at)

    @property
    def billing(self) -> Billing:
        own = self.rounding
        return Billing(own.increment, own.minimum) if own else _BILLING[self.provider]

    @property
    def stops(self) -> Shutdown:
        own = self.shutdown
        return Shutdown(self.zone, own.idle, own.nightly) if own else Shutdown(self.zone)

    def not_eligible(self, at_s: float) -> str:
        """Why the account may not be used at that time, in words; empty where it may."""
        until = self.eligibility.until
        if until is None or datetime.fromtimestamp(at_s, self.zone).date() <= until:
            return ""
        return f"its eligibility ends with {until}; renew it, and write its new evidence and day"
