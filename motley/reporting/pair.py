"""Two runs side by side, as a page: what differs in how they were made, and in what came of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from motley.page.blocks import Block, Chart, Column, Figure, Heading, Items, Page, Pair, Section, Table, Text
from motley.page.words import seconds
from motley.reporting import tables
from motley.reporting.charts import ABOVE, BLUE, ORANGE
from motley.reporting.facts import Facts
from motley.reporting.gantt import gantt_of
from motley.reporting.measures import MEASURES, better, differences
from motley.reporting.origin import clock
from motley.reporting.round_charts import accuracy_chart, loss_chart, outcome_chart
from motley.reporting.words import headline, judged, problems

LETTERS = "AB"
_COLOURS = (BLUE, ORANGE)
_AS_SOON = 0.05
_MOST_DIFFERENCES = 100


def pair_page(first: Facts, second: Facts, names: Sequence[str]) -> Page:
    """The page of two runs, which it calls A and B."""
    both = first, second
    said = [f"{letter} is {name}. {headline(each)}" for letter, name, each in zip(LETTERS, names, both, strict=True)]
    sections = [
        Section("In figures", "figures", [_measures(both), Text("The better value of each row stands out.", "note")]),
        Section("What differs in how they were made", "made", _made(both)),
        Section("Accuracy and loss", "accuracy", _curves(both)),
        Section("What went wrong", "wrong", _side_by_side(both, _wrong)),
        Section("Who did what when", "rounds", _side_by_side(both, _gantt)),
        Section("What became of the orders", "outcomes", _side_by_side(both, _outcomes)),
        Section("Why devices were left out", "participation", _side_by_side(both, _left_out)),
        Section("Device classes", "devices", _side_by_side(both, lambda each: tables.shown(tables.classes(each)))),
    ]
    return Page(f"{names[0]} and {names[1]}", [Text(verdict(*both), "result"), Items(said)], sections)


def verdict(first: Facts, second: Facts) -> str:
    """Which of the two was sooner at its target, or ended better, in one sentence."""
    targets = first.record.run.target_accuracy, second.record.run.target_accuracy
    if targets[0] is None or targets[0] != targets[1]:
        return f"A and B had no target in common. {_ends(first, second)}"
    if first.reached is None and second.reached is None:
        return f"Neither reached the target {targets[0]:g}. {_ends(first, second)}"
    if first.reached is None or second.reached is None:
        which, reached = ("A", first.reached) if first.reached else ("B", second.reached)
        after = f", after {seconds(reached[1])}" if reached else ""
        return f"Only {which} reached the target {targets[0]:g}{after}. {_ends(first, second)}"
    return f"{_sooner(targets[0], first.reached[1], second.reached[1])} {_ends(first, second)}"


def _sooner(target: float, first_s: float, second_s: float) -> str:
    took = f"A took {seconds(first_s)}, B {seconds(second_s)}"
    low, high = sorted((first_s, second_s))
    ratio = high / low if low > 0 else math.inf
    if ratio <= 1 + _AS_SOON:
        return f"Both reached the target {target:g} as soon: {took}."
    return f"{'A' if first_s < second_s else 'B'} reached the target {target:g} {ratio:.1f}× sooner: {took}."


def _ends(first: Facts, second: Facts) -> str:
    last = [judged(each)[-1].accuracy if judged(each) else None for each in (first, second)]
    said = ["no accuracy" if each is None else f"accuracy {each:.3f}" for each in last]
    return f"A ended with {said[0]}, B with {said[1]}."


def _measures(both: tuple[Facts, Facts]) -> Table:
    rows = [[each.name, *(each.text(each.value(facts)) for facts in both)] for each in MEASURES]
    bests = {(number, 1 + place) for number, each in enumerate(MEASURES) if (place := better(each, *both)) is not None}
    return Table("", [Column("", words=True), *map(Column, LETTERS)], rows, frozenset(bests))


def _made(both: tuple[Facts, Facts]) -> list[Block]:
    rows = differences(*both)
    if not rows:
        return [Text("Nothing: fleet, seed, policy and runtime are the same.")]
    columns = [Column("key", words=True), *(Column(letter, words=True) for letter in LETTERS)]
    rest = len(rows) - _MOST_DIFFERENCES
    more = [Text(f"{rest} more differences are in --format json.", "note")] if rest > 0 else []
    return [Table("", columns, rows[:_MOST_DIFFERENCES]), *more]


def _curves(both: tuple[Facts, Facts]) -> list[Block]:
    if not any(judged(each) for each in both):
        return [Text("No round was evaluated.")]
    clocks = [clock(each.record.run.runtime) for each in both]
    time = clocks[0] if clocks[0] == clocks[1] else f"A: {clocks[0]}; B: {clocks[1]}"
    charts = [
        Figure(caption, _overlaid([chart(each, time) for each in both]), f"{caption} of both runs over time")
        for caption, chart in (("Test accuracy", accuracy_chart), ("Test loss", loss_chart))
    ]
    return [Pair(charts)]


def _overlaid(charts: Sequence[Chart]) -> Chart:
    """The curves of both in one chart, each in a colour of its own."""
    data = [
        {**each, "name": letter, "line": {"color": colour, "width": 2}, "marker": {**each["marker"], "color": colour}}
        for letter, colour, chart in zip(LETTERS, _COLOURS, charts, strict=True)
        for each in chart["data"]
    ]
    shown = [{**each, "showlegend": each["mode"] != "markers"} for each in data]
    return {"data": shown, "layout": {**charts[0]["layout"], **ABOVE}}


def _side_by_side(both: tuple[Facts, Facts], blocks: Callable[[Facts], Sequence[Block]]) -> list[Block]:
    return [each for letter, facts in zip(LETTERS, both, strict=True) for each in (Heading(letter), *blocks(facts))]


def _wrong(facts: Facts) -> list[Block]:
    found = problems(facts)
    return [Items(found, "failed")] if found else [Text("Nothing.")]


def _gantt(facts: Facts) -> list[Block]:
    found = gantt_of(facts)
    return [] if found is None else [Figure("", found.chart, "Who was at work when", found.views)]


def _outcomes(facts: Facts) -> list[Block]:
    if not facts.outcomes:
        return [Text("No order was sent.")]
    return [Figure("", outcome_chart(facts), "Orders of each round"), *tables.shown(tables.outcomes(facts))]


def _left_out(facts: Facts) -> list[Block]:
    return tables.shown(tables.reasons(facts, selected=False))
