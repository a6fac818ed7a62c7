"""What accounts have used, as figures and tables. Pure: rows in, plain data or rich tables out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from rich.markup import escape
from rich.table import Table

from motley.accounts import Account
from motley.budgets import HOUR_S, Amount, Level, Standing, by_month, standing
from motley.launches import LaunchRow
from motley.providers.base import Machine

_COLOURS = {Level.OK: "green", Level.WARNING: "yellow", Level.STOPPED: "red"}


@dataclass(frozen=True)
class Usage:
    """One account in one month."""

    name: str
    account: Account
    standing: Standing
    so_far: Amount
    """Of what the standing counts as used, that which is spent; the rest is reserved."""
    rows: Sequence[LaunchRow]
    """The launches that cost something in that month, or may."""
    not_eligible: str
    """Why the account may not be used now; empty where it may."""


def usage_of(name: str, account: Account, rows: Iterable[LaunchRow], now_s: float, month: str | None = None) -> Usage:
    """How an account stands in `month`, such as 2026-11; in its present one where that is None."""
    moment_s = now_s if month is None else _middle_of(month, account)
    charged = [(row, charge) for row in rows if row.account == name and (charge := row.charge(now_s)) is not None]
    now = standing(account.budget, [charge for _, charge in charged], moment_s)
    shown = [row for row, charge in charged if now.month in by_month([charge], account.zone)]
    spent = [charge for row in shown if (charge := row.cost_so_far(now_s)) is not None]
    so_far = by_month(spent, account.zone).get(now.month, Amount())
    return Usage(name, account, now, so_far, shown, account.not_eligible(now_s))


def plain_usage(usage: Usage) -> dict[str, Any]:
    """For JSON, which has no infinity: None stands for "no limit"."""
    now, until = usage.standing, usage.account.eligibility.until
    return {
        "account": usage.name,
        "provider": usage.account.provider,
        "month": now.month,
        "time_zone": usage.account.time_zone,
        "hours_used": usage.so_far.hours,
        "usd_used": usage.so_far.usd,
        "hours_reserved": now.used.hours - usage.so_far.hours,
        "usd_reserved": now.used.usd - usage.so_far.usd,
        "hours_left": None if math.isinf(now.left.hours) else now.left.hours,
        "usd_left": None if math.isinf(now.left.usd) else now.left.usd,
        "share_left": now.share_left,
        "level": now.level.value,
        "eligible": not usage.not_eligible,
        "evidence": usage.account.eligibility.evidence,
        "until": until.isoformat() if until else None,
    }


def plain_launches(usage: Usage, now_s: float) -> list[dict[str, Any]]:
    """The rows of an account's month, with what each has cost so far in all."""
    return [{**asdict(row), **dict(zip(("hours", "usd"), _cost(row, now_s), strict=True))} for row in usage.rows]


def account_table(title: str, usages: Iterable[Usage]) -> Table:
    """Which accounts there are, whether they may be used, and what is left of their month."""
    table = _table(title, "account", "provider", "month", "hours left", "$ left", "state", "evidence")
    for each in usages:
        state = f"[red]{escape(each.not_eligible)}[/]" if each.not_eligible else _coloured(each.standing.level)
        evidence = escape(each.account.eligibility.evidence)
        table.add_row(each.name, each.account.provider, each.standing.month, *_left(each), state, evidence)
    return table


def usage_table(usages: Iterable[Usage]) -> Table:
    """What each account has used of its month, has reserved, and has left."""
    names = ("account", "month", "hours used", "reserved", "left", "$ used", "reserved", "left", "state")
    table = _table("Usage", *names, right=range(2, 8))
    for each in usages:
        used, so_far, left = each.standing.used, each.so_far, _left(each)
        hours = f"{so_far.hours:.2f}", f"{used.hours - so_far.hours:.2f}", left[0]
        usd = f"{so_far.usd:.2f}", f"{used.usd - so_far.usd:.2f}", left[1]
        table.add_row(each.name, each.standing.month, *hours, *usd, _coloured(each.standing.level))
    return table


def launch_table(usages: Iterable[Usage], now_s: float) -> Table:
    """Every launch of the accounts' months, with what it has cost so far in all."""
    names = ("launch", "account", "run", "device", "kind", "state", "from", "hours", "$")
    table = _table("Launches", *names, right=(7, 8))
    for usage in usages:
        for row in usage.rows:
            hours, usd = _cost(row, now_s)
            texts = (row.token, usage.name, row.run_id, row.device, row.quote.kind, row.state.value)
            begun = datetime.fromtimestamp(row.intended_s, usage.account.zone).strftime("%Y-%m-%d %H:%M")
            table.add_row(*map(escape, texts), begun, f"{hours:.2f}", f"{usd:.2f}")
    return table


def machine_table(title: str, rows: Iterable[tuple[str, Machine, str]], last: str) -> Table:
    """Machines with their accounts, and a last column of that name."""
    table = _table(title, "account", "machine", "run", "device", "kind", "$ an hour", "since", last)
    for account, each, told in rows:
        since = datetime.fromtimestamp(each.launched_s).astimezone().strftime("%Y-%m-%d %H:%M")
        kind = f"{each.kind} {each.place}".strip() + (", spot" if each.spot else "")
        texts = map(escape, (account, each.machine_id, each.run_id, each.device, kind))
        table.add_row(*texts, f"{each.usd_per_hour:g}", since, escape(told))
    return table


def _middle_of(month: str, account: Account) -> float:
    return datetime.fromisoformat(f"{month}-15").replace(tzinfo=account.zone).timestamp()


def _cost(row: LaunchRow, now_s: float) -> tuple[float, float]:
    """Hours and dollars so far."""
    charge = row.cost_so_far(now_s)
    hours = charge.billed_s / HOUR_S if charge else 0.0
    return hours, hours * row.quote.usd_per_hour


def _left(usage: Usage) -> tuple[str, str]:
    left, budget = usage.standing.left, usage.account.budget
    return _of(left.hours, budget.hours), _of(left.usd, budget.usd)


def _of(left: float, limit: float) -> str:
    return "no limit" if math.isinf(limit) else f"{left:.2f} of {limit:g}"


def _coloured(level: Level) -> str:
    return f"[{_COLOURS[level]}]{level.value}[/]"


def _table(title: str, *names: str, right: Iterable[int] = ()) -> Table:
    table = Table(title=escape(title), title_justify="left")
    for number, name in enumerate(names):
        table.add_column(name, justify="right" if number in right else "left", overflow="fold")
    return table
