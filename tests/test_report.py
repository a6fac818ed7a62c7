"""A run in words and tables, from rows that were made by hand."""

from __future__ import annotations

import json
from typing import Any

import pytest
from factories import MIB, outcome, profile, round_row, run_row

from motley import report
from motley.device import Outcome
from motley.records import RunRecord


def _record(**changes: Any) -> RunRecord:
    known: dict[str, Any] = {
        "run": run_row(status="completed", target_accuracy=0.65),
        "rounds": [round_row(1), round_row(2, duration_s=6.0), round_row(3, duration_s=5.0)],
        "outcomes": [
            (1, outcome("client-1")),
            (1, outcome("client-2", Outcome.LATE, reason="no reply")),
            (2, outcome("client-1", round_trip_s=4.0, peak_memory_bytes=310 * MIB, batch_size=64)),
            (2, outcome("client-2", Outcome.OUT_OF_MEMORY)),
        ],
        "profiles": [profile("client-10"), profile("client-2", device_class="slow"), profile("client-1")],
        "accuracies": {"client-1": 0.8125},
    }
    return RunRecord(**{**known, **changes})


def _cells(record: RunRecord) -> dict[str, list[str]]:
    table = report.device_table(record)
    columns = [list(column.cells) for column in table.columns]
    return {str(row[0]): [str(cell) for cell in row] for row in zip(*columns, strict=True)}


def test_a_round_is_one_line() -> None:
    line = report.round_line(round_row(2), [outcome(), outcome("client-2", Outcome.LATE)], 20)
    assert line == "round   2/20  accuracy 0.700  loss 0.500  1/2 finished  4.0 s"
    assert "not evaluated" in report.round_line(round_row(2, accuracy=None, loss=None), [], 20)


def test_the_target_is_reached_in_the_first_round_that_has_it() -> None:
    assert report.target_reached(_record()) == (2, pytest.approx(10 + 6))  # the second began 10 s after the first


@pytest.mark.parametrize(
    "changes", [{"run": run_row(target_accuracy=None)}, {"run": run_row(target_accuracy=0.99)}, {"rounds": []}], ids=str
)
def test_no_target_is_reached(changes: dict[str, Any]) -> None:
    assert report.target_reached(_record(**changes)) is None


def test_the_summary_says_how_it_went() -> None:
    lines = report.summary_lines(_record())
    assert lines == [
        "run 7 of fleet 'laptop' completed: 3 rounds",
        "test accuracy 0.800, loss 0.333 after round 3",
        "target 0.65 reached in round 2 after 16.0 s",
        "training took 15.0 s, a round 5.00 s (median)",
        "outcomes: 2 finished, 1 late, 1 out_of_memory",
        "fairness of participation (Jain): 0.33",
    ]


def test_a_run_that_never_began_has_a_summary_too() -> None:
    failed = run_row(status="failed", detail="no device answered within 180 s")
    lines = report.summary_lines(RunRecord(failed, [], [], [], {}))
    assert lines == ["run 7 of fleet 'laptop' failed: 0 rounds", "no device answered within 180 s"]


def test_a_round_under_way_does_not_count() -> None:
    under_way = round_row(4, duration_s=None, accuracy=None, loss=None)
    lines = report.summary_lines(_record(rounds=[round_row(1), under_way]))
    assert lines[0].endswith("1 rounds")
    assert "target 0.65 not reached" in lines


def test_devices_stand_in_natural_order_with_what_they_did() -> None:
    cells = _cells(_record())
    assert list(cells) == ["client-1", "client-2", "client-10"]
    assert cells["client-1"] == ["client-1", "fast", "0.5", "512", "2/2", "64", "0.1", "3.00", "310", "0.812"]
    assert cells["client-2"] == ["client-2", "slow", "0.5", "512", "0/2", "–", "–", "–", "–", "–"]
    assert cells["client-10"][4] == "0/0"


def test_runs_have_a_row_each() -> None:
    ended = run_row("7", ended_s=1012.5, status="completed")
    table = report.runs_table([("8", run_row("8", started_s=2000.0), None), ("laptop-7", ended, round_row(3))])
    rows = list(zip(*(list(column.cells) for column in table.columns), strict=True))
    assert [row[0] for row in rows] == ["8", "laptop-7"]
    assert rows[0][-3:] == ("0/3", "–", "–")
    assert rows[1][-3:] == ("3/3", "0.800", "12.5")


def test_the_figures_are_plain_data() -> None:
    figures = json.loads(json.dumps(report.figures(_record())))
    assert figures["final_accuracy"] == pytest.approx(0.8)
    assert figures["seconds_to_target"] == pytest.approx(16.0)
    assert [each["round"] for each in figures["outcomes"]] == [1, 1, 2, 2]
    assert figures["outcomes"][1]["outcome"] == "late"
    assert figures["device_accuracy"] == {"client-1": 0.8125}


def test_classes_have_a_row_each_with_what_came_of_their_orders() -> None:
    """The lost are those of which no update came; the wasted seconds those of orders that the model has nothing of."""
    outcomes = [
        (1, outcome("client-1", used=True)),
        (1, outcome("client-10", Outcome.LATE, used=True, round_trip_s=6.0)),
        (1, outcome("client-2", Outcome.BATTERY_EMPTY, device_class="slow", round_trip_s=30.0)),
        (2, outcome("client-2", Outcome.LATE, device_class="slow", round_trip_s=60.0)),
    ]
    table = report.class_table(_record(outcomes=outcomes))
    rows = list(zip(*(list(column.cells) for column in table.columns), strict=True))
    assert rows == [
        ("fast", "2", "2", "2", "1", "0", "4.00", "0", "0.812"),
        ("slow", "1", "2", "0", "1", "1", "45.00", "90", "–"),
    ]


def test_an_empty_battery_is_an_outcome_like_the_others() -> None:
    drained = [(1, outcome("client-1", Outcome.BATTERY_EMPTY, reason="charge fell to 20%"))]
    assert "outcomes: 1 battery_empty" in report.summary_lines(_record(outcomes=drained))
    assert report.figures(_record(outcomes=drained))["outcomes"][0]["outcome"] == "battery_empty"
