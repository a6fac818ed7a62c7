"""The figures by which two runs are held against each other, and what differs in how they were made."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from motley.page.delimited import csv_text
from motley.page.words import NOTHING, decimals, dollars, number, percent
from motley.reporting.export import as_data
from motley.reporting.facts import Facts
from motley.reporting.words import done_rounds, end_s, judged


@dataclass(frozen=True)
class Measure:
    """One figure of a run; None where the run has none."""

    name: str
    value: Callable[[Facts], float | None]
    text: Callable[[float | None], str] = number
    more_is_better: bool | None = None
    """None where neither is."""


MEASURES: Sequence[Measure] = (
    Measure("rounds that ended", lambda facts: len(done_rounds(facts))),
    Measure("seconds from the first round to the end of the last", lambda facts: end_s(facts)),
    Measure("seconds to the target", lambda facts: facts.reached[1] if facts.reached else None, more_is_better=False),
    Measure("last accuracy", lambda facts: judged(facts)[-1].accuracy if judged(facts) else None, decimals, True),
    Measure("best accuracy", lambda facts: facts.figures.best_accuracy, decimals, True),
    Measure("last loss", lambda facts: judged(facts)[-1].loss if judged(facts) else None, decimals, False),
    Measure("devices of which an update was used", lambda facts: facts.figures.participants, number, True),
    Measure("Jain's index of participation", lambda facts: facts.figures.jain, decimals, True),
    Measure("orders", lambda facts: len(facts.record.outcomes)),
    Measure("updates used", lambda facts: facts.figures.used_updates),
    Measure("orders not used", lambda facts: facts.figures.unused_updates, number, False),
    Measure("device-seconds used", lambda facts: facts.figures.used_device_s),
    Measure("device-seconds wasted", lambda facts: facts.figures.wasted_device_s, number, False),
    Measure("device-seconds used, of those available", lambda facts: facts.figures.useful_share, percent, True),
    Measure("greatest share of a memory limit", lambda facts: _fullest(facts), percent, False),
    Measure("expected seconds off by, median", lambda facts: _forecast_error(facts), percent, False),
    Measure("energy of the orders, Wh", lambda facts: facts.energy_wh or None, number, False),
    Measure("dollars", lambda facts: facts.usd, lambda usd: NOTHING if usd is None else dollars(usd), False),
)


def better(measure: Measure, first: Facts, second: Facts) -> int | None:
    """0 or 1, for the run with the better value; None where that can't be said, or both are equal."""
    one, other = measure.value(first), measure.value(second)
    if measure.more_is_better is None or one is None or other is None or measure.text(one) == measure.text(other):
        return None
    return int((other > one) == measure.more_is_better)


def differences(first: Facts, second: Facts) -> list[tuple[str, str, str]]:
    """What of fleet file and runtime differs, by key."""
    one, other = dict(_settings(first)), dict(_settings(second))
    return [
        (key, one.get(key, NOTHING), other.get(key, NOTHING))
        for key in dict.fromkeys([*one, *other])
        if one.get(key) != other.get(key)
    ]


def pair_json(first: Facts, second: Facts, names: Sequence[str]) -> str:
    """Plain data: the measures, what differs, and each run in full."""
    data = {
        "runs": list(names),
        "measures": {each.name: [each.value(first), each.value(second)] for each in MEASURES},
        "differences": differences(first, second),
        "reports": [as_data(first), as_data(second)],
    }
    return json.dumps(data, indent=1, allow_nan=False) + "\n"


def pair_csv(first: Facts, second: Facts, names: Sequence[str]) -> str:
    """A line for each measure, a column for each run."""
    columns = ["measure", *(names if names[0] != names[1] else ("A", "B"))]
    rows = ((each.name, each.value(first), each.value(second)) for each in MEASURES)
    return csv_text(columns, (dict(zip(columns, row, strict=True)) for row in rows))


def _settings(facts: Facts) -> Iterator[tuple[str, str]]:
    run = facts.record.run
    yield "runtime", run.runtime
    yield from _flat(facts.fleet.as_mapping() if facts.fleet else {"fleet": run.spec}, "")


def _flat(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """`training.rounds` and its value as text, for everything in nested mappings."""
    if isinstance(value, Mapping) and value:
        for name, each in value.items():
            yield from _flat(each, f"{key}.{name}" if key else str(name))
    else:
        yield key, json.dumps(value) if isinstance(value, (Mapping, list)) else str(value)


def _fullest(facts: Facts) -> float | None:
    return max((each.memory_share for each in facts.classes if each.memory_share is not None), default=None)


def _forecast_error(facts: Facts) -> float | None:
    return facts.forecast.median_error if facts.forecast else None
