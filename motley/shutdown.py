"""Scheduled shutdown: machines that nobody uses, or that no one should pay for at night. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

_WINDOW = re.compile(r"(\d{1,2}):(\d\d)-(\d{1,2}):(\d\d)")
_DAY_MINUTES = 24 * 60


@dataclass(frozen=True)
class Nightly:
    """A window of each day, in minutes after local midnight; it may span midnight."""

    start_minute: int
    end_minute: int

    def holds(self, now_s: float, zone: ZoneInfo) -> bool:
        """Whether it is that time of day in `zone`; the start belongs to it, the end does not."""
        local = datetime.fromtimestamp(now_s, zone)
        minute = local.hour * 60 + local.minute
        if self.start_minute < self.end_minute:
            return self.start_minute <= minute < self.end_minute
        return minute >= self.start_minute or minute < self.end_minute

    def __str__(self) -> str:
        clock = (divmod(minute % _DAY_MINUTES, 60) for minute in (self.start_minute, self.end_minute))
        return "-".join(f"{hour:02}:{minute:02}" for hour, minute in clock)


@dataclass(frozen=True)
class Shutdown:
    """When a machine is ended although its run goes on. None stands for "not for that reason"."""

    zone: ZoneInfo
    idle_s: float | None = None
    nightly: Nightly | None = None


def parse_nightly(text: object) -> Nightly:
    """`'22:00-06:00'`. Raises ValueError for anything else."""
    match = _WINDOW.fullmatch(text.replace(" ", "")) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"'{text}' is not a window of the day; write it like '22:00-06:00'")
    hour, minute, end_hour, end_minute = map(int, match.groups())
    if max(hour, end_hour) > 23 or max(minute, end_minute) > 59:
        raise ValueError(f"'{text}' has no such time of day; write it like '22:00-06:00'")
    if (hour, minute) == (end_hour, end_minute):
        raise ValueError(f"'{text}' has no length; write it like '22:00-06:00'")
    return Nightly(hour * 60 + minute, end_hour * 60 + end_minute)


def should_stop(rules: Shutdown, launched_s: float, now_s: float, last_busy_s: float | None) -> str:
    """Why a machine is to be ended now, in words; empty where it may go on.

    launched_s, now_s, last_busy_s: seconds since the epoch; None where it was not busy yet, which counts from
    its launch on.
    """
    if rules.nightly is not None and rules.nightly.holds(now_s, rules.zone):
        return f"the nightly shutdown, {rules.nightly}"
    idle_s = now_s - max(launched_s, launched_s if last_busy_s is None else last_busy_s)
    if rules.idle_s is not None and idle_s >= rules.idle_s:
        return f"idle for {idle_s / 60:.0f} minutes"
    return ""
