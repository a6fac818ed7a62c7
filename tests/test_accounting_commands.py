"""`motley accounts` and `motley providers`, from the command line to files and tables."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from file_provider import NEEDS, FileProvider

from motley import accounting, advice, cli
from motley.accounting import Books, NewAccount, SweepOptions, open_launcher
from motley.accounts_file import read_accounts
from motley.clock import ManualClock
from motley.errors import InputError
from motley.launcher import Launcher, Order
from motley.launches import Launches
from motley.providers import PROVIDERS

BERLIN = ZoneInfo("Europe/Berlin")
NOON = datetime(2026, 11, 10, 12, tzinfo=BERLIN).timestamp()
ACCOUNTS = """\
accounts:
  lab:
    provider: fake
    monthly: {hours: 10, usd: 40}
    time_zone: Europe/Berlin
    eligibility: {evidence: approval 7, until: 2026-11-30}
  old:
    provider: fake
    monthly: {usd: 5}
    eligibility: {evidence: "[green]approval[/] 3", until: 2026-10-31}
  host:
    provider: docker
    options: {host: "ssh://lab@host"}
    monthly: unlimited
    eligibility: {evidence: our own}
"""


class Desk:
    """The commands with an accounts file, a journal and machines that are files below one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.clock = directory, ManualClock(NOON)
        self.file, self.journal, self.json_file = directory / "a.yaml", directory / "j" / "l.db", directory / "out.json"
        self.file.write_text(ACCOUNTS)
        self.books = Books(self.file, self.journal, self.json_file, self.clock)
        self.clouds: dict[str, FileProvider] = {}

    def make(self, name: str, options: Mapping[str, str], environment: Mapping[str, str]) -> FileProvider:
        if name == "docker":
            raise InputError("provider 'docker' needs the Python module 'docker'")
        key = f"{name}-{len(self.clouds)}"
        return self.clouds.setdefault(key, FileProvider(self.directory / "cloud", self.clock.now_s))

    def launcher(self) -> Launcher:
        return open_launcher(read_accounts(self.file), Launches(self.journal), self.clock, {})[0]

    def launch(self, token: str, hours: float = 2.0, run_id: str = "run-7") -> None:
        self.launcher().launch(Order(token, NEEDS, run_id, f"client-{token}", {}, "10.0.0.1:9092", hours))

    def machines(self) -> set[str]:
        return {path.name for path in (self.directory / "cloud").iterdir()}

    @property
    def figures(self) -> Any:
        return json.loads(self.json_file.read_text())


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    desk = Desk(tmp_path)
    monkeypatch.setattr(accounting, "make_provider", desk.make)
    monkeypatch.setenv("COLUMNS", "200")
    return desk


def test_a_list_says_what_is_left_and_who_is_eligible(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.launch("one", hours=3)
    accounting.list_accounts(desk.books)
    out = capsys.readouterr().out
    assert "6.97 of 10" in out
    assert "its eligibility ends with 2026-10-31; renew it" in out
    assert "[green]approval[/] 3" in out
    assert re.search(r"host .* no limit .* no limit .* ok", out)
    lab, old, host = desk.figures
    assert (lab["hours_left"], lab["level"]) == (pytest.approx(7 - 120 / 3600), "ok")
    assert (old["eligible"], old["until"], old["hours_left"]) == (False, "2026-10-31", None)
    assert (host["eligible"], host["until"], host["usd_left"], host["share_left"]) == (True, None, None, 1.0)


def test_looking_makes_no_journal(desk: Desk) -> None:
    accounting.list_accounts(desk.books)
    accounting.show_usage(desk.books)
    accounting.list_machines(desk.books)
    accounting.sweep_machines(desk.books, SweepOptions())
    assert not desk.journal.parent.exists()


def test_usage_is_what_is_spent_and_what_is_reserved(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.launch("one", hours=2)
    desk.launch("two", hours=1)
    desk.clock.sleep(1800)
    desk.launcher().terminate("two")
    desk.clock.sleep(1800)
    accounting.show_usage(desk.books)
    out = capsys.readouterr().out
    assert re.search(r"one .*lab .*run-7 .*client-one .*small .*launched .*2026-11-10 12:00 .*1\.00 .*1\.00", out)
    assert re.search(r"two .*ended .*0\.50 .*0\.50", out)
    lab = desk.figures["accounts"][0]
    assert (lab["hours_used"], lab["usd_used"]) == (1.5, 1.5)
    assert lab["hours_reserved"] == pytest.approx(1 + 120 / 3600)
    assert lab["hours_used"] + lab["hours_reserved"] + lab["hours_left"] == pytest.approx(10)
    assert [(each["token"], each["hours"]) for each in desk.figures["launches"]] == [("one", 1.0), ("two", 0.5)]


def test_usage_of_another_month(desk: Desk) -> None:
    desk.launch("one", hours=2)
    desk.clock.sleep(1800)
    desk.launcher().terminate("one")
    desk.clock.sleep(40 * 86_400)
    accounting.show_usage(desk.books)
    assert (desk.figures["accounts"][0]["month"], desk.figures["launches"]) == ("2026-12", [])
    accounting.show_usage(desk.books, "2026-11")
    assert desk.figures["accounts"][0]["hours_used"] == 0.5
    for month in ("november", "2026-13", "0000-01", "2026-11-01"):
        with pytest.raises(InputError, match=f"'{month}' is not a month; write it like 2026-11"):
            accounting.show_usage(desk.books, month)


def test_machines_of_all_accounts_and_who_can_not_be_asked(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    accounting.list_machines(desk.books)
    assert "no machines" in capsys.readouterr().out
    desk.launch("one")
    accounting.list_machines(desk.books)
    out = capsys.readouterr().out
    assert re.search(r"lab .*m-one .*run-7 .*client-one .*small here .*1 .*running", out)
    assert "host: provider 'docker' needs the Python module 'docker'" in out
    assert desk.figures["machines"][0]["machine_id"] == "m-one"


def test_a_sweep_shows_first_and_ends_with_yes(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.file.write_text(ACCOUNTS.split("  old:")[0])
    desk.launch("one")
    desk.clock.sleep(600)
    assert accounting.sweep_machines(desk.books, SweepOptions())
    out = capsys.readouterr().out
    assert re.search(r"m-one .*run 'run-7' is over", out)
    assert "nothing was ended; end them with --yes" in out
    assert desk.machines() == {"one"}
    for spared in (SweepOptions(keep=["run-7"], yes=True), SweepOptions(keep=["run-7"])):
        assert accounting.sweep_machines(desk.books, spared)
        assert "no machine without a live run" in capsys.readouterr().out
    assert accounting.sweep_machines(desk.books, SweepOptions(yes=True))
    assert re.search(r"m-one .*ended: run 'run-7' is over", capsys.readouterr().out)
    assert (desk.machines(), len(desk.figures["ended"])) == (set(), 1)


def test_a_run_that_was_seen_lately_is_spared_unless_it_is_said_to_be_over(desk: Desk) -> None:
    desk.launch("one")
    desk.launcher().tend("run-7")
    accounting.sweep_machines(desk.books, SweepOptions(yes=True))
    assert desk.machines() == {"one"}
    accounting.sweep_machines(desk.books, SweepOptions(over=["run-7"], yes=True))
    assert desk.machines() == set()


def test_a_server_that_was_killed_is_swept_when_its_time_is_over(desk: Desk) -> None:
    desk.launcher().tend("run-7")
    desk.launch("one")
    desk.clock.sleep(599)
    accounting.sweep_machines(desk.books, SweepOptions(yes=True))
    assert desk.machines() == {"one"}
    desk.clock.sleep(1)
    accounting.sweep_machines(desk.books, SweepOptions(yes=True))
    assert desk.machines() == set()


def test_machines_of_another_journal_need_a_word_more(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.launch("one")
    books = Books(desk.file, desk.directory / "another.db", None, desk.clock)
    accounting.sweep_machines(books, SweepOptions(yes=True))
    assert "what is not in this journal was left; end it with --unknown" in capsys.readouterr().out
    assert desk.machines() == {"one"}
    accounting.sweep_machines(books, SweepOptions(yes=True, unknown=True))
    assert desk.machines() == set()


def test_a_sweep_settles_the_journal(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.launch("one")
    (desk.directory / "cloud" / "one").unlink()
    accounting.sweep_machines(desk.books, SweepOptions(yes=True))
    assert "lab: one: record without a machine: ended" in capsys.readouterr().out
    assert Launches(desk.journal).live() == []


def test_a_sweep_that_could_not_ask_everyone_does_not_succeed(desk: Desk) -> None:
    assert not accounting.sweep_machines(desk.books, SweepOptions())
    assert desk.figures["problems"] == {"host": "provider 'docker' needs the Python module 'docker'"}


NEW = NewAccount("aws", "approval 9", "2027-03-31", 200, None, "Europe/Berlin", "15m", "22:00-06:00", ["regions=eu-1"])


def test_an_account_is_added_to_a_new_file_and_to_one_that_is_there(tmp_path: Path) -> None:
    file = tmp_path / "config" / "accounts.yaml"
    accounting.add_account(file, "lab", NEW)
    accounting.add_account(file, "host", NewAccount("docker", "our own"))
    accounts = read_accounts(file)
    assert list(accounts) == ["lab", "host"]
    assert (accounts["lab"].budget.hours, accounts["lab"].stops.idle_s) == (200, 900)
    assert accounts["lab"].options == {"regions": "eu-1"}
    assert accounts["host"].monthly is None
    assert [path.name for path in file.parent.iterdir()] == ["accounts.yaml"]


@pytest.mark.parametrize("option", ["regions", "=x", "api_key=hunter22", "x=AKIA" + "IOSFODNN7EXAMPLE"])
def test_an_option_that_is_none_or_a_key_is_refused_and_not_quoted(tmp_path: Path, option: str) -> None:
    with pytest.raises(InputError, match=r"an option is written NAME=VALUE|looks like a key") as raised:
        accounting.add_account(tmp_path / "a.yaml", "lab", NewAccount("aws", "x", options=[option]))
    assert "hunter22" not in str(raised.value)
    assert "EXAMPLE" not in str(raised.value)
    assert not (tmp_path / "a.yaml").exists()


def test_a_file_that_can_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="can't be written: "):
        accounting.add_account(tmp_path / "file" / "a.yaml", "lab", NEW)


Command = Callable[..., tuple[Any, str, str]]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs `motley` in this process; gives exit code, stdout, stderr."""
    monkeypatch.setattr("signal.signal", lambda *_: None)

    def run(*arguments: str) -> tuple[Any, str, str]:
        with pytest.raises(SystemExit) as left:
            cli.main(arguments)
        return left.value.code, *capsys.readouterr()

    return run


def test_the_commands_reach_their_work(desk: Desk, command: Command) -> None:
    where = ["--file", str(desk.file), "--journal", str(desk.journal)]
    assert command("accounts", "list", *where, "--json", str(desk.json_file))[0] == 0
    assert [each["account"] for each in desk.figures] == ["lab", "old", "host"]
    assert command("accounts", "usage", *where, "--month", "2026-10", "--json", str(desk.json_file))[0] == 0
    assert desk.figures["accounts"][0]["month"] == "2026-10"
    asked = ["--provider", "gcp", "--evidence", "grant 9", "--usd", "3", "--option", "project=${P}", "--idle", "5m"]
    assert command("accounts", "add", "new", *asked, "--file", str(desk.file))[0] == 0
    assert read_accounts(desk.file)["new"].options == {"project": "${P}"}
    desk.launch("one")
    assert command("providers", "list", *where)[0] == 0
    swept = command("providers", "sweep", *where, "--yes", "--over", "run-7", "--keep", "run-8", "--unknown")
    assert (swept[0], desk.machines()) == (1, set())


def test_a_wrong_file_is_one_line(tmp_path: Path, command: Command) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(ACCOUNTS.replace("fake", "awss"))
    code, _, err = command("accounts", "list", "--file", str(file))
    assert (code, err.splitlines()) == (2, [f"motley: {file}:3: provider 'awss' is not known; did you mean 'aws'?"])


def test_advice_names_every_cloud_and_no_figures(command: Command) -> None:
    code, out, _ = command("accounts", "advice")
    assert code == 0
    assert {each.provider for each in advice.PROGRAMMES} == set(PROVIDERS) - {"docker", "fake"}
    for text in ("spot", "checkpoint and resume", "shutdown: {idle: 15m", "right-sizing", "sharding", "https://"):
        assert text in out
    assert "$" not in out
