"""A reply becomes a typed outcome, whatever the device sends."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from factories import order, profile
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, Metadata, MetricRecord, RecordDict
from flwr.common.constant import ErrorCode
from hypothesis import given
from hypothesis import strategies as st

from motley.compression import encode
from motley.device import Outcome, RoundOutcome
from motley.messages import PACKED, to_record
from server.mailbox import Sent
from server.replies import Arrays, Evaluation, missing, read_evaluation, read_profile, read_update

LIKE: Arrays = {"w": np.zeros((2, 2), np.float32)}
SENT = Sent(11, "train", 3, 100.0, "client-1", order("client-1", batch_size=64, expected_s=1.5), 1, 5000)
ASKED = Message(
    RecordDict(),
    metadata=Metadata(
        run_id=7,
        message_id="1",
        src_node_id=1,
        dst_node_id=11,
        reply_to_message_id="",
        group_id="3",
        created_at=100.0,
        ttl=600.0,
        message_type="train",
        src_task_id=1,
        dst_task_id=2,
    ),
)
REPORT: dict[str, Any] = {
    "num-examples": 400,
    "batch_size": 32,
    "learning_rate": 0.05,
    "steps": 13,
    "wall_s": 1.5,
    "cpu_s": 0.5,
    "peak_memory_bytes": 300_000_000,
    "train_loss": 0.25,
    "squared_loss": 0.125,
    "accuracy": 0.75,
    "energy_wh": 0.01,
}


def _reply(arrays: ArrayRecord | None, report: dict[str, Any] | None) -> Message:
    content = RecordDict()
    if arrays is not None:
        content["update"] = arrays
    if report is not None:
        content["report"] = MetricRecord(report)
    return Message(content, reply_to=ASKED)


def _read(reply: Message) -> tuple[RoundOutcome, Arrays | None]:
    return read_update(SENT, reply, profile("client-1"), LIKE, 107.5)


def _packed(value: float = 1.0) -> ArrayRecord:
    return to_record({"w": np.full((2, 2), value, np.float32)})


def test_a_good_update_is_finished_with_what_the_device_really_did() -> None:
    outcome, arrays = _read(_reply(_packed(2.0), REPORT))
    assert outcome == RoundOutcome(
        device="client-1",
        device_class="fast",
        outcome=Outcome.FINISHED,
        reason="",
        batch_size=32,
        learning_rate=0.05,
        steps=13,
        examples=400,
        wall_s=1.5,
        cpu_s=0.5,
        round_trip_s=7.5,
        peak_memory_bytes=300_000_000,
        train_loss=0.25,
        expected_s=1.5,
        known_s=107.5,
        attempt=1,
        down_bytes=5000,
        up_bytes=16,
        energy_wh=0.01,
        squared_loss=0.125,
        accuracy=0.75,
    )
    assert arrays is not None
    assert arrays["w"].tolist() == [[2, 2], [2, 2]]


def test_arrays_as_flower_s_own_apps_send_them_are_read_too() -> None:
    outcome, arrays = _read(_reply(ArrayRecord({"w": Array(np.ones((2, 2), np.float32))}), REPORT))
    assert outcome.outcome is Outcome.FINISHED
    assert arrays is not None
    assert arrays["w"].tolist() == [[1, 1], [1, 1]]


def test_a_report_that_leaves_things_out_falls_back_on_the_order() -> None:
    outcome, _ = _read(_reply(_packed(), {"num-examples": 10}))
    assert (outcome.outcome, outcome.batch_size, outcome.learning_rate) == (Outcome.FINISHED, 64, 0.1)
    assert (outcome.train_loss, outcome.squared_loss, outcome.accuracy) == (None, None, None)


@pytest.mark.parametrize(("scheme", "up_bytes", "exact"), [("none", 16, 0), ("int8", 8, 0.02), ("topk", 7, None)])
def test_an_update_is_read_however_it_was_compressed(scheme: str, up_bytes: int, exact: float | None) -> None:
    delta = {"w": np.array([[4.0, -1.0], [0.5, 0.0]], np.float32)}
    encoded, _ = encode(delta, scheme)
    outcome, arrays = _read(_reply(to_record(encoded), REPORT))
    assert (outcome.outcome, outcome.up_bytes) == (Outcome.FINISHED, up_bytes)
    assert arrays is not None
    expected = [[4, 0], [0, 0]] if exact is None else delta["w"].tolist()
    assert arrays["w"].tolist() == [pytest.approx(row, abs=exact or 1e-3) for row in expected]


def test_an_update_packed_for_another_model_is_refused() -> None:
    encoded, _ = encode({"w": np.ones((3, 2), np.float32)}, "int8")
    outcome, arrays = _read(_reply(to_record(encoded), REPORT))
    assert (outcome.outcome, arrays) == (Outcome.REFUSED, None)
    assert "int8.values" in outcome.reason


@pytest.mark.parametrize(
    ("code", "reason", "kind", "said"),
    [
        (ErrorCode.NODE_UNAVAILABLE, "gone", Outcome.UNREACHABLE, "not connected any more"),
        (ErrorCode.MESSAGE_UNAVAILABLE, None, Outcome.UNREACHABLE, "expired before the device answered"),
        (2, "out_of_memory: killed at 384 MiB", Outcome.OUT_OF_MEMORY, "killed at 384 MiB"),
        (2, "battery_empty: charge fell to 20%", Outcome.BATTERY_EMPTY, "charge fell to 20%"),
        (2, "too_hot: 60.0 °C with a limit of 60 °C", Outcome.TOO_HOT, "60.0 °C with a limit"),
        (2, "late: ClientApp was still at work", Outcome.LATE, "ClientApp was still at work"),
        (2, "finished: or so it says", Outcome.CRASHED, "finished: or so it says"),
        (2, "crashed: killed by signal 9", Outcome.CRASHED, "killed by signal 9"),
        (2, "ValueError: no such shard", Outcome.CRASHED, "ValueError: no such shard"),
        (2, None, Outcome.CRASHED, "no reason given"),
        (0, "", Outcome.CRASHED, "no reason given"),
    ],
)
def test_errors_become_outcomes(code: int, reason: str | None, kind: Outcome, said: str) -> None:
    outcome, arrays = _read(Message(Error(code, reason), reply_to=ASKED))
    assert (outcome.outcome, arrays) == (kind, None)
    assert said in outcome.reason
    assert (outcome.device, outcome.batch_size, outcome.examples, outcome.round_trip_s) == ("client-1", 64, 0, 7.5)


def _raw(data: bytes, name: str = "w", dtype: str = "float32", shape: tuple[int, ...] = (2, 2)) -> ArrayRecord:
    return ArrayRecord({name: Array(dtype=dtype, shape=shape, stype="numpy.ndarray", data=data)})


@pytest.mark.parametrize(
    ("arrays", "report", "said"),
    [
        (to_record({"w": np.zeros((3, 2), np.float32)}), REPORT, "array 'w' has shape (3, 2)"),
        (to_record({"v": np.zeros((2, 2), np.float32)}), REPORT, "arrays differ from the model's: v, w"),
        (_packed(float("nan")), REPORT, "not finite"),
        (_packed(float("inf")), REPORT, "not finite"),
        (None, REPORT, "arrays differ from the model's: w"),
        (ArrayRecord({PACKED: Array(np.frombuffer(b"nonsense", np.uint8))}), REPORT, "can't be read"),
        (_raw(b""), REPORT, ""),
        (_raw(b"not an array at all"), REPORT, ""),
        (_raw(b"\x80\x04N."), REPORT, "pickle"),
        (_packed(), None, "None examples"),
        (_packed(), {}, "None examples"),
        (_packed(), {"num-examples": 0}, "0 examples"),
        (_packed(), {"num-examples": -5}, "-5 examples"),
        (_packed(), {"num-examples": float("nan")}, "nan examples"),
        (_packed(), {"num-examples": float("inf")}, "inf examples"),
        (_packed(), {"num-examples": [1, 2]}, "[1, 2] examples"),
        (_packed(), {**REPORT, "wall_s": float("nan")}, "nan for wall_s"),
        (_packed(), {**REPORT, "cpu_s": float("inf")}, "inf for cpu_s"),
        (_packed(), {**REPORT, "steps": [1]}, "[1] for steps"),
        (_packed(), {**REPORT, "batch_size": -1}, "-1 for batch_size"),
        (_packed(), {**REPORT, "peak_memory_bytes": 1e30}, "1e+30 for peak_memory_bytes"),
        (_packed(), {**REPORT, "train_loss": [0.5]}, "[0.5] for train_loss"),
        (_packed(), {**REPORT, "squared_loss": [0.5]}, "[0.5] for squared_loss"),
        (_packed(), {**REPORT, "accuracy": [1]}, "[1] for accuracy"),
        (_packed(), {**REPORT, "energy_wh": -1.0}, "-1.0 for energy_wh"),
    ],
    ids=str,
)
def test_what_must_not_be_aggregated_is_refused(
    arrays: ArrayRecord | None, report: dict[str, Any] | None, said: str
) -> None:
    outcome, update = _read(_reply(arrays, report))
    assert (outcome.outcome, update) == (Outcome.REFUSED, None)
    assert said in outcome.reason
    assert outcome.reason
    assert "\n" not in outcome.reason
    assert outcome.examples == 0


figures = st.one_of(st.integers(-(2**63), 2**63 - 1), st.floats(), st.lists(st.floats(), max_size=2))


@given(st.dictionaries(st.sampled_from([*REPORT, "other"]), figures), st.binary(max_size=40), st.booleans())
def test_no_report_and_no_bytes_can_end_the_run(report: dict[str, Any], data: bytes, packed: bool) -> None:
    arrays = _packed() if packed else _raw(data)
    outcome, update = _read(_reply(arrays, report))
    assert outcome.outcome in (Outcome.FINISHED, Outcome.REFUSED)
    assert (update is not None) == (outcome.outcome is Outcome.FINISHED)
    assert 0 <= outcome.examples < 2**63
    assert 0 <= outcome.wall_s < 2**63


def test_an_order_without_reply_has_an_outcome_too() -> None:
    outcome = missing(SENT, profile("client-1"), 160.0, Outcome.LATE, "no reply within 60.0 s")
    assert (outcome.outcome, outcome.reason, outcome.round_trip_s) == (Outcome.LATE, "no reply within 60.0 s", 60.0)
    assert (outcome.batch_size, outcome.expected_s) == (64, 1.5)


def test_more_examples_than_the_order_allows_are_refused() -> None:
    most = 13 * 64
    assert _read(_reply(to_record(LIKE), {**REPORT, "num-examples": most}))[0].outcome is Outcome.FINISHED
    outcome, update = _read(_reply(to_record(LIKE), {**REPORT, "num-examples": most + 1}))
    assert outcome.outcome is Outcome.REFUSED
    assert str(most + 1) in outcome.reason
    assert update is None


def test_a_profile_is_read_or_its_lack_explained() -> None:
    facts = ConfigRecord(profile("client-1").as_mapping())
    assert read_profile(Message(RecordDict({"profile": facts}), reply_to=ASKED)) == profile("client-1")
    assert "profile" in str(read_profile(Message(RecordDict(), reply_to=ASKED)))
    assert "device" in str(read_profile(Message(RecordDict({"profile": ConfigRecord()}), reply_to=ASKED)))
    assert read_profile(Message(Error(2, "no shard"), reply_to=ASKED)) == "no shard"


@pytest.mark.parametrize("odd", [{}, {"num-examples": 0}, {"accuracy": float("nan")}, {"loss": [1.0]}])
def test_an_evaluation_that_makes_no_sense_is_left_out(odd: dict[str, Any]) -> None:
    sound = {"num-examples": 10, "accuracy": 0.5, "loss": 1.0}
    assert read_evaluation(_reply(None, sound)) == Evaluation(10, 0.5, 1.0)
    assert read_evaluation(_reply(None, {**sound, **odd} if odd else {})) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("gflops", float("nan")), ("gflops", -1.0), ("cpus", float("inf")), ("examples", "many")),
        *(("memory_bytes", [1]), ("examples", 2**63 - 1 + 0.0), ("battery_level", -2.0), ("device", 7)),
    ],
)
def test_a_profile_with_odd_figures_is_not_taken(name: str, value: Any) -> None:
    """One device must not be able to make the plan for all of them impossible."""
    known = profile("client-1")
    sound = Message(RecordDict({"profile": ConfigRecord(known.as_mapping())}), reply_to=ASKED)
    odd = Message(RecordDict({"profile": ConfigRecord({**known.as_mapping(), name: value})}), reply_to=ASKED)
    assert read_profile(sound) == known
    assert read_profile(odd) == f"its answer says {value!r} for {name}"
