"""The command itself: compare all alternatives of a fleet, print the best of them, say why."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from motley.costing.inputs import Inputs, inputs_of
from motley.costing.view import Comparison, as_json, dollars, duration, headline, notes, reasons, table
from motley.errors import InputError
from motley.estimates import Estimator, RunEstimate
from motley.fleetfile import read_fleet
from motley.objectives import Bounds, best, pareto_front, parse_objective
from motley.spec import Fleet

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Request", "compared", "plan"]

_ROUNDING = 1e-9


@dataclass(frozen=True)
class Request:
    """What is asked for on the command line."""

    fleet: Path
    objective: str = "time"
    max_dollars: float | None = None
    max_hours: float | None = None
    max_energy: float | None = None
    """In watt-hours."""
    min_data: float | None = None
    """Least share of the examples that must be on devices that take part; None: as much as the file's own plan has."""
    history: Path | None = None
    json_file: Path | None = None

    @property
    def limits(self) -> dict[str, float]:
        """The bounds that were given, by option."""
        given = {"--max-dollars": self.max_dollars, "--max-hours": self.max_hours, "--max-energy": self.max_energy}
        return {name: value for name, value in given.items() if value is not None}


def plan(request: Request, console: Console | None = None) -> None:
    """Print the plans that nobody dominates, and the recommended one.

    Raises InputError for bad input, and, once all is printed and written, where nothing keeps the bounds.
    """
    from rich.console import Console

    console = console or Console()
    found = compared(request)
    for text in headline(found):
        console.print(text, highlight=False, soft_wrap=True)
    console.print(table(found))
    for text in (*reasons(found), *notes(found)):
        console.print(text, highlight=False, soft_wrap=True)
    if request.json_file is not None:
        request.json_file.write_text(json.dumps(as_json(found), indent=1) + "\n")
    if found.recommended is None:
        raise InputError(_out_of_bounds(found, request))


def compared(request: Request) -> Comparison:
    """Work out all alternatives. Raises InputError for bad input."""
    weights, bounds = parse_objective(request.objective), bounds_of(request)
    fleet = read_fleet(request.fleet)
    inputs = inputs_of(fleet, request.history)
    runs = runs_of(fleet, inputs)
    least = runs[0].round.data_share if request.min_data is None else request.min_data
    enough = [place for place, each in enumerate(runs) if each.round.data_share >= least - _ROUNDING]
    if not enough:
        most = max(each.round.data_share for each in runs)
        raise InputError(f"--min-data {least:g}: no plan has more than {most:.3f} of the examples take part")
    costs = [runs[place].cost for place in enough]
    picked = best(costs, weights, bounds)
    front = [enough[place] for place in pareto_front(costs)]
    left_out = len(runs) - len(enough)
    return Comparison(fleet, inputs, weights, runs, front, None if picked is None else enough[picked], left_out)


def runs_of(fleet: Fleet, inputs: Inputs) -> list[RunEstimate]:
    """All alternatives, the file's own plan first. Raises InputError where that would never get anything done."""
    estimator = Estimator(fleet.training, fleet.seed, inputs.knowledge, inputs.resources)
    own, measured = estimator.round(estimator.own()), inputs.measured
    if own is None:
        raise InputError(f"fleet '{fleet.name}': no device would be done before the deadline; write a longer one")
    if measured is None:
        return estimator.runs(fleet.training.rounds, own.examples)
    return estimator.runs(measured.rounds, measured.examples / measured.rounds)


def bounds_of(request: Request) -> Bounds:
    """Raises InputError for one that nothing could keep."""
    for name, value in request.limits.items():
        if not value >= 0:
            raise InputError(f"{name} {value:g}: write a number from 0")
    limits = request.limits
    return Bounds(
        time_s=3600 * limits.get("--max-hours", math.inf),
        usd=limits.get("--max-dollars", math.inf),
        energy_wh=limits.get("--max-energy", math.inf),
    )


def _out_of_bounds(found: Comparison, request: Request) -> str:
    costs = [found.runs[place].cost for place in found.front]
    bounds = " and ".join(f"{name} {value:g}" for name, value in request.limits.items())
    least = (
        duration(min(each.time_s for each in costs)),
        f"{dollars(min(each.usd for each in costs))} dollars",
        f"{min(each.energy_wh for each in costs):.3g} Wh",
    )
    more = "; --min-data 0 allows leaving devices out" if found.left_out else ""
    return f"no plan keeps {bounds}; the least of each is {', '.join(least)}{more}"
