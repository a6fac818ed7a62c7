"""What an order says of batch and rate: pinned, by rule, or left to the device, and capped after a kill."""

from __future__ import annotations

import math
from typing import Any

import pytest
from factories import MIB, fleet, known, outcome, profile, task_figures

from motley.device import DeviceProfile, Outcome, WorkOrder
from motley.errors import InputError
from motley.fleetfile import parse_fleet
from motley.knowledge import Knowledge
from motley.local_work import Estimate
from motley.sizing import order_for
from motley.spec import FIT, Fleet, Training

TASK = task_figures(learning_rate=0.1, bytes_per_example=MIB, model_bytes=MIB)


def ordered(training: dict[str, Any], knowledge: Knowledge | None = None, **device: Any) -> WorkOrder:
    """The first device's order under a policy of fixed work."""
    of = {"policy": "random", **training}
    knowledge = knowledge or devices(profile(**device))
    return order_for(Training.model_validate(of), knowledge, 0, Estimate(1.0, 0.001, 1.0), 60.0, None)


def devices(*profiles: DeviceProfile) -> Knowledge:
    return known(*profiles, task=TASK)


def test_a_batch_that_fits_begins_where_the_recipe_lets_us_expect_it() -> None:
    """Of 512 MiB, 80 % are 409.6; 336 + 4 + 8 are the floor, the model and its copies, and the smallest batch."""
    order = ordered({"batch_size": "fit"})
    assert (order.fit, order.batch_size, order.physical_batch) == (True, 60, 0)
    assert order.learning_rate == pytest.approx(0.1 * math.sqrt(60 / 32))
    assert order.steps == 7


def test_a_batch_that_fits_is_no_more_than_the_device_holds() -> None:
    assert ordered({"batch_size": "fit"}, memory_bytes=2048 * MIB, examples=50).batch_size == 50


def test_what_a_class_pins_is_not_left_to_the_device() -> None:
    order = ordered({"batch_size": "fit"}, pinned_batch_size=16, pinned_learning_rate=0.3)
    assert (order.fit, order.batch_size, order.learning_rate) == (False, 16, 0.3)


def test_a_pinned_rate_is_not_scaled_by_the_device_either() -> None:
    order = ordered({"batch_size": "fit", "learning_rate": 0.3})
    assert (order.fit, order.learning_rate, order.rate_scaling) == (True, 0.3, "none")


@pytest.mark.parametrize("batch_size", ["auto", 64])
def test_other_batches_are_not_left_to_the_device(batch_size: Any) -> None:
    order = ordered({"batch_size": batch_size})
    assert (order.fit, order.physical_batch, order.rate_scaling) == (False, 0, "sqrt")


@pytest.mark.parametrize("batch_size", ["fit", "auto"])
def test_after_each_kill_a_device_gets_half_and_may_hold_no_more(batch_size: Any) -> None:
    knowledge = devices(profile())
    before = ordered({"batch_size": batch_size}, knowledge).batch_size
    for halved in (before // 2, before // 4, before // 8):
        order = ordered({"batch_size": batch_size}, knowledge)
        knowledge.learn(outcome(kind=Outcome.OUT_OF_MEMORY, batch_size=order.batch_size))
        order = ordered({"batch_size": batch_size}, knowledge)
        assert (order.batch_size, order.physical_batch) == (halved, halved)


def test_a_pinned_batch_stays_and_is_held_in_ever_smaller_pieces() -> None:
    knowledge = devices(profile())
    for piece in (32, 16, 8):
        knowledge.learn(outcome(kind=Outcome.OUT_OF_MEMORY, batch_size=64))
        order = ordered({"batch_size": 64}, knowledge)
        assert (order.batch_size, order.physical_batch) == (64, piece)


def test_a_linear_rate_warms_up_over_five_epochs_of_the_run() -> None:
    knowledge, rates = devices(profile()), []
    for number in range(1, 5):
        rates.append(ordered({"batch_size": 128, "rate_scaling": "linear", "local_epochs": 2}, knowledge))
        knowledge.select([0], number)
    assert [each.learning_rate for each in rates] == pytest.approx([0.1, 0.1 + 0.3 * 0.4, 0.1 + 0.3 * 0.8, 0.4])
    assert [each.warm_up for each in rates] == pytest.approx([0, 0.4, 0.8, 1])


def test_fit_is_read_and_written() -> None:
    made = fleet(training={"batch_size": "fit", "rate_scaling": "linear"})
    assert made.training.batch_size == FIT
    assert made.as_mapping()["training"]["batch_size"] == "fit"
    assert Fleet.model_validate_json(made.model_dump_json()) == made


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{batch_size: 0}", "a batch of 0 learns nothing; write a number from 1, 'auto' or 'fit'"),
        ("{batch_size: fat}", "'fat' is neither a number, 'auto' nor 'fit'"),
        ("{rate_scaling: cubic}", "rate_scaling"),
    ],
)
def test_what_is_neither_is_refused(text: str, told: str) -> None:
    file = f"name: tiny\ntraining: {text}\nclasses: {{one: {{cpus: 1, memory: 1g}}}}\n"
    with pytest.raises(InputError, match=told):
        parse_fleet(file.encode())


def test_what_is_expected_counts_the_upload_as_it_travels() -> None:
    """A model of a megabyte at 8 Mbit/s takes a second, a quarter of that in whole numbers of eight bits."""
    slow = {"up_bits_per_s": 8e6, "down_bits_per_s": 8e6}
    plain, small = (ordered({"compression": scheme}, **slow) for scheme in ("none", "int8"))
    assert (plain.expected_s or 0.0) - (small.expected_s or 0.0) == pytest.approx(0.75, rel=0.02)
