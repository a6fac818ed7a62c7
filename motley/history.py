"""The one store: runs, rounds, devices, outcomes. SQLite in WAL mode.

The ServerApp writes; the exporter, the report and later the predictor read, each through a
connection of its own, while the run goes on.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from motley.database import connect, put, transaction
from motley.device import DeviceProfile, Outcome, RoundOutcome, RoundPlan
from motley.records import DecisionRow, RoundRow, RunRecord, RunRow

SCHEMA_VERSION = 3

_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    run_id TEXT PRIMARY KEY, fleet TEXT NOT NULL, spec TEXT NOT NULL, policy TEXT NOT NULL, seed INTEGER NOT NULL,
    runtime TEXT NOT NULL, rounds INTEGER NOT NULL, target_accuracy REAL, started_s REAL NOT NULL, ended_s REAL,
    status TEXT NOT NULL, phase TEXT NOT NULL, detail TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE TABLE IF NOT EXISTS devices (
    run_id TEXT NOT NULL, device TEXT NOT NULL, device_class TEXT NOT NULL, profile TEXT NOT NULL,
    seen_s REAL NOT NULL, accuracy REAL, PRIMARY KEY (run_id, device)
) STRICT;
CREATE TABLE IF NOT EXISTS rounds (
    run_id TEXT NOT NULL, round INTEGER NOT NULL, selected INTEGER NOT NULL, deadline_s REAL NOT NULL,
    started_s REAL NOT NULL, duration_s REAL, plan_s REAL, train_s REAL, aggregate_s REAL, evaluate_s REAL,
    accuracy REAL, loss REAL, PRIMARY KEY (run_id, round)
) STRICT;
CREATE TABLE IF NOT EXISTS decisions (
    run_id TEXT NOT NULL, round INTEGER NOT NULL, selected INTEGER NOT NULL, reason TEXT NOT NULL,
    devices TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS decisions_of_round ON decisions (run_id, round);
CREATE TABLE IF NOT EXISTS outcomes (
    run_id TEXT NOT NULL, round INTEGER NOT NULL, device TEXT NOT NULL, device_class TEXT NOT NULL,
    outcome TEXT NOT NULL, reason TEXT NOT NULL, batch_size INTEGER NOT NULL, learning_rate REAL NOT NULL,
    steps INTEGER NOT NULL, examples INTEGER NOT NULL, wall_s REAL NOT NULL, cpu_s REAL NOT NULL,
    round_trip_s REAL NOT NULL, peak_memory_bytes INTEGER NOT NULL, train_loss REAL, expected_s REAL,
    known_s REAL NOT NULL, attempt INTEGER NOT NULL, used INTEGER NOT NULL, staleness INTEGER NOT NULL,
    down_bytes INTEGER NOT NULL, up_bytes INTEGER NOT NULL, energy_wh REAL NOT NULL, squared_loss REAL, accuracy REAL,
    width REAL NOT NULL DEFAULT 1, compression TEXT NOT NULL DEFAULT 'none', physical_batch INTEGER NOT NULL DEFAULT 0,
    threads INTEGER NOT NULL DEFAULT 0, celsius REAL, paused_s REAL NOT NULL DEFAULT 0,
    expected_low_s REAL, expected_high_s REAL, expected_by TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (run_id, round, device, attempt)
) STRICT;
"""

_FROM_VERSION_1 = (
    """
BEGIN;
DROP TABLE decisions;
ALTER TABLE outcomes RENAME TO old_outcomes;
"""
    + _SCHEMA
    + """
INSERT INTO outcomes
    SELECT *, 0, outcome = 'finished', 0, 0, 0, 0.0, NULL, NULL, 1.0, 'none', 0, 0, NULL, 0.0, NULL, NULL, ''
    FROM old_outcomes;
DROP TABLE old_outcomes;
PRAGMA user_version = 3;
COMMIT;
"""
)

_FROM_VERSION_2 = """
BEGIN;
ALTER TABLE outcomes ADD COLUMN width REAL NOT NULL DEFAULT 1;
ALTER TABLE outcomes ADD COLUMN compression TEXT NOT NULL DEFAULT 'none';
ALTER TABLE outcomes ADD COLUMN physical_batch INTEGER NOT NULL DEFAULT 0;
ALTER TABLE outcomes ADD COLUMN threads INTEGER NOT NULL DEFAULT 0;
ALTER TABLE outcomes ADD COLUMN celsius REAL;
ALTER TABLE outcomes ADD COLUMN paused_s REAL NOT NULL DEFAULT 0;
ALTER TABLE outcomes ADD COLUMN expected_low_s REAL;
ALTER TABLE outcomes ADD COLUMN expected_high_s REAL;
ALTER TABLE outcomes ADD COLUMN expected_by TEXT NOT NULL DEFAULT '';
PRAGMA user_version = 3;
COMMIT;
"""

_MIGRATIONS = {1: _FROM_VERSION_1, 2: _FROM_VERSION_2}


class History:
    """Reads and writes the store at `path`, which is made when it is not there."""

    def __init__(self, path: Path) -> None:
        self._db = connect(path)
        self._migrate()
        self._db.executescript(_SCHEMA)
        if self._version() != SCHEMA_VERSION:  # else nothing is written, and the file keeps its time
            self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _migrate(self) -> None:
        """Bring an older store up to date: its runs stay; of version 1, the reasons of single rounds go."""
        if self._version() in _MIGRATIONS:
            self._db.executescript(_MIGRATIONS[self._version()])

    def _version(self) -> int:
        return int(self._db.execute("PRAGMA user_version").fetchone()[0])

    def close(self) -> None:
        self._db.close()

    def copy_to(self, path: Path) -> None:
        """Write all of it to a new store at `path`, as it is now."""
        with closing(sqlite3.connect(path)) as target:
            self._db.backup(target)

    def copy_from(self, path: Path) -> None:
        """Take what the store at `path` holds, in place of what is here."""
        with closing(sqlite3.connect(path)) as source:
            source.backup(self._db)

    def start_run(self, row: RunRow) -> None:
        put(self._db, "runs", asdict(row))

    def set_phase(self, run_id: str, phase: str) -> None:
        self._db.execute("UPDATE runs SET phase = ? WHERE run_id = ?", (phase, run_id))

    def end_run(self, run_id: str, status: str, ended_s: float, detail: str = "") -> None:
        self._db.execute(
            "UPDATE runs SET status = ?, phase = 'ended', ended_s = ?, detail = ? WHERE run_id = ?",
            (status, ended_s, detail, run_id),
        )

    def see_device(self, run_id: str, profile: DeviceProfile, seen_s: float) -> None:
        values = (run_id, profile.device, profile.device_class, json.dumps(profile.as_mapping()), seen_s)
        self._db.execute(
            "INSERT INTO devices (run_id, device, device_class, profile, seen_s) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT DO UPDATE SET profile = excluded.profile, seen_s = excluded.seen_s",
            values,
        )

    def set_device_accuracy(self, run_id: str, accuracies: Mapping[str, float]) -> None:
        """Accuracy of the global model on each device's own examples."""
        self._db.executemany(
            "UPDATE devices SET accuracy = ? WHERE run_id = ? AND device = ?",
            [(accuracy, run_id, device) for device, accuracy in accuracies.items()],
        )

    def start_round(self, run_id: str, number: int, started_s: float, deadline_s: float) -> None:
        """Store a round that begins; one that begins again forgets its plans."""
        with transaction(self._db):
            self._db.execute("DELETE FROM decisions WHERE run_id = ? AND round = ?", (run_id, number))
            self._db.execute(
                "INSERT OR REPLACE INTO rounds (run_id, round, selected, deadline_s, started_s) VALUES (?, ?, 0, ?, ?)",
                (run_id, number, deadline_s, started_s),
            )

    def put_plan(self, run_id: str, plan: RoundPlan) -> None:
        """Store who was asked and who was left out, and why; a round may have several plans."""
        asked: dict[str, list[str]] = {}
        for device, why in plan.reasons.items():
            asked.setdefault(why, []).append(device)
        rows = [(True, why, devices) for why, devices in asked.items()]
        rows += [(False, why, list(devices)) for why, devices in plan.left_out.items()]
        with transaction(self._db):
            self._db.execute(
                "UPDATE rounds SET selected = selected + ?, deadline_s = ? WHERE run_id = ? AND round = ?",
                (len(plan.orders), plan.deadline_s, run_id, plan.round),
            )
            self._db.executemany(
                "INSERT INTO decisions VALUES (?, ?, ?, ?, ?)",
                [(run_id, plan.round, taken, why, json.dumps(devices)) for taken, why, devices in rows],
            )

    def end_round(self, row: RoundRow, outcomes: Iterable[tuple[int, RoundOutcome]]) -> None:
        """Store a round that has ended, with outcomes of it and of earlier ones."""
        with transaction(self._db):
            put(self._db, "rounds", asdict(row))
            for number, outcome in outcomes:
                self._put_outcome(row.run_id, number, outcome)

    def put_outcome(self, run_id: str, number: int, outcome: RoundOutcome) -> None:
        """Store an outcome; a later one for the same device and round takes its place."""
        with transaction(self._db):
            self._put_outcome(run_id, number, outcome)

    def rewind(
        self, run: RunRow, number: int, known_until_s: float, lost: Iterable[tuple[int, RoundOutcome]] = ()
    ) -> None:
        """Take a run back to the end of round `number`, at `known_until_s`; `run` is its row from now on.

        lost: outcomes, each with its round, of orders that were under way then; those that were settled already
        keep theirs. All of it happens, or nothing.
        """
        with transaction(self._db):
            for table in ("rounds", "decisions", "outcomes"):
                self._db.execute(f"DELETE FROM {table} WHERE run_id = ? AND round > ?", (run.run_id, number))
            self._db.execute("DELETE FROM outcomes WHERE run_id = ? AND known_s > ?", (run.run_id, known_until_s))
            settled = {(of_round, each.device, each.attempt) for of_round, each in self.outcomes(run.run_id)}
            for of_round, outcome in lost:
                if (of_round, outcome.device, outcome.attempt) not in settled:
                    self._put_outcome(run.run_id, of_round, outcome)
            put(self._db, "runs", asdict(run))

    def runs(self) -> list[RunRow]:
        """All runs, newest first."""
        return [RunRow(**row) for row in self._db.execute("SELECT * FROM runs ORDER BY started_s DESC, rowid DESC")]

    def latest_run(self) -> RunRow | None:
        return next(iter(self.runs()), None)

    def rounds(self, run_id: str) -> list[RoundRow]:
        rows = self._db.execute("SELECT * FROM rounds WHERE run_id = ? ORDER BY round", (run_id,))
        return [RoundRow(**row) for row in rows]

    def outcomes(self, run_id: str) -> list[tuple[int, RoundOutcome]]:
        """Every outcome of a run with its round, in order of rounds."""
        rows = self._db.execute("SELECT * FROM outcomes WHERE run_id = ? ORDER BY round, device, attempt", (run_id,))
        return [(row["round"], _outcome(row)) for row in rows]

    def profiles(self, run_id: str) -> list[DeviceProfile]:
        rows = self._db.execute("SELECT profile FROM devices WHERE run_id = ? ORDER BY device", (run_id,))
        return [DeviceProfile.from_mapping(json.loads(row["profile"])) for row in rows]

    def device_accuracy(self, run_id: str) -> dict[str, float]:
        rows = self._db.execute(
            "SELECT device, accuracy FROM devices WHERE run_id = ? AND accuracy IS NOT NULL", (run_id,)
        )
        return {row["device"]: row["accuracy"] for row in rows}

    def decisions(self, run_id: str, number: int) -> dict[str, tuple[bool, str]]:
        """For each device of a round: was it asked, and why."""
        rows = self._db.execute(
            "SELECT * FROM decisions WHERE run_id = ? AND round = ? ORDER BY selected, rowid", (run_id, number)
        )
        return {device: (bool(row["selected"]), row["reason"]) for row in rows for device in json.loads(row["devices"])}

    def all_decisions(self, run_id: str) -> Iterator[DecisionRow]:
        """Every decision of a run, in order of rounds and of the plans in a round."""
        rows = self._db.execute("SELECT * FROM decisions WHERE run_id = ? ORDER BY round, rowid", (run_id,))
        for row in rows:
            yield DecisionRow(row["round"], bool(row["selected"]), row["reason"], json.loads(row["devices"]))

    def record(self, run_id: str) -> RunRecord:
        """All of one run. Raises KeyError when there is no such run."""
        run = next((row for row in self.runs() if row.run_id == run_id), None)
        if run is None:
            raise KeyError(run_id)
        return RunRecord(
            run, self.rounds(run_id), self.outcomes(run_id), self.profiles(run_id), self.device_accuracy(run_id)
        )

    def _put_outcome(self, run_id: str, number: int, outcome: RoundOutcome) -> None:
        put(self._db, "outcomes", {"run_id": run_id, "round": number, **asdict(outcome)})


def _outcome(row: sqlite3.Row) -> RoundOutcome:
    values = {key: row[key] for key in row.keys() if key not in ("run_id", "round")}
    return RoundOutcome(**{**values, "outcome": Outcome(values["outcome"]), "used": bool(values["used"])})
