"""An order becomes a job that fits, and what it came to a reply that loses nothing on its way."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, Message, Metadata, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from client.work import answer, fitted, job_of
from motley.compression import decode
from motley.messages import to_arrays, to_record
from motley.training.data import Examples
from motley.training.jobs import Job, Trained
from motley.training.model import Recipe, small_cnn
from motley.workload import processed

ORDER: dict[str, Any] = {
    "task": "digits",
    "batch_size": 32,
    "learning_rate": 0.1,
    "steps": 10,
    "stop_after_s": 0.0,
    "proximal": 0.25,
    "width": 1.0,
    "compression": "none",
    "seed": 5,
}
RECIPE = Recipe(lambda width: small_cnn(1, width=width), 0.1, bytes_per_example=1000)
WEIGHTS = {"w": np.zeros(20, np.float32)}


def asked(**changes: Any) -> Message:
    content = RecordDict({"arrays": to_record(WEIGHTS), "order": ConfigRecord({**ORDER, **changes})})
    return Message(content, metadata=Metadata(7, "1", 1, 11, "", "3", 100.0, 600.0, "train", 1, 2))


def examples(count: int) -> Examples:
    return Examples(np.zeros((count, 1, 8, 8), np.float32), np.zeros(count, np.int64))


def job(free_bytes: int = 10**9, held: int = 400, **changes: Any) -> Job:
    return job_of(asked(**changes), WEIGHTS, examples(held), RECIPE, free_bytes)


def test_a_job_is_what_was_ordered() -> None:
    made = job()
    assert (made.batch_size, made.learning_rate, made.steps) == (32, 0.1, 10)
    assert (made.seed, made.proximal, made.width, len(made.examples)) == (5, 0.25, 1.0, 400)
    assert made.weights is WEIGHTS


def test_a_batch_that_does_not_fit_is_cut_and_nothing_else_changes() -> None:
    made = job(free_bytes=8500)
    assert (made.physical_batch, made.batch_size, made.steps, made.learning_rate) == (8, 32, 10, 0.1)


def test_a_batch_that_fits_is_not_cut() -> None:
    assert job().physical_batch == 0


def test_a_narrower_model_leaves_room_for_a_larger_batch() -> None:
    assert job(free_bytes=8500, width=0.25).physical_batch == 0


def test_a_batch_above_the_device_s_examples_is_all_of_them_at_the_same_rate() -> None:
    made = job(held=20)
    assert (made.batch_size, made.steps, made.learning_rate) == (20, 10, 0.1)


@given(st.integers(1, 300), st.integers(1, 500), st.integers(0, 300_000), st.integers(1, 50))
def test_whatever_the_memory_the_work_is_the_order_s(batch: int, held: int, free_bytes: int, steps: int) -> None:
    made = job(free_bytes, held, batch_size=batch, steps=steps)
    piece = made.physical_batch or made.batch_size
    assert piece == 1 or piece * 1000 <= free_bytes
    assert (made.batch_size, made.steps, made.learning_rate) == (min(batch, held), steps, 0.1)


def fit(fitting: int, held: int = 400, **changes: Any) -> Job:
    order = {**ORDER, "fit": True, "physical_batch": 0, "rate_scaling": "sqrt", "warm_up": 1.0, **changes}
    return fitted(job(held=held, **changes), order, fitting)


def test_an_order_that_does_not_say_fit_is_left_as_it_is() -> None:
    made = job()
    assert fitted(made, ORDER, 128) is made


@pytest.mark.parametrize(
    ("changes", "batch", "steps", "rate"),
    [
        ({"steps": 13}, 128, 4, 0.2),
        ({"steps": 13, "rate_scaling": "linear"}, 128, 4, 0.4),
        ({"steps": 13, "rate_scaling": "linear", "warm_up": 0.5}, 128, 4, 0.25),
        ({"steps": 13, "rate_scaling": "none"}, 128, 4, 0.1),
        ({"steps": 13, "physical_batch": 8}, 8, 50, 0.05),
        ({"steps": 2}, 64, 1, 0.1 * math.sqrt(2)),
    ],
)
def test_a_fitted_batch_does_the_same_work_at_its_own_rate(
    changes: dict[str, Any], batch: int, steps: int, rate: float
) -> None:
    """400 examples, a pass of 13 steps of 32; at 128 a pass takes 4 steps, at 8 it takes 50."""
    made = fit(128, **changes)
    assert (made.batch_size, made.steps, made.learning_rate) == (batch, steps, pytest.approx(rate))


@given(st.integers(1, 300), st.integers(1, 500), st.integers(1, 600), st.integers(1, 50), st.integers(0, 40))
def test_a_fitted_job_does_no_more_than_was_ordered_and_not_a_whole_batch_less(
    batch: int, held: int, fitting: int, steps: int, cap: int
) -> None:
    made = fit(fitting, held, batch_size=batch, steps=steps, physical_batch=cap)
    ordered = processed(held, min(batch, held), steps)
    done = processed(held, made.batch_size, made.steps)
    assert ordered - made.batch_size < done <= ordered <= steps * batch
    assert made.batch_size <= min(fitting, held, cap or held)


UPDATE = {"w": np.arange(20, dtype=np.float32)}


def reply(context: Context, update: dict[str, Any] = UPDATE, **changes: Any) -> Message:
    done = Trained(update, steps=9, examples=288, loss=0.5, squared_loss=0.75, accuracy=0.25, physical_batch=16)
    return answer(asked(**changes), job(), done, {"wall_s": 2.0, "cpu_s": 1.0}, context)


def read(message: Message, like: dict[str, Any] = UPDATE) -> list[float]:
    decoded = decode(to_arrays(message.content.array_records["update"]), like)
    return [float(each) for each in decoded["w"]]


@pytest.fixture
def context() -> Context:
    return Context(1, 11, {}, RecordDict(), {})


def test_the_report_says_what_was_really_done(context: Context) -> None:
    message = reply(context)
    assert read(message) == list(range(20))
    assert dict(message.content.metric_records["report"]) == {
        "num-examples": 288,
        "steps": 9,
        "batch_size": 32,
        "physical_batch": 16,
        "learning_rate": 0.1,
        "train_loss": 0.5,
        "squared_loss": 0.75,
        "accuracy": 0.25,
        "wall_s": 2.0,
        "cpu_s": 1.0,
    }
    assert not context.state.array_records


def test_int8_keeps_all_entries_to_a_level(context: Context) -> None:
    assert read(reply(context, compression="int8")) == pytest.approx(list(range(20)), abs=19 / 127 / 2 + 1e-6)


def test_what_topk_leaves_out_comes_with_the_next_update(context: Context) -> None:
    """Two of twenty entries go; the second time the sums of both updates are what the tenth is taken of."""
    assert read(reply(context, compression="topk")) == pytest.approx([0.0] * 18 + [18, 19], rel=1e-3)
    assert read(reply(context, compression="topk")) == pytest.approx([0.0] * 16 + [32, 34, 0, 0], rel=1e-3)


def test_what_was_left_out_goes_with_a_whole_update_and_is_then_forgotten(context: Context) -> None:
    reply(context, compression="topk")
    whole = read(reply(context, compression="none"))
    assert whole == pytest.approx([2.0 * each for each in range(18)] + [18, 19], rel=1e-3)
    assert not context.state.array_records
    assert read(reply(context)) == list(range(20))


def test_what_a_model_of_another_width_left_out_is_dropped(context: Context) -> None:
    reply(context, compression="topk")
    narrow = {"w": np.ones(10, np.float32)}
    assert read(reply(context, narrow, compression="none"), narrow) == [1.0] * 10
    assert not context.state.array_records
