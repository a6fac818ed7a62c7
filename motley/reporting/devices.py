"""What each device and each class did, against what it may use."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from motley.device import DeviceProfile, Outcome, RoundOutcome
from motley.records import RunRecord
from motley.report import natural
from motley.reporting.choices import Choices
from motley.reporting.forecast import forecast_of

_HOUR_S = 3600.0


@dataclass(frozen=True)
class DeviceFacts:
    """One device over the whole run; None where nothing is known."""

    device: str
    device_class: str
    examples: int | None
    cpus: float | None
    memory_bytes: int | None
    """What it may use; None where it gave no profile."""
    orders: int
    used: int
    late: int
    lost: int
    """Of which no update came, and which were not late."""
    left_out: int
    """Rounds."""
    why_left_out: str
    """Most often."""
    order_s: float | None
    """Median seconds of a finished order, at the server."""
    at_work_s: float
    wasted_s: float
    """At work on what was not used."""
    peak_memory_bytes: int | None
    memory_share: float | None
    """Of what it may use."""
    cpu_share: float | None
    """Of its quota, over the seconds that its finished orders took on the device."""
    paused_s: float
    paused_share: float | None
    """Of the same seconds."""
    energy_wh: float
    accuracy: float | None
    """Of the final model, on its own examples."""


@dataclass(frozen=True)
class ClassFacts:
    """The devices of one class together."""

    device_class: str
    devices: int
    orders: int
    used: int
    late: int
    lost: int
    never_used: int
    """Devices of which no update was used."""
    order_s: float | None
    at_work_s: float
    wasted_s: float
    memory_share: float | None
    """The greatest of its devices."""
    cpu_share: float | None
    """The median of its devices."""
    paused_s: float
    forecast_error: float | None
    energy_wh: float
    usd: float | None
    """Price times devices times the length of the run; None where the class has no price."""
    accuracy: float | None
    """The mean of its devices."""


def device_facts(record: RunRecord, choices: Choices) -> list[DeviceFacts]:
    """One row for each device that gave a profile, had an order or was left out, in natural order."""
    profiles = {each.device: each for each in record.profiles}
    outcomes: dict[str, list[RoundOutcome]] = defaultdict(list)
    for _, each in record.outcomes:
        outcomes[each.device].append(each)
    names = sorted({*profiles, *outcomes, *choices.left_out}, key=natural)
    return [
        _device(name, profiles.get(name), outcomes.get(name, []), choices, record.accuracies.get(name))
        for name in names
    ]


def _device(
    name: str,
    profile: DeviceProfile | None,
    outcomes: Sequence[RoundOutcome],
    choices: Choices,
    accuracy: float | None,
) -> DeviceFacts:
    done = [each for each in outcomes if each.outcome is Outcome.FINISHED]
    late = sum(each.outcome is Outcome.LATE for each in outcomes)
    on_device_s = sum(each.wall_s for each in done)
    peak = max((each.peak_memory_bytes for each in outcomes if each.peak_memory_bytes), default=None)
    known = {each.device_class for each in outcomes}
    return DeviceFacts(
        device=name,
        device_class=profile.device_class if profile else next(iter(known), ""),
        examples=profile.examples if profile else None,
        cpus=profile.cpus if profile else None,
        memory_bytes=profile.memory_bytes if profile else None,
        orders=len(outcomes),
        used=sum(each.used for each in outcomes),
        late=late,
        lost=len(outcomes) - len(done) - late,
        left_out=choices.left_out.get(name, 0),
        why_left_out=choices.main_reason.get(name, ""),
        order_s=_median([each.round_trip_s for each in done]),
        at_work_s=sum(each.round_trip_s for each in outcomes),
        wasted_s=sum(each.round_trip_s for each in outcomes if not each.used),
        peak_memory_bytes=peak,
        memory_share=_ratio(peak, profile.memory_bytes if profile else None),
        cpu_share=_ratio(sum(each.cpu_s for each in done), on_device_s * profile.cpus if profile else None),
        paused_s=sum(each.paused_s for each in outcomes),
        paused_share=_ratio(sum(each.paused_s for each in done), on_device_s),
        energy_wh=sum(each.energy_wh for each in outcomes),
        accuracy=accuracy,
    )


def class_facts(
    devices: Sequence[DeviceFacts], outcomes: Sequence[RoundOutcome], prices: Mapping[str, float], rented_s: float
) -> list[ClassFacts]:
    """One row for each class, in the order of its first device; `prices` in dollars an hour."""
    members: dict[str, list[DeviceFacts]] = defaultdict(list)
    for each in devices:
        members[each.device_class].append(each)
    return [_class(name, each, outcomes, prices.get(name, 0.0) * rented_s / _HOUR_S) for name, each in members.items()]


def _class(
    name: str, devices: Sequence[DeviceFacts], of_all: Sequence[RoundOutcome], usd_a_device: float
) -> ClassFacts:
    names = {each.device for each in devices}
    outcomes = [each for each in of_all if each.device in names]
    done_s = [each.round_trip_s for each in outcomes if each.outcome is Outcome.FINISHED]
    accuracies = [each.accuracy for each in devices if each.accuracy is not None]
    forecast = forecast_of(outcomes)
    return ClassFacts(
        device_class=name,
        devices=len(devices),
        orders=sum(each.orders for each in devices),
        used=sum(each.used for each in devices),
        late=sum(each.late for each in devices),
        lost=sum(each.lost for each in devices),
        never_used=sum(not each.used for each in devices),
        order_s=_median(done_s),
        at_work_s=sum(each.at_work_s for each in devices),
        wasted_s=sum(each.wasted_s for each in devices),
        memory_share=max((each.memory_share for each in devices if each.memory_share is not None), default=None),
        cpu_share=_median([each.cpu_share for each in devices if each.cpu_share is not None]),
        paused_s=sum(each.paused_s for each in devices),
        forecast_error=forecast.median_error if forecast else None,
        energy_wh=sum(each.energy_wh for each in devices),
        usd=usd_a_device * len(devices) if usd_a_device else None,
        accuracy=statistics.fmean(accuracies) if accuracies else None,
    )


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def _ratio(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole else None
