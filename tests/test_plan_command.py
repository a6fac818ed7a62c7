"""`motley plan`: what it prints, recommends, writes and refuses."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from factories import ROOT, fleet, outcome, profile, round_row, run_row, task_figures, write_fleet
from rich.console import Console
from typer.testing import CliRunner

from motley.cli import app
from motley.costing import command
from motley.costing.command import Request, compared, plan
from motley.costing.inputs import knowledge_of, resources_of
from motley.costing.view import MOST_ROWS, duration, shown
from motley.errors import InputError
from motley.history import History
from motley.objectives import Cost

CLASSES = {
    "fast": {"count": 4, "cpus": 2.0, "memory": "512m", "usd_per_hour": 2.0, "power": {"idle": "10w", "busy": "50w"}},
    "slow": {"count": 4, "cpus": 0.2, "memory": "512m", "usd_per_hour": 0.05},
}
DATA = {"partition": "iid", "examples_per_device": 600}


def fleet_file(directory: Path, **changes: Any) -> Path:
    training = {"policy": "random", "rounds": 10, "devices_per_round": 4, **changes.pop("training", {})}
    return write_fleet(directory, classes=changes.pop("classes", CLASSES), data=DATA, training=training, **changes)


def printed(request: Request) -> str:
    out = io.StringIO()
    plan(request, Console(file=out, width=110))
    return out.getvalue()


def test_the_recommended_plan_is_marked_and_has_its_reason(tmp_path: Path) -> None:
    text = printed(Request(fleet_file(tmp_path), "dollars", min_data=0.0))
    lines = text.splitlines()
    assert lines[0].startswith("tiny: random, 8 devices; ")
    assert lines[1].startswith("as in the file: 10 rounds, ")
    (marked,) = [line for line in lines if line.startswith("→")]
    (reason,) = [line for line in lines if line.startswith("recommended: ")]
    assert reason.split(": ")[1].split(",")[0] in marked
    assert reason.endswith("; of all plans within the bounds it has the least dollars")
    assert "(the file's)" in text
    assert "accuracy is not predicted" in text
    assert "power of slow taken as 1 W idle and 4 W busy" in text


def test_no_objective_can_be_bettered_within_the_front(tmp_path: Path) -> None:
    path = fleet_file(tmp_path)
    for objective, pick in (("time", 0), ("dollars", 1), ("energy", 2)):
        found = compared(Request(path, objective))
        assert found.recommended in found.front
        costs = [found.runs[place].cost.as_tuple()[pick] for place in found.front]
        assert found.runs[found.recommended].cost.as_tuple()[pick] == min(costs)
    everything = compared(Request(path, min_data=0.0))
    assert len(everything.runs) > len(everything.front) > 1
    for place, run in enumerate(everything.runs):
        dominated = any(other.cost.dominates(run.cost) for other in everything.runs)
        assert (place in everything.front) is not dominated


def test_nobodys_data_are_left_out_unless_that_is_allowed(tmp_path: Path) -> None:
    path = fleet_file(tmp_path)
    kept = compared(Request(path))
    assert kept.left_out
    assert all(kept.runs[place].round.data_share == 1 for place in kept.front)
    text = printed(Request(path, min_data=0.5))
    assert "recommended: 4 fast: " in text
    assert "it leaves out 50% of the examples, which may cost accuracy" in text


def test_a_bound_is_kept_or_refused_with_the_least_that_can_be(tmp_path: Path) -> None:
    path = fleet_file(tmp_path)
    free = compared(Request(path, "time"))
    assert free.recommended is not None
    most = free.runs[free.recommended].cost.usd * 0.9
    bound = compared(Request(path, "time", max_dollars=most))
    assert bound.recommended is not None
    assert bound.runs[bound.recommended].cost.usd <= most
    assert bound.runs[bound.recommended].cost.time_s > free.runs[free.recommended].cost.time_s
    out = tmp_path / "plans.json"
    with pytest.raises(
        InputError, match=r"no plan keeps --max-dollars 0 and --max-hours 1; the least of each is "
    ) as no:
        printed(Request(path, max_dollars=0.0, max_hours=1.0, json_file=out))
    assert str(no.value).endswith("; --min-data 0 allows leaving devices out")
    assert json.loads(out.read_text())["recommended"] is None


def test_the_figures_are_written_too(tmp_path: Path) -> None:
    out = tmp_path / "plans.json"
    printed(Request(fleet_file(tmp_path), "time=1,dollars=0.5", json_file=out))
    data = json.loads(out.read_text())
    assert data["objective"] == {"time": 1.0, "dollars": 0.5, "energy": 0.0}
    own = data["plans"][0]
    assert (own["devices"], own["rounds"]) == ({"fast": 2, "slow": 2}, 10)
    assert own["run"]["time_s"] == pytest.approx(10 * own["round"]["time_s"])
    assert data["plans"][data["recommended"]]["on_front"]


def test_a_long_front_is_thinned_to_its_ends_and_what_matters(tmp_path: Path) -> None:
    found = compared(Request(fleet_file(tmp_path)))
    runs = [replace(found.runs[0], cost=Cost(100.0 - place, float(place))) for place in range(50)]
    long = replace(found, runs=runs, front=range(1, 50), recommended=2)
    rows = shown(long)
    assert len(rows) == MOST_ROWS + 2
    assert (rows[0], rows[-1]) == (49, 0)
    assert {0, 1, 2, 49} <= set(rows)
    assert shown(replace(long, front=range(5, 9), recommended=None)) == [8, 7, 6, 5, 0]


@pytest.mark.parametrize(("seconds", "text"), [(3.14, "3.1 s"), (600, "10.0 min"), (9000, "2.5 h")])
def test_durations_are_told_in_fitting_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def history_file(path: Path, fleet: str = "tiny", wall_s: float = 3.0, accuracy: float = 0.95) -> Path:
    """A run of four fast devices, 100 of whose examples went into each of three rounds of 4 s."""
    with closing(History(path)) as history:
        history.start_run(run_row(fleet=fleet))
        for number in range(1, 5):
            history.see_device("7", profile(f"client-{number}", examples=100), 1000.0)
        for number in range(1, 4):
            history.start_round("7", number, 1000.0, 60.0)
            row = round_row(number, accuracy=accuracy if number > 1 else 0.5)
            outcomes = [
                (number, outcome(f"client-{each}", examples=100, wall_s=wall_s, round_trip_s=wall_s + 0.1, used=True))
                for each in range(1, 5)
            ]
            history.end_round(row, outcomes)
    return path


def test_a_finished_run_teaches_seconds_and_rounds(tmp_path: Path) -> None:
    path = fleet_file(tmp_path, classes={"fast": CLASSES["fast"]}, training={"devices_per_round": 4})
    slow = compared(Request(path, history=history_file(tmp_path / "slow.db")))
    quick = compared(Request(path, history=history_file(tmp_path / "quick.db", wall_s=0.3)))
    assert slow.inputs.measured is not None
    assert (slow.inputs.measured.rounds, slow.inputs.measured.seconds, slow.inputs.measured.reached) == (2, 14.0, 0.9)
    assert slow.runs[0].round.cost.time_s == pytest.approx(3.1, rel=0.05)
    assert quick.runs[0].round.cost.time_s == pytest.approx(0.4, rel=0.05)
    assert slow.runs[0].rounds == 2
    text = printed(Request(path, history=tmp_path / "slow.db"))
    assert "measured: at its target of 0.9 after 2 rounds and 14.0 s" in text
    assert "seconds learned from the 12 orders of run 7" in text


def test_a_run_that_did_not_reach_its_target_counts_to_its_end(tmp_path: Path) -> None:
    path = fleet_file(tmp_path, classes={"fast": CLASSES["fast"]})
    (tmp_path / "run" / "state").mkdir(parents=True)
    history_file(tmp_path / "run" / "state" / "history.db", accuracy=0.6)
    text = printed(Request(path, history=tmp_path / "run"))
    assert "measured: at its end after 3 rounds and 24.0 s" in text


def _empty(path: Path) -> None:
    History(path).close()


def _unused(path: Path) -> None:
    with closing(History(path)) as history:
        history.start_run(run_row(fleet="tiny"))
        history.put_outcome("7", 1, outcome())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "no run is kept there ({path} is missing)"),
        (_empty, "its run never began"),
        (lambda path: history_file(path, fleet="other"), "it holds a run of fleet 'other', not of 'tiny'"),
        (_unused, "no update was used in its run; there is nothing to learn from it"),
    ],
)
def test_a_history_that_says_nothing_is_refused(tmp_path: Path, make: Any, message: str) -> None:
    file = tmp_path / "history.db"
    make(file)
    with pytest.raises(InputError) as caught:
        compared(Request(fleet_file(tmp_path), history=file))
    assert str(caught.value) == f"--history {file}: " + message.format(path=file)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_hours": -1.0}, "--max-hours -1: write a number from 0"),
        ({"max_energy": float("nan")}, "--max-energy nan: write a number from 0"),
        ({"objective": "cost"}, "--objective: 'cost' is not known; known: dollars, energy, time"),
    ],
)
def test_what_can_not_be_asked_is_one_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        compared(Request(fleet_file(tmp_path), **changes))
    assert str(caught.value) == message


def test_a_fleet_that_gets_nothing_done_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"fleet 'tiny': no device would be done before the deadline"):
        compared(Request(fleet_file(tmp_path, training={"deadline": "1ms"})))


def test_only_devices_that_can_hold_the_model_count() -> None:
    made = fleet(training={"policy": "random"})
    for model_bytes, names in ((10**6, {"fast", "slow"}), (60 * 10**6, {"slow"})):
        knowledge = knowledge_of(made, task_figures(model_bytes=model_bytes), [10, 10, 10], None)
        assert {each.device_class for each in resources_of(made, knowledge)} == names
    with pytest.raises(InputError, match=r"no device of fleet 'tiny' can hold the model: training needs '\d+"):
        resources_of(made, knowledge_of(made, task_figures(model_bytes=10**9), [10, 10, 10], None))


def test_data_that_would_have_to_be_downloaded_are_taken_as_divided_evenly(tmp_path: Path) -> None:
    path = write_fleet(tmp_path, classes={"a": {"count": 5, "cpus": 1, "memory": "2g"}}, training={"task": "cifar10"})
    found = compared(Request(path))
    assert "taken as equal, since the data are not loaded" in found.inputs.source
    assert list(found.inputs.knowledge.column("examples")) == [10_000] * 5


def test_options_reach_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Request] = []
    monkeypatch.setattr(command, "plan", asked.append)
    bounds = ["--max-dollars", "5", "--max-hours", "2", "--max-energy", "90", "--min-data", "0.5"]
    others = ["--objective", "energy", "--history", "h.db", "--json", "p.json"]
    done = CliRunner().invoke(app, ["plan", "f.yaml", *bounds, *others])
    assert done.exit_code == 0, done.output
    assert asked == [Request(Path("f.yaml"), "energy", 5.0, 2.0, 90.0, 0.5, Path("h.db"), Path("p.json"))]


def test_it_loads_neither_pytorch_nor_flower(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from motley.costing.command import Request, compared; "
        f"compared(Request(Path({str(fleet_file(tmp_path))!r}))); print('torch' in sys.modules, 'flwr' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("False False\n", 0), done.stderr
