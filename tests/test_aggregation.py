"""Averages worked out by hand, and updates that must not be averaged."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from motley.aggregation import jain_index, refusal, weighted_average

LIKE: dict[str, Any] = {"w": np.zeros((2, 2), np.float32), "b": np.zeros(2, np.float32)}


def _update(value: float, **changes: Any) -> dict[str, Any]:
    return {"w": np.full((2, 2), value, np.float32), "b": np.full(2, -value, np.float32), **changes}


def test_a_weighted_average_by_hand() -> None:
    averaged = weighted_average([(_update(1.0), 1), (_update(5.0), 3)], LIKE)
    assert_allclose(averaged["w"], np.full((2, 2), 4.0))
    assert_allclose(averaged["b"], [-4.0, -4.0])
    assert {array.dtype for array in averaged.values()} == {np.dtype(np.float32)}


def test_it_sums_in_double_precision() -> None:
    like = {"w": np.zeros(1, np.float32)}
    updates = [({"w": np.array([value], np.float32)}, 1.0) for value in (1e8, 1.0, -1e8, 1.0)]
    assert weighted_average(updates, like)["w"][0] == 0.5


def test_counters_stay_whole_numbers() -> None:
    averaged = weighted_average([({"n": np.array([4])}, 1), ({"n": np.array([8])}, 1)], {"n": np.array([0])})
    assert averaged["n"].tolist() == [6]
    assert averaged["n"].dtype == np.int64


def test_it_takes_updates_as_they_come_and_changes_none() -> None:
    update = _update(2.0)
    weighted_average(iter([(update, 5)]), LIKE)
    assert_allclose(update["w"], 2.0)


@pytest.mark.parametrize("updates", [[], [(_update(1.0), 0)], [(_update(1.0), 1), (_update(2.0), -1)]])
def test_no_weight_is_an_error(updates: list[Any]) -> None:
    with pytest.raises(ValueError, match="nothing to average"):
        weighted_average(updates, LIKE)


@given(st.lists(st.tuples(st.floats(-100, 100, width=32), st.integers(1, 1000)), min_size=1, max_size=8))
def test_an_average_lies_between_the_least_and_the_greatest(pairs: list[tuple[float, int]]) -> None:
    averaged = weighted_average([(_update(value), weight) for value, weight in pairs], LIKE)["w"]
    values = [value for value, _ in pairs]
    assert min(values) - 1e-4 <= averaged.min() <= averaged.max() <= max(values) + 1e-4


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
    assert why in (refusal(_update(1.0, **changes), LIKE) or "accepted")


def test_a_missing_array_is_named() -> None:
    assert refusal({"w": LIKE["w"]}, LIKE) == "arrays differ from the model's: b"
    assert refusal({}, LIKE) == "arrays differ from the model's: b, w"


def test_what_is_not_finite_can_not_hide_in_a_counter() -> None:
    assert refusal({"n": np.array([np.nan])}, {"n": np.array([0])}) == "array 'n' holds values that are not finite"


def test_good_updates_pass_in_any_float_type() -> None:
    assert refusal(_update(1.0), LIKE) is None
    assert refusal(_update(1.0, b=np.array([1.0, 2.0])), LIKE) is None


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50))
def test_jain_lies_between_one_nth_and_one(counts: list[float]) -> None:
    assert 1 / len(counts) - 1e-9 <= jain_index(counts) <= 1 + 1e-9


@pytest.mark.parametrize(
    ("counts", "index"), [([], 1), ([0, 0], 1), ([3, 3, 3], 1), ([5, 0, 0, 0], 0.25), ([1, 2, 3], 36 / 42)]
)
def test_jain_by_hand(counts: list[float], index: float) -> None:
    assert jain_index(counts) == pytest.approx(index)


def test_a_refusal_is_one_line_even_for_odd_names() -> None:
    assert not re.search(r"\n", refusal({"a\nb": np.zeros(1)}, LIKE) or "\n")
