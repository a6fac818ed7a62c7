"""`motley run`: prepare the data, start the fleet as processes, follow it, show what came of it.

With --resume it goes on with a run that was interrupted; the server finds that in its state directory.
"""

from __future__ import annotations

import json
import time
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from motley.checkpoint import checkpoint_of, difference, last_round
from motley.errors import InputError, RunFailed
from motley.fleetfile import read_fleet
from motley.history import History
from motley.local import LocalFleet
from motley.records import RunRow
from motley.report import device_table, figures, round_line, summary_lines
from motley.resuming import HISTORY, held, kept_run, under_way
from motley.spec import Fleet
from motley.training.data import write_shards

_LOOK_S = 0.2


def run_locally(path: Path, rounds: int | None, directory: Path, json_file: Path | None) -> None:
    """Train the fleet of `path`; keep history, log, model and checkpoints under `directory`.

    Raises InputError for a bad fleet file, RunFailed when the run does not complete. Ctrl-C ends the
    run and shows what it has.
    """
    fleet = read_fleet(path)
    fleet = (fleet if rounds is None else fleet.with_rounds(rounds)).leaving_after_run()
    _run(fleet, directory / f"{fleet.name}-{datetime.now():%Y%m%d-%H%M%S}", 0, json_file)


def resume_locally(here: Path, path: Path | None, rounds: int | None, json_file: Path | None) -> None:
    """Go on with the run kept in `here`, of its own fleet; for more `rounds`, where they are given.

    path: the fleet file, where it is to be made sure that the run is of that one. Raises InputError where it
    is not, and where there is nothing to go on with; else as `run_locally`.
    """
    run, fleet = kept_run(here)
    if run.runtime != "processes":
        raise InputError(f"--resume {here}: its runtime is '{run.runtime}'; motley run resumes only its own runs")
    if path is not None and (differs := difference(_as_json(fleet), _as_json(read_fleet(path)))):
        raise InputError(f"--resume {here}: the run is of another fleet: {differs}; leave out {path}")
    fleet = fleet if rounds is None else fleet.with_rounds(rounds)
    _run(fleet, here, _take_up(here / "state", run, fleet), json_file)


def _take_up(state: Path, run: RunRow, fleet: Fleet) -> int:
    """Mark a run as under way again; returns how many rounds it has."""
    with held(state), closing(History(state / HISTORY)) as history:
        checkpoint = checkpoint_of(state, history, run, fleet)
        done = last_round(checkpoint.state)
        if run.status == "completed" and done >= fleet.training.rounds:
            raise InputError(f"the run in {state.parent} has all of its {done} rounds; --rounds gives it more")
        history.rewind(under_way(run, fleet), done, checkpoint.state["saved_s"])
    return done


def _as_json(fleet: Fleet) -> dict[str, Any]:
    return fleet.model_dump(mode="json")


def _run(fleet: Fleet, here: Path, done: int, json_file: Path | None) -> None:
    """Start the fleet in `here`, follow it from round `done` on, and show what came of it."""
    console = Console()
    with console.status("dividing the data"):
        write_shards(here / "data", fleet.training.task, fleet.shards, fleet.data, fleet.seed, fleet.slowness())
    console.print(
        f"fleet '{fleet.name}': {fleet.total_devices} devices as processes of this machine, "
        "with no limits but their threads"
    )
    interrupted = False
    with LocalFleet(fleet, here, here / "data") as local:
        history = History(local.state / HISTORY)
        try:
            _follow(history, local, fleet, console, done)
        except KeyboardInterrupt:
            interrupted = True
            console.print("interrupted; here is what there is")
    _finish(history, here, console, json_file, interrupted)


def _follow(history: History, local: LocalFleet, fleet: Fleet, console: Console, shown: int) -> None:
    """Show each round as it ends, but for the `shown` first ones, until the run has ended."""
    columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("starting server and devices", total=fleet.training.rounds)
        while True:
            run = history.latest_run()
            if run is not None:
                progress.update(bar, description=_PHASES.get(run.phase, run.phase))
                rounds = [row for row in history.rounds(run.run_id) if row.duration_s is not None]
                for row in rounds[shown:]:
                    outcomes = [each for number, each in history.outcomes(run.run_id) if number == row.round]
                    console.print(round_line(row, outcomes, run.rounds))
                shown = len(rounds)
                progress.update(bar, completed=shown)
                if run.status != "running":
                    return
            if local.ended():
                raise RunFailed(f"an agent has ended with exit code {local.ended()[0]}; see {local.log}")
            time.sleep(_LOOK_S)


_PHASES = {"join": "devices join", "train": "training", "aggregate": "aggregating", "evaluate": "evaluating"}


def _finish(history: History, here: Path, console: Console, json_file: Path | None, interrupted: bool) -> None:
    run = history.latest_run()
    if run is None:
        raise RunFailed(f"stopped before the run began; the log is {here / 'log.txt'}")
    if run.status == "running":
        history.end_run(run.run_id, "stopped" if interrupted else "failed", time.time())
    record = history.record(run.run_id)
    history.close()
    console.print()
    for line in summary_lines(record):
        console.print(line, highlight=False)
    if record.profiles:
        console.print(device_table(record))
    console.print(f"kept in {here}", highlight=False)
    if record.run.status == "stopped":
        console.print(f"go on with: motley run --resume {here}", highlight=False)
    if json_file is not None:
        json_file.write_text(json.dumps(figures(record), indent=1) + "\n")
    if record.run.status == "failed":
        raise RunFailed(f"the run failed: {record.run.detail}; the log is {here / 'log.txt'}")
