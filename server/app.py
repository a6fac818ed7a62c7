"""The ServerApp: wiring only.

Its run configuration names the fleet file (`fleet`), the directory of the shards (`data`), the
directory for history, models and checkpoints (`state`) and the runtime (`runtime`). Where that directory
holds a run that was not finished, this one goes on with it.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import Result
from rich.console import Console

from motley.clock import Clock, SystemClock
from motley.errors import MotleyError
from motley.fleetfile import read_fleet
from motley.flower import adapt_object_pulls
from motley.history import History
from motley.messages import to_arrays, to_record
from motley.predictor import Predictor
from motley.records import RunRow
from motley.registry import Quota, Registry
from motley.report import device_table, summary_lines
from motley.resuming import HISTORY, held
from motley.spec import Fleet
from motley.training import data, loop, model
from motley.training.figures import figures_of
from server.foresight import Foreseeing, Foresight, learn_history
from server.resources import Registered, Resources
from server.resuming import RoundKeeper, begin
from server.rounds import Keeper, Saved
from server.strategy import EvaluateFn, ResourceAware, Watch

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """One run, from the fleet file to the summary."""
    adapt_object_pulls()
    loop.set_threads(1)
    config, clock = context.run_config, SystemClock()
    fleet = read_fleet(str(config["fleet"]))
    state = Path(str(config["state"]))
    with held(state), closing(History(state / HISTORY)) as history:
        new = run_row(str(context.run_id), fleet, str(config["runtime"]), clock.now_s())
        beginning = begin(state, history, fleet, new, _say)
        run_id = beginning.run_id
        try:
            test = data.read_test_set(Path(str(config["data"])))
            begun: Any = {"saved": beginning.saved, "keeper": RoundKeeper(state, fleet, run_id, clock)}
            figures = figures_of(fleet.training.task)
            quotas = {name: Quota(each.quota) for name, each in fleet.classes.items() if each.quota < 1}
            with (
                closing(Registry(state / HISTORY, clock, quotas)) as registry,
                Predictor(fleet.seed, clock) as predictor,
            ):
                registry.forget()
                learn_history(predictor, history, fleet.training.task, figures)
                begun["resources"] = Registered(registry, run_id, figures.need_bytes)
                begun["foresight"] = Foreseeing(predictor, figures)
                result = train(grid, fleet, history, run_id, test, clock, _say, **begun)
            keep_model(result, state / f"model-{run_id}.npz")
            history.end_run(run_id, "completed", clock.now_s())
        except (SystemExit, KeyboardInterrupt):
            history.end_run(run_id, "stopped", clock.now_s())
            raise
        except BaseException as error:
            history.end_run(run_id, "failed", clock.now_s(), reason_of(error))
            raise
        finally:
            print(summary(history, run_id), flush=True)


def train(
    grid: Grid,
    fleet: Fleet,
    history: History,
    run_id: str,
    test: data.Examples,
    clock: Clock,
    say: Callable[[str], None],
    watch: Watch | None = None,
    saved: Saved | None = None,
    keeper: Keeper | None = None,
    resources: Resources | None = None,
    foresight: Foresight | None = None,
    patience_s: float | None = None,
) -> Result:
    """Train the fleet's task from fresh weights or a `saved` state; the same on a real and on a virtual clock.

    patience_s: with devices that are not there, in place of the fleet's `join_timeout`.
    """
    task, seed = fleet.training.task, fleet.seed
    shapes = partial(model.shapes_of, task)
    strategy = ResourceAware(
        fleet, figures_of(task), shapes, history, run_id, clock, say, watch, saved, keeper, resources, foresight
    )
    return strategy.start(
        grid,
        to_record(model.arrays_of(model.build(task, seed))),
        num_rounds=fleet.training.rounds,
        timeout=fleet.server.join_timeout if patience_s is None else patience_s,
        evaluate_fn=evaluator(task, seed, test),
    )


def keep_model(result: Result, path: Path) -> None:
    """Write the final model, each array by its name."""
    final: Any = to_arrays(result.arrays)
    np.savez(path, **final)


def evaluator(task: str, seed: int, test: data.Examples) -> EvaluateFn:
    """Judges a global model on held-out examples."""
    judged = model.build(task, seed)

    def evaluate(number: int, arrays: ArrayRecord) -> MetricRecord:
        model.load_arrays(judged, to_arrays(arrays))
        loss, accuracy = loop.evaluate(judged, test)
        return MetricRecord({"loss": loss, "accuracy": accuracy})

    return evaluate


def run_row(run_id: str, fleet: Fleet, runtime: str, now_s: float) -> RunRow:
    """A run that has just begun."""
    return RunRow(
        run_id=run_id,
        fleet=fleet.name,
        spec=fleet.model_dump_json(),
        policy=fleet.training.policy,
        seed=fleet.seed,
        runtime=runtime,
        rounds=fleet.training.rounds,
        target_accuracy=fleet.training.target_accuracy,
        started_s=now_s,
        ended_s=None,
        status="running",
        phase="join",
        detail="",
    )


def summary(history: History, run_id: str) -> str:
    """The end of the log: the result in words, and a table of the devices."""
    record = history.record(run_id)
    console = Console(file=io.StringIO(), width=110, no_color=True)
    console.print(device_table(record))
    table = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join([*summary_lines(record), table])


def reason_of(error: BaseException) -> str:
    """Why a run failed, for its history."""
    return str(error) if isinstance(error, MotleyError) else f"{type(error).__name__}: {error}"


def _say(line: str) -> None:
    print(line, flush=True)
