"""What is on the screen while runs go on: rows in, rich renderables out."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from motley.comparison.figures import RunFigures, kinds
from motley.comparison.summary import PolicySummary, summarise
from motley.comparison.table import accuracy_cell, ratio_cell, time_cell
from motley.device import RoundOutcome
from motley.page.words import seconds
from motley.records import RoundRow

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import Progress
    from rich.table import Table

_LEVELS = "▁▂▃▄▅▆▇█"
_HOUR_S = 3600.0
"""How far back the time left is judged by; a single run may take minutes."""


def sparkline(values: Sequence[float], width: int = 40) -> str:
    """Values as a line of little bars, the mean of neighbours where there are more than `width`."""
    if not values:
        return ""
    cells = min(width, len(values))
    edges = [round(index * len(values) / cells) for index in range(cells + 1)]
    means = [statistics.fmean(values[edges[index] : edges[index + 1]]) for index in range(cells)]
    low, high = min(means), max(means)
    scale = (len(_LEVELS) - 1) / (high - low) if high > low else 0.0
    return "".join(_LEVELS[round((mean - low) * scale)] for mean in means)


def rounds_table(title: str, rounds: Sequence[tuple[RoundRow, Sequence[RoundOutcome]]], shown: int = 10) -> Table:
    """The newest rounds of one run, and the accuracy so far as a sparkline."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    for name in ("round", "virtual time", "accuracy", "loss", "at work", "finished", "late", "lost"):
        table.add_column(name, justify="right", no_wrap=True, header_style="dim")
    for row, outcomes in rounds[-shown:]:
        table.add_row(*_cells(row, kinds(outcomes)))
    accuracies = [row.accuracy for row, _ in rounds if row.accuracy is not None]
    if accuracies:
        table.caption = f"accuracy {sparkline(accuracies)} {accuracies[-1]:.3f}, best {max(accuracies):.3f}"
        table.caption_justify = "left"
    return table


def _cells(row: RoundRow, counts: Mapping[str, int]) -> list[str]:
    return [
        str(row.round),
        seconds(row.started_s + (row.duration_s or 0.0)),
        "–" if row.accuracy is None else f"{row.accuracy:.3f}",
        "–" if row.loss is None else f"{row.loss:.3f}",
        str(row.selected),
        *(str(counts[kind]) if counts[kind] else "·" for kind in ("finished", "late", "lost")),
    ]


class RoundsView:
    """The newest rounds of one run, live."""

    def __init__(self, title: str, planned: int) -> None:
        self._title = title
        self._planned = planned
        self._rounds: list[tuple[RoundRow, Sequence[RoundOutcome]]] = []

    @contextmanager
    def live(self, console: Console) -> Iterator[None]:
        """Keep the view on the terminal within the block, and its last state after it."""
        from rich.live import Live

        self._bar = _progress()
        self._task = self._bar.add_task("rounds", total=self._planned)
        with Live(self._render(), console=console, refresh_per_second=8) as self._live:
            yield

    def add(self, row: RoundRow, outcomes: Sequence[RoundOutcome]) -> None:
        self._rounds.append((row, outcomes))
        self._bar.update(self._task, completed=row.round)
        self._live.update(self._render())

    def _render(self) -> RenderableType:
        from rich.console import Group

        return Group(rounds_table(self._title, self._rounds), self._bar)


class ProgressView:
    """All runs of a comparison, live: a row for each policy, and a bar with the time left."""

    def __init__(self, planned: Mapping[tuple[str, str], int]) -> None:
        self._planned = planned

    @contextmanager
    def live(self, console: Console) -> Iterator[None]:
        """Keep the view on the terminal within the block."""
        from rich.live import Live

        self._bar = _progress()
        self._task = self._bar.add_task("runs", total=sum(self._planned.values()))
        with Live(self._render([]), console=console, refresh_per_second=4, transient=True) as self._live:
            yield

    def update(self, runs: Sequence[RunFigures]) -> None:
        self._bar.update(self._task, completed=len(runs))
        self._live.update(self._render(runs))

    def _render(self, runs: Sequence[RunFigures]) -> RenderableType:
        from rich.console import Group

        return Group(progress_table(runs, self._planned), self._bar)


def _progress() -> Progress:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
        speed_estimate_period=_HOUR_S,
    )


def progress_table(runs: Sequence[RunFigures], planned: Mapping[tuple[str, str], int]) -> Table:
    """A row for each policy: runs done, and how they stand so far over all workloads."""
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("policy", no_wrap=True, header_style="dim")
    for name in ("runs", "there", "to target, s", "× random", "accuracy"):
        table.add_column(name, justify="right", no_wrap=True, header_style="dim")
    rows, workloads = summarise(runs), {workload for workload, _ in planned}
    for policy in dict.fromkeys(policy for _, policy in planned):
        total = sum(count for (_, name), count in planned.items() if name == policy)
        table.add_row(policy, *_standing([row for row in rows if row.policy == policy], total, len(workloads) == 1))
    return table


def _standing(rows: Sequence[PolicySummary], total: int, single: bool) -> list[str]:
    done, failed = sum(row.runs for row in rows), sum(row.failed for row in rows)
    counted = f"{done}/{total}" + (f", {failed} failed" if failed else "")
    if not rows:
        return [counted, "", "", "", ""]
    speedups = [row.speedup for row in rows if row.speedup is not None]
    return [
        counted,
        str(sum(row.arrived for row in rows)),
        time_cell(rows[0].tta_s) if single else "",
        ratio_cell(statistics.median(speedups)) if speedups else "",
        accuracy_cell(rows[0].final_accuracy) if single else "",
    ]


def run_line(run: RunFigures, done: int, planned: int) -> str:
    """One finished run as one line of a log."""
    head = f"{done}/{planned} {run.workload} {run.policy} seed {run.seed}"
    if run.status == "failed":
        return f"{head}: failed: {run.reason}"
    reached = "not reached" if run.tta_s is None else f"reached in {seconds(run.tta_s)}"
    final = math.nan if run.final_accuracy is None else run.final_accuracy
    return f"{head}: target {reached}, accuracy {final:.3f} ({run.rounds} rounds, {run.wall_s:.0f} s)"
