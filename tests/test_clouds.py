"""What the cloud providers share."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest
from factories import ROOT

from motley.errors import InputError
from motley.providers import aws, gcp, lambda_cloud
from motley.providers.cloud import COMMON_OPTIONS, Options, failure, is_loopback, number_of

KNOWN = {"key": "${KEY}", "name": "", "rate": "1"}


def options(given: Mapping[str, str], environment: Mapping[str, str]) -> Options:
    return Options("aws", given, environment, KNOWN, ("key",))


def test_references_are_resolved_and_defaults_may_be_unset() -> None:
    found = options({"name": "${A}-${B}"}, {"A": "x", "B": "y", "KEY": "k"})
    assert (found.text("name"), found.text("key"), found.secrets, found.missing) == ("x-y", "k", ("k",), "")
    assert (options({}, {}).text("key"), options({}, {}).missing) == ("", "")
    assert options({"name": "${A}", "key": "${K}"}, {}).missing == "not set in the environment: A, K"


def test_a_credential_may_have_been_resolved_by_the_caller() -> None:
    assert options({"key": "abc"}, {"MY_KEY": "abc"}).secrets == ("abc",)
    with pytest.raises(InputError, match="is a credential"):
        options({"key": "abc"}, {"MY_KEY": "abcd"})


@pytest.mark.parametrize("rate", ["", "0", "-1", "inf", "nan", "1,5", "0x1"])
def test_numbers_are_above_0(rate: str) -> None:
    with pytest.raises(InputError, match="is not a number above 0"):
        options({"rate": rate}, {}).number("rate")


@pytest.mark.parametrize(
    ("url", "is_one"),
    [
        ("http://127.0.0.1:8000", True),
        ("http://localhost", True),
        ("http://[::1]:80/x", True),
        ("https://127.0.0.1", False),
        ("http://localhost.example", False),
        ("http://127.0.0.1@cloud.example", False),
        ("", False),
    ],
)
def test_loopback(url: str, is_one: bool) -> None:
    assert is_loopback(url) is is_one


def test_a_failure_is_one_short_line_without_secrets() -> None:
    said = str(failure(options({}, {"KEY": "s3cret"}), "launch", "a\n  b s3cret " + "c" * 1000))
    assert said.startswith("aws: launch: a b *** ccc")
    assert len(said) < 600
    assert str(failure(options({}, {}), "launch", "")) == "aws: launch: no reason given"


def test_a_tag_that_was_changed_by_hand_counts_as_nothing() -> None:
    assert [number_of(tags, "p") for tags in ({"p": "0.25"}, {"p": "cheap"}, {})] == [0.25, 0.0, 0.0]


@pytest.mark.parametrize("provider", [aws, gcp, lambda_cloud], ids=lambda module: module.__name__)
def test_the_page_names_every_option(provider: object) -> None:
    """Each in the table of its provider, the common ones in the first."""
    page = (ROOT / "docs/clouds.md").read_text(encoding="utf-8")
    common, own = (
        page.split("## Options\n")[1].split("\n### ", 1)[0],
        page.split(f"\n### {provider.__name__[17:]}\n")[1],
    )  # type: ignore[attr-defined]
    assert _first_cells(common) == set(COMMON_OPTIONS)
    assert _first_cells(re.split(r"\n##+ ", own)[0]) == set(provider.OPTIONS) - set(COMMON_OPTIONS)  # type: ignore[attr-defined]


def _first_cells(text: str) -> set[str]:
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return {name for cell in rows for name in re.findall(r"`(\w+)`", cell)}
