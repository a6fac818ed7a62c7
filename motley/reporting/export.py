"""A report as JSON and CSV: every figure of the page, and every row of history behind it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any, Literal, get_args

from motley.device import RoundOutcome
from motley.page.delimited import csv_text
from motley.records import RoundRow
from motley.report import figures
from motley.reporting.choices import ReasonFacts
from motley.reporting.devices import ClassFacts, DeviceFacts
from motley.reporting.facts import Facts
from motley.reporting.outcomes import OutcomeFacts
from motley.reporting.words import happenings, headline, problems

TableName = Literal["orders", "rounds", "devices", "classes", "outcomes", "reasons"]
TABLES: Sequence[TableName] = get_args(TableName)


def report_json(facts: Facts) -> str:
    """Plain data: the words, the figures, and the rows of history on the clock of the report."""
    return json.dumps(as_data(facts), indent=1, allow_nan=False) + "\n"


def as_data(facts: Facts) -> dict[str, Any]:
    forecast = facts.forecast and {key: value for key, value in asdict(facts.forecast).items() if key != "pairs"}
    data = {
        "headline": headline(facts),
        "happenings": happenings(facts),
        "problems": problems(facts),
        **figures(facts.record),
        "figures": {key: value for key, value in facts.figures.as_mapping().items() if key != "wall_s"},
        "energy_wh": facts.energy_wh,
        "usd": facts.usd,
        "rented_s": facts.rented_s,
        "forecast": forecast,
        "classes": [asdict(each) for each in facts.classes],
        "devices": [asdict(each) for each in facts.devices],
        "outcome_counts": [asdict(each) for each in facts.outcomes],
        "reasons": [asdict(each) for each in facts.choices.reasons],
        "profiles": [each.as_mapping() for each in facts.record.profiles],
        "fleet": facts.fleet.as_mapping() if facts.fleet else None,
    }
    found: dict[str, Any] = finite(data)
    return found


def report_csv(facts: Facts, name: TableName) -> str:
    """One table; empty where there is no figure."""
    if name == "orders":
        orders = ({"round": number, **asdict(each)} for number, each in facts.record.outcomes)
        return csv_text(["round", *(field.name for field in fields(RoundOutcome))], orders)
    tables: Mapping[str, tuple[type, Sequence[Any]]] = {
        "rounds": (RoundRow, facts.record.rounds),
        "devices": (DeviceFacts, facts.devices),
        "classes": (ClassFacts, facts.classes),
        "outcomes": (OutcomeFacts, facts.outcomes),
        "reasons": (ReasonFacts, facts.choices.reasons),
    }
    kind, rows = tables[name]
    return csv_text([field.name for field in fields(kind)], (asdict(each) for each in rows))


def finite(value: Any) -> Any:
    """The same data with None for what JSON can't hold: infinities, and what is no number."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(each) for each in value]
    return value
