"""An order becomes a job, and what the job came to becomes a reply: the same on devices and in simulation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from flwr.app import Context, Message, MetricRecord, RecordDict

from motley import workload
from motley.aggregation import Arrays
from motley.compression import encode
from motley.messages import to_arrays, to_record
from motley.training.data import Examples
from motley.training.jobs import Job, Trained
from motley.training.model import Recipe

_RESIDUAL = "residual"


def order_of(message: Message) -> dict[str, Any]:
    """What the server asks for."""
    return dict(message.content.config_records["order"])


def job_of(message: Message, weights: Arrays, examples: Examples, recipe: Recipe, free_bytes: int) -> Job:
    """The work that was ordered, in pieces whose activations fit into `free_bytes` as far as the recipe knows.

    Batch, rate and steps are the order's: a batch that does not fit is gone through in pieces.
    """
    order = order_of(message)
    width = float(order["width"])
    batch = max(1, min(int(order["batch_size"]), len(examples)))
    piece = workload.fitting_batch_size(batch, len(examples), free_bytes, bytes_per_example(recipe, width))
    return Job(
        weights=weights,
        examples=examples,
        batch_size=batch,
        learning_rate=float(order["learning_rate"]),
        steps=int(order["steps"]),
        seed=int(order["seed"]),
        proximal=float(order["proximal"]),
        width=width,
        physical_batch=piece if piece < batch else 0,
    )


def bytes_per_example(recipe: Recipe, width: float) -> int:
    """Memory that an example takes in a model of that width; at least one byte."""
    return max(1, int(recipe.bytes_per_example * width))


def fitted(job: Job, order: Mapping[str, Any], fitting: int) -> Job:
    """The same job with a batch of `fitting` examples where the order leaves that to the device.

    As many examples are processed, in fewer or more steps, and the rate follows the batch by the order's
    rule. Never more than the order's cap, the device's examples, or what was ordered in all.
    """
    if not order.get("fit"):
        return job
    asked, held = int(order["batch_size"]), len(job.examples)
    most = workload.processed(held, job.batch_size, job.steps)
    batch = max(1, min(fitting, int(order["physical_batch"]) or fitting, held, most))
    scaling, warm_up = order["rate_scaling"], float(order["warm_up"])
    return replace(
        job,
        batch_size=batch,
        steps=workload.steps_within(held, batch, most),
        learning_rate=workload.scaled_rate(job.learning_rate, batch, scaling, warm_up, reference_batch=asked),
    )


def answer(message: Message, job: Job, done: Trained, measured: Mapping[str, float], context: Context) -> Message:
    """The reply: the update as the order wants it compressed, and a report with what was `measured`.

    What top-k leaves out stays in the device's Context and is added to its next update.
    """
    scheme = str(order_of(message)["compression"])
    encoded, residual = encode(done.update, scheme, _residual(context, done.update))
    if residual is not None:
        context.state[_RESIDUAL] = to_record(residual)
    elif _RESIDUAL in context.state:
        del context.state[_RESIDUAL]
    report: dict[str, int | float | list[int] | list[float]] = {
        "num-examples": done.examples,
        "steps": done.steps,
        "batch_size": job.batch_size,
        "physical_batch": done.physical_batch or job.longest_batch,
        "learning_rate": float(job.learning_rate),
        "train_loss": done.loss,
        "squared_loss": done.squared_loss,
        "accuracy": done.accuracy,
        **measured,
    }
    content = RecordDict({"update": to_record(encoded), "report": MetricRecord(report)})
    return Message(content, reply_to=message)


def _residual(context: Context, like: Arrays) -> Arrays | None:
    """What earlier updates left out; None where the model has other shapes now."""
    record = context.state.array_records.get(_RESIDUAL)
    if record is None:
        return None
    kept = to_arrays(record)
    return kept if {name: each.shape for name, each in kept.items()} == _shapes(like) else None


def _shapes(arrays: Arrays) -> dict[str, tuple[int, ...]]:
    return {name: each.shape for name, each in arrays.items()}
