"""The comparison as tables: one for each workload, a row for each policy; 100 columns wide at most."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from motley.comparison.figures import RunFigures
from motley.comparison.summary import PolicySummary, Spread
from motley.page.words import NOTHING

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

NEVER = "never"
WIDTH = 100


@dataclass(frozen=True)
class Column:
    """One column: how a row's cell reads, and its worth, where the greatest is the best."""

    title: str
    cell: Callable[[PolicySummary], str]
    worth: Callable[[PolicySummary], float | None] | None = None
    words: bool = False


def _least(pick: Callable[[PolicySummary], Spread | None]) -> Callable[[PolicySummary], float | None]:
    def worth(row: PolicySummary) -> float | None:
        found = pick(row)
        return None if found is None or math.isinf(found.median) else -found.median

    return worth


def _most(pick: Callable[[PolicySummary], Spread | None]) -> Callable[[PolicySummary], float | None]:
    def worth(row: PolicySummary) -> float | None:
        found = pick(row)
        return None if found is None else found.median

    return worth


COLUMNS = (
    Column("policy", lambda row: row.policy, words=True),
    Column("to target, s", lambda row: time_cell(row.tta_s), _least(lambda row: row.tta_s)),
    Column("there", lambda row: f"{row.arrived}/{row.runs}"),
    Column("× random", lambda row: ratio_cell(row.speedup), lambda row: row.speedup),
    Column("accuracy", lambda row: accuracy_cell(row.final_accuracy), _most(lambda row: row.final_accuracy)),
    Column("wasted, s", lambda row: _number(row.wasted_device_s), _least(lambda row: row.wasted_device_s)),
    Column("energy, kJ", lambda row: _number(row.energy_j, 1000), _least(lambda row: row.energy_j)),
    Column("Jain", lambda row: _decimals(row.jain), _most(lambda row: row.jain)),
    Column("useful", lambda row: _percent(row.useful_share), _most(lambda row: row.useful_share)),
)

DISPENSABLE = ("energy, kJ", "there", "wasted, s", "useful")

LEGEND = (
    "to target: virtual seconds, median (least–most over seeds); there: runs that arrive; × random: median over "
    "seeds of random's time over the policy's; accuracy: final, median ± half the range; wasted: device-seconds "
    "of work never used; useful: used device-seconds of those available"
)


def time_cell(value: Spread | None) -> str:
    if value is None:
        return NOTHING
    middle = _time(value.median)
    return middle if value.low == value.high else f"{middle} ({_time(value.low)}–{_time(value.high)})"


def _time(value: float) -> str:
    if math.isinf(value):
        return NEVER
    return f"{value:.1f}" if value < 10 else f"{value:.0f}"


def ratio_cell(value: float | None) -> str:
    if value is None or math.isinf(value):
        return NOTHING
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def accuracy_cell(value: Spread | None) -> str:
    if value is None:
        return NOTHING
    return f"{value.median:.3f}" if value.low == value.high else f"{value.median:.3f} ±{value.half_range:.3f}"


def _number(value: Spread | None, unit: float = 1.0) -> str:
    if value is None:
        return NOTHING
    number = value.median / unit
    return f"{number:.1f}" if 0 < number < 10 else f"{number:,.0f}"


def _decimals(value: Spread | None) -> str:
    return NOTHING if value is None else f"{value.median:.2f}"


def _percent(value: Spread | None) -> str:
    return NOTHING if value is None else f"{value.median:.0%}"


def best(rows: Sequence[PolicySummary], column: Column) -> frozenset[str]:
    """The policies with a column's best value, where at least two have one and not all are equally good."""
    if column.worth is None:
        return frozenset()
    worths = {row.policy: column.worth(row) for row in rows}
    known = [worth for worth in worths.values() if worth is not None]
    if len(known) < 2 or min(known) == max(known):
        return frozenset()
    return frozenset(policy for policy, worth in worths.items() if worth == max(known))


def title(rows: Sequence[PolicySummary]) -> str:
    """`digits: to 0.912, 3 seeds`"""
    target = next((row.target for row in rows if row.target is not None), None)
    seeds = max(row.runs for row in rows)
    aim = "no target" if target is None else f"to accuracy {target:.3f}"
    return f"{rows[0].workload}: {aim}, {seeds} seed{'s' if seeds > 1 else ''}"


def fitting(rows: Sequence[PolicySummary], width: int) -> list[Column]:
    """The columns that fit into `width` characters; those that say least go first."""
    columns = list(COLUMNS)
    for name in DISPENSABLE:
        if sum(_width(rows, column) for column in columns) <= width:
            break
        columns = [column for column in columns if column.title != name]
    return columns


def _width(rows: Sequence[PolicySummary], column: Column) -> int:
    return 1 + max(len(column.title), *(len(column.cell(row)) for row in rows))


def comparison_table(rows: Sequence[PolicySummary], width: int = WIDTH) -> Table:
    """The policies of one workload; the best value of each column is bold."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title(rows), title_justify="left", title_style="bold", box=None, padding=(0, 1, 0, 0))
    columns = fitting(rows, width)
    for column in columns:
        table.add_column(column.title, justify="left" if column.words else "right", no_wrap=True, header_style="dim")
    bests = {column.title: best(rows, column) for column in columns}
    for row in rows:
        cells = [
            Text(column.cell(row), style="bold green" if row.policy in bests[column.title] else "")
            for column in columns
        ]
        table.add_row(*cells)
    return table


def comparison_tables(rows: Sequence[PolicySummary], width: int = WIDTH) -> list[RenderableType]:
    """Everything for the terminal: the tables, and a line on how to read them."""
    from rich.text import Text

    workloads = list(dict.fromkeys(row.workload for row in rows))
    tables = [comparison_table([row for row in rows if row.workload == name], width) for name in workloads]
    return [*tables, Text(LEGEND, style="dim")]


def failures(runs: Sequence[RunFigures]) -> list[str]:
    """A line for each run that failed."""
    return [
        f"failed: {each.workload} {each.policy} seed {each.seed}: {each.reason}"
        for each in runs
        if each.status == "failed"
    ]
