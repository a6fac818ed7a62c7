"""The ClientApp: query (profile), train, evaluate.

What it is asked arrives as a ConfigRecord `order`; what it did leaves as a MetricRecord `report`. The
device's own facts come from Flower's node configuration, its limits from its cgroup.
"""

from __future__ import annotations

import math
import os
import platform
import tempfile
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import flwr
from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from client.emulation import Emulation
from client.governor import Governing
from client.limits import limits_of
from client.memory import Fitting, Memory, Peak, own_limit_bytes
from client.work import answer, bytes_per_example, job_of, order_of
from motley import workload
from motley.device import DeviceProfile
from motley.governor import Load
from motley.limits import Cgroup, host_cores, host_memory_bytes
from motley.messages import to_arrays
from motley.monitor import PeakMemory
from motley.training import data, loop, model
from motley.training.jobs import Job
from motley.workload import MemoryModel

_SPEED = "speed"
_COPIES = 3
"""Of the model, that training adds: gradients, momenta and the update."""

app = ClientApp()


@app.query()
def query(message: Message, context: Context) -> Message:
    """Answer with this device's profile, as a ConfigRecord `profile`; its speed is measured once, or when asked to."""
    ask: dict[str, Any] = dict(message.content.config_records.get("ask", {}))
    known: dict[str, Any] = {} if ask.get("measure") else dict(context.state.config_records.get(_SPEED, {}))
    profile = profile_of(context.node_config, Cgroup(), float(known.get("gflops", 0.0)))
    context.state[_SPEED] = ConfigRecord({"gflops": profile.gflops})
    return Message(RecordDict({"profile": ConfigRecord(profile.as_mapping())}), reply_to=message)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train as ordered, in pieces that fit into memory; report what was really done."""
    cgroup, node = Cgroup(), context.node_config
    started, cpu_started = time.perf_counter(), time.process_time()
    emulation = Emulation.from_node(node)
    condition = emulation.control(_cpus(node, cgroup) or host_cores())
    _set_threads(node, cgroup)
    order = order_of(message)
    task, stop_after_s = str(order["task"]), float(order["stop_after_s"])
    recipe = model.recipe_of(task)
    weights = to_arrays(message.content.array_records["arrays"])
    job = job_of(message, weights, data.read_shard(*_shard(node)), recipe, _free_bytes(cgroup))
    learner = model.build(task, seed=0, width=job.width)
    patience_s = stop_after_s or math.inf

    def should_stop() -> bool:
        return time.perf_counter() - started >= patience_s

    fitting = _fitting(cgroup, context, order, job, recipe)
    job = fitting.job if fitting else job
    piece, threads = job.physical_batch or job.longest_batch, loop.threads()
    load = Load(piece, threads, job.longest_batch, threads)
    with (
        PeakMemory(cgroup) as sampled,
        Governing.of_node(node, emulation, condition, load, cgroup.limits().memory_bytes) as governing,
    ):
        peak = Peak(cgroup, sampled)
        measure = partial(_measured, governing, fitting, peak) if fitting else None
        done = loop.train(learner, job, recipe.momentum, should_stop, control=governing.adjust, measured=measure)
        if fitting is not None:
            fitting.keep()
    figures = {
        "wall_s": time.perf_counter() - started,
        "cpu_s": time.process_time() - cpu_started,
        "peak_memory_bytes": peak.bytes,
        "threads": loop.threads(),
        **governing.figures(),
    }
    return answer(message, job, done, figures, context)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Loss and accuracy of the model that was sent, on this device's own examples."""
    Emulation.from_node(context.node_config).check(begins=True)
    cgroup, task = Cgroup(), str(order_of(message)["task"])
    _set_threads(context.node_config, cgroup)
    examples = data.read_shard(*_shard(context.node_config))
    judged = model.build(task, seed=0)
    model.load_arrays(judged, to_arrays(message.content.array_records["arrays"]))
    each_bytes = bytes_per_example(model.recipe_of(task), width=1.0)
    batch = workload.fitting_batch_size(loop.EVALUATION_BATCH, len(examples), _free_bytes(cgroup), each_bytes)
    loss, accuracy = loop.evaluate(judged, examples, batch)
    report = MetricRecord({"num-examples": len(examples), "loss": loss, "accuracy": accuracy})
    return Message(RecordDict({"report": report}), reply_to=message)


def profile_of(node: dict[str, Any], cgroup: Cgroup, gflops: float = 0.0) -> DeviceProfile:
    """What this device has, from its cgroup and its node configuration; a short probe where no speed is given."""
    limits = cgroup.limits()
    cores = host_cores()
    cpus = _cpus(node, cgroup) or float(cores)
    loop.set_threads(workload.threads_for(cpus, cores))
    return DeviceProfile(
        device=str(node["device"]),
        device_class=str(node["device-class"]),
        host_cores=cores,
        cpus=cpus,
        memory_bytes=limits.memory_bytes or int(_float(node, "memory")) or host_memory_bytes(),
        memory_used_bytes=cgroup.usage().working_set_bytes or 0,
        examples=len(data.read_shard(*_shard(node))),
        gflops=gflops or loop.speed_probe(),
        pinned_batch_size=int(_float(node, "batch-size")),
        pinned_learning_rate=_float(node, "learning-rate"),
        down_bits_per_s=_float(node, "down"),
        up_bits_per_s=_float(node, "up"),
        latency_s=_float(node, "latency"),
        **Emulation.from_node(node).facts(),
        priority=float(node.get("priority", 1.0)),
        accelerators=int(_float(node, "accelerators")),
        versions=f"Python {platform.python_version()}, PyTorch {loop.torch_version()}, Flower {flwr.__version__}",
    )


def _fitting(
    cgroup: Cgroup, context: Context, order: Mapping[str, Any], job: Job, recipe: model.Recipe
) -> Fitting | None:
    """What suits the job to this device's memory; None where no limit is this device's own."""
    node = context.node_config
    limit_bytes = own_limit_bytes(cgroup.limits().memory_bytes, int(_float(node, "memory")))
    if limit_bytes is None:
        return None
    limit_bytes = min(limit_bytes, limits_of(node).memory_bytes or limit_bytes)
    note = Path(tempfile.gettempdir()) / f"motley-memory-{node['device']}.json"
    base_bytes = (cgroup.held_bytes() or 0) + _COPIES * sum(each.nbytes for each in job.weights.values())
    unknown = MemoryModel(base_bytes, bytes_per_example(recipe, job.width))
    key = f"{order['task']} at width {job.width:g}"
    return Fitting(Memory(cgroup, limit_bytes, note), context, key, unknown, job, order)


def _measured(governing: Governing, fitting: Fitting, peak: Peak, examples: int) -> int:
    """A piece of so many examples is done: how many the next one may have."""
    following = fitting.measured(examples, peak.bytes)
    governing.fits(following)
    return following


def _shard(node: dict[str, Any]) -> tuple[Path, int]:
    return Path(str(node["data"])), int(node["partition"])


def _float(node: dict[str, Any], key: str) -> float:
    return float(node.get(key, 0.0))


def _set_threads(node: dict[str, Any], cgroup: Cgroup) -> None:
    loop.set_threads(workload.threads_for(_cpus(node, cgroup), host_cores()))


def _cpus(node: dict[str, Any], cgroup: Cgroup) -> float | None:
    """The quota, or what the fleet file says where nothing enforces it; None where neither does."""
    return cgroup.limits().cpus or _float(node, "cpus") or None


def _free_bytes(cgroup: Cgroup) -> int:
    """Memory left under the limit; the machine's free memory where there is none."""
    limit = cgroup.limits().memory_bytes
    if limit is None:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(0, limit - (cgroup.held_bytes() or 0))
