"""The same rounds under Flower's FedAvg and under Motley's strategy; writes when each round began and ended."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    config = context.run_config
    rounds, devices = int(config["rounds"]), int(config["devices"])
    while len(list(grid.get_node_ids())) < devices:
        time.sleep(0.5)
    arrays = ArrayRecord({"w": Array(np.zeros(1000, np.float32))})
    times: list[float] = []

    def tick(number: int, arrays: ArrayRecord) -> MetricRecord:
        times.append(time.time())
        return MetricRecord({"loss": 0.0, "accuracy": 0.0})

    if config["strategy"] == "stock":
        strategy = FedAvg(
            fraction_train=1.0,
            fraction_evaluate=1.0,
            min_train_nodes=devices,
            min_evaluate_nodes=devices,
            min_available_nodes=devices,
        )
        strategy.start(grid, arrays, num_rounds=rounds, evaluate_fn=tick)
    else:
        start_motley(grid, arrays, rounds, devices, tick, Path(str(config["result"])).parent)
    Path(str(config["result"])).write_text(json.dumps(times))


def start_motley(grid, arrays, rounds, devices, tick, directory) -> None:
    from motley.clock import SystemClock
    from motley.fleetfile import parse_fleet
    from motley.flower import adapt_object_pulls
    from motley.history import History
    from server.app import run_row
    from server.strategy import ResourceAware

    adapt_object_pulls()
    text = (
        f"name: noop\ntraining: {{rounds: {rounds}, device_evaluation: every}}\n"
        f"classes: {{any: {{count: {devices}, cpus: 1, memory: 1g}}}}\n"
    )
    fleet, clock = parse_fleet(text.encode()), SystemClock()
    history = History(directory / "history.db")
    history.start_run(run_row("noop", fleet, "processes", clock.now_s()))
    strategy = ResourceAware(fleet, 0.1, history, "noop", clock)
    strategy.start(grid, arrays, num_rounds=rounds, timeout=120, evaluate_fn=tick)
