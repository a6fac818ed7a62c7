"""What it takes to go on with a run that was not finished, in its state directory.

The history of a server is a live store, which is ahead of the last checkpoint when the server is killed:
what it holds of later rounds is undone before the run goes on. The virtual clock keeps a copy of the
history in each checkpoint instead, and needs none of this.

The server's agent reads this module too, so it leaves NumPy, and with it the checkpoints, to others.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from motley.errors import InputError, RunFailed
from motley.history import History
from motley.records import RunRow
from motley.spec import Fleet

UNFINISHED = ("running", "stopped")
"""What history says of a run that was killed, and of one that was asked to stop."""

HISTORY = "history.db"
LETTING_GO_S = 30.0
"""How long a ServerApp whose SuperLink has gone may take to end."""

_LOCK = "lock"


def kept_run(directory: Path) -> tuple[RunRow, Fleet]:
    """The newest run that is kept in `directory`, with its fleet.

    Raises InputError where there is none, or where another version of Motley made it.
    """
    path = directory / "state" / HISTORY
    if not path.is_file():
        raise InputError(f"--resume {directory}: no run is kept there ({path} is missing)")
    with closing(History(path)) as history:
        run = history.latest_run()
    if run is None:
        raise InputError(f"--resume {directory}: its run never began; start it anew")
    try:
        return run, Fleet.model_validate_json(run.spec)
    except ValidationError:
        raise InputError(f"--resume {directory}: another version of Motley made that run; start it anew") from None


def progress(state: Path) -> tuple[str, int] | None:
    """The run of the state directory that is not finished, with its rounds that have ended; None without one."""
    with closing(History(state / HISTORY)) as history:
        run = history.latest_run()
        if run is None or run.status not in UNFINISHED:
            return None
        return run.run_id, sum(row.duration_s is not None for row in history.rounds(run.run_id))


def under_way(run: RunRow, fleet: Fleet) -> RunRow:
    """The row of a run that goes on, for as many rounds as `fleet` says."""
    spec, rounds = fleet.model_dump_json(), fleet.training.rounds
    return replace(run, spec=spec, rounds=rounds, status="running", phase="join", ended_s=None, detail="")


@contextmanager
def held(state: Path, patience_s: float = LETTING_GO_S) -> Iterator[None]:
    """Nobody else works on this state directory meanwhile; the kernel lets go of it however this process ends.

    Raises RunFailed where somebody still does after `patience_s`.
    """
    state.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + patience_s
    with (state / _LOCK).open("a") as file:
        while not _lock(file.fileno()):
            if time.monotonic() >= until:
                raise RunFailed(f"another server still works on {state}; end it first")
            time.sleep(0.1)
        yield


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
