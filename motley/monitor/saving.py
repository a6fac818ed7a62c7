"""Samples to a file: JSON lines with all there is, or a flat table."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from io import StringIO
from pathlib import Path
from typing import Any

from motley.errors import InputError
from motley.samples import GpuSample, Sample

_FLAT = tuple(each.name for each in fields(Sample) if each.name not in ("gpus", "missing"))
_OF_GPU = tuple(each.name for each in fields(GpuSample) if each.name != "index")


def save(path: Path, samples: Sequence[Sample]) -> None:
    """Write them all at once: a reader sees the old file or the new one, never a part.

    `.jsonl`: an object a line, with `gpus` and `missing` within it. `.csv`: one header, the same columns in
    each row, a GPU's as `gpu0_…`, nothing where a value is missing. Raises InputError for another suffix, and
    where the file can't be written.
    """
    render = _FORMATS.get(path.suffix.lower())
    if render is None:
        raise InputError(f"{path}: can't save as {path.suffix or 'a file without suffix'!r}; use .jsonl or .csv")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(render(samples), encoding="utf-8", newline="")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InputError(f"{path}: can't be written: {error.strerror}") from error


def as_json_lines(samples: Sequence[Sample]) -> str:
    """One object a line."""
    return "".join(f"{json.dumps(asdict(sample))}\n" for sample in samples)


def as_csv(samples: Sequence[Sample]) -> str:
    """A header, and a row a sample; as many GPUs as any sample has."""
    gpus = max((len(sample.gpus) for sample in samples), default=0)
    columns = [*_FLAT, *(f"gpu{index}_{name}" for index in range(gpus) for name in _OF_GPU)]
    text = StringIO()
    table = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    table.writeheader()
    table.writerows(_row(sample) for sample in samples)
    return text.getvalue()


def _row(sample: Sample) -> dict[str, Any]:
    row = {name: _cell(getattr(sample, name)) for name in _FLAT}
    row |= {f"gpu{gpu.index}_{name}": _cell(getattr(gpu, name)) for gpu in sample.gpus for name in _OF_GPU}
    return row


def _cell(value: Any) -> Any:
    """Truth values as readers of tables know them."""
    return str(value).lower() if isinstance(value, bool) else value


_FORMATS: dict[str, Callable[[Sequence[Sample]], str]] = {".jsonl": as_json_lines, ".csv": as_csv}
