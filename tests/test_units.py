"""Text with units: what is written reads back, what is wrong says what would be right."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motley import units

PAIRS: dict[str, tuple[Callable[[object], float], Callable[[float], str], tuple[str, ...]]] = {
    "bytes": (units.parse_bytes, units.format_bytes, ("b", "k", "m", "g", "t", "kb", "MiB", "GB")),
    "rate": (units.parse_bits_per_s, units.format_bits_per_s, ("bit", "kbit", "mbit", "Gbit")),
    "seconds": (units.parse_seconds, units.format_seconds, ("ms", "s", "m", "h")),
    "energy": (units.parse_watt_hours, units.format_watt_hours, ("mwh", "wh", "kWh")),
}
numbers = st.builds(
    lambda whole, part: f"{whole}.{part}" if part else whole,
    st.from_regex(r"[0-9]{1,6}", fullmatch=True),
    st.from_regex(r"([0-9]{1,6})?", fullmatch=True),
)


@pytest.mark.parametrize("kind", PAIRS)
@given(data=st.data(), number=numbers)
def test_what_is_read_reads_back(kind: str, data: st.DataObject, number: str) -> None:
    parse, form, known = PAIRS[kind]
    value = parse(f"{number}{data.draw(st.sampled_from(known))}")
    assert parse(form(value)) == value


@given(st.integers(0, 2**50))
def test_every_number_of_bytes_reads_back(value: int) -> None:
    assert units.parse_bytes(units.format_bytes(value)) == value


@given(st.floats(0, 1e9))
def test_a_formatted_time_has_no_exponent_and_reads_back_nearly(value: float) -> None:
    text = units.format_seconds(value)
    assert re.fullmatch(r"\d+(\.\d+)?(ms|s)", text)
    assert units.parse_seconds(text) == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (units.parse_bytes, "512m", 512 * 1024**2),
        (units.parse_bytes, " 1.5 GiB ", 1536 * 1024**2),
        (units.parse_bytes, "3G", 3 * 1024**3),
        (units.parse_bits_per_s, "6mbit", 6e6),
        (units.parse_seconds, "20ms", 0.02),
        (units.parse_seconds, "1.5h", 5400.0),
        (units.parse_seconds, "5m", 300.0),
        (units.parse_watt_hours, "2kwh", 2000.0),
    ],
)
def test_parses(parse: Callable[[object], float], text: str, value: float) -> None:
    assert parse(text) == pytest.approx(value)


@pytest.mark.parametrize(
    ("form", "value", "text"),
    [
        (units.format_bytes, 512 * 1024**2, "512m"),
        (units.format_bytes, 1024**3, "1g"),
        (units.format_bytes, 1536 * 1024**2, "1536m"),
        (units.format_bytes, 1025, "1025b"),
        (units.format_bits_per_s, 6e6, "6mbit"),
        (units.format_bits_per_s, 1.5e6, "1500kbit"),
        (units.format_bits_per_s, 0.5, "0.5bit"),
        (units.format_seconds, 0.0, "0s"),
        (units.format_seconds, 0.02, "20ms"),
        (units.format_seconds, 90.0, "90s"),
        (units.format_seconds, 1234567.0, "1234567s"),
        (units.format_seconds, 12345.678, "12345.678s"),
        (units.format_watt_hours, 15.0, "15wh"),
        (units.format_watt_hours, 1234567.0, "1234567wh"),
        (units.mebibytes, 512 * 1024**2, "512 MiB"),
    ],
)
def test_formats(form: Callable[[float], str], value: float, text: str) -> None:
    assert form(value) == text


@pytest.mark.parametrize(
    ("parse", "text", "advice"),
    [
        (units.parse_bytes, 512, "512 has no unit; write it like '512m'"),
        (units.parse_bytes, "512", "'512' has no unit"),
        (units.parse_bytes, "3gbb", "did you mean 'gb'?"),
        (units.parse_bytes, "-3g", "'-3g' is not a number with a unit"),
        (units.parse_bytes, True, "True is not a number with a unit"),
        (units.parse_bytes, None, "None is not a number with a unit"),
        (units.parse_bytes, "1e3m", "not a number with a unit"),
        (units.parse_bytes, "nang", "not a number with a unit"),
        (units.parse_bytes, "1" * 21 + "b", "not a number with a unit"),
        (units.parse_bits_per_s, "6mbps", "did you mean '6mbit'?"),
        (units.parse_bits_per_s, "6MB/s", "did you mean '6mbit'?"),
        (units.parse_bits_per_s, "6m", "did you mean '6mbit'?"),
        (units.parse_bits_per_s, "6mbits", "did you mean 'mbit'?"),
        (units.parse_bits_per_s, 6.5, "6.5 has no unit; write it like '6mbit'"),
        (units.parse_seconds, "5min", "did you mean '5m'?"),
        (units.parse_seconds, "5sec", "did you mean '5s'?"),
        (units.parse_seconds, 30, "write it like '30s'"),
        (units.parse_watt_hours, "15w", "did you mean '15wh'?"),
        (units.parse_watt_hours, "15xyz", "known: kwh, mwh, wh"),
    ],
)
def test_refuses_and_says_what_is_right(parse: Callable[[object], float], text: object, advice: str) -> None:
    with pytest.raises(ValueError, match=re.escape(advice)):
        parse(text)
