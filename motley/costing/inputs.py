"""What estimates rest on: the fleet file, or what a run of it has shown."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from motley.device import DeviceProfile
from motley.errors import InputError
from motley.estimates import Resource
from motley.hardware import Power
from motley.history import History
from motley.knowledge import Knowledge, TaskFigures
from motley.known_tasks import DOWNLOADED_EXAMPLES, FIGURES
from motley.records import RunRecord
from motley.report import target_reached
from motley.simulation.device import VirtualDevice
from motley.spec import Fleet
from motley.units import format_bytes
from motley.widths import WIDTHS


@dataclass(frozen=True)
class Inputs:
    """What is known of a fleet's devices and of its task."""

    knowledge: Knowledge
    resources: Sequence[Resource]
    """The devices that can hold the model."""
    source: str
    """How that is known, in words."""
    measured: Measured | None = None


@dataclass(frozen=True)
class Measured:
    """How far a run came: to its target, or to its end."""

    rounds: int
    seconds: float
    examples: int
    """That went into the model."""
    reached: float | None
    """The target accuracy, where it was reached."""


def inputs_of(fleet: Fleet, history: Path | None) -> Inputs:
    """Raises InputError for a history or a task that can't be used, and where no device can hold the model."""
    task = task_figures(fleet.training.task)
    record = None if history is None else read_record(history, fleet)
    sizes, sizes_in_words = shard_sizes(fleet)
    knowledge = knowledge_of(fleet, task, sizes, record)
    resources = resources_of(fleet, knowledge)
    if record is None:
        return Inputs(knowledge, resources, f"estimated from the fleet file alone; {sizes_in_words}")
    source = f"seconds learned from the {len(record.outcomes)} orders of run {record.run.run_id}"
    return Inputs(knowledge, resources, source, measured_in(record))


def task_figures(task: str) -> TaskFigures:
    """Raises InputError for a task of the user's own that can't be loaded."""
    if task in FIGURES:
        return FIGURES[task]
    from motley.training.figures import figures_of

    return figures_of(task)


def shard_sizes(fleet: Fleet) -> tuple[list[int], str]:
    """How many examples each device has, and how that is known."""
    data, devices = fleet.data, fleet.total_devices
    if data.examples_per_device is not None:
        return [data.examples_per_device] * devices, "examples per device as in the file"
    if fleet.training.task in DOWNLOADED_EXAMPLES:
        even = max(1, round(DOWNLOADED_EXAMPLES[fleet.training.task] * data.share / fleet.shards))
        return [even] * devices, "examples per device taken as equal, since the data are not loaded"
    from motley.training.data import load_shards

    return load_shards(fleet)[0].sizes[:devices], "examples per device as the data are divided"


def read_record(path: Path, fleet: Fleet) -> RunRecord:
    """The newest run in a history file, or in the directory of a run. Raises InputError where there is none."""
    file = path / "state" / "history.db" if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"--history {path}: no run is kept there ({file} is missing)")
    with closing(History(file)) as history:
        run = history.latest_run()
        if run is None:
            raise InputError(f"--history {path}: its run never began")
        record = history.record(run.run_id)
    if run.fleet != fleet.name:
        raise InputError(f"--history {path}: it holds a run of fleet '{run.fleet}', not of '{fleet.name}'")
    if not any(outcome.used for _, outcome in record.outcomes):
        raise InputError(f"--history {path}: no update was used in its run; there is nothing to learn from it")
    return record


def knowledge_of(fleet: Fleet, task: TaskFigures, sizes: Sequence[int], record: RunRecord | None) -> Knowledge:
    """What the file says of each device, or in place of that what a run has shown."""
    shown: dict[str, DeviceProfile] = {} if record is None else {each.device: each for each in record.profiles}
    knowledge = Knowledge(task)
    for device in fleet.devices():
        own = VirtualDevice(device, sizes[device.partition], task, fleet.seed)
        knowledge.join(shown.get(device.name) or own.profile(0.0))
    known = set(knowledge.names)
    for _, outcome in record.outcomes if record is not None else ():
        if outcome.device in known:
            knowledge.learn(outcome)
    return knowledge


def resources_of(fleet: Fleet, knowledge: Knowledge) -> list[Resource]:
    """The devices that can hold the model. Raises InputError where none can."""
    need = knowledge.task.need_bytes(1.0 if fleet.training.chosen.width == "full" else WIDTHS[-1])
    found = []
    for device in fleet.devices():
        spec, power = device.spec, device.spec.power or Power()
        if spec.memory >= need:
            row = knowledge.row(device.name)
            found.append(Resource(row, device.class_name, spec.usd_per_hour, power.idle, power.busy))
    if not found:
        raise InputError(f"no device of fleet '{fleet.name}' can hold the model: training needs '{format_bytes(need)}'")
    return found


def measured_in(record: RunRecord) -> Measured:
    """How far a run came that has used an update."""
    reached = target_reached(record)
    last = reached[0] if reached else max(number for number, each in record.outcomes if each.used)
    done = [row for row in record.rounds if row.duration_s is not None and row.round <= last]
    seconds = max((row.started_s + (row.duration_s or 0.0) for row in done), default=0.0)
    return Measured(
        rounds=last,
        seconds=seconds - min((row.started_s for row in done), default=0.0),
        examples=sum(each.examples for number, each in record.outcomes if each.used and number <= last),
        reached=record.run.target_accuracy if reached else None,
    )
