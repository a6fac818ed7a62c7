"""The report of a run: every figure from history, words before charts, and nothing that could break the page."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import re
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from factories import MIB, fleet, outcome, plan, profile, round_row, run_row
from hypothesis import given
from hypothesis import strategies as st
from test_simulate import small

from motley.device import Outcome, RoundOutcome
from motley.history import History
from motley.page.blocks import Code, Column, Page, Section, Table, Text
from motley.page.html import html
from motley.page.markdown import markdown
from motley.page.words import number
from motley.records import DecisionRow, RoundRow, RunRecord
from motley.report import summary_lines, target_reached
from motley.reporting import tables
from motley.reporting.charts import MOST_POINTS, thinned
from motley.reporting.choices import choices_of, pattern
from motley.reporting.export import TABLES, report_csv, report_json
from motley.reporting.facts import Facts, facts_of
from motley.reporting.forecast import by_source, forecast_of
from motley.reporting.gantt import MOST_ROWS, gantt_of
from motley.reporting.measures import differences, pair_csv, pair_json
from motley.reporting.origin import fleet_file
from motley.reporting.pair import pair_page, verdict
from motley.reporting.sections import page_of
from motley.reporting.words import AT_THE_END, happenings, headline, problems
from motley.simulation.run import simulate
from motley.spec import Fleet

LIMIT_BYTES = 6_000_000
HOSTILE = "</script><script>alert(1)</script><img src=//evil.example onerror=alert(2)>"

PRICED = {
    "fast": {"count": 2, "cpus": 0.5, "memory": "512m", "usd_per_hour": 0.36},
    "slow": {"count": 1, "cpus": 0.2, "memory": "768m"},
}


def troubled(**changes: Any) -> Facts:
    """Three rounds of three devices, in which a good deal goes wrong."""
    known: dict[str, Any] = {
        "run": run_row(
            status="completed", spec=fleet(classes=PRICED).model_dump_json(), started_s=1000.0, ended_s=1100.0
        ),
        "rounds": [
            round_row(1, started_s=1010.0, duration_s=20.0, accuracy=0.5),
            round_row(2, started_s=1030.0, duration_s=30.0, accuracy=0.95),
            round_row(3, started_s=1060.0, duration_s=40.0, accuracy=0.8),
        ],
        "outcomes": [
            (1, _order("client-1", 1010, 1020, used=True, expected_s=8.0, energy_wh=0.5)),
            (1, _order("client-2", 1010, 1030, used=True, expected_s=25.0, peak_memory_bytes=500 * MIB)),
            (1, _order("client-3", 1010, 1030, Outcome.LATE, reason="no reply in 20 s", device_class="slow")),
            (2, _order("client-1", 1030, 1050, used=True, expected_s=10.0, paused_s=0.75)),
            (2, _order("client-3", 1030, 1060, Outcome.OUT_OF_MEMORY, reason="killed", device_class="slow")),
            (3, _order("client-3", 1060, 1100, Outcome.LATE, reason="no reply in 40 s", device_class="slow")),
        ],
        "profiles": [profile("client-1"), profile("client-2"), profile("client-3", device_class="slow", gflops=1.0)],
        "accuracies": {"client-1": 0.75, "client-2": 0.85},
    }
    decisions = [
        DecisionRow(1, True, "drawn", ["client-1", "client-2", "client-3"]),
        DecisionRow(2, True, "drawn", ["client-1", "client-3"]),
        DecisionRow(2, False, "at work on round 1", ["client-2"]),
        DecisionRow(3, False, "at work on round 2", ["client-1", "client-2"]),
        DecisionRow(3, False, "not drawn", ["client-3"]),
        DecisionRow(3, True, "drawn", ["client-3"]),
    ]
    return facts_of(RunRecord(**{**known, **changes}), decisions)


def _order(device: str, start_s: float, end_s: float, kind: Outcome = Outcome.FINISHED, **changes: Any) -> RoundOutcome:
    return outcome(device, kind, round_trip_s=end_s - start_s, known_s=end_s, **changes)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run on the virtual clock, in which devices are asked one by one, with prices and power."""
    made = small("fedbuff", training={"rounds": 6, "target_accuracy": 0.15})
    power = {"idle": "1w", "busy": "4w"}
    classes = {
        name: {**each.model_dump(mode="json", exclude_none=True), "power": power, "usd_per_hour": 0.05}
        for name, each in made.classes.items()
    }
    directory = tmp_path_factory.mktemp("run") / "state"
    simulate(Fleet.model_validate({**made.as_mapping(), "classes": classes}), directory, checkpoint_rounds=0)
    return directory / "history.db"


@pytest.fixture(scope="module")
def simulated(store: Path) -> Facts:
    with closing(History(store)) as history:
        run_id = history.runs()[0].run_id
        return facts_of(history.record(run_id), history.all_decisions(run_id))


@dataclass
class Parsed(HTMLParser):
    """What a page holds: its tags with attributes, its tables, the data of its charts."""

    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    tables: list[list[list[str]]] = field(default_factory=list)
    scripts: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._cell = self._script = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._script = tag in ("script", "style")
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self._cell = True
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._script = False
        if tag in ("td", "th"):
            self._cell = False

    def handle_data(self, data: str) -> None:
        if self._script:
            if self.tags[-1][0] == "script":
                self.scripts[-1] += data
            return
        self.words.append(data)
        if self._cell:
            self.tables[-1][-1][-1] += data

    def table(self, *first: str) -> list[list[str]]:
        """The rows of the table with these first columns, without its head."""
        return next(each[1:] for each in self.tables if each[0][: len(first)] == list(first))

    def charts(self) -> list[dict[str, Any]]:
        return [json.loads(text) for text in self.scripts if text.startswith('{"data"')]


def parsed(page: Page, plotly_js: str = "window.Plotly = {};") -> Parsed:
    found = Parsed()
    found.feed(html(page, plotly_js))
    return found


# What the words say


def test_the_first_sentence_says_when_the_target_was_reached() -> None:
    assert headline(troubled()) == (
        "The target 0.9 was reached in round 2, after 50 s; at the end test accuracy is 0.800."
    )
    missed = run_row(status="completed", target_accuracy=0.99, spec=fleet().model_dump_json())
    assert headline(troubled(run=missed)) == (
        "The target 0.99 was not reached: after 3 rounds and 90 s test accuracy is 0.800."
    )
    aimless = replace(missed, target_accuracy=None)
    assert headline(troubled(run=aimless)).endswith("test accuracy is 0.800; no target was set.")


def test_what_happened_is_told() -> None:
    text = "\n".join(happenings(troubled()))
    assert "of 3 devices learned the task 'digits' as processes of one machine under the policy 'random'" in text
    assert "the best was 0.950, in round 2" in text
    assert "learned from 2 of 3 devices" in text
    assert "left out most often with the reason “at work on round …” (3 times, 2 devices)" in text
    assert "36% of 140 device-seconds at work went into the model" in text
    assert "The orders drew 0.500 Wh; the devices cost $0.02." in text


def test_what_went_wrong_is_told() -> None:
    assert problems(troubled()) == [
        "Accuracy fell by 0.150 after its best, in round 2.",
        "1 round made a model without any update: 3.",
        "2 of 6 orders came to nothing: late, most often with the reason “no reply in … s”.",
        "1 of 6 orders came to nothing: out of memory, most often with the reason “killed”.",
        "1 device never used: client-3.",
        "1 device lost or late in half of their orders or more: client-3.",
        "1 device at 90% of their memory limit or above: client-2.",
        "1 device paused by a limit for 10% of their seconds or more: client-1.",
    ]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"status": "failed", "detail": "no device left"}, "The run failed: no device left."),
        ({"status": "stopped"}, "The run was stopped after 3 of 3 rounds."),
        ({"status": "running", "phase": "train"}, "The run is still under way (train), or its server was killed"),
    ],
)
def test_a_run_that_did_not_complete_says_so_first(changes: dict[str, str], said: str) -> None:
    assert problems(troubled(run=run_row(spec=fleet().model_dump_json(), **changes)))[0].startswith(said)


def test_a_device_that_never_joined_is_missed() -> None:
    assert "1 device never joined: client-3." in problems(troubled(profiles=[profile("client-1"), profile("client-2")]))


def test_nothing_is_wrong_with_a_run_in_which_nothing_is() -> None:
    one = [(number, _order("client-1", 1000 + 10 * number, 1004 + 10 * number, used=True)) for number in (1, 2, 3)]
    run = run_row(status="completed", target_accuracy=0.6, spec="of another version")
    facts = troubled(outcomes=one, rounds=[round_row(each) for each in (1, 2, 3)], run=run, profiles=[])
    assert problems(replace(facts, devices=[each for each in facts.devices if each.used])) == []


def test_expectations_that_are_far_off_are_a_fault() -> None:
    orders = [(1, _order("client-1", 1010, 1012, used=True, expected_s=5.0, attempt=each)) for each in range(3)]
    said = "Expectations were far off, by 150% in the median: orders took 0.40 times what was expected."
    assert said in problems(troubled(outcomes=orders))
    assert said not in problems(troubled(outcomes=orders[:2]))


def test_orders_under_way_at_the_end_are_not_a_fault(simulated: Facts) -> None:
    assert any(each.reason == AT_THE_END for _, each in simulated.record.outcomes)
    assert not any("late" in line for line in problems(simulated))


# Figures


def test_times_count_from_the_first_round() -> None:
    facts = troubled()
    assert [row.started_s for row in facts.record.rounds] == [0.0, 20.0, 50.0]
    assert facts.reached == (2, 50.0)
    assert facts.figures.tta_s == 50.0
    assert facts.record.outcomes[0][1].known_s == 10.0


def test_page_and_terminal_agree(simulated: Facts, store: Path) -> None:
    with closing(History(store)) as history:
        record = history.record(history.runs()[0].run_id)
    assert target_reached(record) == pytest.approx(simulated.reached)
    told = next(line for line in summary_lines(record) if "fairness" in line)
    assert f"{simulated.figures.jain:.2f}" in told


def test_devices_are_held_against_what_they_may_use() -> None:
    one, two, three = troubled().devices
    assert (one.memory_share, two.memory_share) == (300 / 512, 500 / 512)
    assert one.cpu_share == pytest.approx(2 * 0.7 / (2 * 1.5 * 0.5))
    assert (one.paused_s, one.paused_share) == (0.75, 0.25)
    assert (three.used, three.late, three.lost, three.wasted_s) == (0, 2, 1, 20 + 30 + 40)
    assert three.cpu_share is None  # it finished nothing
    assert (two.left_out, two.why_left_out, three.left_out) == (2, "at work on round …", 0)


def test_classes_are_the_sum_of_their_devices() -> None:
    fast, slow = troubled().classes
    assert (fast.device_class, fast.devices, fast.orders, fast.used, fast.never_used) == ("fast", 2, 3, 3, 0)
    assert (fast.order_s, fast.memory_share, fast.accuracy) == (20.0, 500 / 512, pytest.approx(0.8))
    assert (slow.orders, slow.late, slow.lost, slow.order_s, slow.accuracy) == (3, 2, 1, None, None)


def test_dollars_are_price_times_devices_times_length_of_the_run() -> None:
    facts = troubled()
    assert facts.rented_s == 100.0
    assert facts.usd == pytest.approx(2 * 0.36 * 100 / 3600)
    assert facts.classes[1].usd is None
    free = run_row(spec=fleet().model_dump_json())
    assert troubled(run=free).usd is None
    assert "no class has a price" in happenings(troubled(run=free))[-1]


def test_a_run_under_way_is_rented_to_the_last_that_is_known_of_it() -> None:
    assert troubled(run=run_row(started_s=1000.0, ended_s=None)).rented_s == 100.0


def test_expected_seconds_are_held_against_actual_ones_by_hand() -> None:
    found = forecast_of([each for _, each in troubled().record.outcomes])
    assert found is not None
    assert found.pairs == [("fast", 8.0, 10.0), ("fast", 25.0, 20.0), ("fast", 10.0, 20.0)]
    assert found.median_error == pytest.approx(0.25)  # of 0.2, 0.25 and 0.5
    assert found.near_share == pytest.approx(2 / 3)
    assert found.median_ratio == pytest.approx(10 / 8)
    assert found.covered_share is None
    assert forecast_of([outcome(expected_s=None), outcome(kind=Outcome.LATE, expected_s=3.0)]) is None


def test_forecasts_are_told_apart_by_what_made_them() -> None:
    made = [
        outcome(round_trip_s=2.0, expected_s=3.0),
        outcome(round_trip_s=2.0, expected_s=2.0, expected_low_s=1.0, expected_high_s=3.0, expected_by="device"),
        outcome(round_trip_s=4.0, expected_s=2.0, expected_low_s=1.0, expected_high_s=3.0, expected_by="device"),
        outcome(expected_by="class"),
    ]
    found = by_source(made)
    assert {source: (each.orders, each.covered_share) for source, each in found.items()} == {
        "device": (2, 0.5),
        "profile": (1, None),
    }
    facts = troubled(outcomes=[(1, each) for each in made])
    assert parsed(page_of(facts)).table("made by") == [
        ["device", "2", "25%", "50%", "1.50", "50%"],
        ["profile", "1", "50%", "0%", "0.67", "–"],
    ]


def test_a_device_that_any_plan_of_a_round_asked_was_not_left_out_of_it() -> None:
    rows = [
        DecisionRow(1, False, "not drawn", ["a", "b", "c"]),
        DecisionRow(1, True, "rank 1 of 9", ["a"]),
        DecisionRow(1, False, "at work on round 1", ["a"]),
        DecisionRow(1, False, "resting", ["b"]),
        DecisionRow(2, True, "rank 2 of 9", ["a"]),
        DecisionRow(2, False, "not drawn", ["b", "c"]),
    ]
    found = choices_of(rows)
    assert found.left_out == {"b": 2, "c": 2}
    assert found.main_reason == {"b": "not drawn", "c": "not drawn"}
    counted = {(each.selected, each.reason): (each.times, each.rounds, each.devices) for each in found.reasons}
    assert counted == {
        (False, "not drawn"): (3, 2, 2),
        (False, "resting"): (1, 1, 1),
        (True, "rank … of …"): (2, 2, 1),
    }
    assert [each.selected for each in found.reasons] == [False, False, True]


def test_reasons_differ_by_more_than_their_numbers() -> None:
    assert pattern("done 3.25 s into a round of 1,000 s, 1e-05 off") == "done … s into a round of … s, … off"


DECISIONS = st.lists(
    st.builds(
        DecisionRow,
        st.integers(1, 4),
        st.booleans(),
        st.sampled_from(["drawn", "at work on round 1", "at work on round 2", "resting"]),
        st.lists(st.sampled_from("abcdef"), max_size=6, unique=True),
    ),
    max_size=20,
).map(lambda rows: sorted(rows, key=lambda row: row.round))


@given(rows=DECISIONS)
def test_each_device_of_each_round_counts_once(rows: list[DecisionRow]) -> None:
    found = choices_of(rows)
    known = {(row.round, device) for row in rows for device in row.devices}
    asked = {(row.round, device) for row in rows if row.selected for device in row.devices}
    assert sum(each.times for each in found.reasons) == len(known)
    assert found.left_out == Counter(device for _, device in known - asked)
    assert set(found.main_reason) == set(found.left_out)


OUTCOMES = st.lists(
    st.builds(
        lambda number, device, kind, used, seconds, energy, reason: (
            number,
            outcome(
                f"client-{device}",
                kind,
                device_class=f"class-{device % 2}",
                used=used and kind in (Outcome.FINISHED, Outcome.LATE),
                round_trip_s=seconds,
                known_s=seconds,
                energy_wh=energy,
                reason=reason,
            ),
        ),
        st.integers(1, 3),
        st.integers(1, 5),
        st.sampled_from(list(Outcome)),
        st.booleans(),
        st.floats(0, 100),
        st.floats(0, 5),
        st.sampled_from(["", "killed 1", "killed 2", "no reply"]),
    ),
    max_size=25,
)


@given(outcomes=OUTCOMES)
def test_sums_are_the_same_however_orders_are_grouped(outcomes: list[tuple[int, RoundOutcome]]) -> None:
    facts = troubled(outcomes=outcomes, profiles=[])
    worked = facts.figures.used_device_s + facts.figures.wasted_device_s
    for rows in (facts.devices, facts.classes, facts.outcomes):
        assert sum(each.orders for each in rows) == len(outcomes)
        assert sum(each.at_work_s for each in rows) == pytest.approx(worked)
        assert sum(each.energy_wh for each in rows) == pytest.approx(facts.energy_wh)
    for rows in (facts.devices, facts.classes):
        assert sum(each.used for each in rows) == facts.figures.used_updates
        assert sum(each.wasted_s for each in rows) == pytest.approx(facts.figures.wasted_device_s)
        assert sum(each.late + each.lost for each in rows) == sum(
            each.outcome is not Outcome.FINISHED for _, each in outcomes
        )


# The page


def test_tables_of_the_page_are_what_sql_says(simulated: Facts, store: Path) -> None:
    """The page against history itself, on another way than through the facts."""
    page = parsed(page_of(simulated))
    with closing(History(store)) as history:
        db = history._db
        first_s = db.execute("SELECT MIN(started_s) FROM rounds").fetchone()[0]
        rounds = db.execute("SELECT * FROM rounds ORDER BY round").fetchall()
        used, orders = db.execute("SELECT SUM(used), COUNT(*) FROM outcomes").fetchone()
        energy = db.execute("SELECT SUM(energy_wh) FROM outcomes").fetchone()[0]
        by_class = db.execute("SELECT device_class, COUNT(*), SUM(used) FROM outcomes GROUP BY device_class").fetchall()
        left_out = db.execute("SELECT devices FROM decisions WHERE NOT selected").fetchall()
    assert [row[:4] + row[5:] for row in page.table("round", "ended, s")] == [
        [
            str(row["round"]),
            number(row["started_s"] + row["duration_s"] - first_s),
            number(row["duration_s"]),
            number(row["deadline_s"]),
            f"{row['accuracy']:.3f}",
            f"{row['loss']:.3f}",
        ]
        for row in rounds
    ]
    kinds = page.table("outcome", "reason")
    assert sum(int(row[2]) for row in kinds) == orders
    assert sum(int(row[2]) for row in kinds if row[0] == "used") == used
    classes = {row[0]: row for row in page.table("class", "devices", "never used")}
    assert {name: (int(row[3]), int(row[4])) for name, row in classes.items()} == {
        row[0]: (row[1], row[2]) for row in by_class
    }
    assert f"Orders drew {number(energy, 'Wh')}" in " ".join(page.words)
    told = {row[0] for row in page.table("device", "class", "orders") if row[6] != "0"}
    assert told
    assert told <= {device for row in left_out for device in json.loads(row["devices"])}


def test_curves_and_bars_are_those_of_history(simulated: Facts) -> None:
    accuracy, loss, gantt, *_ = parsed(page_of(simulated)).charts()
    rows = simulated.record.rounds
    ends = [pytest.approx(row.started_s + (row.duration_s or 0.0), abs=1e-3) for row in rows]
    assert accuracy["data"][0]["x"] == loss["data"][0]["x"] == ends
    assert accuracy["data"][0]["y"] == [pytest.approx(row.accuracy, abs=1e-4) for row in rows]
    assert loss["data"][0]["y"] == [pytest.approx(row.loss, abs=1e-4) for row in rows]
    assert simulated.reached is not None
    assert accuracy["data"][1]["x"] == [pytest.approx(simulated.reached[1], abs=1e-3)]
    trained = next(each for each in gantt["data"] if each["name"] == "training")
    assert len(trained["x"]) == simulated.figures.used_updates
    late = next(each for each in gantt["data"] if each["name"] == "late")
    assert len(late["x"]) == sum(each.outcome is Outcome.LATE for _, each in simulated.record.outcomes)


def test_bars_have_the_outcome_of_their_orders() -> None:
    found = gantt_of(troubled())
    assert found is not None
    bars = {each["name"]: list(zip(each["y"], each["base"], each["x"], strict=True)) for each in found.chart["data"]}
    assert bars["out of memory"] == [("client-3 slow", 20.0, 30.0)]
    assert bars["late"] == [("client-3 slow", 0.0, 20.0), ("client-3 slow", 50.0, 40.0)]
    assert bars["crashed"] == []
    assert len(bars["training"]) == 3
    assert (found.rounds, found.orders, found.devices, found.hidden) == ((1, 3), 6, 3, 0)


def many(devices: int, rounds: int, orders: int) -> Facts:
    """A run too large to draw in full: `orders` a round, dealt to the devices in turn."""
    rows = [round_row(each, started_s=10.0 * each, duration_s=10.0, accuracy=0.5) for each in range(1, rounds + 1)]
    outcomes = [
        (row.round, _order(f"client-{1 + (row.round * orders + each) % devices}", row.started_s, row.started_s + 8))
        for row in rows
        for each in range(orders)
    ]
    profiles = [profile(f"client-{each}") for each in range(1, devices + 1)]
    return troubled(rounds=rows, outcomes=outcomes, profiles=profiles)


def test_of_a_long_run_a_stretch_of_rounds_is_drawn_and_of_many_devices_some() -> None:
    found = gantt_of(many(devices=400, rounds=100, orders=40))
    assert found is not None
    first, last = found.rounds
    assert (first, last) == (34, 45)
    assert found.orders <= 40 * (last - first + 1)
    assert found.devices <= MOST_ROWS
    assert found.devices + found.hidden == 400
    whole, *parts = found.views
    assert whole[1] == (parts[0][1][0], parts[-1][1][1])
    assert all(left[1][1] == right[1][0] for left, right in pairwise(parts))


@given(length=st.integers(0, 3000), most=st.integers(2, 50))
def test_thinning_keeps_both_ends_and_the_order(length: int, most: int) -> None:
    kept = thinned(list(range(length)), most)
    assert len(kept) == min(length, most)
    assert kept == sorted(set(kept))
    assert kept[:1] + kept[-1:] == ([0, length - 1] if length else [])


def test_words_come_first_and_every_part_is_linked() -> None:
    text = html(page_of(troubled()), "")
    order = [
        "The target 0.9 was reached",
        "What went wrong",
        "Accuracy and loss",
        "who did what when",
        "What became of the orders",
        "who was left out",
        "Use against limits",
        "Expected and actual seconds",
        "Energy and dollars",
        "Classes and devices",
        "To make it again",
    ]
    main = text[text.index("</nav>") :]
    places = [text.index(order[0]), *(text.index("</nav>") + main.index(each) for each in order[1:])]
    assert places == sorted(places)
    links = re.findall(r"<nav.*?</nav>", text)[0]
    assert re.findall(r'href="#([\w-]+)"', links) == re.findall(r'<section id="([\w-]+)"', text)


def test_the_page_can_be_used_by_keyboard_and_read_aloud() -> None:
    page = parsed(page_of(troubled()))
    focusable = [(tag, attributes) for tag, attributes in page.tags if tag in ("a", "button", "summary")]
    assert focusable[0] == ("a", {"class": "skip", "href": "#main"})
    assert ("main", {"id": "main", "tabindex": "-1"}) in page.tags
    charts = [attributes for _, attributes in page.tags if attributes.get("class") == "chart"]
    assert charts
    assert all(each["role"] == "img" and each["aria-label"] for each in charts)
    scrolling = [attributes for _, attributes in page.tags if attributes.get("class") == "scroll"]
    assert all(each["tabindex"] == "0" and each["aria-label"] for each in scrolling)
    assert all(attributes.get("scope") in ("col", "row") for tag, attributes in page.tags if tag == "th")
    assert ("html", {"lang": "en"}) in page.tags


def test_the_page_is_light_and_dark_and_fits_a_phone() -> None:
    text = html(page_of(troubled()), "")
    assert "@media (prefers-color-scheme:dark)" in text
    assert ":root[data-theme=dark]" in text
    assert 'id="theme"' in text
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in text
    assert ".scroll{overflow-x:auto" in text
    assert ":focus-visible" in text


def test_the_page_fetches_nothing_and_runs_only_its_own_scripts() -> None:
    plotly_js = "window.Plotly = {react: 1};"
    text = html(page_of(troubled()), plotly_js)
    page = parsed(page_of(troubled()), plotly_js)
    fetched = [
        value
        for _, attributes in page.tags
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "data", "action") and not (value or "").startswith("#")
    ]
    assert fetched == []
    assert not re.search(r"url\(|@import|https?://", text)
    policy = next(attributes["content"] for _, attributes in page.tags if "http-equiv" in attributes) or ""
    assert policy.startswith("default-src 'none'; ")
    run = [script for script in page.scripts if not script.startswith('{"data"')]
    assert run[0] == plotly_js
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in run]
    assert re.findall(r"'sha256-([^']+)'", policy) == digests


def test_the_real_page_is_below_its_limit() -> None:
    from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]

    size = len(html(page_of(many(devices=1000, rounds=300, orders=60)), get_plotlyjs()).encode())
    assert 4_000_000 < size < LIMIT_BYTES


def hostile() -> Facts:
    """A history in which every text that a device or a user may choose is an attack."""
    names = {"device": HOSTILE, "device_class": f"{HOSTILE}c"}
    order = replace(_order(HOSTILE, 1010, 1020, Outcome.CRASHED, reason=HOSTILE), **names)
    return facts_of(
        RunRecord(
            run_row(HOSTILE, fleet=HOSTILE, policy=HOSTILE, runtime=HOSTILE, detail=HOSTILE, status="failed"),
            [round_row(1, started_s=1010.0, duration_s=10.0)],
            [(1, order), (1, replace(order, attempt=1, used=True, outcome=Outcome.FINISHED, expected_s=3.0))],
            [replace(profile(), versions=HOSTILE, **names)],
            {},
        ),
        [DecisionRow(1, False, HOSTILE, [HOSTILE]), DecisionRow(1, True, HOSTILE, [f"{HOSTILE}2"])],
    )


@pytest.mark.parametrize("page", [page_of(hostile()), pair_page(hostile(), hostile(), [HOSTILE, HOSTILE])])
def test_names_and_reasons_can_not_break_the_page(page: Page) -> None:
    text = html(page, "")
    assert "<script>alert" not in text
    assert "<img" not in text
    found = parsed(page)
    assert len(found.scripts) == 2 + len(found.charts())
    assert not any(name.startswith("on") for _, attributes in found.tags for name in attributes)
    assert HOSTILE in " ".join(found.words)
    for chart in found.charts():
        assert "<" not in re.sub(r"<extra>|</extra>|<br>", "", json.dumps(chart))


def test_markdown_takes_no_orders_from_names() -> None:
    rows = [["a|b", "<b>`*_[x](y)"]]
    text = markdown(
        Page("#", [Text("line\n# two")], [Section("s", "s", [Table("", [Column("k"), Column("v")], rows)])])
    )
    assert "| a\\|b | \\<b\\>\\`\\*\\_\\[x\\](y) |" in text
    assert "line \\# two" in text
    fenced = markdown(Page("t", [Code("a\n```\nb", "yaml")], []))
    assert "````yaml\na\n```\nb\n````" in fenced


def test_the_fleet_file_on_the_page_makes_the_same_fleet(simulated: Facts) -> None:
    assert simulated.fleet is not None
    text = html(page_of(simulated), "")
    codes = [re.sub(r"<.*?>", "", each) for each in re.findall(r"<pre.*?</pre>", text, re.DOTALL)]
    assert codes[0] == "motley simulate fleet.yaml"
    assert "&#x27;" not in codes[1]
    assert Fleet.model_validate(yaml.safe_load(codes[1])) == simulated.fleet
    assert Fleet.model_validate_json(simulated.record.run.spec) == simulated.fleet


@pytest.mark.parametrize(
    ("runtime", "command"), [("processes", "motley run fleet.yaml"), ("compose", "motley compose --fleet fleet.yaml")]
)
def test_each_runtime_has_the_command_that_makes_the_run_again(runtime: str, command: str) -> None:
    facts = troubled(run=run_row(runtime=runtime, spec=fleet(classes=PRICED).model_dump_json()))
    text = markdown(page_of(facts))
    assert f"```sh\n{command}" in text
    assert facts.fleet is not None
    assert fleet_file(facts.fleet) in text
    assert "seed: 3" in text


@pytest.mark.parametrize("rounds", [[], [round_row(1, duration_s=None, accuracy=None, loss=None)]])
def test_a_run_that_has_hardly_begun_has_a_page(rounds: list[RoundRow]) -> None:
    facts = facts_of(RunRecord(run_row(), rounds, [], [], {}), [])
    text = html(page_of(facts), "")
    assert "The run has no round that ended; it is still under way." in text
    assert json.loads(report_json(facts))["usd"] is None


def test_long_tables_are_cut_and_say_so() -> None:
    rows = [[str(each)] for each in range(1000)]
    cut, note = tables.shown(Table("", [Column("n")], rows))
    assert isinstance(cut, Table)
    assert len(cut.rows) == tables.MOST_ROWS
    assert isinstance(note, Text)
    assert "of 1,000" in note.text
    assert len(thinned(rows)) == min(1000, MOST_POINTS)


# Files


def test_json_has_the_words_the_figures_and_the_rows(simulated: Facts) -> None:
    data = json.loads(report_json(simulated))
    assert data["headline"] == headline(simulated)
    assert data["figures"]["tta_s"] == data["seconds_to_target"] == simulated.figures.tta_s
    assert len(data["outcomes"]) == len(simulated.record.outcomes)
    assert sum(each["orders"] for each in data["classes"]) == len(data["outcomes"])
    assert Fleet.model_validate(data["fleet"]) == simulated.fleet


@pytest.mark.parametrize("name", TABLES)
def test_csv_reads_back(name: Any, simulated: Facts) -> None:
    rows = list(csv.DictReader(io.StringIO(report_csv(simulated, name))))
    length = {
        "orders": simulated.record.outcomes,
        "rounds": simulated.record.rounds,
        "devices": simulated.devices,
        "classes": simulated.classes,
        "outcomes": simulated.outcomes,
        "reasons": simulated.choices.reasons,
    }
    assert len(rows) == len(length[name]) > 0
    empty = facts_of(RunRecord(run_row(), [], [], [], {}), [])
    assert report_csv(empty, name).splitlines() == [",".join(rows[0])]


# Two runs


def test_the_sooner_of_two_runs_is_told() -> None:
    slow = troubled()
    quick = troubled(rounds=[round_row(1, started_s=1010.0, duration_s=20.0, accuracy=0.95)])
    assert verdict(slow, quick) == (
        "B reached the target 0.9 2.5× sooner: A took 50 s, B 20 s. A ended with accuracy 0.800, B with accuracy 0.950."
    )
    assert verdict(slow, slow).startswith("Both reached the target 0.9 as soon")
    failed = troubled(rounds=[round_row(1, started_s=1010.0, accuracy=0.1)])
    assert verdict(slow, failed).startswith("Only A reached the target 0.9, after 50 s.")
    assert verdict(failed, failed).startswith("Neither reached the target 0.9.")
    other = troubled(run=run_row(target_accuracy=0.5))
    assert verdict(slow, other).startswith("A and B had no target in common.")


def test_better_values_stand_out_and_equal_ones_do_not() -> None:
    slow = troubled()
    quick = troubled(rounds=[round_row(1, started_s=1010.0, duration_s=20.0, accuracy=0.95)])
    text = html(pair_page(slow, quick, ["old", "new"]), "")
    bold = dict(
        re.findall(r'<th scope="row" class="words">([^<]+)</th>(?:<td>[^<]*</td>)*<td class="best">([^<]+)', text)
    )
    assert bold["seconds to the target"] == "20.0"
    assert bold["last accuracy"] == "0.950"
    assert "best accuracy" not in bold
    assert "orders" not in bold


def test_what_differs_in_two_fleets_is_told_by_key() -> None:
    other = fleet(classes=PRICED, seed=4, training={"rounds": 7})
    changed = troubled(run=run_row(runtime="simulation", spec=other.model_dump_json()))
    rows = {key: values for key, *values in differences(troubled(), changed)}
    assert rows["runtime"] == ["processes", "simulation"]
    assert rows["seed"] == ["3", "4"]
    assert rows["training.rounds"] == ["20", "7"]
    assert differences(changed, changed) == []


def test_two_runs_as_files() -> None:
    one = troubled()
    data = json.loads(pair_json(one, one, ["a", "b"]))
    assert data["measures"]["updates used"] == [3, 3]
    assert len(data["reports"]) == 2
    rows = list(csv.DictReader(io.StringIO(pair_csv(one, one, ["a", "b"]))))
    assert next(row for row in rows if row["measure"] == "orders") == {"measure": "orders", "a": "6", "b": "6"}


def test_decisions_come_out_of_history_in_order(tmp_path: Path) -> None:
    with closing(History(tmp_path / "history.db")) as history:
        history.start_run(run_row())
        for number in (1, 2):
            history.start_round("7", number, 0.0, 60.0)
            history.put_plan("7", plan(number, "client-1", left_out={"resting": ["client-2"]}))
        rows = list(history.all_decisions("7"))
    assert [(row.round, row.selected, row.reason, list(row.devices)) for row in rows] == [
        (number, selected, reason, devices)
        for number in (1, 2)
        for selected, reason, devices in [(True, "drawn at random", ["client-1"]), (False, "resting", ["client-2"])]
    ]
