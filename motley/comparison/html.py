"""The comparison as one page that opens without a network: words first, then table and charts."""

from __future__ import annotations

from collections.abc import Sequence

from motley.comparison.bars import Trace, window
from motley.comparison.charts import (
    Curves,
    accuracy_chart,
    colours,
    fairness_chart,
    time_chart,
    work_chart,
)
from motley.comparison.figures import RunFigures
from motley.comparison.gantt import gantt_chart
from motley.comparison.summary import PolicySummary, sentences, summarise
from motley.comparison.table import COLUMNS, LEGEND, best, failures, title
from motley.page.blocks import Block, Column, Figure, Heading, Page, Pair, Section, Table, Text
from motley.page.html import html
from motley.page.words import counted

Traces = Sequence[tuple[str, Trace]]
"""Workload and trace."""


def page(curves: Curves, traces: Traces, plotly_js: str, interrupted: bool = False) -> str:
    """The whole page as text; `plotly_js` is the library's source, which goes into the page."""
    runs = [run for run, _ in curves]
    rows = summarise(runs)
    colour = colours(list(dict.fromkeys(run.policy for run in runs)))
    workloads = list(dict.fromkeys(run.workload for run in runs))
    sections = [
        _section(name, f"workload-{index}", curves, rows, traces, colour) for index, name in enumerate(workloads, 1)
    ]
    made = Page("Policies side by side", _words(runs, rows, interrupted), sections, [Text(f"{LEGEND}.", "note")])
    return html(made, plotly_js)


def _words(runs: Sequence[RunFigures], rows: Sequence[PolicySummary], interrupted: bool) -> list[Block]:
    policies = counted(len({run.policy for run in runs}), "policy", "policies")
    workloads = counted(len({run.workload for run in runs}), "workload")
    seeds = counted(len({run.seed for run in runs}), "seed")
    notes = ["Interrupted: only the runs that had ended are here."] if interrupted else []
    return [
        Text(f"{counted(len(runs), 'run')}: {policies} on {workloads}, {seeds}."),
        *(Text(f"{text}.", "result") for text in sentences(rows)),
        *(Text(text, "failed") for text in [*notes, *failures(runs)]),
    ]


def _section(
    workload: str, anchor: str, curves: Curves, rows: Sequence[PolicySummary], traces: Traces, colour: dict[str, str]
) -> Section:
    mine = [row for row in rows if row.workload == workload]
    mine_curves = [(run, points) for run, points in curves if run.workload == workload]
    runs = [run for run, _ in mine_curves]
    blocks: list[Block] = [
        _table(mine),
        Figure("Accuracy over virtual time", accuracy_chart(mine_curves, mine, colour)),
        Pair(
            [
                Figure("Time to the target, each run", time_chart(runs, mine, colour)),
                Figure("Device-seconds used and wasted, medians", work_chart(mine)),
            ]
        ),
        Figure("Accuracy and fairness, medians", fairness_chart(mine, colour)),
        *_gantt([trace for name, trace in traces if name == workload]),
    ]
    return Section(title(mine), anchor, blocks)


def _gantt(traces: Sequence[Trace]) -> list[Block]:
    """Who did what when, for each trace on the same time scale; nothing where there is no trace."""
    stretch = window(traces[0], traces[1:]) if traces else None
    if stretch is None:
        return []
    note = (
        "First seed; slow devices below, dotted lines where a new model was made, unless they were too many. "
        "The sum of both transfers is known; half of it is drawn on each side of the training."
    )
    charts = [Figure("", gantt_chart(each, traces, stretch), f"Orders of {each.policy}") for each in traces]
    return [Heading("Who did what when"), Pair(charts), Text(note, "note")]


def _table(rows: Sequence[PolicySummary]) -> Table:
    bests = [best(rows, column) for column in COLUMNS]
    return Table(
        "",
        [Column(column.title, column.words) for column in COLUMNS],
        [[column.cell(row) for column in COLUMNS] for row in rows],
        frozenset(
            (number, place)
            for number, row in enumerate(rows)
            for place, names in enumerate(bests)
            if row.policy in names
        ),
    )
