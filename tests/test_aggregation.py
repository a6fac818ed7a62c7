"""Every aggregation worked out by hand, and updates that must not be aggregated."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from motley.aggregation import AGGREGATIONS, Terms, Update, refusal
from motley.aggregation.refl import deviation, stale_weight
from motley.fairness import jain_index
from motley.policies import MomentumOptions, Options, REFLOptions
from motley.workload import effective_steps

LIKE: dict[str, Any] = {"w": np.zeros((2, 2), np.float32), "b": np.zeros(2, np.float32)}
PEERS = sorted(AGGREGATIONS.keys() - {"adaptive"})


def _update(value: float, examples: int = 1, **changes: Any) -> Update:
    known: dict[str, Any] = {"steps": 1, "share": 0.1}
    return Update(_delta(value), examples, **{**known, **changes})


def _delta(value: float, **changes: Any) -> dict[str, Any]:
    return {"w": np.full((2, 2), value, np.float32), "b": np.full(2, -value, np.float32), **changes}


def _value(name: str, updates: Sequence[Update], start: float = 0.0, **terms: Any) -> float:
    """The one value of 'w' after aggregating into a model full of `start`."""
    model, _ = AGGREGATIONS[name](_delta(start), updates, Terms(**terms))
    assert np.unique(model["w"]).size == 1
    assert_array_equal(model["b"], -model["w"][0])
    return float(model["w"][0, 0])


def test_fedavg_weighs_by_the_examples_processed() -> None:
    assert _value("fedavg", [_update(1.0, 1), _update(5.0, 3)], start=10.0) == 14.0


def test_fednova_by_hand() -> None:
    updates = [_update(2.0, steps=2, share=0.3), _update(9.0, steps=9, share=0.1)]
    # p = 3/4, 1/4; Σ p·τ = 3.75; Σ p·Δ/τ = 1
    assert _value("fednova", updates) == 3.75


def test_fednova_with_momentum_by_hand() -> None:
    assert effective_steps(1, 0.9) == pytest.approx(1.0)
    assert effective_steps(2, 0.9) == pytest.approx(1 + 1.9)
    assert effective_steps(3, 0.5) == pytest.approx(1 + 1.5 + 1.75)
    assert effective_steps(7, 0.0) == 7
    updates = [_update(2.9, steps=2, share=0.5), _update(1.0, steps=1, share=0.5)]
    assert _value("fednova", updates, momentum=0.9) == pytest.approx(1.95)


def test_fednova_is_fedavg_where_all_do_the_same() -> None:
    updates = [_update(value, value, steps=4, share=value / 10) for value in (1, 3, 6)]
    assert _value("fednova", updates, momentum=0.9) == pytest.approx(_value("fedavg", updates))


def test_fednova_bears_a_device_that_made_no_step() -> None:
    updates = [_update(4.0, steps=4, share=0.5), _update(0.0, 0, steps=0, share=0.5)]
    assert _value("fednova", updates) == 0.5 * 4 * 0.5 * 1


def test_fedbuff_divides_by_how_many_whatever_their_staleness() -> None:
    updates = [_update(4.0, 7), _update(6.0, 1, staleness=3), _update(8.0, 1, staleness=15)]
    assert _value("fedbuff", updates, start=1.0) == 1 + (4 + 3 + 2) / 3


def test_server_momentum_keeps_going() -> None:
    options = MomentumOptions(momentum=0.5, server_rate=2.0)
    model, state = AGGREGATIONS["momentum"](LIKE, [_update(1.0)], Terms(options))
    assert_allclose(model["w"], 2.0)
    assert_allclose(state["velocity"]["w"], 1.0)
    model, state = AGGREGATIONS["momentum"](model, [_update(3.0)], Terms(options, state=state))
    assert_allclose(state["velocity"]["w"], 0.5 * 1 + 3)
    assert_allclose(model["w"], 2 + 2 * 3.5)


def test_an_aggregation_takes_its_defaults_under_another_policys_options() -> None:
    _, state = AGGREGATIONS["momentum"](LIKE, [_update(1.0)], Terms())
    model, _ = AGGREGATIONS["momentum"](LIKE, [_update(0.0)], Terms(Options(), state=state))
    assert_allclose(model["w"], 0.9)


def test_refl_weight_of_a_stale_update_by_hand() -> None:
    options = REFLOptions()
    assert stale_weight(1, 0.0, options) == pytest.approx(0.65 / 2 + 0.35 * 0.9)
    assert stale_weight(4, 1.0, options) == pytest.approx(0.65 / 5 + 0.35 * (1 - math.exp(-1) / 10))


def test_refl_deviation_by_hand() -> None:
    assert deviation({"w": np.array([1.0, 3.0])}, {"w": np.array([2.0, 1.0])}) == (1 + 4) / (4 + 1)
    assert deviation({"w": np.array([1.0])}, {"w": np.array([2.0, 100.0])}) == 1 / 4
    assert deviation({"w": np.array([1.0])}, {"w": np.array([0.0])}) == 0.0


def test_refl_by_hand() -> None:
    updates = [_update(1.0, 10), _update(3.0, 10), _update(4.0, 20, staleness=1), _update(3.0, 10, staleness=3)]
    # the mean of the fresh is 2: Λ is 1 for the first stale one and 1/4 for the second
    first = 20 * (0.65 / 2 + 0.35 * (1 - math.exp(-1) / 10))
    second = 10 * (0.65 / 4 + 0.35 * (1 - math.exp(-0.25) / 10))
    expected = (10 + 30 + first * 4 + second * 3) / (20 + first + second)
    assert _value("refl", updates) == pytest.approx(expected)


def test_refl_bears_a_round_of_stale_updates_alone() -> None:
    assert _value("refl", [_update(2.0, staleness=2), _update(4.0, staleness=2)]) == pytest.approx(3.0)


def test_refl_is_fedavg_where_all_are_fresh() -> None:
    updates = [_update(value, value) for value in (1, 3, 6)]
    assert _value("refl", updates) == _value("fedavg", updates)


@given(st.lists(st.tuples(st.floats(-100, 100, width=32), st.integers(1, 1000)), min_size=1, max_size=8))
def test_fedavg_of_deltas_is_the_average_of_weights(pairs: list[tuple[float, int]]) -> None:
    start = np.float32(7.25)
    total = sum(examples for _, examples in pairs)
    classical = sum(examples * (float(start) + value) for value, examples in pairs) / total
    got = _value("fedavg", [_update(value, examples) for value, examples in pairs], start=float(start))
    assert got == pytest.approx(classical, rel=1e-6, abs=1e-5)


@pytest.mark.parametrize("name", PEERS)
@given(value=st.floats(-100, 100, width=32), copies=st.integers(1, 5), steps=st.integers(1, 50))
def test_equal_fresh_updates_make_that_step(name: str, value: float, copies: int, steps: int) -> None:
    updates = [_update(value, 10, steps=steps)] * copies
    assert _value(name, updates, momentum=0.9) == pytest.approx(value, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("name", PEERS)
def test_the_model_keeps_its_types_and_nothing_given_changes(name: str) -> None:
    model = {"w": np.ones(2, np.float32), "half": np.ones(2, np.float16), "n": np.array(4)}
    delta = {"w": np.ones(2, np.float32), "half": np.ones(2, np.float16), "n": np.array(3)}
    updates = [Update(delta, 1, 1, share=0.1), Update({**delta, "n": np.array(4)}, 1, 1, share=0.1)]
    after, _ = AGGREGATIONS[name](model, updates, Terms())
    assert [after[each].dtype for each in model] == [array.dtype for array in model.values()]
    assert [after[each].shape for each in model] == [array.shape for array in model.values()]
    assert after["n"] == 8
    assert all(isinstance(array, np.ndarray) for array in after.values())
    assert model["w"].tolist() == delta["w"].tolist() == [1.0, 1.0]


def test_sums_are_in_double_precision() -> None:
    like = {"w": np.zeros(1, np.float32)}
    updates = [Update({"w": np.array([value], np.float32)}, 1, 1) for value in (1e8, 1.0, -1e8, 1.0)]
    assert AGGREGATIONS["fedavg"](like, updates, Terms())[0]["w"][0] == 0.5


@pytest.mark.parametrize("name", PEERS)
def test_no_update_is_an_error(name: str) -> None:
    with pytest.raises(ValueError, match="the weights sum to 0; there is nothing to average"):
        AGGREGATIONS[name](LIKE, [], Terms())


@pytest.mark.parametrize("name", ["fedavg", "momentum", "refl", "fednova"])
def test_updates_without_weight_are_an_error(name: str) -> None:
    with pytest.raises(ValueError, match="nothing to average"):
        AGGREGATIONS[name](LIKE, [_update(1.0, 0, share=0.0)], Terms())


def _narrow(value: float, **changes: Any) -> Update:
    delta = {"w": np.full((2, 1), value, np.float32), "b": np.full(1, value, np.float32)}
    return Update(delta, **{"examples": 1, "steps": 1, "share": 0.1, "width": 0.5, **changes})


def test_each_entry_is_averaged_over_those_who_hold_it() -> None:
    whole = Update(_delta(6.0, b=np.array([6, 6], np.float32)), 1, 1)
    model, _ = AGGREGATIONS["fedavg"](LIKE, [_narrow(2.0, examples=3), whole], Terms())
    assert_allclose(model["w"], [[3, 6], [3, 6]])
    assert_allclose(model["b"], [3, 6])


def test_fednova_of_two_widths_by_hand() -> None:
    whole = Update(_delta(6.0, b=np.array([6, 6], np.float32)), 1, steps=6, share=0.1)
    model, _ = AGGREGATIONS["fednova"](LIKE, [_narrow(2.0, steps=2, share=0.3), whole], Terms())
    assert_allclose(model["b"], [(0.75 * 2 + 0.25 * 6) * 1, 6])


def test_fedbuff_of_two_widths_by_hand() -> None:
    whole = Update(_delta(6.0, b=np.array([6, 6], np.float32)), 1, 1, staleness=3)
    model, _ = AGGREGATIONS["fedbuff"](LIKE, [_narrow(2.0), whole], Terms())
    assert_allclose(model["b"], [(2 + 3) / 2, 3])


@pytest.mark.parametrize("name", PEERS)
def test_what_nobody_holds_stays_as_it_is(name: str) -> None:
    start = _delta(1.5, b=np.array([1.5, 1.5], np.float32))
    model, _ = AGGREGATIONS[name](start, [_narrow(2.0), _narrow(2.0, staleness=0)], Terms())
    assert_allclose(model["w"], [[3.5, 1.5], [3.5, 1.5]])
    assert_allclose(model["b"], [3.5, 1.5])


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"w": np.zeros((2, 3), np.float32)}, "array 'w' has shape (2, 3), the model has (2, 2)"),
        ({"w": np.zeros(4, np.float32)}, "array 'w' has shape (4,)"),
        ({"b": np.array([1, np.nan], np.float32)}, "array 'b' holds values that are not finite"),
        ({"b": np.array([1, -np.inf], np.float32)}, "array 'b' holds values that are not finite"),
        ({"b": np.array([1, 1e300])}, "array 'b' holds values that are not finite"),
        ({"b": np.array(["a", "b"])}, "not numbers"),
        ({"b": np.array([None, None])}, "not numbers"),
        ({"b": np.array([1j, 2j])}, "array 'b' holds complex128, not numbers"),
        ({"extra": np.zeros(1)}, "arrays differ from the model's: extra"),
    ],
)
def test_bad_updates_are_refused_with_the_array_named(changes: dict[str, Any], why: str) -> None:
    assert why in (refusal(_delta(1.0, **changes), LIKE) or "accepted")


def test_a_narrower_update_is_refused_where_the_whole_is_expected() -> None:
    assert refusal(_narrow(1.0).delta, LIKE) == "array 'w' has shape (2, 1), the model has (2, 2)"


def test_a_missing_array_is_named() -> None:
    assert refusal({"w": LIKE["w"]}, LIKE) == "arrays differ from the model's: b"
    assert refusal({}, LIKE) == "arrays differ from the model's: b, w"


def test_what_is_not_finite_can_not_hide_in_a_counter() -> None:
    assert refusal({"n": np.array([np.nan])}, {"n": np.array([0])}) == "array 'n' holds values that are not finite"


def test_good_updates_pass_in_any_float_type() -> None:
    assert refusal(_delta(1.0), LIKE) is None
    assert refusal(_delta(1.0, b=np.array([1.0, 2.0])), LIKE) is None


def test_a_refusal_is_one_line_even_for_odd_names() -> None:
    assert not re.search(r"\n", refusal({"a\nb": np.zeros(1)}, LIKE) or "\n")


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50))
def test_jain_lies_between_one_nth_and_one(counts: list[float]) -> None:
    assert 1 / len(counts) - 1e-9 <= jain_index(counts) <= 1 + 1e-9


@pytest.mark.parametrize(
    ("counts", "index"), [([], 1), ([0, 0], 1), ([3, 3, 3], 1), ([5, 0, 0, 0], 0.25), ([1, 2, 3], 36 / 42)]
)
def test_jain_by_hand(counts: list[float], index: float) -> None:
    assert jain_index(counts) == pytest.approx(index)
