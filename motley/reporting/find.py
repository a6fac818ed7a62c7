"""Find a run that is kept: by its name or id, by where it is, or the newest one.

A run's name is that of its directory below the one where runs are kept.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from motley.errors import InputError
from motley.history import History
from motley.records import RoundRow, RunRow
from motley.reporting.facts import Facts, facts_of

STORE = "history.db"
_IN_RUN = (STORE, f"state/{STORE}")
_BELOW = (*_IN_RUN, f"*/{STORE}", f"*/state/{STORE}")
_OF_COMPARISONS = f"*/runs/*/*/state/{STORE}"


@dataclass(frozen=True)
class Kept:
    """One run, and the store that holds it."""

    store: Path
    run: RunRow
    name: str
    last: RoundRow | None
    """The last round that ended."""
    alone: bool
    """Its store holds no other run."""

    @property
    def directory(self) -> Path:
        """Of the run: that of its store, or the one above a state directory."""
        parent = self.store.parent
        return parent.parent if parent.name == "state" else parent


def kept_runs(directory: Path, comparisons: bool = True) -> list[Kept]:
    """Every run below `directory`, the newest first; `comparisons`: with those that `motley compare` has made."""
    patterns = (*_BELOW, _OF_COMPARISONS) if comparisons else _BELOW
    stores = {path for each in patterns for path in directory.glob(each) if path.is_file()}
    newest_first = sorted(stores, key=lambda path: (-_changed_s(path), path))
    return [run for store in newest_first for run in _runs_in(store, directory, strict=False)]


def find_run(wanted: str | None, directory: Path) -> Kept:
    """The run that is called so, has that id, or lies there; the newest below `directory` where `wanted` is None.

    Of several runs of one id it is the newest. Raises InputError, naming the nearest known one, where there is none.
    """
    if wanted is not None and Path(wanted).is_file():
        return _newest_in(Path(wanted), directory)
    runs = kept_runs(directory)
    found = next((each for each in runs if wanted in (None, each.name, each.run.run_id)), None)
    if found is not None:
        return found
    if wanted is not None and Path(wanted).is_dir():
        return _newest_in(_store_in(Path(wanted)), directory)
    if wanted is None or not runs:
        raise InputError(f"no runs under {directory}; make one with: motley simulate, or motley run")
    known = list(dict.fromkeys(name for each in runs for name in (each.name, each.run.run_id)))
    nearest = get_close_matches(wanted, known, n=1, cutoff=0.0)[0]
    raise InputError(f"no run '{wanted}' under {directory}; the nearest is '{nearest}', motley runs lists all")


def alike(kept: Kept, directory: Path) -> list[Kept]:
    """The other runs of its id."""
    return [each for each in kept_runs(directory) if each.run.run_id == kept.run.run_id and each.store != kept.store]


def read_facts(kept: Kept) -> Facts:
    """All that the report says of a run."""
    with closing(History(kept.store)) as history:
        return facts_of(history.record(kept.run.run_id), history.all_decisions(kept.run.run_id))


def _store_in(path: Path) -> Path:
    """The store of a run's directory, or of its state directory."""
    found = next((path / name for name in _IN_RUN if (path / name).is_file()), None)
    if found is None:
        raise InputError(f"{path}: no run is kept there ({path / _IN_RUN[1]} is missing)")
    return found


def _newest_in(store: Path, directory: Path) -> Kept:
    found = next(iter(_runs_in(store, directory, strict=True)), None)
    if found is None:
        raise InputError(f"{store}: no run has begun in it")
    return found


def _runs_in(store: Path, directory: Path, strict: bool) -> Iterator[Kept]:
    """The runs of a store, newest first. What is no history raises InputError where `strict`, else it is left out."""
    try:
        with closing(History(store)) as history:
            runs = history.runs()
            lasts = [_last(history.rounds(run.run_id)) for run in runs]
    except sqlite3.Error as error:
        if strict:
            raise InputError(f"{store}: it can't be read as the history of a run ({error})") from None
        return
    for run, last in zip(runs, lasts, strict=True):
        yield Kept(store, run, _name(store, run, directory, len(runs)), last, len(runs) == 1)


def _last(rounds: Iterable[RoundRow]) -> RoundRow | None:
    done = [row for row in rounds if row.duration_s is not None]
    return done[-1] if done else None


def _name(store: Path, run: RunRow, directory: Path, runs: int) -> str:
    """The directory of the run, or its id where the directory holds several, or lies elsewhere."""
    here = Kept(store, run, "", None, True).directory
    if runs > 1 or here == directory or not here.is_relative_to(directory):
        return run.run_id
    return str(here.relative_to(directory))


def _changed_s(path: Path) -> float:
    """When a store was last written to; what a live one has not yet taken in lies in a file beside it."""
    log = path.with_name(path.name + "-wal")
    return max(each.stat().st_mtime for each in (path, log) if each.exists())
