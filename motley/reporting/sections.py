"""The report of one run as a page: words first, then what they rest on."""

from __future__ import annotations

from motley.comparison.charts import PALETTE
from motley.page.blocks import Block, Code, Details, Figure, Items, Page, Pair, Section, Text
from motley.page.words import counted, dollars, listed, number, percent, seconds
from motley.reporting import tables
from motley.reporting.charts import MOST_DEVICES
from motley.reporting.device_charts import MOST_RANKED, forecast_chart, part_chart, use_chart
from motley.reporting.facts import Facts
from motley.reporting.gantt import gantt_of
from motley.reporting.origin import clock, commands, fleet_file, how_alike, versions
from motley.reporting.round_charts import accuracy_chart, loss_chart, outcome_chart, parts_chart
from motley.reporting.words import done_rounds, happenings, headline, judged, problems, under_way_at_the_end


def page_of(facts: Facts) -> Page:
    """The whole report."""
    run = facts.record.run
    sections = [
        Section("What went wrong", "wrong", _wrong(facts)),
        Section("Accuracy and loss", "accuracy", _curves(facts)),
        Section("Rounds: who did what when", "rounds", _rounds(facts)),
        Section("What became of the orders", "outcomes", _outcomes(facts)),
        Section("Who took part, who was left out", "participation", _participation(facts)),
        Section("Use against limits", "limits", _use(facts)),
        Section("Expected and actual seconds", "forecast", _forecast(facts)),
        Section("Energy and dollars", "cost", _cost(facts)),
        Section("Classes and devices", "devices", _devices(facts)),
        Section("To make it again", "again", _again(facts)),
    ]
    lead: list[Block] = [Text(headline(facts), "result"), Items(happenings(facts))]
    return Page(f"Run {run.run_id} of fleet {run.fleet}", lead, [each for each in sections if each.blocks], _FOOT)


_FOOT = [
    Text(
        "Every figure is worked out from the history that the server keeps of the run. Seconds count from the "
        "beginning of the first round.",
        "note",
    )
]


def class_colours(facts: Facts) -> dict[str, str]:
    names = dict.fromkeys(each.device_class for each in facts.devices)
    return {name: PALETTE[index % len(PALETTE)] for index, name in enumerate(names)}


def _wrong(facts: Facts) -> list[Block]:
    found, cut = problems(facts), under_way_at_the_end(facts)
    rest = [Text(f"{counted(cut, 'order')} under way when the run ended.", "note")] if cut else []
    return [Items(found, "failed") if found else Text("Nothing that its history shows."), *rest]


def _curves(facts: Facts) -> list[Block]:
    if not judged(facts):
        return [Text("No round was evaluated.")]
    time, last = clock(facts.record.run.runtime), judged(facts)[-1]
    says = f"Test accuracy of {len(judged(facts))} rounds over time, {last.accuracy:.3f} at the end"
    return [
        Pair(
            [
                Figure("Test accuracy", accuracy_chart(facts, time), says),
                Figure("Test loss", loss_chart(facts, time), "Test loss of each round over time"),
            ]
        ),
        Details("The rounds as a table", tables.shown(tables.rounds(facts))),
    ]


def _rounds(facts: Facts) -> list[Block]:
    found = gantt_of(facts)
    if found is None:
        return [Text("No round has ended.")]
    first, last = found.rounds
    total = len(done_rounds(facts))
    which = f"All {total} rounds" if last - first + 1 == total else f"Rounds {first} to {last} of {total}"
    hidden = f"; {counted(found.hidden, 'device')} with less work are left out" if found.hidden else ""
    note = (
        f"{which}: {counted(found.orders, 'order')} of {counted(found.devices, 'device')}{hidden}. Slow devices below; "
        "dotted lines where a new model was made, unless they were too many; hatched what the model did not use. The "
        "sum of both transfers is known; half of it is drawn on each side of the training."
    )
    return [
        Figure("", found.chart, f"Who was at work when: {which.lower()}", found.views),
        Text(note, "note"),
        Figure("What the seconds of a round went into", parts_chart(facts), "Parts of each round, in seconds"),
    ]


def _outcomes(facts: Facts) -> list[Block]:
    if not facts.outcomes:
        return [Text("No order was sent.")]
    return [
        Figure("Orders of each round", outcome_chart(facts), "Orders of each round by what became of them"),
        *tables.shown(tables.outcomes(facts)),
    ]


def _participation(facts: Facts) -> list[Block]:
    blocks: list[Block] = []
    if any(each.used for each in facts.devices):
        total = len(facts.devices)
        every = f"; {MOST_RANKED} of {total:,} devices are drawn" if total > MOST_RANKED else ""
        chart = part_chart(facts.devices, class_colours(facts))
        blocks.append(Figure(f"Updates used, device by device{every}", chart, "How often each device was used"))
    return [
        *blocks,
        *tables.shown(tables.reasons(facts, selected=False)),
        Text(
            "A device counts once a round: as asked where any plan of the round asked it, else with the last reason. "
            "“…” stands for numbers that differ.",
            "note",
        ),
        Details("Why devices were asked", tables.shown(tables.reasons(facts, selected=True))),
        Details("Device by device", tables.shown(tables.participation(facts))),
    ]


def _use(facts: Facts) -> list[Block]:
    known = [each for each in facts.devices if each.memory_share is not None or each.cpu_share is not None]
    if not known:
        return [Text("No device reported memory or CPU time.")]
    fullest = max(known, key=lambda each: each.memory_share or 0.0)
    says = f"Greatest peak: {fullest.device}, {percent(fullest.memory_share)} of its memory."
    paused = sum(each.paused_s for each in facts.devices)
    pauses = f"Limits let devices pause for {seconds(paused)} in all." if paused else "No device was paused by a limit."
    caption = "Peak memory and CPU" + (", by class" if len(known) > MOST_DEVICES else "")
    simulated = facts.record.run.runtime == "simulation"
    model = " On the virtual clock both follow from a formula, not from a measurement." if simulated else ""
    return [
        Text(f"{says} {pauses}{model}"),
        Figure(caption, use_chart(known), "Peak memory and CPU of each device as shares of its limit and quota"),
        Details("Device by device", tables.shown(tables.use(facts))),
    ]


def _forecast(facts: Facts) -> list[Block]:
    found = facts.forecast
    if found is None:
        return [Text("No finished order had an expectation.")]
    ratio = f"Orders took {found.median_ratio:.2f} times what was expected (median of {found.orders:,} that finished)."
    return [
        Text(f"{ratio} Half of the expectations were off by less than {percent(found.median_error)}."),
        Figure("One point an order", forecast_chart(found, class_colours(facts)), "Seconds taken against expected"),
        *tables.shown(tables.forecasts(facts)),
    ]


def _cost(facts: Facts) -> list[Block]:
    figures = facts.figures
    wasted = sum(each.energy_wh for _, each in facts.record.outcomes if not each.used)
    if facts.energy_wh:
        energy = (
            f"Orders drew {number(facts.energy_wh, 'Wh')}, {percent(wasted / facts.energy_wh)} of it for what was not "
            f"used: {number(facts.energy_wh / max(1, figures.used_updates), 'Wh')} for each update used. What devices "
            "draw while they wait is not counted."
        )
    else:
        energy = "No device reported energy."
    blocks: list[Block] = [Text(energy)]
    if facts.usd is None:
        blocks.append(Text("No class of the fleet has usd_per_hour, so nothing costs dollars."))
    else:
        blocks.append(
            Text(
                f"The devices cost {dollars(facts.usd)}: each at the price of its class for the "
                f"{seconds(facts.rented_s)} from the start of the run to its end, at work or not."
            )
        )
    if facts.fleet is not None and facts.fleet.scaling is not None:
        blocks.append(Text("Machines of this fleet come and go; motley accounts usage says what was charged.", "note"))
    return [*blocks, *tables.shown(tables.cost(facts))] if facts.energy_wh or facts.usd else blocks


def _devices(facts: Facts) -> list[Block]:
    return [
        *tables.shown(tables.classes(facts)),
        Details(f"All {counted(len(facts.devices), 'device')}", tables.shown(tables.devices(facts))),
    ]


def _again(facts: Facts) -> list[Block]:
    run, fleet = facts.record.run, facts.fleet
    said = [f"{text} ({counted(count, 'device')})" for text, count in versions(facts.record.profiles)]
    what = f"Seed {run.seed}; runtime '{run.runtime}'; policy '{run.policy}'"
    ran: list[Block] = [Text(f"{what}; versions: {listed(said) or 'not said'}.")]
    if fleet is None:
        return [*ran, Text("Another version of Motley made this run: its fleet file can't be read.", "failed")]
    steps = commands(run.runtime)
    if not steps:
        return [*ran, Text(f"No command is known for the runtime '{run.runtime}'.")]
    return [
        *ran,
        Text("Save the fleet file below as fleet.yaml, then:"),
        Code("\n".join(steps), "sh"),
        Text(how_alike(run.runtime), "note"),
        Details("The fleet file", [Code(fleet_file(fleet), "yaml")]),
    ]
