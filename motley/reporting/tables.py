"""The tables of a report, for people; the same figures in full are in its JSON and CSV."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from motley.page.blocks import Block, Column, Table, Text
from motley.page.words import NOTHING, decimals, dollars, mib, number, percent
from motley.records import RoundRow
from motley.reporting.choices import ReasonFacts
from motley.reporting.devices import ClassFacts, DeviceFacts
from motley.reporting.facts import Facts
from motley.reporting.forecast import Forecast, by_source
from motley.reporting.outcomes import OutcomeFacts
from motley.reporting.words import done_rounds

MOST_ROWS = 200
"""More are not read; the rest is left to the files."""

Row = TypeVar("Row")


@dataclass(frozen=True)
class Cell(Generic[Row]):
    """One column: its title, and how a row's cell reads."""

    title: str
    text: Callable[[Row], str]
    words: bool = False


def shown(table: Table) -> list[Block]:
    """The table, cut where it is long."""
    if not table.rows:
        return [Text(f"{table.caption}: none.")] if table.caption else []
    if len(table.rows) <= MOST_ROWS:
        return [table]
    cut = Table(table.caption, table.columns, table.rows[:MOST_ROWS], table.best)
    rest = f"The first {MOST_ROWS} of {len(table.rows):,}; --format csv and json have them all."
    return [cut, Text(rest, "note")]


def rounds(facts: Facts) -> Table:
    return _table("", _ROUNDS, done_rounds(facts))


def outcomes(facts: Facts) -> Table:
    return _table("Orders by outcome and reason", _OUTCOMES, facts.outcomes)


def reasons(facts: Facts, selected: bool) -> Table:
    """Why devices were asked, or left out."""
    caption = "" if selected else "Why devices were left out"
    return _table(caption, _REASONS, [each for each in facts.choices.reasons if each.selected == selected])


def participation(facts: Facts) -> Table:
    """Devices by how often they were used, the least first."""
    return _table("", _PARTICIPATION, sorted(facts.devices, key=lambda each: each.used))


def use(facts: Facts) -> Table:
    """Devices by the share of their memory, the fullest first."""
    return _table("", _USE, sorted(facts.devices, key=lambda each: -(each.memory_share or 0.0)))


def forecasts(facts: Facts) -> Table:
    """By what made them."""
    return _table("By what made them", _FORECASTS, list(by_source(each for _, each in facts.record.outcomes).items()))


def cost(facts: Facts) -> Table:
    return _table("By class", _COST, facts.classes)


def classes(facts: Facts) -> Table:
    return _table("Device classes", _CLASSES, facts.classes)


def devices(facts: Facts) -> Table:
    return _table("", _DEVICES, facts.devices)


def _table(caption: str, cells: Sequence[Cell[Row]], rows: Sequence[Row]) -> Table:
    columns = [Column(cell.title, cell.words) for cell in cells]
    return Table(caption, columns, [[cell.text(row) for cell in cells] for row in rows])


_ROUNDS: Sequence[Cell[RoundRow]] = (
    Cell("round", lambda row: str(row.round)),
    Cell("ended, s", lambda row: number(row.started_s + (row.duration_s or 0.0))),
    Cell("took, s", lambda row: number(row.duration_s)),
    Cell("deadline, s", lambda row: number(row.deadline_s)),
    Cell("asked", lambda row: str(row.selected)),
    Cell("accuracy", lambda row: decimals(row.accuracy)),
    Cell("loss", lambda row: decimals(row.loss)),
)

_OUTCOMES: Sequence[Cell[OutcomeFacts]] = (
    Cell("outcome", lambda row: row.kind, words=True),
    Cell("reason", lambda row: row.reason or NOTHING, words=True),
    Cell("orders", lambda row: f"{row.orders:,}"),
    Cell("devices", lambda row: f"{row.devices:,}"),
    Cell("at work, s", lambda row: number(row.at_work_s)),
    Cell("Wh", lambda row: number(row.energy_wh)),
)

_REASONS: Sequence[Cell[ReasonFacts]] = (
    Cell("reason", lambda row: row.reason, words=True),
    Cell("times", lambda row: f"{row.times:,}"),
    Cell("rounds", lambda row: f"{row.rounds:,}"),
    Cell("devices", lambda row: f"{row.devices:,}"),
    Cell("most often", lambda row: row.most, words=True),
)

_PARTICIPATION: Sequence[Cell[DeviceFacts]] = (
    Cell("device", lambda row: row.device, words=True),
    Cell("class", lambda row: row.device_class, words=True),
    Cell("orders", lambda row: str(row.orders)),
    Cell("used", lambda row: str(row.used)),
    Cell("late", lambda row: str(row.late)),
    Cell("lost", lambda row: str(row.lost)),
    Cell("left out, rounds", lambda row: str(row.left_out)),
    Cell("most often because", lambda row: row.why_left_out or NOTHING, words=True),
)

_USE: Sequence[Cell[DeviceFacts]] = (
    Cell("device", lambda row: row.device, words=True),
    Cell("memory, MiB", lambda row: NOTHING if row.memory_bytes is None else mib(row.memory_bytes)),
    Cell("peak, MiB", lambda row: NOTHING if row.peak_memory_bytes is None else mib(row.peak_memory_bytes)),
    Cell("of limit", lambda row: percent(row.memory_share)),
    Cell("CPUs", lambda row: number(row.cpus)),
    Cell("CPU of quota", lambda row: percent(row.cpu_share)),
    Cell("paused, s", lambda row: number(row.paused_s)),
    Cell("of its seconds", lambda row: percent(row.paused_share)),
)

_FORECASTS: Sequence[Cell[tuple[str, Forecast]]] = (
    Cell("made by", lambda row: row[0], words=True),
    Cell("orders", lambda row: f"{row[1].orders:,}"),
    Cell("off by, median", lambda row: percent(row[1].median_error)),
    Cell("within a quarter", lambda row: percent(row[1].near_share)),
    Cell("taken / expected", lambda row: decimals(row[1].median_ratio, 2)),
    Cell("held by the interval", lambda row: percent(row[1].covered_share)),
)

_COST: Sequence[Cell[ClassFacts]] = (
    Cell("class", lambda row: row.device_class, words=True),
    Cell("devices", lambda row: str(row.devices)),
    Cell("Wh", lambda row: number(row.energy_wh)),
    Cell("Wh an update used", lambda row: number(row.energy_wh / row.used) if row.used else NOTHING),
    Cell("dollars", lambda row: NOTHING if row.usd is None else dollars(row.usd)),
)

_CLASSES: Sequence[Cell[ClassFacts]] = (
    Cell("class", lambda row: row.device_class, words=True),
    Cell("devices", lambda row: str(row.devices)),
    Cell("never used", lambda row: str(row.never_used)),
    Cell("orders", lambda row: f"{row.orders:,}"),
    Cell("used", lambda row: f"{row.used:,}"),
    Cell("late", lambda row: f"{row.late:,}"),
    Cell("lost", lambda row: f"{row.lost:,}"),
    Cell("s/order", lambda row: number(row.order_s)),
    Cell("at work, s", lambda row: number(row.at_work_s)),
    Cell("wasted, s", lambda row: number(row.wasted_s)),
    Cell("peak memory", lambda row: percent(row.memory_share)),
    Cell("CPU", lambda row: percent(row.cpu_share)),
    Cell("forecast off by", lambda row: percent(row.forecast_error)),
    Cell("accuracy", lambda row: decimals(row.accuracy)),
)

_DEVICES: Sequence[Cell[DeviceFacts]] = (
    Cell("device", lambda row: row.device, words=True),
    Cell("class", lambda row: row.device_class, words=True),
    Cell("CPUs", lambda row: number(row.cpus)),
    Cell("MiB", lambda row: NOTHING if row.memory_bytes is None else mib(row.memory_bytes)),
    Cell("examples", lambda row: number(row.examples)),
    Cell("orders", lambda row: str(row.orders)),
    Cell("used", lambda row: str(row.used)),
    Cell("s/order", lambda row: number(row.order_s)),
    Cell("wasted, s", lambda row: number(row.wasted_s)),
    Cell("Wh", lambda row: number(row.energy_wh)),
    Cell("accuracy", lambda row: decimals(row.accuracy)),
)
