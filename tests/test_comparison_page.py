"""The comparison as tables, files and page."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from rich.console import Console
from test_comparison_figures import RUNS, run, traced, work

from motley.comparison import charts, export, live, table
from motley.comparison.figures import Point, RunFigures, failed_run
from motley.comparison.gantt import gantt_chart
from motley.comparison.html import page
from motley.comparison.summary import Spread, summarise
from motley.policies import POLICIES

CURVE = [Point(index, 10.0 * index, 1 - 1 / index, 1 / index) for index in range(1, 13)]
CURVES = [(each, CURVE) for each in RUNS]
TRACES = [
    ("digits", traced([10.0 * index for index in range(1, 13)], [work("client-1", 40, 55), work("client-2", 42, 44)])),
    ("digits", traced([5.0 * index for index in range(1, 25)], [work("client-3", 41, 61, used=False)], "adaptive")),
]


def shown(renderable: Any, width: int = 100) -> list[str]:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(renderable)
    text = console.file
    assert isinstance(text, io.StringIO)
    return [line.rstrip() for line in text.getvalue().splitlines()]


def test_a_row_for_each_policy_under_what_is_aimed_at() -> None:
    lines = shown(table.comparison_table(summarise(RUNS)))
    assert lines[0] == "digits: to accuracy 0.910, 3 seeds"
    assert lines[2].split() == [
        "adaptive",
        "60",
        "(50–100)",
        "3/3",
        "5.00",
        "0.970",
        "±0.015",
        *["0"] * 2,
        "0.90",
        "50%",
    ]
    assert lines[3].split()[:6] == ["oort", "150", "(90–never)", "2/3", "2.00", "0.900"]


def test_the_widest_figures_fit_100_columns_and_narrow_terminals_lose_the_least() -> None:
    runs = [
        run(
            policy,
            seed,
            tta_s=98765.0 + seed,
            wasted_device_s=1234567.0,
            energy_j=9.9e7,
            final_accuracy=0.9 + seed / 100,
        )
        for policy in POLICIES
        for seed in (1, 2, 3)
    ]
    rows = summarise(runs)
    full = shown(table.comparison_table(rows))
    assert all(len(line) <= 100 and "…" not in line for line in full)
    narrow = shown(table.comparison_table(rows, 80), 80)
    assert all(len(line) <= 80 and "…" not in line for line in narrow)
    assert "energy" in full[1]
    assert "energy" not in narrow[1]
    assert "to target" in narrow[1]


def test_the_best_value_of_each_column_stands_out() -> None:
    rows = summarise(RUNS)
    bests = {column.title: table.best(rows, column) for column in table.COLUMNS}
    assert bests["to target, s"] == bests["accuracy"] == {"adaptive"}
    assert bests["policy"] == bests["there"] == frozenset()
    assert bests["wasted, s"] == frozenset()  # all are equally good


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (Spread(8.25, 8.25, 8.25), "8.2"),
        (Spread(60.0, 50.0, math.inf), "60 (50–never)"),
        (Spread(math.inf, math.inf, math.inf), "never"),
    ],
)
def test_a_time_is_never_more_exact_than_it_is(value: Spread | None, text: str) -> None:
    assert table.time_cell(value) == text


def test_a_run_that_failed_has_a_line_and_a_row() -> None:
    runs = [*RUNS, failed_run("digits", "tifl", 1, 10, 1.0, "ValueError: no tiers")]
    assert table.failures(runs) == ["failed: digits tifl seed 1: ValueError: no tiers"]
    assert shown(table.comparison_table(summarise(runs)))[-1].split() == ["tifl", "–", "0/1", *"––––––"]


def test_json_has_one_object_for_each_run() -> None:
    rows = json.loads(export.runs_json(RUNS))
    assert len(rows) == len(RUNS)
    needed = {"workload", "policy", "seed", "target", "tta_s", "final_accuracy", "jain", "useful_share"}
    assert needed | {"wasted_device_s", "energy_j", "rounds", "wall_s"} <= set(rows[0])
    assert rows[6]["tta_s"] is None


def test_csv_reads_back() -> None:
    runs = list(csv.DictReader(io.StringIO(export.runs_csv(RUNS))))
    assert [row["policy"] for row in runs] == [each.policy for each in RUNS]
    assert runs[6]["tta_s"] == ""
    points = list(csv.DictReader(io.StringIO(export.curves_csv(CURVES))))
    assert len(points) == len(RUNS) * len(CURVE)
    assert points[1] == {
        "workload": "digits",
        "policy": "random",
        "seed": "1",
        "round": "2",
        "virtual_s": "20.0",
        "accuracy": "0.5",
        "loss": "0.5",
    }


def test_a_sparkline_goes_from_the_least_to_the_greatest() -> None:
    assert live.sparkline([0.0, 0.5, 1.0]) == "▁▅█"
    assert live.sparkline([2.0, 2.0]) == "▁▁"
    assert live.sparkline([]) == ""
    assert len(live.sparkline([float(index) for index in range(1000)], 40)) == 40


def test_the_live_table_counts_runs_by_policy() -> None:
    planned = {("digits", name): 3 for name in ("random", "adaptive", "oort", "fair")}
    lines = shown(live.progress_table([*RUNS[:4], failed_run("digits", "oort", 1, 10, 1.0, "x")], planned))
    assert lines[1].split() == ["random", "3/3", "3", "300", "(200–400)", "1.00", "0.950"]
    assert lines[2].split() == ["adaptive", "1/3", "1", "100", "2.00", "0.970"]
    assert lines[3].split()[:3] == ["oort", "1/3,", "1"]
    assert lines[4].split() == ["fair", "0/3"]


def test_the_median_is_drawn_in_a_band_of_all_runs() -> None:
    runs = [
        [Point(1, 10.0, value, None), Point(2, 20.0, None, None), Point(3, 30.0, 2 * value, None)]
        for value in (1, 2, 6)
    ]
    moments, low, middle, high = charts.band(runs, 60.0)
    assert moments[0] == 0.0
    assert moments[-1] == 30.0
    assert len(moments) <= charts.MOST_POINTS + 1
    assert low[0] is middle[0] is high[0] is None
    at_20 = next(index for index, moment in enumerate(moments) if moment >= 20)
    assert (low[at_20], middle[at_20], high[at_20]) == (1, 2, 6)
    assert (low[-1], middle[-1], high[-1]) == (2, 4, 12)


def test_a_curve_is_thinned() -> None:
    long = [Point(index, float(index), 0.5, None) for index in range(1, 50_000)]
    chart = charts.accuracy_chart([(run("random"), long)], summarise([run("random")]), charts.colours(["random"]))
    assert max(len(each["x"]) for each in chart["data"]) <= 400


def test_colours_are_the_same_whatever_else_is_compared() -> None:
    assert charts.colours(["random", "adaptive"]) == charts.colours([])
    many = charts.colours(list(POLICIES))
    assert set(many) == set(POLICIES)
    assert len(set(many.values())) == len(POLICIES)


def test_both_gantt_charts_have_the_same_rows_and_the_same_scale() -> None:
    traces = [each for _, each in TRACES]
    left, right = (gantt_chart(each, traces, (40.0, 70.0)) for each in traces)
    for axis in ("xaxis", "yaxis"):
        assert {**left["layout"][axis]} == {**right["layout"][axis]}
    assert left["layout"]["yaxis"]["categoryarray"] == ["client-3 slow", "client-1 slow", "client-2 fast"]
    wasted = next(each for each in right["data"] if each["name"] == "wasted")
    assert (wasted["base"], wasted["x"], wasted["y"]) == ([41.0], [20.0], ["client-3 slow"])
    assert left["layout"]["title"]["text"] == "random: 3 new models"


def test_new_models_are_marked_unless_they_are_too_many() -> None:
    few, many = traced([10.0, 20.0, 30.0], []), traced([index / 2 for index in range(1, 200)], [])
    assert len(gantt_chart(few, [few, many], (0.0, 30.0))["layout"]["shapes"]) == 3
    chart = gantt_chart(many, [few, many], (0.0, 30.0))
    assert chart["layout"]["shapes"] == []
    assert chart["layout"]["title"]["text"] == "random: 60 new models"


class _Links(HTMLParser):
    """Collects what a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        links = [value or "" for name, value in attrs if name in ("src", "href", "data", "srcset")]
        self.fetched += [each for each in links if not each.startswith("#")]


def _page(runs: list[RunFigures] | None = None) -> str:
    return page([(each, CURVE) for each in runs or RUNS], TRACES, "window.Plotly = {};")


def test_the_page_fetches_nothing() -> None:
    text = _page()
    links = _Links()
    links.feed(text)
    assert links.fetched == []
    assert not re.search(r"url\(|@import|https?://", text)


def test_the_page_says_it_in_words_before_it_shows_it() -> None:
    text = _page()
    words = text.index("adaptive reaches 0.910 in 60 s")
    assert words < text.index("<table>") < text.index("Accuracy over virtual time") < text.index("Who did what when")
    assert "prefers-color-scheme" in text
    assert 'name="viewport"' in text


def test_every_chart_of_the_page_is_json_that_reads() -> None:
    found = re.findall(r'<script type="application/json">(.*?)</script>', _page(), re.DOTALL)
    assert len(found) == 6
    assert all(json.loads(each)["data"] for each in found)


def test_a_reason_can_not_break_the_page() -> None:
    reason = "</script><img src=x>"
    text = _page([*RUNS, failed_run("digits", "tifl", 1, 10, 1.0, reason)])
    assert reason not in text
    assert "&lt;/script&gt;&lt;img src=x&gt;" in text


def test_a_page_can_be_made_of_what_there_is() -> None:
    assert "there is no result" in page([(failed_run("a", "random", 1, 10, 1.0, "x"), [])], [], "", interrupted=True)
    assert "Interrupted" in page([(RUNS[0], CURVE)], [], "", interrupted=True)
