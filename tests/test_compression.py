"""What travels, how large it is, what the other side makes of it, and what it does not believe."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from safetensors.numpy import load, save

from motley.compression import SCHEMES, UPLOAD_SHARE, choose, decode, encode, encoded_bytes, kept_entries

Shapes = dict[str, tuple[int, ...]]

shapes_of_models = st.dictionaries(
    st.text(st.characters(codec="ascii", categories=("L", "Nd")), min_size=1, max_size=8),
    st.lists(st.integers(0, 7), max_size=3).map(tuple),
    max_size=5,
)


def _delta(shapes: Shapes, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {name: np.asarray(rng.standard_normal(shape), np.float32) for name, shape in shapes.items()}


def _sent(delta: dict[str, Any], scheme: str) -> dict[str, Any]:
    return decode(encode(delta, scheme)[0], delta)


@pytest.mark.parametrize("scheme", SCHEMES)
@given(shapes=shapes_of_models)
def test_the_size_is_known_beforehand(scheme: str, shapes: Shapes) -> None:
    encoded, _ = encode(_delta(shapes), scheme)
    assert sum(array.nbytes for array in encoded.values()) == encoded_bytes(shapes, scheme)


@pytest.mark.parametrize("scheme", SCHEMES)
@given(shapes=shapes_of_models)
def test_names_shapes_and_types_come_back(scheme: str, shapes: Shapes) -> None:
    delta = _delta(shapes)
    sent = _sent(delta, scheme)
    assert {name: (array.shape, array.dtype) for name, array in sent.items()} == {
        name: (array.shape, array.dtype) for name, array in delta.items()
    }


@pytest.mark.parametrize("scheme", SCHEMES)
def test_it_survives_a_safetensors_file(scheme: str) -> None:
    delta = _delta({"a": (30, 4), "b": (7,)})
    encoded, _ = encode(delta, scheme)
    loaded = decode(load(save(encoded)), delta)
    for name, array in _sent(delta, scheme).items():
        assert_array_equal(loaded[name], array)


def test_ratios_on_a_model_of_usual_size() -> None:
    shapes: Shapes = {"w": (64, 512), "b": (64,)}
    plain = encoded_bytes(shapes, "none")
    assert plain / encoded_bytes(shapes, "int8") > 3.99
    assert plain / encoded_bytes(shapes, "topk") > 12.2


def test_none_is_exact() -> None:
    delta = _delta({"a": (5, 3)})
    assert_array_equal(_sent(delta, "none")["a"], delta["a"])


def test_int8_by_hand() -> None:
    delta = {"a": np.array([1.27, -0.63, 0.004, 0.006], np.float32), "z": np.zeros(2, np.float32)}
    encoded, residual = encode(delta, "int8")
    assert encoded["int8.values"].tolist() == [127, -63, 0, 1, 0, 0]
    assert_allclose(encoded["int8.scales"], [0.01, 0])
    assert_allclose(decode(encoded, delta)["a"], [1.27, -0.63, 0, 0.01], rtol=1e-6)
    assert residual is None


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=30))
def test_int8_is_off_by_half_a_level_at_most(values: list[float]) -> None:
    delta = {"a": np.array(values, np.float32)}
    level = np.abs(delta["a"]).max() / 127
    assert np.abs(_sent(delta, "int8")["a"] - delta["a"]).max() <= 0.5001 * level + 1e-37


def test_topk_sends_the_greatest_tenth_of_the_whole_model() -> None:
    delta = {"a": np.arange(15, dtype=np.float32), "b": np.array([-100, 0, 3, 0, 0], np.float32)}
    sent = _sent(delta, "topk")
    assert np.flatnonzero(sent["a"]).tolist() == [14]
    assert sent["b"].tolist() == [-100, 0, 0, 0, 0]
    assert sent["a"][14] == pytest.approx(14, rel=1e-3)


def test_counts_of_whole_numbers_are_rounded() -> None:
    delta = {"n": np.array([100, 3]), "w": np.zeros(3, np.float32)}
    assert _sent(delta, "int8")["n"].tolist() == [100, 3]
    assert _sent(delta, "topk")["n"].dtype == np.int64


def test_topk_loses_nothing_for_good() -> None:
    shapes: Shapes = {"a": (40,), "b": (3, 20)}
    rounds = [_delta(shapes, seed) for seed in range(6)]
    residual, received = None, {name: np.zeros(shape) for name, shape in shapes.items()}
    for delta in rounds:
        encoded, residual = encode(delta, "topk", residual)
        for name, array in decode(encoded, delta).items():
            received[name] += array
    assert residual is not None
    for name in shapes:
        assert_allclose(received[name] + residual[name], sum(delta[name] for delta in rounds), atol=1e-5)


@pytest.mark.parametrize("scheme", ["none", "int8"])
def test_another_scheme_sends_what_topk_left(scheme: str) -> None:
    delta = _delta({"a": (40,)})
    encoded, residual = encode(delta, "topk")
    rest, after = encode({"a": np.zeros(40, np.float32)}, scheme, residual)
    assert after is None
    together = decode(encoded, delta)["a"] + decode(rest, delta)["a"]
    assert_allclose(together, delta["a"], atol=0.02)


def test_a_residual_of_another_width_is_dropped() -> None:
    _, residual = encode(_delta({"a": (40,)}), "topk")
    narrow = _delta({"a": (20,)})
    assert_array_equal(encode(narrow, "none", residual)[0]["a"], narrow["a"])


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_what_is_not_finite_is_refused_and_leaves_no_residual(scheme: str, value: float) -> None:
    delta = {"a": np.array([1.0, value] * 10)}
    encoded, residual = encode(delta, scheme)
    assert residual is None
    with pytest.raises(ValueError, match="not finite"):
        decode(encoded, {"a": np.zeros(20, np.float32)})


LIKE = {"a": np.zeros((4, 5), np.float32)}
GOOD = {scheme: encode(_delta({"a": (4, 5)}), scheme)[0] for scheme in SCHEMES}


@pytest.mark.parametrize(
    ("scheme", "changes", "why"),
    [
        ("none", {"a": np.zeros((5, 4), np.float32)}, "array 'a' has shape (5, 4), the model has (4, 5)"),
        ("none", {"b": np.zeros(1)}, "arrays differ from the model's: b"),
        (
            "int8",
            {"int8.values": np.zeros(19, np.int8)},
            "'int8.values' is int8 of shape (19,), not int8 of shape (20,)",
        ),
        ("int8", {"int8.values": np.zeros(20, np.int16)}, "'int8.values' is int16 of shape (20,)"),
        ("int8", {"int8.scales": np.array([np.nan], np.float32)}, "'int8.scales' holds values that are not finite"),
        ("int8", {"int8.scales": np.array([3e38], np.float32)}, "array 'a' holds values that are not finite"),
        ("int8", {"int8.scales": np.zeros(2, np.float32)}, "'int8.scales' is float32 of shape (2,)"),
        ("int8", {"int8.scales": np.array(1, np.float32)}, "'int8.scales' is float32 of shape ()"),
        ("int8", {"a": LIKE["a"]}, "arrays differ from the model's: int8.scales, int8.values"),
        ("topk", {"topk.mask": np.full(3, 255, np.uint8)}, "'topk.mask' marks 24 of 20 entries, not 2"),
        ("topk", {"topk.mask": np.array([128, 0, 1], np.uint8)}, "'topk.mask' marks 2 of 20 entries, not 2"),
        ("topk", {"topk.mask": np.zeros(3, np.uint8)}, "'topk.mask' marks 0 of 20 entries, not 2"),
        ("topk", {"topk.mask": np.zeros(4, np.uint8)}, "'topk.mask' is uint8 of shape (4,)"),
        ("topk", {"topk.values": np.array([1, np.inf], np.float16)}, "'topk.values' holds values that are not finite"),
        ("topk", {"topk.values": np.zeros(20, np.float16)}, "'topk.values' is float16 of shape (20,)"),
        ("topk", {"topk.scale": np.array([np.inf], np.float32)}, "'topk.scale' holds values that are not finite"),
        ("topk", {"topk.scale": np.array(["x"])}, "'topk.scale' is <U1 of shape (1,)"),
    ],
)
def test_damaged_updates_are_refused_in_one_line(scheme: str, changes: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)) as refused:
        decode({**GOOD[scheme], **changes}, LIKE)
    assert "\n" not in str(refused.value)


def test_an_update_for_another_width_is_refused() -> None:
    for scheme in SCHEMES:
        with pytest.raises(ValueError, match="array"):
            decode(GOOD[scheme], {"a": np.zeros((2, 5), np.float32)})


@given(st.integers(0, 10_000))
def test_topk_sends_at_least_a_tenth(entries: int) -> None:
    assert 0.1 * entries <= kept_entries(entries) <= 0.1 * entries + 1


@pytest.mark.parametrize(
    ("up_bits_per_s", "compute_s", "scheme"),
    [
        (0.0, 10.0, "none"),  # a link that nothing slows down
        (8_000_000, 10.0, "none"),  # 1 s of upload beside 10
        (8_000_000, 8.0, "int8"),  # 1 s beside 8
        (800_000, 3.0, "int8"),  # 10 s, 2.5 as int8
        (800_000, 2.0, "topk"),
        (800_000, 0.0, "topk"),
    ],
)
def test_auto_goes_by_the_share_of_the_upload(up_bits_per_s: float, compute_s: float, scheme: str) -> None:
    assert choose("auto", up_bits_per_s, 1_000_000, compute_s) == scheme
    assert choose("int8", up_bits_per_s, 1_000_000, compute_s) == "int8"


@given(st.floats(1e3, 1e9), st.floats(1.0, 100.0), st.floats(0, 1000))
def test_a_slower_link_never_gets_a_larger_scheme(rate: float, slower: float, compute_s: float) -> None:
    fast, slow = (SCHEMES.index(choose("auto", each, 10**6, compute_s)) for each in (rate, rate / slower))
    assert fast <= slow


@pytest.mark.parametrize("scheme", sorted(UPLOAD_SHARE))
def test_an_update_travels_in_the_share_of_its_size_that_is_said(scheme: str) -> None:
    plain = {"w": np.random.default_rng(0).standard_normal((1000, 64)).astype(np.float32)}
    encoded, _ = encode(plain, scheme, None)
    sent = sum(each.nbytes for each in encoded.values()) / plain["w"].nbytes
    assert sent == pytest.approx(UPLOAD_SHARE[scheme], rel=0.02)
