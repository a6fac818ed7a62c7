"""The registry under real processes: a storm of reservations, and a kill -9 in the middle of it.

The store watches itself: a trigger sums what is reserved of a device at every single grant, whoever
makes it, and keeps what was too much. It knows nothing of the sums that the registry keeps.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from factories import ROOT

from motley.clock import ManualClock, SystemClock
from motley.registry import Amounts, Capacity, Registration, Registry, Reservation

LEASE_S = 120.0
CORES, DEVICES = 2.0, 12
WATCH = """
CREATE TABLE too_much (device TEXT, cpu_micros INTEGER);
CREATE TABLE grants (reservation_id INTEGER, writer TEXT);
CREATE TRIGGER watch AFTER INSERT ON registry_reservations BEGIN
    INSERT INTO grants VALUES (NEW.reservation_id, NEW.task);
    INSERT INTO too_much
        SELECT device, SUM(cpu_micros) FROM registry_reservations WHERE device = NEW.device
        GROUP BY device HAVING SUM(cpu_micros) > 2000000 OR SUM(memory_bytes) > 1000;
END;
"""
STORM = """
import random, sys
from pathlib import Path
from motley.clock import SystemClock
from motley.registry import Amounts, Registry, Request, Reservation

registry, name, held = Registry(Path(sys.argv[1]), SystemClock()), sys.argv[2], []
rng = random.Random(name)
while True:
    wanted = [
        Request(f"d{rng.randrange(12)}", name, Amounts(rng.choice([0.3, 0.5, 1.1, 2.0]), rng.randrange(1, 700)), 120.0)
        for _ in range(rng.choice([1, 1, 1, 20]))
    ]
    held += [each.reservation_id for each in registry.reserve_many(wanted) if isinstance(each, Reservation)]
    rng.shuffle(held)
    while len(held) > 3:
        assert registry.release(held.pop()), "what was held has gone"
    print(len(held), flush=True)
"""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A dozen devices of two cores and 1000 bytes, under watch."""
    path = tmp_path / "store.db"
    registry = Registry(path, SystemClock())
    registry.register_many([Registration(f"d{number}", "box", Capacity(CORES, 1000)) for number in range(DEVICES)])
    registry.close()
    with closing(sqlite3.connect(path)) as db:
        db.executescript(WATCH)
    return path


@pytest.fixture
def writers(store: Path) -> Iterator[list[subprocess.Popen[str]]]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", STORM, str(store), f"writer-{number}"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    yield started
    for each in started:
        each.kill()
        each.communicate()


def progress(writer: subprocess.Popen[str], turns: int) -> None:
    """Wait until the writer has got on by so many turns."""
    assert writer.stdout is not None
    for _ in range(turns):
        if not writer.stdout.readline():
            pytest.fail(f"a writer has ended: {writer.communicate()[1]}")


def kill(writer: subprocess.Popen[str]) -> None:
    writer.kill()
    writer.wait()


def test_killed_in_a_storm_of_reservations_the_store_is_sound_and_nothing_leaks(
    store: Path, writers: list[subprocess.Popen[str]]
) -> None:
    for each in writers:
        progress(each, 10)
    registry = Registry(store, SystemClock())
    for killed, turns in zip(writers[:3], (7, 31, 13), strict=True):
        progress(killed, turns)
        kill(killed)
        assert registry.audit() == []
        progress(writers[3], 10)
    kill(writers[3])
    assert registry.audit() == []
    left = registry.reservations()
    assert {each.task for each in left} >= {f"writer-{number}" for number in range(3)}, "the dead still hold leases"
    registry.close()
    with closing(sqlite3.connect(store)) as db:
        assert db.execute("SELECT * FROM too_much").fetchall() == []
        assert db.execute("SELECT COUNT(*) FROM grants").fetchone()[0] > 100
        assert db.execute("SELECT COUNT(DISTINCT writer) FROM grants").fetchone() == (4,)
        assert db.execute("SELECT reservation_id FROM grants GROUP BY 1 HAVING COUNT(*) > 1").fetchall() == []
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)

    later = Registry(store, ManualClock(time.time() + LEASE_S + 1))
    assert later.reservations() == []
    for number in range(DEVICES):
        assert isinstance(later.reserve(f"d{number}", "all", Amounts(CORES, 1000), LEASE_S), Reservation)
    assert later.audit() == []
    later.close()


def test_the_watch_sees_what_is_too_much(store: Path) -> None:
    """The watch itself works: it is put off its guard by nothing but a store that is written to behind its back."""
    registry = Registry(store, SystemClock())
    assert isinstance(registry.reserve("d1", "t", Amounts(1.5), LEASE_S), Reservation)
    with closing(sqlite3.connect(store, isolation_level=None)) as db:
        db.execute("UPDATE registry_devices SET reserved_cpu_micros = 0 WHERE device = 'd1'")
        assert isinstance(registry.reserve("d1", "t", Amounts(1.5), LEASE_S), Reservation)
        assert db.execute("SELECT * FROM too_much").fetchall() == [("d1", 3_000_000)]
    assert len(registry.audit()) == 2
    registry.close()


OPEN = """
import sys
from pathlib import Path
from motley.clock import SystemClock
from motley.registry import Capacity, Registry

sys.stdin.readline()
for number in range(5):
    registry = Registry(Path(sys.argv[1]) / f"store-{number}.db", SystemClock())
    registry.register(f"of {sys.argv[2]}", "box", Capacity(1.0, 1))
"""


def test_processes_that_make_the_same_store_at_the_same_time_all_get_it(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN, str(tmp_path), str(number)],
            env=environment,
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    for each in started:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()
    assert [each.communicate()[1] for each in started] == [""] * 4
    for number in range(5):
        registry = Registry(tmp_path / f"store-{number}.db", SystemClock())
        assert registry.snapshot().classes["box"].states["free"] == 4
        registry.close()
