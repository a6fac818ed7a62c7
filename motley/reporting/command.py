"""`motley report` and `motley runs`."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from motley.errors import InputError
from motley.page.blocks import Page
from motley.page.html import html
from motley.page.markdown import markdown
from motley.reporting.export import TableName, report_csv, report_json
from motley.reporting.facts import Facts
from motley.reporting.fetch import fetch
from motley.reporting.find import Kept, alike, find_run, kept_runs, read_facts
from motley.reporting.measures import pair_csv, pair_json
from motley.reporting.pair import pair_page
from motley.reporting.sections import page_of

_LIST_WIDTH = 120
"""At least: a name that is cut can't be given to `motley report`."""

Format = Literal["html", "md", "json", "csv"]


@dataclass(frozen=True)
class Request:
    """What is to be reported, as asked for on the command line."""

    runs: Sequence[str] = ()
    """One, or two to compare; of neither, the newest is reported."""
    directory: Path = Path("runs")
    form: Format = "html"
    table: TableName | None = None
    out: Path | None = None
    compose: Path | None = None
    """A compose file: its server has the history."""
    project: str | None = None
    """The same, by the name of the project."""


def report(request: Request) -> None:
    """Write the report of a run, or of two side by side.

    Raises InputError for a run that is not known, and for a file that can't be written.
    """
    if len(request.runs) > 2:
        raise InputError(f"{len(request.runs)} runs are given; write one, or two to compare")
    if request.table is not None and (request.form != "csv" or len(request.runs) == 2):
        raise InputError(f"--table {request.table} is for --format csv of one run; leave it out")
    with place_of_runs(request) as directory:
        wanted = request.runs or (None,)
        kept = [find_run(each, directory) for each in wanted]
        for asked, found in zip(wanted, kept, strict=True):
            _say_which(asked, found, directory)
        facts = [read_facts(each) for each in kept]
    text = rendered(facts, [each.name for each in kept], request)
    if request.form != "html" and request.out is None:
        sys.stdout.write(text)
        return
    path = request.out or _beside(kept, request)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path} can't be written ({error.strerror}); name another place with --out") from None
    print(path)


@contextmanager
def place_of_runs(request: Request) -> Iterator[Path]:
    """Where to look for runs: as asked for, or a copy of what a container keeps."""
    if request.compose is None and request.project is None:
        yield request.directory
        return
    with TemporaryDirectory(prefix="motley-report-") as place:
        fetch(Path(place), request.compose, request.project)
        yield Path(place)


def rendered(facts: Sequence[Facts], names: Sequence[str], request: Request) -> str:
    """The report in the form that was asked for."""
    first, *others = facts
    if request.form == "json":
        return pair_json(first, others[0], names) if others else report_json(first)
    if request.form == "csv":
        return pair_csv(first, others[0], names) if others else report_csv(first, request.table or "orders")
    page = pair_page(first, others[0], names) if others else page_of(first)
    return markdown(page) if request.form == "md" else _html(page)


def _html(page: Page) -> str:
    from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]

    return html(page, get_plotlyjs())


def _beside(kept: Sequence[Kept], request: Request) -> Path:
    """Beside the run; with several runs in one place, and for two, by name."""
    fetched = request.compose is not None or request.project is not None
    place = Path() if fetched else kept[0].directory if len(kept) == 1 else request.directory
    if len(kept) == 1 and kept[0].alone and not fetched:
        return place / "report.html"
    return place / f"report-{'-and-'.join(_file_name(each.name) for each in kept)}.html"


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name)[:80]


def _say_which(asked: str | None, found: Kept, directory: Path) -> None:
    """A note where an id stands for several runs."""
    others = alike(found, directory) if asked == found.run.run_id != found.name else []
    if others:
        print(f"{len(others) + 1} runs have the id {asked}; this is {found.name}", file=sys.stderr)


def list_runs(directory: Path, comparisons: bool, json_file: Path | None) -> None:
    """Show every run kept under `directory`, newest first. Raises InputError when there is none."""
    from rich.console import Console

    from motley.report import runs_table

    runs = kept_runs(directory, comparisons)
    if not runs:
        raise InputError(f"no runs under {directory}; make one with: motley simulate, or motley run")
    Console(width=max(Console().width, _LIST_WIDTH)).print(
        runs_table([(each.name, each.run, each.last) for each in runs])
    )
    if json_file is not None:
        data = [{"name": each.name, "store": str(each.store), **asdict(each.run)} for each in runs]
        json_file.write_text(json.dumps(data, indent=1) + "\n")
