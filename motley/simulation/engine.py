"""Who runs the client code in a simulation: many devices at once, or one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from client.app import app
from client.settings import from_environment
from client.work import answer, job_of
from motley.environment import device_environment
from motley.messages import to_arrays
from motley.simulation.contexts import Contexts
from motley.spec import Fleet
from motley.training import loop, model
from motley.training.data import Examples
from motley.training.trainer import Trainer

_PLENTY_BYTES = 2**50
"""Memory of virtual devices is in their model, not here."""


class GroupedEngine:
    """Trains many devices at once; all but the training itself is the ClientApp's own code."""

    def __init__(self, task: str, shards: Sequence[Examples], trainer: Trainer) -> None:
        self._task = task
        self._recipe = model.recipe_of(task)
        self._judged = model.build(task, seed=0)
        self._shards = shards
        self._trainer = trainer
        self.contexts = Contexts()

    def run(self, messages: Sequence[Message]) -> list[Message]:
        """Train messages together, others one by one."""
        training = [index for index, each in enumerate(messages) if each.metadata.message_type == "train"]
        replies = dict(zip(training, self._train([messages[index] for index in training]), strict=True))
        return [replies.get(index) or self._evaluate(each) for index, each in enumerate(messages)]

    def _train(self, messages: Sequence[Message]) -> list[Message]:
        unpacked: dict[int, Mapping[str, Any]] = {}
        jobs = []
        for message in messages:
            record = message.content.array_records["arrays"]
            if id(record) not in unpacked:
                unpacked[id(record)] = to_arrays(record)
            weights = unpacked[id(record)]
            jobs.append(job_of(message, weights, self._shard(message), self._recipe, _PLENTY_BYTES))
        done = self._trainer.train(jobs)
        return [
            answer(message, job, each, {}, self.contexts[message.metadata.dst_node_id])
            for message, job, each in zip(messages, jobs, done, strict=True)
        ]

    def _evaluate(self, message: Message) -> Message:
        examples = self._shard(message)
        model.load_arrays(self._judged, to_arrays(message.content.array_records["arrays"]))
        loss, accuracy = loop.evaluate(self._judged, examples)
        report = MetricRecord({"num-examples": len(examples), "loss": loss, "accuracy": accuracy})
        return Message(RecordDict({"report": report}), reply_to=message)

    def _shard(self, message: Message) -> Examples:
        return self._shards[message.metadata.dst_node_id - 1]


class AppEngine:
    """Runs the ClientApp for one message after the other, in this process; `contexts` name the shards.

    Choose it to see the very code that devices run; the grouped engine is several times as fast.
    """

    def __init__(self, contexts: Contexts) -> None:
        self.contexts = contexts

    def run(self, messages: Sequence[Message]) -> list[Message]:
        replies = [app(each, self._context(each)) for each in messages]
        loop.set_threads(1)
        return replies

    def _context(self, message: Message) -> Context:
        return self.contexts[message.metadata.dst_node_id]


def client_app() -> ClientApp:
    """The ClientApp of every device."""
    return app


def _governs(variable: str) -> bool:
    """Limits of this machine's use of itself mean nothing for a virtual device."""
    return variable.startswith(("MOTLEY_GOVERNOR", "MOTLEY_LIMIT_"))


def device_contexts(fleet: Fleet, data: Path) -> Contexts:
    """Contexts with the node configuration that each device's agent would give, for shards in `data`."""
    devices = {device.partition + 1: device for device in fleet.devices()}

    def node_config(node: int) -> dict[str, str]:
        device = {name: text for name, text in device_environment(devices[node]).items() if not _governs(name)}
        environment = {"MOTLEY_SUPERLINK": "none", "MOTLEY_DATA": str(data.resolve())}
        return dict(from_environment({**device, **environment}).node)

    return Contexts(node_config)
