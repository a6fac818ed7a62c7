"""The store: what goes in comes out, readers see a run while it goes on, a later outcome replaces an earlier one."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from factories import outcome, plan, profile, round_row, run_row
from hypothesis import given
from hypothesis import strategies as st

import motley.history
from motley.database import transaction
from motley.device import DeviceProfile, Outcome
from motley.history import SCHEMA_VERSION, History


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "history.db"


@pytest.fixture
def history(path: Path) -> History:
    return History(path)


def test_a_whole_run_reads_back(history: History) -> None:
    history.start_run(run_row())
    history.see_device("7", profile("client-1"), 1001.0)
    history.see_device("7", profile("client-2", device_class="slow"), 1002.0)
    history.start_round("7", 1, 1010.0, 60.0)
    history.put_plan("7", plan(1, "client-1", "client-2"))
    done = [
        outcome("client-1", used=True),
        outcome("client-2", Outcome.LATE, reason="no reply within 60.0 s", train_loss=None),
    ]
    history.end_round(round_row(1), [(1, each) for each in done])
    history.set_device_accuracy("7", {"client-1": 0.75})
    history.end_run("7", "completed", 1100.0, "all is well")
    record = history.record("7")
    assert record.run == run_row(ended_s=1100.0, status="completed", phase="ended", detail="all is well")
    assert record.rounds == [round_row(1)]
    assert record.outcomes == [(1, done[0]), (1, done[1])]
    assert record.profiles == [profile("client-1"), profile("client-2", device_class="slow")]
    assert record.accuracies == {"client-1": 0.75}


floats = st.floats(0, 1e9)


@given(
    st.builds(
        outcome,
        device=st.text(max_size=20),
        kind=st.sampled_from(Outcome),
        reason=st.text(max_size=50).filter(lambda text: text.isprintable()),
        batch_size=st.integers(0, 2**62),
        learning_rate=floats,
        peak_memory_bytes=st.integers(0, 2**62),
        round_trip_s=floats,
        train_loss=st.none() | floats,
        expected_s=st.none() | floats,
        attempt=st.integers(0, 1000),
        used=st.booleans(),
        staleness=st.integers(0, 1000),
        down_bytes=st.integers(0, 2**62),
        up_bytes=st.integers(0, 2**62),
        energy_wh=floats,
        squared_loss=st.none() | floats,
        accuracy=st.none() | st.floats(0, 1),
    )
)
def test_any_outcome_reads_back(each: object) -> None:
    history = History(Path(":memory:"))
    history.put_outcome("7", 3, each)  # type: ignore[arg-type]
    assert history.outcomes("7") == [(3, each)]
    history.close()


def test_a_round_under_way_has_no_duration_yet(history: History) -> None:
    history.start_round("7", 1, 1010.0, 30.0)
    assert _under_way(history) == [(1, 0, 30.0, None)]
    history.put_plan("7", plan(1, "client-1"))
    assert _under_way(history) == [(1, 1, 60.0, None)]


def test_a_round_may_have_several_plans(history: History) -> None:
    history.start_round("7", 1, 1010.0, 0.0)
    history.put_plan("7", plan(1, "client-1", "client-2", left_out={"not drawn": ["client-3"]}))
    history.put_plan("7", plan(1, "client-3"))
    assert _under_way(history) == [(1, 3, 60.0, None)]
    assert {device for device, (asked, _) in history.decisions("7", 1).items() if asked} == {
        "client-1",
        "client-2",
        "client-3",
    }


def _under_way(history: History) -> list[tuple[int, int, float, float | None]]:
    return [(row.round, row.selected, row.deadline_s, row.duration_s) for row in history.rounds("7")]


def test_decisions_tell_who_was_taken_and_why(history: History) -> None:
    history.put_plan(
        "7", plan(2, "client-1", left_out={"not connected": ["client-2", "client-4"], "busy": ["client-3"]})
    )
    assert history.decisions("7", 2) == {
        "client-1": (True, "drawn at random"),
        "client-2": (False, "not connected"),
        "client-3": (False, "busy"),
        "client-4": (False, "not connected"),
    }
    assert history.decisions("7", 1) == {}


def test_a_plan_for_many_devices_is_stored_in_few_rows(path: Path, history: History) -> None:
    many = [f"client-{index}" for index in range(1000)]
    history.put_plan("7", plan(1, *many[:10], left_out={"not drawn": many[10:]}))
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT count(*) FROM decisions").fetchone() == (2,)
    assert len(history.decisions("7", 1)) == 1000


def test_a_later_outcome_takes_the_place_of_the_first(history: History) -> None:
    missed = outcome("client-1", Outcome.LATE, reason="no reply")
    history.end_round(round_row(1), [(1, missed), (1, outcome("client-2"))])
    late = outcome("client-1", Outcome.LATE, reason="arrived 3.0 s after the deadline", round_trip_s=63.0)
    history.put_outcome("7", 1, late)
    assert history.outcomes("7") == [(1, late), (1, outcome("client-2"))]


def test_the_same_device_in_another_round_or_run_is_another_outcome(history: History) -> None:
    for run_id, number in (("7", 1), ("7", 2), ("8", 1)):
        history.put_outcome(run_id, number, outcome())
    assert [number for number, _ in history.outcomes("7")] == [1, 2]
    assert [number for number, _ in history.outcomes("8")] == [1]


def test_two_orders_of_one_device_in_a_round_are_two_outcomes(history: History) -> None:
    for attempt in (1, 0):
        history.put_outcome("7", 1, outcome("client-1", attempt=attempt, steps=10 + attempt))
    assert [(each.attempt, each.steps) for _, each in history.outcomes("7")] == [(0, 10), (1, 11)]


def test_a_round_may_bring_outcomes_of_an_earlier_one(history: History) -> None:
    stale = outcome("client-1", Outcome.LATE, used=True, staleness=1)
    history.end_round(round_row(2), [(1, stale), (2, outcome("client-2"))])
    assert history.outcomes("7") == [(1, stale), (2, outcome("client-2"))]


def test_rounds_and_outcomes_come_in_order(history: History) -> None:
    for number in (10, 2, 1):
        history.end_round(round_row(number), [(number, outcome("client-2")), (number, outcome("client-1"))])
    assert [row.round for row in history.rounds("7")] == [1, 2, 10]
    assert [(number, each.device) for number, each in history.outcomes("7")][:3] == [
        (1, "client-1"),
        (1, "client-2"),
        (2, "client-1"),
    ]


def test_the_latest_run_is_the_one_that_started_last(history: History) -> None:
    assert history.latest_run() is None
    for run_id, started_s in (("1", 100.0), ("2", 300.0), ("3", 200.0)):
        history.start_run(run_row(run_id, started_s=started_s))
    assert [row.run_id for row in history.runs()] == ["2", "3", "1"]
    assert history.latest_run() == run_row("2", started_s=300.0)


def test_of_runs_that_started_together_the_last_written_is_the_latest(history: History) -> None:
    for run_id in ("b", "a"):
        history.start_run(run_row(run_id))
    assert [row.run_id for row in history.runs()] == ["a", "b"]


def test_phases_and_ends_touch_only_their_run(history: History) -> None:
    history.start_run(run_row("1"))
    history.start_run(run_row("2", started_s=2000.0))
    history.set_phase("1", "train")
    history.end_run("2", "failed", 2001.0, "no device answered")
    assert history.record("1").run == run_row("1", phase="train")
    ended = history.record("2").run
    assert (ended.status, ended.phase, ended.detail) == ("failed", "ended", "no device answered")


def test_a_device_seen_again_is_one_device_with_its_newest_profile(history: History) -> None:
    history.see_device("7", profile("client-1"), 1.0)
    history.set_device_accuracy("7", {"client-1": 0.5})
    history.see_device("7", profile("client-1", cpus=2.0), 2.0)
    assert history.profiles("7") == [profile("client-1", cpus=2.0)]
    assert history.device_accuracy("7") == {"client-1": 0.5}


def test_no_such_run(history: History) -> None:
    with pytest.raises(KeyError, match="nope"):
        history.record("nope")


def test_a_reader_sees_what_is_written_and_not_what_is_half_written(path: Path, history: History) -> None:
    reader = History(path)
    history.start_run(run_row())
    assert reader.latest_run() == run_row()
    with transaction(history._db):
        history._put_outcome("7", 1, outcome())
        assert reader.outcomes("7") == []
        assert reader.latest_run() == run_row()
    assert reader.outcomes("7") == [(1, outcome())]


def test_a_round_is_stored_whole_or_not_at_all(path: Path, history: History) -> None:
    broken = outcome("client-2", wall_s=None)
    with pytest.raises(sqlite3.IntegrityError):
        history.end_round(round_row(1), [(1, outcome("client-1")), (1, broken)])
    assert (history.rounds("7"), history.outcomes("7")) == ([], [])
    history.end_round(round_row(1), [(1, outcome("client-1"))])
    assert len(History(path).outcomes("7")) == 1


def test_it_is_a_wal_with_a_version_and_survives_reopening(path: Path, history: History) -> None:
    history.start_run(run_row())
    history.close()
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert db.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
    assert History(path).latest_run() == run_row()


def test_profiles_of_a_newer_version_lose_only_what_is_new() -> None:
    known = profile(versions="Python 3.11")
    assert DeviceProfile.from_mapping({**known.as_mapping(), "from_the_future": 1}) == known


_VERSION_1 = """
PRAGMA user_version = 1;
CREATE TABLE runs (
    run_id TEXT PRIMARY KEY, fleet TEXT NOT NULL, spec TEXT NOT NULL, policy TEXT NOT NULL, seed INTEGER NOT NULL,
    runtime TEXT NOT NULL, rounds INTEGER NOT NULL, target_accuracy REAL, started_s REAL NOT NULL, ended_s REAL,
    status TEXT NOT NULL, phase TEXT NOT NULL, detail TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE TABLE devices (
    run_id TEXT NOT NULL, device TEXT NOT NULL, device_class TEXT NOT NULL, profile TEXT NOT NULL,
    seen_s REAL NOT NULL, accuracy REAL, PRIMARY KEY (run_id, device)
) STRICT;
CREATE TABLE rounds (
    run_id TEXT NOT NULL, round INTEGER NOT NULL, selected INTEGER NOT NULL, deadline_s REAL NOT NULL,
    started_s REAL NOT NULL, duration_s REAL, plan_s REAL, train_s REAL, aggregate_s REAL, evaluate_s REAL,
    accuracy REAL, loss REAL, PRIMARY KEY (run_id, round)
) STRICT;
CREATE TABLE decisions (
    run_id TEXT NOT NULL, round INTEGER NOT NULL, device TEXT NOT NULL, selected INTEGER NOT NULL,
    reason TEXT NOT NULL, PRIMARY KEY (run_id, round, device)
) STRICT, WITHOUT ROWID;
CREATE TABLE outcomes (
    run_id TEXT NOT NULL, round INTEGER NOT NULL, device TEXT NOT NULL, device_class TEXT NOT NULL,
    outcome TEXT NOT NULL, reason TEXT NOT NULL, batch_size INTEGER NOT NULL, learning_rate REAL NOT NULL,
    steps INTEGER NOT NULL, examples INTEGER NOT NULL, wall_s REAL NOT NULL, cpu_s REAL NOT NULL,
    round_trip_s REAL NOT NULL, peak_memory_bytes INTEGER NOT NULL, train_loss REAL, expected_s REAL,
    known_s REAL NOT NULL,
    PRIMARY KEY (run_id, round, device)
) STRICT;
INSERT INTO runs VALUES ('7', 'laptop', '{}', 'random', 1, 'processes', 3, 0.9, 1000.0, 1100.0, 'completed', 'ended',
    'all is well');
INSERT INTO rounds VALUES ('7', 1, 2, 60.0, 1010.0, 4.0, 0.1, 3.0, 0.4, 0.5, 0.6, 1.0);
INSERT INTO decisions VALUES ('7', 1, 'client-1', 1, 'drawn at random'), ('7', 1, 'client-2', 0, 'not connected');
INSERT INTO outcomes VALUES
    ('7', 1, 'client-1', 'fast', 'finished', '', 32, 0.1, 13, 400, 1.5, 0.7, 2.0, 314572800, 0.4, NULL, 1012.0),
    ('7', 1, 'client-2', 'slow', 'late', 'no reply', 16, 0.05, 0, 0, 0.0, 0.0, 60.0, 0, NULL, 3.5, 1070.0);
"""


@pytest.fixture
def old(path: Path) -> Path:
    """A store as the first release wrote it, with one run."""
    path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.executescript(_VERSION_1)
        values = ("7", "client-1", "fast", json.dumps(profile("client-1").as_mapping()), 1001.0, 0.75)
        db.execute("INSERT INTO devices VALUES (?, ?, ?, ?, ?, ?)", values)
        db.commit()
    return path


def test_a_store_of_version_1_keeps_its_runs(old: Path) -> None:
    record = History(old).record("7")
    ended = {"ended_s": 1100.0, "status": "completed", "phase": "ended", "detail": "all is well"}
    assert record.run == run_row(**ended)
    assert record.rounds == [round_row(1)]
    assert record.profiles == [profile("client-1")]
    assert record.accuracies == {"client-1": 0.75}
    late = {"batch_size": 16, "learning_rate": 0.05, "steps": 0, "examples": 0, "wall_s": 0.0, "cpu_s": 0.0}
    late |= {"round_trip_s": 60.0, "peak_memory_bytes": 0, "train_loss": None, "device_class": "slow"}
    assert record.outcomes == [
        (1, outcome("client-1", known_s=1012.0, used=True)),
        (1, outcome("client-2", Outcome.LATE, reason="no reply", expected_s=3.5, known_s=1070.0, **late)),
    ]


def test_a_store_of_version_1_is_brought_up_to_date_once_and_goes_on(old: Path) -> None:
    History(old).close()
    history = History(old)
    assert len(history.record("7").outcomes) == 2
    history.put_plan("7", plan(2, "client-1"))
    history.put_outcome("7", 1, outcome("client-1", attempt=1))
    assert history.decisions("7", 2) == {"client-1": (True, "drawn at random")}
    assert [(each.device, each.attempt) for _, each in history.outcomes("7")] == [
        ("client-1", 0),
        ("client-1", 1),
        ("client-2", 0),
    ]
    with closing(sqlite3.connect(old)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)


def test_a_store_is_not_migrated_twice_though_the_first_time_was_cut_short(old: Path) -> None:
    """What the migration itself does holds tables and version together."""
    with closing(sqlite3.connect(old)) as db:
        db.executescript(motley.history._FROM_VERSION_1)
    assert len(History(old).record("7").outcomes) == 2


_OF_PREDICTOR = ("expected_low_s", "expected_high_s", "expected_by")


def test_a_store_of_version_2_gains_what_is_new(old: Path) -> None:
    with closing(sqlite3.connect(old)) as db:
        db.executescript(motley.history._FROM_VERSION_1)
        for name in ("width", "compression", "physical_batch", "threads", "celsius", "paused_s", *_OF_PREDICTOR):
            db.execute(f"ALTER TABLE outcomes DROP COLUMN {name}")
        db.execute("PRAGMA user_version = 2")
    history = History(old)
    assert [each.outcome for _, each in history.outcomes("7")] == [Outcome.FINISHED, Outcome.LATE]
    warm = outcome("client-1", attempt=1, width=0.5, compression="int8", physical_batch=4, threads=2, celsius=-3.5)
    history.put_outcome("7", 1, warm)
    assert (1, warm) in history.outcomes("7")
