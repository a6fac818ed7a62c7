"""A ClientApp that answers at once. It imports PyTorch, as every real one does."""

from __future__ import annotations

import time

import torch  # noqa: F401
from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.query()
def query(message: Message, context: Context) -> Message:
    facts = {
        "device": str(context.node_config["device"]),
        "device_class": str(context.node_config["device-class"]),
        "host_cores": 1,
        "cpus": 1.0,
        "memory_bytes": 1 << 30,
        "memory_used_bytes": 0,
        "examples": 100,
        "gflops": 1.0,
    }
    return Message(RecordDict({"profile": ConfigRecord(facts)}), reply_to=message)


@app.train()
def train(message: Message, context: Context) -> Message:
    time.sleep(float(context.run_config["hold-s"]))
    arrays = message.content.array_records["arrays"]
    report = MetricRecord({"num-examples": 1, "loss": 0.0})
    return Message(RecordDict({"arrays": arrays, "report": report}), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    report = MetricRecord({"num-examples": 1, "loss": 0.0, "accuracy": 0.0})
    return Message(RecordDict({"report": report}), reply_to=message)
