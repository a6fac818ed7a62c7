"""Read a device's reply: the update that it holds, or what went wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

import numpy as np
from flwr.app import Message
from flwr.common.constant import ErrorCode
from numpy.typing import NDArray

from motley.compression import decode
from motley.device import DeviceProfile, Outcome, RoundOutcome
from motley.messages import to_arrays
from server.mailbox import Sent

Arrays = dict[str, NDArray[np.generic]]

_FIGURES = (
    *("batch_size", "learning_rate", "steps", "wall_s", "cpu_s", "peak_memory_bytes", "energy_wh"),
    *("physical_batch", "threads", "paused_s"),
)
_OPTIONAL = ("train_loss", "squared_loss", "accuracy", "celsius")

_UNREACHABLE: dict[int, str] = {
    ErrorCode.NODE_UNAVAILABLE: "the device is not connected any more",
    ErrorCode.MESSAGE_UNAVAILABLE: "the order expired before the device answered",
}

_SAID_BY_DEVICE = {
    each.value: each
    for each in (Outcome.OUT_OF_MEMORY, Outcome.CRASHED, Outcome.LATE, Outcome.BATTERY_EMPTY, Outcome.TOO_HOT)
}


def read_update(
    sent: Sent, reply: Message, profile: DeviceProfile, like: Mapping[str, NDArray[np.generic]], now_s: float
) -> tuple[RoundOutcome, Arrays | None]:
    """The outcome of a training order, and its update where that may be aggregated.

    like: arrays of the shapes that the update must have, those of the model that was sent.
    """
    if reply.has_error():
        return failure(sent, reply, profile, now_s), None
    try:
        encoded, report = _content(reply)
        arrays = decode(encoded, like)
    except Exception as error:  # whatever Flower or NumPy raises for bytes that a device made up
        reason = " ".join(str(error).split()) or type(error).__name__
        return _outcome(sent, profile, now_s, Outcome.REFUSED, reason, {}), None
    why = _report_problem(report, _most_examples(sent))
    if why:
        return _outcome(sent, profile, now_s, Outcome.REFUSED, why, {}), None
    outcome = _outcome(sent, profile, now_s, Outcome.FINISHED, "", report)
    return replace(outcome, up_bytes=sum(array.nbytes for array in encoded.values())), arrays


def read_profile(reply: Message) -> DeviceProfile | str:
    """A device's profile, or why there is none."""
    if reply.has_error():
        return reply.error.reason or f"error {reply.error.code}"
    try:
        profile = DeviceProfile.from_mapping(dict(reply.content.config_records["profile"]))
    except (KeyError, TypeError) as error:
        return f"its answer can't be read: {error}"
    odd = next((name for name, value in profile.as_mapping().items() if not _is_fact(name, value)), None)
    return profile if odd is None else f"its answer says {getattr(profile, odd)!r} for {odd}"


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
    elif kind in _SAID_BY_DEVICE:
        outcome = _SAID_BY_DEVICE[kind]
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


def _most_examples(sent: Sent) -> int:
    """More than it was asked for no device can have processed, and its weight follows from that."""
    return sent.order.steps * sent.order.batch_size if sent.order else 1


def _report_problem(report: Mapping[str, Any], most_examples: int) -> str | None:
    examples = report.get("num-examples")
    if not _is_figure(examples) or not 0 < examples <= most_examples:
        return f"its report says {examples!r} examples were processed"
    odd = next((key for key in _FIGURES if not _is_figure(report.get(key, 0))), None)
    if odd is not None:
        return f"its report says {report[odd]!r} for {odd}"
    odd = next((key for key in _OPTIONAL if not isinstance(report.get(key, 0), (int, float))), None)
    return None if odd is None else f"its report says {report[odd]!r} for {odd}"


def _is_fact(name: str, value: Any) -> bool:
    """What a profile may say: words where words belong, elsewhere numbers; -1 stands for no battery."""
    if name in ("device", "device_class", "versions"):
        return isinstance(value, str)
    return _is_figure(value) or (name == "battery_level" and value == -1)


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
        expected_low_s=order.expected_low_s if order else None,
        expected_high_s=order.expected_high_s if order else None,
        expected_by=order.expected_by if order else "",
        known_s=now_s,
        attempt=sent.attempt,
        down_bytes=sent.down_bytes,
        energy_wh=float(report.get("energy_wh", 0.0)),
        squared_loss=report.get("squared_loss"),
        accuracy=report.get("accuracy"),
        width=order.width if order else 1.0,
        compression=order.compression if order else "none",
        physical_batch=int(report.get("physical_batch", 0)),
        threads=int(report.get("threads", 0)),
        celsius=report.get("celsius"),
        paused_s=float(report.get("paused_s", 0.0)),
    )
