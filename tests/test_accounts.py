"""The accounts file: what it says, what is wrong with it, and that no key gets in or out."""

from __future__ import annotations

import math
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from factories import ROOT
from hypothesis import given
from hypothesis import strategies as st

from motley.accounts import Account
from motley.accounts_file import AccountsFileError, added, make_account, parse_accounts, read_accounts
from motley.budgets import Billing, Budget
from motley.credentials import broken_reference, looks_like_key, with_keyring
from motley.errors import InputError
from motley.providers import PROVIDERS
from motley.shutdown import Nightly, Shutdown

BERLIN = ZoneInfo("Europe/Berlin")
EXAMPLE = ROOT / "config" / "accounts.example.yaml"

FULL = b"""\
# Ours.
accounts:
  lab-aws:
    provider: aws
    options: {regions: eu-central-1, spot_margin: 0.2, secret_key: "${AWS_SECRET}"}
    monthly: {hours: 200, usd: 150}
    time_zone: Europe/Berlin
    warn_at: 0.7
    stop_at: 0.9
    eligibility: {evidence: a@uni.example, until: 2027-03-31}
    rounding: {increment: 60s, minimum: 5m}
    shutdown: {idle: 15m, nightly: "22:00-06:00"}
  host:
    provider: docker
    monthly: unlimited
    eligibility: {evidence: our own}

# The end.
"""

# Keys as their makers write them, but not anyone's.
KEYS = [
    "AKIA" + "IOSFODNN7EXAMPLE",
    "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "AIza" + "SyA1234567890abcdefghijklmnopqrstuv",
    "secret_lab_" + "0123456789abcdef0123456789abcdef",
    "-----BEGIN RSA PRIVATE KEY-----",
    "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0",
    "https://lab:hunter22@docker.example:2376",
    "0123456789abcdef0123456789abcdef",
]
PLAIN = [
    "eu-central-1",
    "projects/debian-cloud/global/images/family/debian-12",
    "resolve:ssm:/aws/service/ecs/optimized-ami/amazon-linux-2023/recommended/image_id",
    "ami-0123456789abcdef0",
    "subnet-0123456789abcdef0,subnet-0123456789abcdef1",
    "ghcr.io/lab/motley@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "approval of 2026-04-01, professor A. Name (a.name@uni.example)",
    "/home/lab/.config/gcloud/application_default_credentials.json",
    "t3.small,t3.medium,m7i.large,m7i.xlarge,c7i.2xlarge,g4dn.xlarge,g5.xlarge",
    "https://docker.example:2376/path",
    "ssh://lab@docker.example",
    "99999999999999999999999999999999",
]


def test_an_account_as_the_launcher_needs_it() -> None:
    accounts = parse_accounts(FULL)
    lab, host = accounts["lab-aws"], accounts["host"]
    assert lab.budget == Budget(BERLIN, 200, 150, 0.7, 0.9)
    assert lab.billing == Billing(60, 300)
    assert lab.stops == Shutdown(BERLIN, 900, Nightly(1320, 360))
    assert lab.options == {"regions": "eu-central-1", "spot_margin": "0.2", "secret_key": "${AWS_SECRET}"}
    assert lab.eligibility.until == date(2027, 3, 31)
    assert host.budget == Budget(ZoneInfo("UTC"), math.inf, math.inf, 0.8, 1.0)
    assert host.stops == Shutdown(ZoneInfo("UTC"))


@pytest.mark.parametrize(
    ("provider", "billing"), [("aws", Billing(1, 60)), ("lambda_cloud", Billing(60, 60)), ("docker", Billing(1, 0))]
)
def test_providers_round_time_as_they_say(provider: str, billing: Billing) -> None:
    assert make_account("a", {**ACCOUNT, "provider": provider}).billing == billing


def test_every_provider_can_have_an_account() -> None:
    for provider in PROVIDERS:
        assert make_account("a", {**ACCOUNT, "provider": provider}).billing.increment_s > 0


def test_the_example_reads_and_shows_all_real_providers() -> None:
    accounts = read_accounts(EXAMPLE)
    assert {each.provider for each in accounts.values()} == set(PROVIDERS) - {"fake"}
    assert not any(each.not_eligible(datetime(2026, 12, 1, tzinfo=UTC).timestamp()) for each in accounts.values())


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="can't read the accounts file: No such file or directory; begin with a copy"):
        read_accounts(tmp_path / "none.yaml")


ACCOUNT: dict[str, Any] = {"provider": "aws", "monthly": {"hours": 5}, "eligibility": {"evidence": "ours"}}
GOOD = "accounts:\n  lab:\n    provider: aws\n    monthly: {usd: 5}\n    eligibility: {evidence: ours}\n"

BAD: dict[str, tuple[str, int, str]] = {
    "unknown provider": (GOOD.replace("aws", "awss"), 3, "provider 'awss' is not known; did you mean 'aws'?"),
    "unknown key": (GOOD + "    timezone: UTC\n", 6, "unknown key 'timezone'; did you mean 'time_zone'?"),
    "unknown key below": (GOOD.replace("usd", "dollars"), 4, "unknown key 'dollars'; known: hours, usd"),
    "unknown key above": ("account: {}\n", 1, "'accounts' is missing; add it"),
    "no budget": (GOOD.replace("    monthly: {usd: 5}\n", ""), 2, "'monthly' is missing; add it"),
    "empty budget": (GOOD.replace("{usd: 5}", "{}"), 4, "monthly limits nothing; write hours, usd or both"),
    "nothing said": (GOOD.replace("{usd: 5}", ""), 4, "monthly is empty; write hours, usd or both below it"),
    "negative": (GOOD.replace("usd: 5", "usd: -5"), 4, "usd '-5': must be greater than or equal to 0"),
    "no evidence": (GOOD.replace("{evidence: ours}", "{until: 2027-01-01}"), 5, "'evidence' is missing; add it"),
    "no day": (GOOD.replace("ours", "ours, until: soon"), 5, "until: 'soon' is not a day; write it like 2027-03-31"),
    "no zone": (GOOD + "    time_zone: Europe/Berln\n", 6, "is not a time zone; did you mean 'Europe/Berlin'?"),
    "a path as zone": (GOOD + "    time_zone: ../etc/passwd\n", 6, "'../etc/passwd' is not a time zone"),
    "shares": (GOOD + "    warn_at: 0.9\n    stop_at: 0.5\n", 6, "warn_at 0.9 is above stop_at 0.5; swap them"),
    "stop above all": (GOOD + "    stop_at: 1.5\n", 6, "stop_at '1.5': must be less than or equal to 1"),
    "window": (GOOD + "    shutdown: {nightly: 22-6}\n", 6, "nightly: '22-6' is not a window of the day"),
    "idle": (GOOD + "    shutdown: {idle: 15}\n", 6, "idle: 15 has no unit; write it like '30s'"),
    "shutdown": (GOOD + "    shutdown: {}\n", 6, "shutdown does nothing; write idle, nightly or both"),
    "option": (GOOD + "    options:\n      a: [1]\n", 7, "option 'a' must be a text or a number"),
    "reference": (GOOD + "    options:\n      a: $X\n", 7, "option 'a' is not a reference to a variable"),
    "keyring": (GOOD + "    options:\n      a: keyring:x\n", 7, "option 'a' is not a reference to the keyring"),
    "name": (GOOD.replace("lab", "Lab"), 2, "'Lab' is not a name; use lower-case letters"),
    "twice": (GOOD + "  lab: {}\n", 6, "key 'lab' stands twice"),
    "not YAML": ("accounts: {\n", 2, "not valid YAML"),
    "a list": ("- 1\n", 1, "an accounts file is a mapping with 'accounts'"),
    "alias": (GOOD + "  b: &b 1\n  c: *b\n", 7, "alias '*b': an accounts file has no aliases; write it out"),
    "documents": (GOOD + "---\na: 1\n", 6, "write all accounts under one 'accounts'"),
}


@pytest.mark.parametrize(("text", "line", "message"), BAD.values(), ids=BAD.keys())
def test_what_is_wrong_is_told_with_its_line(text: str, line: int, message: str) -> None:
    with pytest.raises(AccountsFileError) as raised:
        parse_accounts(text.encode(), "a.yaml")
    assert str(raised.value).startswith(f"a.yaml:{line}: ")
    assert message in str(raised.value)
    assert "fleet" not in str(raised.value)


# Keys


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(
    "place",
    [
        "    options:\n      # so\n      regions: {key!r}\n",
        "    time_zone: {key!r}\n",
        "    warn_at: {key!r}\n",
        "    {key!r}: 1\n",
    ],
    ids=["option", "another key", "a number", "as key"],
)
def test_a_key_is_refused_with_its_line_and_never_quoted(key: str, place: str) -> None:
    text = GOOD + place.format(key=key)
    with pytest.raises(AccountsFileError) as raised:
        parse_accounts(text.encode(), "a.yaml")
    assert str(raised.value).startswith(f"a.yaml:{len(text.splitlines())}: ")
    assert key not in str(raised.value)
    assert "like a key; keep it in the environment and write '${NAME}'" in str(raised.value)


def test_a_key_in_a_comment_or_in_what_is_not_even_yaml_is_refused_first() -> None:
    for text in (GOOD + f"# {KEYS[0]}\n", f"accounts: [{KEYS[0]}\n"):
        with pytest.raises(AccountsFileError, match=r":\d: this line holds what looks like a key") as raised:
            parse_accounts(text.encode())
        assert KEYS[0] not in str(raised.value)


@pytest.mark.parametrize("before", ["lab:", "key=", "the key is ", "'"])
def test_a_key_within_a_text_is_seen(before: str) -> None:
    assert looks_like_key("evidence", f"{before}{KEYS[1]}")


@pytest.mark.parametrize("name", ["api_key", "secret", "aws_secret_access_key", "access_key_id", "password", "token"])
def test_whatever_an_option_with_a_secret_name_holds_is_a_key_unless_it_is_a_reference(name: str) -> None:
    with pytest.raises(AccountsFileError, match=rf":7: '{name}' looks like a key") as raised:
        parse_accounts(f"{GOOD}    options:\n      {name}: hunter22\n".encode())
    assert "hunter22" not in str(raised.value)
    for reference in ("${LAB_KEY}", "keyring:cloud/lab"):
        text = f"{GOOD}    options:\n      {name}: {reference!r}\n"
        assert parse_accounts(text.encode())["lab"].options == {name: reference}


@pytest.mark.parametrize("text", PLAIN)
def test_what_is_no_key_may_stand_there(text: str) -> None:
    assert not looks_like_key("option", text)
    assert parse_accounts(f"{GOOD}    options:\n      option: {text!r}\n".encode())["lab"].options == {"option": text}


def test_names_of_public_things_may_have_a_value() -> None:
    assert not looks_like_key("ssh_key", "lab-laptop")
    assert not looks_like_key("key_name", "lab-laptop")
    assert looks_like_key("ssh_key", "-----BEGIN OPENSSH PRIVATE KEY-----")


@given(st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", min_size=40, max_size=40))
def test_a_random_text_in_the_form_of_a_key_is_seen_by_its_letters(text: str) -> None:
    """Hypothesis prefers texts of few different letters; those of many, a digit and both cases are keys."""
    varied = len(set(text)) >= 18 and any(map(str.isdigit, text)) and text not in (text.lower(), text.upper())
    assert looks_like_key("option", text) or not varied or text.startswith("/")


@pytest.mark.parametrize(
    ("text", "broken"),
    [("plain", False), ("${A_1}", False), ("a-${B}-c", False), ("$A", True), ("${a-b}", True), ("keyring:a", True)],
)
def test_references_are_whole_or_refused(text: str, broken: bool) -> None:
    assert bool(broken_reference(text)) is broken


def test_what_the_keyring_holds_goes_into_the_environment_not_into_the_options() -> None:
    entries = {("cloud", "lab/one"): "hunter${22}"}
    options, environment = with_keyring(
        {"api_key": "keyring:cloud/lab/one", "other": "${X}"}, {"X": "1"}, lambda *entry: entries.get(entry)
    )
    assert options == {"api_key": "${MOTLEY_KEYRING_1}", "other": "${X}"}
    assert environment == {"X": "1", "MOTLEY_KEYRING_1": "hunter${22}"}


def test_an_entry_that_the_keyring_lacks() -> None:
    with pytest.raises(InputError, match="option 'api_key': the keyring has no entry; add it with: keyring set a b"):
        with_keyring({"api_key": "keyring:a/b"}, {}, lambda service, user: None)


def test_without_a_reference_no_keyring_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    assert with_keyring({"a": "b"}, {}) == ({"a": "b"}, {})
    with pytest.raises(InputError, match="needs the package keyring; install it, or write"):
        with_keyring({"a": "keyring:x/y"}, {})


def test_the_keyring_of_the_system_is_asked_and_may_be_locked(monkeypatch: pytest.MonkeyPatch) -> None:
    class Locked(Exception):
        pass

    def get_password(service: str, user: str) -> str:
        if service == "locked":
            raise Locked("secret reasons")
        return f"{service}:{user}"

    keyring: Any = ModuleType("keyring")
    keyring.get_password, keyring.errors = get_password, SimpleNamespace(KeyringError=Locked)
    monkeypatch.setitem(sys.modules, "keyring", keyring)
    assert with_keyring({"a": "keyring:x/y"}, {})[1] == {"MOTLEY_KEYRING_0": "x:y"}
    with pytest.raises(InputError, match=r"the keyring does not answer \(Locked\); unlock it"):
        with_keyring({"a": "keyring:locked/y"}, {})


# One more account


@pytest.mark.parametrize(
    "plain",
    [
        ACCOUNT,
        {"provider": "docker", "monthly": "unlimited", "eligibility": {"evidence": "ours: all of it # really"}},
        {
            **ACCOUNT,
            "monthly": {"hours": 1.5, "usd": 2},
            "eligibility": {"evidence": "ours", "until": "2027-01-01"},
            "time_zone": "Asia/Kathmandu",
            "options": {"api_key": "${KEY}", "n": "3"},
            "shutdown": {"idle": "15m", "nightly": "1:00-23:30"},
            "rounding": {"increment": "60s"},
        },
    ],
)
@pytest.mark.parametrize(
    "text",
    [
        "",
        FULL.decode(),
        FULL.decode().rstrip("\n"),
        GOOD,
        GOOD.replace("\n  ", "\n      "),
        FULL.decode() + "\n\n# x\n",
    ],
)
def test_an_account_is_added_and_all_else_stays(text: str, plain: dict[str, Any]) -> None:
    account = make_account("extra", plain)
    made = added(text, "extra", account)
    before = parse_accounts(text.encode()) if text else {}
    assert parse_accounts(made.encode()) == {**before, "extra": account}
    rest = iter(made.splitlines())
    assert all(line in rest for line in text.splitlines())


def test_the_new_one_stands_before_comments_that_end_the_file() -> None:
    made = added(FULL.decode(), "extra", make_account("extra", ACCOUNT))
    assert made.index("extra:") < made.index("# The end.")


def test_a_name_is_not_taken_twice_and_a_flow_is_left_alone() -> None:
    account = make_account("lab", ACCOUNT)
    with pytest.raises(InputError, match="account 'lab' is there already"):
        added(GOOD, "lab", account)
    flow = "accounts: {a: {provider: fake, monthly: unlimited, eligibility: {evidence: x}}}\n"
    for text in (flow, "accounts: {}\n"):
        with pytest.raises(InputError, match="add it by hand:\nlab:\n  provider: aws"):
            added(text, "lab", account)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("Lab", {}, "account 'Lab': Lab: 'Lab' is not a name"),
        ("lab", {"monthly": {"hours": 0}}, "account 'lab': hours '0': must be greater than 0"),
        (
            "lab",
            {"options": {"api_key": "hunter22"}},
            "account 'lab': 'options' holds what looks like a key; keep it in",
        ),
        ("lab", {"surplus": 1}, "account 'lab': unknown key 'surplus'; known: eligibility, monthly"),
    ],
)
def test_an_account_that_makes_no_sense(name: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as raised:
        make_account(name, {**ACCOUNT, **changes})
    assert message in str(raised.value)
    assert "hunter22" not in str(raised.value)


def test_accounts_are_frozen_and_show_no_key() -> None:
    account: Account = make_account("lab", {**ACCOUNT, "options": {"api_key": "${LAB}"}})
    assert "api_key': '${LAB}'" in repr(account)
    with pytest.raises(ValueError, match="frozen"):
        account.provider = "gcp"  # type: ignore[misc]
