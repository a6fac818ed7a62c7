"""The server's part of scaling: says what the load is, and keeps what was done about it.

    python -m server.scaling --state DIR [--step JSON]

The loop itself runs outside, next to the engine or the credentials that it needs (`motley scale`): the
server has neither. Each call prints one JSON object. It loads nothing large, since it is called often.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from motley.clock import Clock, SystemClock
from motley.history import History
from motley.records import RunRow
from motley.registry import Amounts, Registry
from motley.scaling_log import ScalingLog, ScalingStep


def load_of(path: Path, clock: Clock, window_s: float) -> dict[str, Any]:
    """The newest run in the store at `path`: who is there, who works, and how many more are wanted.

    `used` is the mean over the last `window_s`, in devices. All of it is empty before the first run.
    """
    with closing(History(path)) as history:
        run = history.latest_run()
    if run is None:
        return {"run_id": "", "active": True, "used": 0.0, "queued": 0.0, "busy": [], "fitness": {}}
    with closing(Registry(path, clock)) as registry:
        fitness = {name: score for name, score in registry.fitness(Amounts()).items() if score > 0}
        busy = sorted({each.device for each in registry.reservations(run.run_id)})
        used = registry.utilisation(window_s).whole * len(fitness)
    return {
        "run_id": run.run_id,
        "active": run.ended_s is None,
        "used": used,
        "queued": float(max(0, _wanted(run) - len(fitness))),
        "busy": busy,
        "fitness": fitness,
    }


def _wanted(run: RunRow) -> int:
    """Devices that a round is to have; 0 for all there are."""
    wanted = json.loads(run.spec)["training"].get("devices_per_round", 0)
    return wanted if isinstance(wanted, int) else 0


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m server.scaling", description=__doc__)
    parser.add_argument("--state", type=Path, required=True, help="directory of the history")
    parser.add_argument("--window", type=float, default=15.0, help="seconds over which use is a mean")
    parser.add_argument("--step", type=json.loads, help="the last step, to be kept")
    options = parser.parse_args(argv)
    path = options.state / "history.db"
    if options.step is not None:
        with closing(ScalingLog(path)) as log:
            log.put(ScalingStep.from_mapping(options.step))
    print(json.dumps(load_of(path, SystemClock(), options.window)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
