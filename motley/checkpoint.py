"""A run's whole state on disk, so that it can go on as if it had never stopped.

A checkpoint is a directory with `state.json` (plain data) and `arrays.safetensors` (arrays and bytes, to
which the former refers by number). A simulation adds `history.db`, all that was stored until then; a
server's history is a store of its own, in which later rounds are undone. Directories are numbered. One
that has its name is complete when a process is killed; when the machine ends, once it is settled.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from motley.errors import InputError
from motley.history import History
from motley.records import RunRow
from motley.spec import Fleet

FORMAT = 2
"""Goes up whenever an older state can't be read any more."""

MAY_GROW = ("rounds", "max_time")
"""Fields of `training` that may differ when a run goes on."""

BESIDES = ("server", "monitoring")
"""Parts of the fleet file that may, since what is learned does not depend on them."""

CHECKPOINTS = "checkpoints"
"""The directory of a run's checkpoints, within that of its state."""

_ARRAY, _BYTES = "$array", "$bytes"

Arrays = list[NDArray[np.generic]]


@dataclass(frozen=True)
class Checkpoint:
    """What was read, and where."""

    state: Mapping[str, Any]
    path: Path

    @property
    def history(self) -> Path:
        """The history that goes with it, where it was written with one."""
        return self.path / "history.db"


def write_checkpoint(directory: Path, state: Mapping[str, Any], fleet: Fleet, history: History) -> None:
    """Write a checkpoint with a copy of `history` below `directory`, then remove those before it."""
    settle(add_checkpoint(directory, state, fleet, history))


def add_checkpoint(directory: Path, state: Mapping[str, Any], fleet: Fleet, history: History | None = None) -> Path:
    """Write a checkpoint below `directory`, with a copy of `history` where there is one; returns where it is."""
    directory.mkdir(parents=True, exist_ok=True)
    before = _numbered(directory)
    number = before[-1][0] + 1 if before else 1
    new = directory / f"{number}.new"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    arrays: Arrays = []
    whole = {"format": FORMAT, "fleet": fleet.model_dump(mode="json"), "state": taken_apart(state, arrays)}
    save_file(
        {str(index): np.asarray(each, order="C") for index, each in enumerate(arrays)}, new / "arrays.safetensors"
    )
    (new / "state.json").write_text(json.dumps(whole))
    if history is not None:
        history.copy_to(new / "history.db")
    return new.rename(directory / str(number))


def settle(checkpoint: Path, *beside: Path) -> None:
    """Make a checkpoint outlast the machine, and before it the files `beside`; then remove those before it."""
    for path in (*beside, *checkpoint.iterdir(), checkpoint, checkpoint.parent):
        synchronize(path)
    for number, path in _numbered(checkpoint.parent):
        if number < int(checkpoint.name):
            shutil.rmtree(path)


def forget_later(checkpoint: Path) -> None:
    """Remove the checkpoints that came after this one: the run goes on from here."""
    for number, path in _numbered(checkpoint.parent):
        if number > int(checkpoint.name):
            shutil.rmtree(path)


def synchronize(path: Path) -> None:
    """Have a file or a directory written to the disk itself, if it is there."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_checkpoint(
    directory: Path, fleet: Fleet, wanted: Callable[[Mapping[str, Any]], bool] = lambda state: True
) -> Checkpoint:
    """The newest checkpoint below `directory` that is whole and has a `wanted` state.

    Raises InputError where there is none, or where it is of another fleet or version.
    """
    for _, path in reversed(_numbered(directory)):
        whole = _read(path)
        if whole is None:
            continue
        if whole["format"] != FORMAT:
            raise InputError(f"{path} is of another version of Motley; start the run anew")
        differs = difference(whole["fleet"], fleet.model_dump(mode="json"))
        if differs is not None:
            raise InputError(f"{path} is of another fleet: {differs}; resume with the run's own, or start it anew")
        if wanted(whole["state"]):
            return Checkpoint(whole["state"], path)
    raise InputError(f"no checkpoint in {directory}: the run ended before its first; start it anew")


def checkpoint_of(state: Path, history: History, run: RunRow, fleet: Fleet) -> Checkpoint:
    """The newest checkpoint of `run` in the state directory whose rounds history has, too.

    Raises InputError where there is none, or where it is of another fleet or version.
    """
    ended = {row.round for row in history.rounds(run.run_id) if row.duration_s is not None}

    def is_wanted(state: Mapping[str, Any]) -> bool:
        return state.get("run_id") == run.run_id and set(range(1, last_round(state) + 1)) <= ended

    return read_checkpoint(state / CHECKPOINTS, fleet, is_wanted)


def last_round(state: Mapping[str, Any]) -> int:
    """The round after which a server's checkpoint was written; 0 before the first."""
    return int(state["strategy"]["round"]) if state["strategy"] else 0


def difference(run: Mapping[str, Any], fleet: Mapping[str, Any]) -> str | None:
    """The first field in which two fleets differ that may not, with both values; None where there is none."""
    run, fleet = (
        {**_without(each, BESIDES), "training": _without(each["training"], MAY_GROW)} for each in (run, fleet)
    )
    return _difference(run, fleet, "")


def taken_apart(tree: Any, arrays: Arrays) -> Any:
    """`tree` with numbers in place of its arrays and bytes, which are added to `arrays`.

    Raises TypeError for what is neither these nor plain data.
    """
    if isinstance(tree, np.ndarray):
        arrays.append(tree)
        return {_ARRAY: len(arrays) - 1}
    if isinstance(tree, bytes):
        arrays.append(np.frombuffer(tree, np.uint8))
        return {_BYTES: len(arrays) - 1}
    if isinstance(tree, Mapping):
        if not all(isinstance(key, str) for key in tree):
            raise TypeError(f"the keys {list(tree)[:3]} can't be written down; use text")
        return {key: taken_apart(value, arrays) for key, value in tree.items()}
    if isinstance(tree, Sequence) and not isinstance(tree, str):
        return [taken_apart(value, arrays) for value in tree]
    if isinstance(tree, np.generic):
        return tree.item()
    if tree is not None and not isinstance(tree, str | int | float):
        raise TypeError(f"a value of type {type(tree).__name__} can't be written down")
    return tree


def put_together(tree: Any, arrays: Arrays) -> Any:
    """The inverse of `taken_apart`; tuples have become lists."""
    if isinstance(tree, list):
        return [put_together(value, arrays) for value in tree]
    if not isinstance(tree, dict):
        return tree
    if tree.keys() == {_ARRAY}:
        return arrays[tree[_ARRAY]]
    if tree.keys() == {_BYTES}:
        return arrays[tree[_BYTES]].tobytes()
    return {key: put_together(value, arrays) for key, value in tree.items()}


def _read(path: Path) -> dict[str, Any] | None:
    """All of a checkpoint; None for one that the machine's end has left incomplete."""
    try:
        whole: dict[str, Any] = json.loads((path / "state.json").read_text())
        stored = load_file(path / "arrays.safetensors")
    except (OSError, ValueError, SafetensorError):
        return None
    arrays: Arrays = [stored[str(index)] for index in range(len(stored))]
    return {**whole, "state": put_together(whole["state"], arrays)}


def _numbered(directory: Path) -> list[tuple[int, Path]]:
    """Complete checkpoints, the newest last."""
    return sorted((int(path.name), path) for path in directory.glob("*") if path.name.isdigit())


def _difference(one: Any, other: Any, where: str) -> str | None:
    if not isinstance(one, Mapping) or not isinstance(other, Mapping):
        return None if one == other else f"{where} was {json.dumps(one)}, is {json.dumps(other)}"
    found = (_difference(one.get(key), other.get(key), f"{where}.{key}" if where else key) for key in {**one, **other})
    return next((each for each in found if each is not None), None)


def _without(values: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in keys}
