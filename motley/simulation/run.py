"""One run of a fleet on the virtual clock."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from flwr.supercore.task_identity import TaskIdentity

from motley.checkpoint import CHECKPOINTS, read_checkpoint, write_checkpoint
from motley.device import RoundOutcome
from motley.errors import InputError
from motley.history import History
from motley.knowledge import TaskFigures
from motley.records import RoundRow, RunRecord
from motley.simulation.clock import VirtualClock
from motley.simulation.contexts import Contexts
from motley.simulation.device import VirtualDevice
from motley.simulation.engine import AppEngine, GroupedEngine, client_app, device_contexts
from motley.simulation.grid import Engine, VirtualGrid
from motley.simulation.interruption import Interruption
from motley.simulation.keeper import Keeper
from motley.simulation.ray_engine import RayEngine
from motley.spec import Fleet
from motley.training import loop
from motley.training.data import Examples, Shards, load_shards, write_shards
from motley.training.figures import figures_of
from motley.training.trainer import Trainer
from motley.units import format_bytes
from motley.widths import WIDTHS
from server.app import keep_model, reason_of, run_row, train

PATIENCE_S = 7 * 86_400.0
"""With devices that are not there: waiting costs nothing on a virtual clock."""

EngineName = Literal["grouped", "sequential", "ray"]

Watch = Callable[[RoundRow, Sequence[RoundOutcome]], bool | None]


def simulate(
    fleet: Fleet,
    directory: Path,
    *,
    engine: EngineName = "grouped",
    processes: int = 1,
    watch: Watch | None = None,
    resume: bool = False,
    checkpoint_rounds: int | None = None,
) -> RunRecord:
    """Run `fleet` on a virtual clock that starts at 0; keep history, log, model and checkpoints in `directory`.

    The history depends on the fleet, its seed and the version alone: not on `processes`, nor on how often
    the run was stopped and resumed. After Ctrl-C or SIGTERM the round under way ends, after a second one
    the run stops at once and writes nothing down; its status is "stopped".

    resume: go on from the newest checkpoint, with the same fleet but for more rounds or time;
    checkpoint_rounds: rounds from one checkpoint to the next, in place of about ten seconds; 0 for none
    unless the run is interrupted. Raises InputError where no device can hold the model, where Ray is asked
    for but not installed, and where there is nothing to resume.
    """
    loop.set_threads(1)
    task = figures_of(fleet.training.task)
    check_memory(fleet, task)
    checkpoint = read_checkpoint(directory / CHECKPOINTS, fleet, _is_of_simulation) if resume else None
    TaskIdentity.run_id = TaskIdentity.task_id = TaskIdentity.node_id = 1
    directory.mkdir(parents=True, exist_ok=True)
    shards, test = load_shards(fleet)
    with (
        running_engine(engine, fleet, directory / "data", shards, processes) as runner,
        closing(History(directory / "history.db")) as history,
        Interruption() as interruption,
    ):
        world = World.of(fleet, task, shards, runner)
        saved = None
        if checkpoint is None:
            shutil.rmtree(directory / CHECKPOINTS, ignore_errors=True)
        else:
            history.copy_from(checkpoint.history)
            world.restore(checkpoint.state)
            saved = checkpoint.state["strategy"]
        write = partial(_write, directory / CHECKPOINTS, fleet, world, history)
        keeper = Keeper(write, interruption, checkpoint_rounds)
        return _play(fleet, directory, history, world, test, keeper, watch, saved)


@dataclass(frozen=True)
class World:
    """What changes in a run outside the strategy."""

    clock: VirtualClock
    grid: VirtualGrid
    contexts: Contexts

    @classmethod
    def of(cls, fleet: Fleet, task: TaskFigures, shards: Shards, engine: Engine) -> World:
        """The fleet at time 0."""
        clock, sizes = VirtualClock(), shards.sizes
        devices = [VirtualDevice(each, sizes[each.partition], task, fleet.seed) for each in fleet.devices()]
        return cls(clock, VirtualGrid(devices, engine, clock, task, fleet.training.task, fleet.seed), engine.contexts)

    def state(self) -> dict[str, Any]:
        return {"clock": self.clock.state(), "grid": self.grid.state(), "contexts": self.contexts.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.clock.restore(state["clock"])
        self.grid.restore(state["grid"])
        self.contexts.restore(state["contexts"])


@contextmanager
def running_engine(
    name: EngineName, fleet: Fleet, data: Path, shards: Shards, processes: int
) -> Iterator[GroupedEngine | AppEngine | RayEngine]:
    """The engine of that name. All but the grouped one read the shards from `data`, where they are written."""
    if name == "grouped":
        with Trainer(fleet.training.task, processes) as trainer:
            yield GroupedEngine(fleet.training.task, shards, trainer)
        return
    contexts = device_contexts(fleet, data)
    ray = RayEngine(contexts, client_app, processes) if name == "ray" else None
    write_shards(data, fleet.training.task, fleet.shards, fleet.data, fleet.seed, fleet.slowness())
    if ray is None:
        yield AppEngine(contexts)
    else:
        with ray:
            yield ray


def check_memory(fleet: Fleet, task: TaskFigures) -> None:
    """Raise InputError where no device can hold the model, naming the limit that fails."""
    width = 1.0 if fleet.training.chosen.width == "full" else WIDTHS[-1]
    need, most = task.need_bytes(width), max(device.spec.memory for device in fleet.devices())
    if most < need:
        raise InputError(
            f"no device of fleet '{fleet.name}' can hold the model: memory '{format_bytes(most)}' is the most "
            f"there is, training needs '{format_bytes(need)}'; give a class more memory, or set training.width to auto"
        )


def _play(
    fleet: Fleet,
    directory: Path,
    history: History,
    world: World,
    test: Examples,
    keeper: Keeper,
    watch: Watch | None,
    saved: Mapping[str, Any] | None,
) -> RunRecord:
    """Train until the end or an interruption; the record of what came of it."""
    run_id, clock = f"{fleet.training.policy}-{fleet.seed}", world.clock
    history.start_run(run_row(run_id, fleet, "simulation", 0.0))
    with (directory / "log.txt").open("w" if saved is None else "a") as log:
        say = partial(print, file=log)
        try:
            result = train(
                world.grid, fleet, history, run_id, test, clock, say, watch, saved, keeper, patience_s=PATIENCE_S
            )
            keep_model(result, directory / "model.npz")
            status = "stopped" if keeper.stopped else "completed"
        except KeyboardInterrupt:
            status = "stopped"
        except BaseException as error:
            history.end_run(run_id, "failed", clock.now_s(), reason_of(error))
            raise
    history.end_run(run_id, status, clock.now_s())
    return history.record(run_id)


def _is_of_simulation(state: Mapping[str, Any]) -> bool:
    return "clock" in state


def _write(directory: Path, fleet: Fleet, world: World, history: History, strategy: Mapping[str, Any]) -> None:
    write_checkpoint(directory, {"strategy": strategy, **world.state()}, fleet, history)
