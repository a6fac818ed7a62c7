"""An order becomes a message: what the device is to do, and the model to do it with."""

from __future__ import annotations

import zlib
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict

from motley.device import WorkOrder

TTL_BEYOND_DEADLINE_S = 60.0


def message(content: RecordDict, node_id: int, kind: str, number: int, patience_s: float) -> Message:
    """A message of round `number` that is worth an answer for `patience_s` and a little longer."""
    return Message(content, node_id, kind, ttl=patience_s + TTL_BEYOND_DEADLINE_S, group_id=str(number))


def order_content(order: WorkOrder, task: str, seed: int, arrays: ArrayRecord, config: ConfigRecord) -> RecordDict:
    """What the device reads: `config`, the order on top of it, and the arrays to start from."""
    what: dict[str, Any] = {
        "task": task,
        "batch_size": order.batch_size,
        "learning_rate": order.learning_rate,
        "steps": order.steps,
        "stop_after_s": order.stop_after_s or 0.0,
        "proximal": order.proximal,
        "width": order.width,
        "compression": order.compression,
        "fit": order.fit,
        "physical_batch": order.physical_batch,
        "rate_scaling": order.rate_scaling,
        "warm_up": order.warm_up,
        "seed": seed,
    }
    return RecordDict({"arrays": arrays, "order": ConfigRecord({**config, **what})})


def order_seed(fleet_seed: int, number: int, device: str, attempt: int) -> int:
    """What the device draws its batches from; another one for each order."""
    return zlib.crc32(f"{fleet_seed}/{number}/{device}/{attempt}".encode())
