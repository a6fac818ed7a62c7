"""What a report of a run says, as plain figures; every one of them comes from history."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from pydantic import ValidationError

from motley.comparison.figures import RunFigures, concurrency, run_figures
from motley.records import DecisionRow, RunRecord
from motley.report import target_reached
from motley.reporting.choices import Choices, choices_of
from motley.reporting.devices import ClassFacts, DeviceFacts, class_facts, device_facts
from motley.reporting.forecast import Forecast, forecast_of
from motley.reporting.outcomes import OutcomeFacts, outcome_facts
from motley.spec import Fleet


@dataclass(frozen=True)
class Facts:
    """One run. All times are seconds since its first round began."""

    record: RunRecord
    fleet: Fleet | None
    """None where another version of Motley made the run, and its fleet can't be read."""
    figures: RunFigures
    reached: tuple[int, float] | None
    """The round that reached the target, and when it ended."""
    devices: Sequence[DeviceFacts]
    classes: Sequence[ClassFacts]
    outcomes: Sequence[OutcomeFacts]
    choices: Choices
    forecast: Forecast | None
    energy_wh: float
    rented_s: float
    """From the start of the run to its end, or to the last that is known of it."""

    @property
    def usd(self) -> float | None:
        """None where no class has a price."""
        known = [each.usd for each in self.classes if each.usd is not None]
        return sum(known) if known else None


def facts_of(stored: RunRecord, decisions: Iterable[DecisionRow]) -> Facts:
    """The facts of a run as history holds it."""
    record, fleet = from_first_round(stored), fleet_of(stored)
    outcomes = [outcome for _, outcome in record.outcomes]
    choices = choices_of(decisions)
    devices = device_facts(record, choices)
    rented_s = rented(record)
    return Facts(
        record=record,
        fleet=fleet,
        figures=run_figures(
            record,
            record.run.target_accuracy,
            concurrency=_concurrency(record, fleet),
            devices=fleet.total_devices if fleet else len(devices),
        ),
        reached=target_reached(record),
        devices=devices,
        classes=class_facts(devices, outcomes, _prices(fleet), rented_s),
        outcomes=outcome_facts(outcomes),
        choices=choices,
        forecast=forecast_of(outcomes),
        energy_wh=sum(each.energy_wh for each in outcomes),
        rented_s=rented_s,
    )


def from_first_round(record: RunRecord) -> RunRecord:
    """The same run on a clock that is 0 when its first round begins."""
    zero_s = record.rounds[0].started_s if record.rounds else record.run.started_s
    ended_s = record.run.ended_s
    return replace(
        record,
        run=replace(
            record.run,
            started_s=record.run.started_s - zero_s,
            ended_s=None if ended_s is None else ended_s - zero_s,
        ),
        rounds=[replace(each, started_s=each.started_s - zero_s) for each in record.rounds],
        outcomes=[(number, replace(each, known_s=each.known_s - zero_s)) for number, each in record.outcomes],
    )


def fleet_of(record: RunRecord) -> Fleet | None:
    try:
        return Fleet.model_validate_json(record.run.spec)
    except ValidationError:
        return None


def rented(record: RunRecord) -> float:
    """Seconds from the start of the run to its end, or to the last that is known of it."""
    ends = [each.started_s + (each.duration_s or 0.0) for each in record.rounds]
    ends += [each.known_s for _, each in record.outcomes]
    end_s = record.run.ended_s if record.run.ended_s is not None else max(ends, default=record.run.started_s)
    return max(0.0, end_s - record.run.started_s)


def _concurrency(record: RunRecord, fleet: Fleet | None) -> int:
    return concurrency(fleet) if fleet else max((each.selected for each in record.rounds), default=0)


def _prices(fleet: Fleet | None) -> dict[str, float]:
    return {name: each.usd_per_hour for name, each in fleet.classes.items()} if fleet else {}
