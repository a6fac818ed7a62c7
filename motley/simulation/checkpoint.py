"""A run's whole state on disk, so that it can go on as if it had never stopped.

A checkpoint is a directory with `state.json` (plain data), `arrays.safetensors` (arrays and bytes, to
which the former refers by number) and `history.db` (all that was stored until then). Directories are
numbered; one that has its name is complete.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from motley.errors import InputError
from motley.history import History
from motley.spec import Fleet

FORMAT = 2
"""Goes up whenever an older state can't be read any more."""

MAY_GROW = ("rounds", "max_time")
"""Fields of `training` that may differ when a run goes on."""

_ARRAY, _BYTES = "$array", "$bytes"

Arrays = list[NDArray[np.generic]]


@dataclass(frozen=True)
class Checkpoint:
    """What was read: the state, and where the history is that goes with it."""

    state: Mapping[str, Any]
    history: Path


def write_checkpoint(directory: Path, state: Mapping[str, Any], fleet: Fleet, history: History) -> None:
    """Write a checkpoint below `directory`, then remove those before it."""
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
    history.copy_to(new / "history.db")
    new.rename(directory / str(number))
    for _, path in before:
        shutil.rmtree(path)


def read_checkpoint(directory: Path, fleet: Fleet) -> Checkpoint:
    """The newest checkpoint below `directory`.

    Raises InputError where there is none, or where it is of another fleet or version.
    """
    found = _numbered(directory)
    if not found:
        raise InputError(f"no checkpoint in {directory}: the run ended before its first; start it anew")
    newest = found[-1][1]
    whole = json.loads((newest / "state.json").read_text())
    if whole["format"] != FORMAT:
        raise InputError(f"{newest} is of another version of Motley; start the run anew")
    differs = difference(whole["fleet"], fleet.model_dump(mode="json"))
    if differs is not None:
        raise InputError(f"{newest} is of another fleet: {differs}; resume with the run's own, or start it anew")
    stored = load_file(newest / "arrays.safetensors")
    arrays: Arrays = [stored[str(index)] for index in range(len(stored))]
    return Checkpoint(put_together(whole["state"], arrays), newest / "history.db")


def difference(run: Mapping[str, Any], fleet: Mapping[str, Any]) -> str | None:
    """The first field in which two fleets differ that may not, with both values; None where there is none."""
    run, fleet = ({**each, "training": _without(each["training"], MAY_GROW)} for each in (run, fleet))
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
