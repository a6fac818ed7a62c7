"""SQLite as all of Motley's stores use it: one file, WAL mode, explicit transactions, many processes.

Several stores may share a file: each makes its own tables when it opens it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

WAIT_S = 30.0
"""How long a writer waits for another one."""


def connect(path: Path) -> sqlite3.Connection:
    """A connection to the store at `path`, which is made when it is not there; rows have names.

    After a crash of the process all committed transactions are there; after one of the machine perhaps
    not the last ones, but nothing by halves.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(path, timeout=WAIT_S, isolation_level=None, check_same_thread=False)
    db.row_factory = sqlite3.Row
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    return db


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All or nothing. Takes the write lock at once, so that what was read in it is still true when it writes."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def put(db: sqlite3.Connection, table: str, values: Mapping[str, Any]) -> None:
    """Insert a row, in place of one with the same key."""
    columns, marks = ", ".join(values), ", ".join("?" * len(values))
    db.execute(f"INSERT OR REPLACE INTO {table} ({columns}) VALUES ({marks})", tuple(values.values()))
