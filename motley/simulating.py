"""`motley simulate`: one fleet on the virtual clock, followed live."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from motley.comparison.figures import RunFigures, concurrency, run_figures
from motley.comparison.live import RoundsView
from motley.comparison.request import Engine, policy_named
from motley.device import RoundOutcome
from motley.errors import InputError, RunFailed
from motley.fleetfile import read_fleet
from motley.history import History
from motley.page.words import seconds
from motley.records import RoundRow, RunRecord
from motley.report import class_table, device_table, figures, round_line, summary_lines
from motley.resuming import kept_run
from motley.spec import Fleet

if TYPE_CHECKING:
    from rich.console import Console

MOST_DEVICES_SHOWN = 30

Watch = Callable[..., None]


@dataclass(frozen=True)
class Request:
    """What is to be simulated, as asked for on the command line."""

    fleet: Path
    policy: str | None = None
    seed: int | None = None
    rounds: int | None = None
    engine: Engine = "grouped"
    processes: int = 1
    directory: Path = Path("runs")
    resume: Path | None = None
    json_file: Path | None = None


def fleet_of(request: Request) -> Fleet:
    """The fleet with what the request changes. Raises InputError for what can't be."""
    if request.resume is None:
        fleet = read_fleet(request.fleet)
        if request.policy is not None:
            fleet = fleet.with_policy(policy_named(request.policy, "--policy"))
        fleet = fleet if request.seed is None else fleet.with_seed(request.seed)
    else:
        if request.policy is not None or request.seed is not None:
            raise InputError("--resume goes on with the run's own policy and seed; leave out --policy and --seed")
        _, fleet = kept_run(request.resume)
    return fleet if request.rounds is None else fleet.with_rounds(request.rounds)


def run_simulation(request: Request) -> None:
    """Simulate, show each round, then what came of it.

    Raises InputError for bad input, RunFailed when the run fails, KeyboardInterrupt after the
    result of the rounds done when Ctrl-C cut it short.
    """
    from rich.console import Console

    console = Console()
    fleet = fleet_of(request)
    here = request.resume or request.directory / f"{fleet.name}-{fleet.training.policy}-{datetime.now():%Y%m%d-%H%M%S}"
    started = time.perf_counter()
    record, interrupted = _simulate(fleet, here / "state", request, console)
    result = run_figures(
        record,
        fleet.training.target_accuracy,
        concurrency=concurrency(fleet),
        devices=fleet.total_devices,
        wall_s=time.perf_counter() - started,
    )
    if interrupted:
        console.print("interrupted; here is what there is")
    _show(record, result, here, console)
    if request.json_file is not None:
        data = {**figures(record), "figures": result.as_mapping()}
        request.json_file.write_text(json.dumps(data, indent=1) + "\n")
    if interrupted:
        raise KeyboardInterrupt
    if record.run.status == "failed":
        raise RunFailed(f"the run failed: {record.run.detail}")


def _simulate(fleet: Fleet, state: Path, request: Request, console: Console) -> tuple[RunRecord, bool]:
    """The run's record, and whether Ctrl-C cut it short."""
    from motley.simulation.run import simulate

    try:
        with watching(fleet, console) as watch:
            record = simulate(
                fleet,
                state,
                engine=request.engine,
                processes=request.processes,
                watch=watch,
                resume=request.resume is not None,
            )
    except KeyboardInterrupt:
        return _kept_record(state), True
    return record, record.run.status == "stopped"


def _kept_record(state: Path) -> RunRecord:
    """What history holds of a run that was interrupted. Raises KeyboardInterrupt when that is nothing."""
    history = History(state / "history.db")
    try:
        run = history.latest_run()
        if run is None:
            raise KeyboardInterrupt
        if run.status == "running":
            ends = [row.started_s + (row.duration_s or 0.0) for row in history.rounds(run.run_id)]
            history.end_run(run.run_id, "stopped", max(ends, default=run.started_s))
        return history.record(run.run_id)
    finally:
        history.close()


@contextmanager
def watching(fleet: Fleet, console: Console) -> Iterator[Watch]:
    """A live table on a terminal, a line for each round elsewhere."""
    planned = fleet.training.rounds
    if not console.is_terminal:
        yield lambda row, outcomes, *_: console.print(round_line(row, outcomes, planned), highlight=False)
        return
    title = f"{fleet.name}: {fleet.training.policy}, {fleet.total_devices} devices, seed {fleet.seed}"
    view = RoundsView(title, planned)

    def watch(row: RoundRow, outcomes: Sequence[RoundOutcome], *_: object) -> None:
        view.add(row, outcomes)

    with view.live(console):
        yield watch


def _show(record: RunRecord, result: RunFigures, here: Path, console: Console) -> None:
    console.print()
    for line in [*summary_lines(record), *usage_lines(result)]:
        console.print(line, highlight=False, soft_wrap=True)
    if record.profiles:
        shown = device_table if len(record.profiles) <= MOST_DEVICES_SHOWN else class_table
        console.print(shown(record))
    console.print(f"kept in {here}", highlight=False, soft_wrap=True)


def usage_lines(result: RunFigures) -> list[str]:
    """What the run cost, in words."""
    worked = result.used_device_s + result.wasted_device_s
    lines = [f"{seconds(result.virtual_s)} of virtual time in {seconds(result.wall_s)} on this machine"]
    if worked > 0:
        used = f"{result.used_device_s / worked:.0%} of {worked:,.0f} device-seconds at work went into the model"
        shares = "" if result.useful_share is None else f", {result.useful_share:.0%} of those available"
        lines.append(f"{used}{shares}; {result.participants} of {result.devices} devices took part")
    if result.energy_j > 0:
        lines.append(f"energy: {result.energy_j / 1000:,.1f} kJ")
    return lines
