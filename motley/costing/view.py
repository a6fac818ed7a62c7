"""A comparison of plans as text, table and data. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from motley.costing.inputs import Inputs
from motley.estimates import RunEstimate
from motley.hardware import Power
from motley.objectives import Weights
from motley.spec import Fleet

if TYPE_CHECKING:
    from rich.table import Table

MOST_ROWS = 12


@dataclass(frozen=True)
class Comparison:
    """All alternatives of a fleet, and which of them to take."""

    fleet: Fleet
    inputs: Inputs
    weights: Weights
    runs: Sequence[RunEstimate]
    """The file's own plan first."""
    front: Sequence[int]
    """Places of those that nobody dominates."""
    recommended: int | None
    """None where nothing keeps the bounds."""
    left_out: int = 0
    """How many were not considered, because too few of the examples take part."""


def headline(found: Comparison) -> list[str]:
    fleet, own, measured = found.fleet, found.runs[0], found.inputs.measured
    less = f", {found.left_out} left aside for want of data (--min-data)" if found.left_out else ""
    lines = [
        f"{fleet.name}: {fleet.training.policy}, {fleet.total_devices} devices; "
        f"{len(found.runs) - found.left_out} plans compared, {len(found.front)} of them not dominated{less}",
        f"as in the file: {own.rounds} rounds, {amounts(own)}",
    ]
    if measured is not None:
        aim = "at its end" if measured.reached is None else f"at its target of {measured.reached:g}"
        lines.append(f"measured: {aim} after {measured.rounds} rounds and {duration(measured.seconds)}")
    return lines


def table(found: Comparison) -> Table:
    """The front, thinned where it is long, with the file's own plan; the recommended row is marked."""
    from rich.table import Table

    made = Table(title="Plans that no other dominates", title_justify="left", box=None, padding=(0, 1, 0, 0))
    made.add_column("", no_wrap=True)
    made.add_column("devices a round", overflow="fold")
    for name in ("deadline", "s/round", "rounds", "time", "dollars", "Wh", "data"):
        made.add_column(name, justify="right", no_wrap=True)
    for place in shown(found):
        run, is_picked = found.runs[place], place == found.recommended
        cells = (
            "→" if is_picked else "",
            devices_text(run) + (" (the file's)" if place == 0 else ""),
            "–" if run.alternative.deadline_s is None else f"{run.alternative.deadline_s:.3g} s",
            f"{run.round.cost.time_s:.3g}",
            str(run.rounds),
            duration(run.cost.time_s),
            dollars(run.cost.usd),
            f"{run.cost.energy_wh:.3g}",
            f"{run.round.data_share:.0%}",
        )
        made.add_row(*cells, style="bold" if is_picked else "")
    return made


def shown(found: Comparison) -> list[int]:
    """Places of the rows to print, the quickest first: of a long front every so many, and the two that matter."""
    front = sorted(found.front, key=lambda place: (found.runs[place].cost.time_s, place))
    if len(front) > MOST_ROWS:
        front = [front[round(step * (len(front) - 1) / (MOST_ROWS - 1))] for step in range(MOST_ROWS)]
    places = {*front, 0, *([] if found.recommended is None else [found.recommended])}
    return sorted(places, key=lambda place: (found.runs[place].cost.time_s, place))


def reasons(found: Comparison) -> list[str]:
    """Why the recommended plan, and what it gives up."""
    if found.recommended is None:
        return []
    pick, own = found.runs[found.recommended], found.runs[0]
    what = "as in the file" if pick is own else f"{devices_text(pick)}{_deadline_text(pick)}: {amounts(pick)}"
    lines = [f"recommended: {what}; of all plans within the bounds it has the least {found.weights.in_words()}"]
    if pick.round.data_share < own.round.data_share - 0.005:
        lines.append(f"it leaves out {1 - pick.round.data_share:.0%} of the examples, which may cost accuracy")
    return lines


def notes(found: Comparison) -> list[str]:
    """What the figures rest on."""
    classes, measured = found.fleet.classes, found.inputs.measured
    own = "the file's own" if measured is None else "the measured run"
    lines = [
        found.inputs.source,
        f"rounds are scaled from {own}: x times the examples a round need (1 + 1/x) / 2 times the rounds; "
        "accuracy is not predicted, and what the server takes and costs is left out",
    ]
    if not any(each.usd_per_hour for each in classes.values()):
        lines.append("no class has usd_per_hour, so nothing costs dollars")
    unknown, power = [name for name, each in classes.items() if each.power is None], Power()
    if unknown:
        lines.append(f"power of {', '.join(unknown)} taken as {power.idle:g} W idle and {power.busy:g} W busy")
    return lines


def as_json(found: Comparison) -> dict[str, Any]:
    """All alternatives as plain data; `recommended` is a place among them."""
    front = set(found.front)
    return {
        "fleet": found.fleet.name,
        "policy": found.fleet.training.policy,
        "objective": asdict(found.weights),
        "recommended": found.recommended,
        "notes": notes(found),
        "plans": [
            {
                "devices": dict(each.alternative.counts),
                "deadline_s": each.alternative.deadline_s,
                "round": asdict(each.round.cost),
                "examples_per_round": each.round.examples,
                "data_share": each.round.data_share,
                "rounds": each.rounds,
                "run": asdict(each.cost),
                "on_front": place in front,
            }
            for place, each in enumerate(found.runs)
        ],
    }


def devices_text(run: RunEstimate) -> str:
    """`4 fast + 2 slow`"""
    return " + ".join(f"{count} {name}" for name, count in run.alternative.counts.items() if count)


def _deadline_text(run: RunEstimate) -> str:
    return "" if run.alternative.deadline_s is None else f", deadline {run.alternative.deadline_s:.3g} s"


def amounts(run: RunEstimate) -> str:
    """`2.5 h, 1.20 dollars, 35 Wh`"""
    return f"{duration(run.cost.time_s)}, {dollars(run.cost.usd)} dollars, {run.cost.energy_wh:.3g} Wh"


def duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def dollars(usd: float) -> str:
    return f"{usd:.2f}" if usd >= 1 or not usd else f"{usd:.2g}"
