"""What scaling did and why, in the server's store: written by the loop that scales, read by the exporter."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from motley.database import connect, put

_SCHEMA = """
CREATE TABLE IF NOT EXISTS scaling (
    run_id TEXT NOT NULL, at_s REAL NOT NULL, kind TEXT NOT NULL, cause TEXT NOT NULL, step TEXT NOT NULL,
    PRIMARY KEY (run_id, at_s)
) STRICT;
"""


@dataclass(frozen=True)
class ScalingStep:
    """One look at the load, what was recommended, and what was done."""

    run_id: str
    at_s: float
    kind: str
    """hold, up or down."""
    cause: str
    text: str
    """The reason in words."""
    utilisation: float | None
    """Over the window; above 1 where devices are wanted that are not there."""
    planned: int
    """Devices that were launched and are to stay."""
    requested: int
    """Devices that the providers list."""
    observed: int
    """Devices that have joined, those of the fleet file among them."""
    launched: tuple[str, ...] = ()
    stopped: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    usd_per_hour: float = 0.0
    """Of all that was launched and runs."""

    @classmethod
    def from_mapping(cls, data: Mapping[str, Any]) -> Self:
        names = ("launched", "stopped", "lost")
        return cls(**{**data, **{name: tuple(data[name]) for name in names}})


class ScalingLog:
    """The steps in the store at `path`, which is made when it is not there."""

    def __init__(self, path: Path) -> None:
        self._db = connect(path)
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        self._db.close()

    def put(self, step: ScalingStep) -> None:
        text = json.dumps(asdict(step))
        row = {"run_id": step.run_id, "at_s": step.at_s, "kind": step.kind, "cause": step.cause, "step": text}
        put(self._db, "scaling", row)

    def newest(self, run_id: str) -> ScalingStep | None:
        """The last step of a run; None where nothing scales it."""
        found = self._db.execute("SELECT step FROM scaling WHERE run_id = ? ORDER BY at_s DESC LIMIT 1", (run_id,))
        row = found.fetchone()
        return ScalingStep.from_mapping(json.loads(row["step"])) if row else None

    def counts(self, run_id: str) -> dict[tuple[str, str], int]:
        """How many steps there were of each kind and cause."""
        rows = self._db.execute(
            "SELECT kind, cause, count(*) FROM scaling WHERE run_id = ? GROUP BY kind, cause", (run_id,)
        )
        return {(kind, cause): count for kind, cause, count in rows}

    def steps(self, run_id: str) -> list[ScalingStep]:
        """All of a run, the oldest first."""
        rows = self._db.execute("SELECT step FROM scaling WHERE run_id = ? ORDER BY at_s", (run_id,))
        return [ScalingStep.from_mapping(json.loads(row["step"])) for row in rows]
