"""The run in sentences: what happened, who was left out, what went wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from motley.page.words import counted, dollars, listed, number, percent, seconds
from motley.records import RoundRow
from motley.reporting.devices import DeviceFacts
from motley.reporting.facts import Facts
from motley.reporting.origin import place
from motley.reporting.outcomes import USED, USED_LATE

NEAR_LIMIT = 0.9
"""Share of its memory limit from which a device is said to be near it."""
MUCH_PAUSED = 0.1
AT_THE_END = "the run ended before its reply"
"""The reason of orders that were under way when the run ended: where devices are asked one by one there are some."""
FAR_OFF = 0.5
"""Median error of the expectations, as a share, from which they are said to be far off."""
FELL = 0.02
"""Accuracy below the best by which a model is said to have got worse."""

_OFTEN_LOST, _FEWEST = 0.5, 3


def headline(facts: Facts) -> str:
    """What the run came to, in one sentence."""
    run, done = facts.record.run, done_rounds(facts)
    if not done:
        return f"The run has no round that ended; it {_status(facts)}."
    last = judged(facts)
    accuracy = f"test accuracy is {last[-1].accuracy:.3f}" if last else "no round was evaluated"
    if run.target_accuracy is None:
        return f"After {counted(len(done), 'round')} and {seconds(end_s(facts))} {accuracy}; no target was set."
    target = f"target {run.target_accuracy:g}"
    if facts.reached is None:
        return (
            f"The {target} was not reached: after {counted(len(done), 'round')} and {seconds(end_s(facts))} {accuracy}."
        )
    in_round, at_s = facts.reached
    return f"The {target} was reached in round {in_round}, after {seconds(at_s)}; at the end {accuracy}."


def happenings(facts: Facts) -> list[str]:
    """What happened, in the order in which one asks."""
    return [*_what(facts), *_who(facts), *_work(facts), *_forecast(facts), *_cost(facts)]


def problems(facts: Facts) -> list[str]:
    """What went wrong; the gravest first."""
    return [*_of_run(facts), *_of_model(facts), *_of_orders(facts), *_of_devices(facts), *_of_forecasts(facts)]


def under_way_at_the_end(facts: Facts) -> int:
    """Orders."""
    return sum(each.orders for each in facts.outcomes if each.reason == AT_THE_END)


def done_rounds(facts: Facts) -> list[RoundRow]:
    return [row for row in facts.record.rounds if row.duration_s is not None]


def judged(facts: Facts) -> list[RoundRow]:
    """The rounds whose model was evaluated."""
    return [row for row in done_rounds(facts) if row.accuracy is not None]


def end_s(facts: Facts) -> float:
    """When the last round ended."""
    return max((row.started_s + (row.duration_s or 0.0) for row in done_rounds(facts)), default=0.0)


def _status(facts: Facts) -> str:
    status = facts.record.run.status
    return {"running": "is still under way", "stopped": "was stopped"}.get(status, status)


def _what(facts: Facts) -> Iterator[str]:
    run, fleet = facts.record.run, facts.fleet
    task = f"learned the task '{fleet.training.task}'" if fleet else "learned"
    devices = counted(len(facts.devices), "device")
    yield (
        f"Fleet '{run.fleet}' of {devices} {task} {place(run.runtime)} under the policy '{run.policy}', "
        f"with seed {run.seed}, for {len(done_rounds(facts)):,} of {counted(run.rounds, 'planned round')}; "
        f"the run {_status(facts)}."
    )
    rows = judged(facts)
    if rows:
        best = max(rows, key=lambda row: row.accuracy or 0.0)
        loss = "" if rows[-1].loss is None else f" at a loss of {rows[-1].loss:.3f}"
        last = f"The last model has accuracy {rows[-1].accuracy:.3f}{loss}"
        yield f"{last}; the best was {best.accuracy:.3f}, in round {best.round}."


def _who(facts: Facts) -> Iterator[str]:
    used = [each for each in facts.devices if each.used]
    if not facts.record.outcomes:
        return
    jain = "" if facts.figures.jain is None else f" (Jain's index of participation {facts.figures.jain:.2f})"
    yield f"The model has learned from {len(used):,} of {counted(len(facts.devices), 'device')}{jain}."
    out = [each for each in facts.choices.reasons if not each.selected]
    if out:
        most = max(facts.devices, key=lambda each: each.left_out)
        yield (
            f"Devices were left out most often with the reason “{out[0].reason}” ({counted(out[0].times, 'time')}, "
            f"{counted(out[0].devices, 'device')}); {most.device} was left out of "
            f"{counted(most.left_out, 'round')}, and no device of more."
        )


def _work(facts: Facts) -> Iterator[str]:
    figures = facts.figures
    worked = figures.used_device_s + figures.wasted_device_s
    if worked > 0:
        shares = "" if figures.useful_share is None else f", {percent(figures.useful_share)} of those available"
        yield (
            f"{percent(figures.used_device_s / worked)} of {worked:,.0f} device-seconds at work went into the "
            f"model{shares}."
        )


def _forecast(facts: Facts) -> Iterator[str]:
    found = facts.forecast
    if found:
        yield (
            f"What was expected of orders was off by {percent(found.median_error)} (median of {found.orders:,}); "
            f"{percent(found.near_share)} were expected to within a quarter."
        )


def _cost(facts: Facts) -> Iterator[str]:
    energy = f"The orders drew {number(facts.energy_wh, 'Wh')}" if facts.energy_wh else "No energy was reported"
    price = "no class has a price" if facts.usd is None else f"the devices cost {dollars(facts.usd)}"
    yield f"{energy}; {price}."


def _of_run(facts: Facts) -> Iterator[str]:
    run = facts.record.run
    if run.status == "failed":
        yield f"The run failed: {run.detail or 'no reason was kept'}."
    elif run.status == "stopped":
        yield f"The run was stopped after {len(done_rounds(facts))} of {counted(run.rounds, 'round')}."
    elif run.status == "running":
        yield f"The run is still under way ({run.phase}), or its server was killed; this is what there is of it."


def _of_model(facts: Facts) -> Iterator[str]:
    run, rows = facts.record.run, judged(facts)
    if rows and run.target_accuracy is not None and facts.reached is None:
        best = max(row.accuracy or 0.0 for row in rows)
        yield f"The target of {run.target_accuracy:g} was not reached; the best accuracy was {best:.3f}."
    if rows:
        best_row = max(rows, key=lambda row: row.accuracy or 0.0)
        fell = (best_row.accuracy or 0.0) - (rows[-1].accuracy or 0.0)
        if fell > FELL:
            yield f"Accuracy fell by {fell:.3f} after its best, in round {best_row.round}."
    fed = {sent_in + each.staleness for sent_in, each in facts.record.outcomes if each.used}
    empty = [str(row.round) for row in done_rounds(facts) if row.round not in fed]
    if empty:
        yield f"{counted(len(empty), 'round')} made a model without any update: {listed(empty)}."


def _of_orders(facts: Facts) -> Iterator[str]:
    lost: Counter[str] = Counter()
    reasons: dict[str, str] = {}
    for each in facts.outcomes:
        if each.kind not in (USED, USED_LATE) and each.reason != AT_THE_END:
            lost[each.kind] += each.orders
            reasons.setdefault(each.kind, each.reason)
    total = counted(len(facts.record.outcomes), "order")
    for kind, orders in lost.most_common():
        why = f", most often with the reason “{reasons[kind]}”" if reasons[kind] else ""
        yield f"{orders:,} of {total} came to nothing: {kind}{why}."


def _of_devices(facts: Facts) -> Iterator[str]:
    devices, fleet = facts.devices, facts.fleet
    if fleet is not None and fleet.scaling is None:
        joined = {each.device for each in facts.record.profiles}
        absent = [each.name for each in fleet.devices() if each.name not in joined]
        if absent:
            yield f"{counted(len(absent), 'device')} never joined: {listed(absent)}."
    if facts.record.outcomes:
        yield from _named("never used", [each for each in devices if not each.used])
    yield from _named(
        "lost or late in half of their orders or more",
        [each for each in devices if each.orders >= _FEWEST and each.late + each.lost >= _OFTEN_LOST * each.orders],
    )
    yield from _named(
        f"at {percent(NEAR_LIMIT)} of their memory limit or above",
        [each for each in devices if (each.memory_share or 0.0) >= NEAR_LIMIT],
    )
    yield from _named(
        f"paused by a limit for {percent(MUCH_PAUSED)} of their seconds or more",
        [each for each in devices if (each.paused_share or 0.0) >= MUCH_PAUSED],
    )


def _of_forecasts(facts: Facts) -> Iterator[str]:
    found = facts.forecast
    if found and found.orders >= _FEWEST and found.median_error >= FAR_OFF:
        yield (
            f"Expectations were far off, by {percent(found.median_error)} in the median: orders took "
            f"{found.median_ratio:.2f} times what was expected."
        )


def _named(what: str, devices: Sequence[DeviceFacts]) -> Iterator[str]:
    if devices:
        yield f"{counted(len(devices), 'device')} {what}: {listed([each.device for each in devices])}."
