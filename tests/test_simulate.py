"""Whole runs on the virtual clock: every policy, every way to fail, and the same history each time."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from factories import fleet

from motley.device import Outcome, RoundOutcome
from motley.errors import InputError, RunFailed
from motley.history import History
from motley.policies import POLICIES
from motley.records import RoundRow, RunRecord
from motley.simulation.run import PATIENCE_S, simulate
from motley.spec import Fleet
from motley.training.jobs import Job, Trained
from motley.training.model import shapes_of
from motley.training.trainer import Trainer, _Worker

FAST = {"count": 5, "cpus": 1.0, "memory": "1g", "network": {"down": "20mbit", "up": "8mbit", "variation": 0.4}}
SLOW = {"count": 3, "cpus": 0.2, "memory": "512m"}


def small(policy: str = "random", **changes: Any) -> Fleet:
    """Eight devices of two classes, three rounds of four."""
    training = {"policy": policy, "rounds": 3, "devices_per_round": 4, **changes.pop("training", {})}
    known = {"classes": {"fast": FAST, "slow": SLOW}, "data": {"share": 0.3}}
    return fleet(**{**known, **changes}, training=training)


def used(record: RunRecord) -> list[RoundOutcome]:
    return [each for _, each in record.outcomes if each.used]


@pytest.fixture(scope="session")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="session")
def record(directory: Path) -> RunRecord:
    """One small run, eight rounds long, on all of the data."""
    return simulate(small(training={"rounds": 8, "local_epochs": 3}, data={}), directory)


def test_a_run_learns(record: RunRecord) -> None:
    accuracies = [row.accuracy or 0.0 for row in record.rounds]
    assert (record.run.status, len(accuracies)) == ("completed", 8)
    assert accuracies[-1] > max(0.4, accuracies[0])


def test_a_run_takes_place_in_virtual_time(record: RunRecord) -> None:
    starts = [row.started_s for row in record.rounds]
    assert record.run.started_s == 0.0
    assert starts == sorted(starts)
    assert record.run.ended_s is not None
    assert starts[-1] < record.run.ended_s < 60.0
    assert all(each.known_s <= record.run.ended_s for _, each in record.outcomes)


def test_a_round_takes_as_long_as_its_slowest_device(record: RunRecord) -> None:
    for row in record.rounds:
        slowest_s = max(each.round_trip_s for number, each in record.outcomes if number == row.round)
        assert row.train_s == pytest.approx(slowest_s)


def test_outcomes_say_what_devices_really_did(record: RunRecord) -> None:
    for _, each in record.outcomes:
        assert (each.outcome, each.used, each.reason) == (Outcome.FINISHED, True, "")
        assert each.steps * each.batch_size >= each.examples > 0
        assert 0 < each.wall_s <= each.round_trip_s * (1 + 1e-9)
        assert min(each.up_bytes, each.down_bytes, each.peak_memory_bytes) > 0
        assert each.energy_wh == pytest.approx(4 * each.wall_s / 3600, rel=0.3, abs=1e-3)
        assert each.expected_s is not None


def test_expectations_become_good(record: RunRecord) -> None:
    """Slow devices have no link that varies: after their first order they are foreseen to a few percent."""
    known = [each for number, each in record.outcomes if number > 5 and each.device_class == "slow"]
    assert known
    for each in known:
        assert each.round_trip_s == pytest.approx(each.expected_s, rel=0.3)


def test_every_device_is_known_and_judged(record: RunRecord) -> None:
    names = [f"client-{number}" for number in range(1, 9)]
    assert sorted(each.device for each in record.profiles) == sorted(record.accuracies) == names
    assert sum(each.examples for each in record.profiles) == 1797 - 359


def test_the_model_and_the_log_are_kept(record: RunRecord, directory: Path) -> None:
    with np.load(directory / "model.npz") as kept:
        assert {name: kept[name].shape for name in kept} == shapes_of("digits")
    log = (directory / "log.txt").read_text().splitlines()
    assert log[1] == "8 devices are ready"
    assert sum(line.startswith("round ") for line in log) == 8


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_every_policy_runs_to_its_end(policy: str, tmp_path: Path) -> None:
    watched: list[tuple[RoundRow, Sequence[RoundOutcome]]] = []
    done = simulate(small(policy), tmp_path, watch=lambda row, outcomes: watched.append((row, outcomes)))
    assert (done.run.status, done.run.policy, len(done.rounds)) == ("completed", policy, 3)
    assert [row for row, _ in watched] == list(done.rounds)
    assert all(row.accuracy is not None and (row.duration_s or 0.0) > 0 for row in done.rounds)
    assert used(done)
    with closing(History(tmp_path / "history.db")) as history:
        for row in done.rounds:
            asked = [device for device, (taken, _) in history.decisions(done.run.run_id, row.round).items() if taken]
            assert len(asked) <= row.selected
            assert {each.device for number, each in done.outcomes if number == row.round} <= set(asked)


@pytest.mark.parametrize("policy", sorted(name for name, each in POLICIES.items() if each.pacing == "rounds"))
def test_in_rounds_every_order_has_an_outcome(policy: str, tmp_path: Path) -> None:
    done = simulate(small(policy, training={"rounds": 2, "device_evaluation": "every"}), tmp_path)
    counts = Counter(number for number, _ in done.outcomes)
    assert {row.round: row.selected for row in done.rounds} == counts


def dump(path: Path) -> str:
    with closing(sqlite3.connect(path / "history.db")) as db:
        return "\n".join(db.iterdump())


WILD = {
    "fast": {**FAST, "compute_variation": 0.1, "availability": {"ready": 0.8, "session": "30s"}},
    "slow": {**SLOW, "battery": {"capacity": "0.1wh"}, "heat": {"throttle_celsius": 26.0}},
    "drawn": {"count": 4, "cpus": {"uniform": {"low": 0.1, "high": 1.0}}, "memory": "512m"},
}
"""A fleet in which everything varies."""


def wild(seed: int) -> Fleet:
    return small("refl", classes=WILD, seed=seed, training={"compression": "topk", "device_evaluation": "every"})


@pytest.fixture(scope="session")
def wild_dump(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("wild")
    simulate(wild(1), path)
    return dump(path)


def test_the_same_fleet_and_seed_give_the_same_history_to_the_byte(wild_dump: str, tmp_path: Path) -> None:
    simulate(wild(1), tmp_path)
    assert dump(tmp_path) == wild_dump


def test_two_processes_give_the_same_history_to_the_byte(
    wild_dump: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other process is waited for, so that it has its share of the work."""
    start, work, shares = Trainer._start_workers, _Worker.train, list[int]()

    def start_and_wait(trainer: Trainer) -> None:
        start(trainer)
        while not all([worker.ready() for worker in trainer._workers]):
            pass

    def counted(worker: _Worker, jobs: Sequence[Job]) -> list[Trained]:
        shares.append(len(jobs))
        return work(worker, jobs)

    monkeypatch.setattr(Trainer, "_start_workers", start_and_wait)
    monkeypatch.setattr(_Worker, "train", counted)
    simulate(wild(1), tmp_path, processes=2)
    assert dump(tmp_path) == wild_dump
    assert sum(shares) > 1


def test_another_seed_gives_another_history(wild_dump: str, tmp_path: Path) -> None:
    simulate(wild(2), tmp_path)
    assert dump(tmp_path) != wild_dump


HARSH = {
    "steady": {"count": 4, "cpus": 1.0, "memory": "1g"},
    "cramped": {"count": 1, "cpus": 1.0, "memory": "337m"},
    "drained": {
        "count": 1,
        "cpus": 0.01,
        "memory": "512m",
        "battery": {"capacity": "1wh", "level": 0.2005, "floor": 0.2},
        "power": {"idle": "0w", "busy": "10w"},
    },
    "flighty": {
        "count": 3,
        "cpus": 0.01,
        "memory": "512m",
        "availability": {"ready": 0.9, "session": "1s", "spread": 0.0},
    },
    "sluggish": {"count": 1, "cpus": 0.01, "memory": "512m", "ms_per_example": 100.0},
    "hot": {
        "count": 1,
        "cpus": 1.0,
        "memory": "1g",
        "ms_per_example": 80.0,
        "power": {"idle": "0w", "busy": "10w"},
        "heat": {"ambient_celsius": 25.0, "throttle_celsius": 29.0},
    },
}
"""A class for each way in which an order can end, and one that overheats after 9 s, down to a 20th of its speed."""


@pytest.fixture(scope="session")
def harsh(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    training = {
        "policy": "random",
        "rounds": 4,
        "devices_per_round": "all",
        "deadline": "100s",
        "device_evaluation": "never",
    }
    made = fleet(classes=HARSH, data={"partition": "iid"}, training=training)
    return simulate(made, tmp_path_factory.mktemp("harsh"))


@pytest.mark.parametrize(
    ("device_class", "kind"),
    [
        ("steady", Outcome.FINISHED),
        ("cramped", Outcome.OUT_OF_MEMORY),
        ("drained", Outcome.BATTERY_EMPTY),
        ("flighty", Outcome.UNREACHABLE),
        ("sluggish", Outcome.LATE),
        ("hot", Outcome.FINISHED),
    ],
)
def test_each_class_ends_as_it_must(harsh: RunRecord, device_class: str, kind: Outcome) -> None:
    outcomes = [each for _, each in harsh.outcomes if each.device_class == device_class]
    assert kind in {each.outcome for each in outcomes}
    assert all(bool(each.reason) == (each.outcome is not Outcome.FINISHED) for each in outcomes)


def test_who_ran_out_of_memory_gets_less_to_hold_until_there_is_nothing_less(harsh: RunRecord) -> None:
    batches = [each.batch_size for _, each in harsh.outcomes if each.device_class == "cramped"]
    assert batches[:4] == [8, 4, 2, 1]


def test_a_drained_device_is_not_asked_again(harsh: RunRecord) -> None:
    assert [number for number, each in harsh.outcomes if each.device_class == "drained"] == [1]


def test_heat_shows_in_the_time_that_work_takes(harsh: RunRecord) -> None:
    first = next(each for _, each in harsh.outcomes if each.device_class == "hot")
    assert first.outcome is Outcome.FINISHED
    assert first.wall_s > 2 * 0.08 * first.steps * first.batch_size


HUGE = """
from torch import nn
from motley.training.model import Recipe

def load(seed):
    raise AssertionError("nobody can hold the model; its data are not needed")

load.recipe = Recipe(lambda: nn.Linear(30_000, 10_000), learning_rate=0.1, bytes_per_example=1000)
"""


def test_a_model_that_no_device_can_hold_is_refused_with_both_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four copies of 1.2 GB; the roomiest device has a gibibyte."""
    (tmp_path / "huge_task.py").write_text(HUGE)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match=r"no device of fleet 'tiny' can hold the model: memory '1g' .* needs '\d+b'"):
        simulate(small(training={"task": "huge_task:load"}), tmp_path / "state")
    assert not (tmp_path / "state").exists()


def test_a_run_to_which_nobody_comes_fails_and_says_so(tmp_path: Path) -> None:
    rare = {"count": 2, "cpus": 1.0, "memory": "1g", "availability": {"ready": 0.000001, "session": "1s"}}
    made = small(classes={"rare": rare}, training={"devices_per_round": 2})
    with pytest.raises(RunFailed, match="no device answered within 604800 s"):
        simulate(made, tmp_path)
    with closing(History(tmp_path / "history.db")) as history:
        (run,) = history.runs()
    assert (run.status, run.ended_s) == ("failed", pytest.approx(PATIENCE_S, abs=600.0))
    assert "no device answered" in run.detail


def test_a_run_that_is_interrupted_keeps_what_it_has(tmp_path: Path) -> None:
    def interrupt(row: RoundRow, outcomes: Sequence[RoundOutcome]) -> None:
        if row.round == 2:
            raise KeyboardInterrupt

    stopped = simulate(small(), tmp_path, watch=interrupt)
    assert (stopped.run.status, [row.round for row in stopped.rounds]) == ("stopped", [1, 2])


@pytest.mark.parametrize("policy", ["energy_aware", "adaptive"])
def test_where_all_must_rest_the_run_waits_for_the_first_to_charge(policy: str, tmp_path: Path) -> None:
    """At 0.15 of 1 Wh all lie below the policy's floor of 0.2, not below their own; all charge for an hour a day."""
    battery = {"capacity": "1wh", "level": 0.15, "floor": 0.1, "charge": "10w", "charging_share": 0.04}
    battery["charging_from"] = {"uniform": {"low": 0.1, "high": 0.9}}
    tired = {"count": 6, "cpus": 1.0, "memory": "1g", "battery": battery, "power": {"idle": "0w", "busy": "0w"}}
    done = simulate(small(policy, classes={"tired": tired}, training={"devices_per_round": 2}), tmp_path)
    assert done.run.status == "completed"
    assert all(each.used or each.outcome is Outcome.LATE for _, each in done.outcomes)
    assert {number for number, _ in done.outcomes} >= {1, 2, 3}
    assert all(row.selected > 0 for row in done.rounds)
    assert done.rounds[-1].started_s > 60


PAUSING = {
    "steady": {"count": 2, "cpus": 1.0, "memory": "1g", "ms_per_example": 40.0},
    "tired": {
        "cpus": 1.0,
        "memory": "1g",
        "ms_per_example": 40.0,
        "battery": {"capacity": "0.05wh", "floor": 0.2, "charge": "2w", "charging_share": 0.5, "charging_from": 0.0004},
        "power": {"idle": "0.1w", "busy": "10w"},
    },
    "scorched": {
        "cpus": 1.0,
        "memory": "1g",
        "ms_per_example": 40.0,
        "power": {"idle": "0w", "busy": "20w"},
        "heat": {"throttle_celsius": 33.0, "limit_celsius": 33.0},
    },
}
"""One whose battery lasts for 14 s of work and is charged from 35 s on, one at its limit after 9 s of work."""


@pytest.mark.parametrize(
    ("device_class", "kind"), [("tired", Outcome.BATTERY_EMPTY), ("scorched", Outcome.TOO_HOT)], ids=str
)
def test_who_had_to_stop_takes_part_again_once_it_can(device_class: str, kind: Outcome, pausing: RunRecord) -> None:
    ended = [(number, each) for number, each in pausing.outcomes if each.device_class == device_class]
    first = next(number for number, each in ended if each.outcome is kind)
    again = [number for number, each in ended if number > first and each.outcome is Outcome.FINISHED]
    assert again
    assert len(ended) < len(pausing.rounds)


def test_who_has_to_rest_holds_nobody_up(pausing: RunRecord) -> None:
    steady = Counter(each.device for _, each in pausing.outcomes if each.outcome is Outcome.FINISHED)
    assert {steady["client-1"], steady["client-2"]} == {len(pausing.rounds)}


@pytest.fixture(scope="session")
def pausing(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    training = {"rounds": 60, "devices_per_round": "all", "local_epochs": 1, "device_evaluation": "never"}
    data = {"partition": "iid", "share": 0.3}
    return simulate(small(classes=PAUSING, data=data, training=training), tmp_path_factory.mktemp("pausing"))


def test_a_policy_that_never_takes_anybody_fails_the_run_and_says_so(tmp_path: Path) -> None:
    battery = {"capacity": "1wh", "level": 0.15, "floor": 0.1}
    tired = {"count": 3, "cpus": 1.0, "memory": "1g", "battery": battery, "power": {"idle": "0w", "busy": "0w"}}
    made = small("energy_aware", classes={"tired": tired}, training={"devices_per_round": 2})
    with pytest.raises(RunFailed, match="policy 'energy_aware' took none of the free devices"):
        simulate(made, tmp_path)
