"""The comparison as CSV and JSON text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import fields

from motley.comparison.figures import Point, RunFigures
from motley.page.delimited import csv_text


def runs_json(runs: Sequence[RunFigures]) -> str:
    """A JSON array with one object for each run."""
    return json.dumps([each.as_mapping() for each in runs], indent=1, allow_nan=False) + "\n"


def runs_csv(runs: Sequence[RunFigures]) -> str:
    """One line for each run; empty where there is no figure."""
    return csv_text([field.name for field in fields(RunFigures)], (each.as_mapping() for each in runs))


def curves_csv(curves: Iterable[tuple[RunFigures, Sequence[Point]]]) -> str:
    """One line for each round of each run."""
    names = ["workload", "policy", "seed", "round", "virtual_s", "accuracy", "loss"]
    rows = (
        {
            "workload": run.workload,
            "policy": run.policy,
            "seed": run.seed,
            "round": point.round,
            "virtual_s": round(point.end_s, 3),
            "accuracy": point.accuracy,
            "loss": point.loss,
        }
        for run, points in curves
        for point in points
    )
    return csv_text(names, rows)
