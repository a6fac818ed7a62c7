"""Read a device's reply: the update that it holds, or what went wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np
from flwr.app import Message
from flwr.common.constant import ErrorCode
from numpy.typing import NDArray

from motley.aggregation import refusal
from motley.device import DeviceProfile, Outcome, RoundOutcome
from motley.messages import to_arrays
from server.mailbox import Sent

Arrays = dict[str, NDArray[np.generic]]

_FIGURES = ("batch_size", "learning_rate", "steps", "wall_s", "cpu_s", "peak_memory_bytes")

_UNREACHABLE: dict[int, str] = {
    ErrorCode.NODE_UNAVAILABLE: "the device is not connected any more",
    ErrorCode.MESSAGE_UNAVAILABLE: "the order expired before the device answered",
}


def read_update(
    sent: Sent, reply: Message, profile: DeviceProfile, like: Arrays, now_s: float
) -> tuple[RoundOutcome, Arrays | None]:
    """The outcome of a training order, and its arrays where they may be aggregated."""
    if reply.has_error():
        return failure(sent, reply, profile, now_s), None
    try:
        arrays, report = _content(reply)
    except Exception as error:  # whatever Flower or NumPy raises for bytes that a device made up
        reason = " ".join(str(error).split()) or type(error).__name__
        return _outcome(sent, profile, now_s, Outcome.REFUSED, reason, {}), None
    why = refusal(arrays, like) or _report_problem(report, _most_examples(sent, profile))
    if why:
        return _outcome(sent, profile, now_s, Outcome.REFUSED, why, {}), None
    return _outcome(sent, profile, now_s, Outcome.FINISHED, "", report), arrays


def read_profile(reply: Message) -> DeviceProfile | str:
    """A device's profile, or why there is none."""
    if reply.has_error():
        return reply.error.reason or f"error {reply.error.code}"
    try:
        return DeviceProfile.from_mapping(dict(reply.content.config_records["profile"]))
    except (KeyError, TypeError) as error:
        return f"its answer can't be read: {error}"


@dataclass(frozen=True)
class Evaluation:
    """What a device found on its own examples."""

    examples: int
    accuracy: float
    loss: float


def read_evaluation(reply: Message) -> Evaluation | None:
    """A device's evaluation, or None where there is none that makes sense."""
    if reply.has_error():
        return None
    _, report = _content(reply)
    examples, accuracy, loss = (report.get(key) for key in ("num-examples", "accuracy", "loss"))
    if not (_is_figure(examples) and _is_figure(accuracy) and _is_figure(loss) and examples > 0):
        return None
    return Evaluation(int(examples), float(accuracy), float(loss))


def failure(sent: Sent, reply: Message, profile: DeviceProfile, now_s: float) -> RoundOutcome:
    """The outcome of an order that came back as an error."""
    code, reason = reply.error.code, reply.error.reason or "no reason given"
    kind, _, text = reason.partition(": ")
    if code in _UNREACHABLE:
        outcome, text = Outcome.UNREACHABLE, _UNREACHABLE[code]
    elif kind == Outcome.OUT_OF_MEMORY.value:
        outcome = Outcome.OUT_OF_MEMORY
    elif kind == Outcome.CRASHED.value:
        outcome = Outcome.CRASHED
    else:
        outcome, text = Outcome.CRASHED, reason
    return _outcome(sent, profile, now_s, outcome, text, {})


def missing(sent: Sent, profile: DeviceProfile, now_s: float, outcome: Outcome, reason: str) -> RoundOutcome:
    """The outcome of an order that has no reply."""
    return _outcome(sent, profile, now_s, outcome, reason, {})


def _content(reply: Message) -> tuple[Arrays, dict[str, Any]]:
    records = reply.content
    arrays: Arrays = {}
    for each in records.array_records.values():
        arrays.update(to_arrays(each))
    report: dict[str, Any] = {}
    for record in records.metric_records.values():
        report.update(record)
    return arrays, report


def _most_examples(sent: Sent, profile: DeviceProfile) -> int:
    """More than all its data in each epoch no device can have processed, and its weight follows from that."""
    return profile.examples * (sent.order.local_epochs if sent.order else 1)


def _report_problem(report: Mapping[str, Any], most_examples: int) -> str | None:
    examples = report.get("num-examples")
    if not _is_figure(examples) or not 0 < examples <= most_examples:
        return f"its report says {examples!r} examples were processed"
    odd = next((key for key in _FIGURES if not _is_figure(report.get(key, 0))), None)
    if odd is not None:
        return f"its report says {report[odd]!r} for {odd}"
    loss = report.get("train_loss")
    return None if loss is None or isinstance(loss, (int, float)) else f"its report says {loss!r} for train_loss"


def _is_figure(value: Any) -> TypeGuard[float]:
    """A number that can be stored and summed: not a list, not negative, not infinite."""
    return isinstance(value, (int, float)) and 0 <= value < 2**63


def _outcome(
    sent: Sent, profile: DeviceProfile, now_s: float, outcome: Outcome, reason: str, report: Mapping[str, Any]
) -> RoundOutcome:
    order = sent.order
    return RoundOutcome(
        device=profile.device,
        device_class=profile.device_class,
        outcome=outcome,
        reason=reason,
        batch_size=int(report.get("batch_size", order.batch_size if order else 0)),
        learning_rate=float(report.get("learning_rate", order.learning_rate if order else 0.0)),
        steps=int(report.get("steps", 0)),
        examples=int(report.get("num-examples", 0)),
        wall_s=float(report.get("wall_s", 0.0)),
        cpu_s=float(report.get("cpu_s", 0.0)),
        round_trip_s=now_s - sent.sent_s,
        peak_memory_bytes=int(report.get("peak_memory_bytes", 0)),
        train_loss=report.get("train_loss"),
        expected_s=order.expected_s if order else None,
        known_s=now_s,
    )
