"""`motley report` and `motley runs`: which run is meant, where the report goes, and what is said of a wrong name."""

from __future__ import annotations

import csv
import io
import json
import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest
from factories import fleet, outcome, plan, profile, round_row, run_row

from motley.cli import main
from motley.device import Outcome
from motley.errors import HostError, InputError, RunFailed
from motley.history import History
from motley.reporting.fetch import _BACKUP, fetch
from motley.reporting.find import STORE, find_run, kept_runs, read_facts


def keep(store: Path, *run_ids: str, age_s: float = 0.0) -> Path:
    """A store with a short run for each id; the file is `age_s` old."""
    with closing(History(store)) as history:
        for begun_s, run_id in enumerate(run_ids):
            row = run_row(run_id, status="completed", spec=fleet().model_dump_json(), started_s=1000.0 + begun_s)
            history.start_run(row)
            history.see_device(run_id, profile(), 1000.0)
            history.start_round(run_id, 1, 1010.0, 60.0)
            history.put_plan(run_id, plan(1, "client-1", left_out={"resting": ["client-2"]}))
            done = outcome(known_s=1012.0, used=True, expected_s=2.5)
            lost = outcome(kind=Outcome.CRASHED, reason="no power", known_s=1013.0, attempt=1)
            history.end_round(round_row(1, run_id, started_s=1010.0), [(1, done), (1, lost)])
            history.end_run(run_id, "completed", 1014.0 + begun_s)
    for path in store.parent.glob(f"{store.name}*"):
        changed_s = path.stat().st_mtime - age_s
        os.utime(path, (changed_s, changed_s))
    return store


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Three stores below `runs`: an old simulation, a younger one of the same id, and a server's with two runs."""
    directory = tmp_path / "runs"
    keep(directory / "tiny-random-1" / "state" / STORE, "random-3", age_s=300)
    keep(directory / "tiny-random-2" / "state" / STORE, "random-3", age_s=200)
    keep(directory / "server" / STORE, "111", "222", age_s=100)
    keep(directory / "compare-1" / "runs" / "tiny" / "oort-3" / "state" / STORE, "oort-3", age_s=400)
    return directory


def motley(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(each) for each in arguments])
    code = ended.value.code
    assert isinstance(code, int)
    return code


def test_the_newest_run_is_meant_where_none_is_named(runs: Path) -> None:
    assert find_run(None, runs).run.run_id == "222"


@pytest.mark.parametrize(
    ("wanted", "store", "run_id"),
    [
        ("tiny-random-1", "tiny-random-1/state", "random-3"),
        ("random-3", "tiny-random-2/state", "random-3"),  # the newest of that id
        ("111", "server", "111"),
        ("oort-3", "compare-1/runs/tiny/oort-3/state", "oort-3"),
        ("compare-1/runs/tiny/oort-3", "compare-1/runs/tiny/oort-3/state", "oort-3"),
    ],
)
def test_a_run_is_found_by_name_and_by_id(wanted: str, store: str, run_id: str, runs: Path) -> None:
    found = find_run(wanted, runs)
    assert (found.store, found.run.run_id) == (runs / store / STORE, run_id)


@pytest.mark.parametrize("place", ["tiny-random-1", "tiny-random-1/state", f"tiny-random-1/state/{STORE}"])
def test_a_run_is_found_by_where_it_is(place: str, runs: Path, tmp_path: Path) -> None:
    assert find_run(str(runs / place), tmp_path / "elsewhere").store == runs / "tiny-random-1" / "state" / STORE


def test_a_run_s_name_comes_before_a_directory_that_happens_to_be_here(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here" / "tiny-random-1").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    assert find_run("tiny-random-1", runs).name == "tiny-random-1"


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("tiny-randum-1", "the nearest is 'tiny-random-1'"),
        ("112", "the nearest is '111'"),
        ("q", "the nearest is '"),
    ],
)
def test_of_an_unknown_run_the_nearest_is_named(
    wanted: str, said: str, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert motley("report", wanted, "--dir", runs) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"motley: no run '{wanted}' under {runs}; ")
    assert said in line


def test_what_is_no_run_is_said_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("no database at all, and longer than its header would be")
    (tmp_path / "empty").mkdir()
    keep(tmp_path / "unused" / STORE)
    for wanted, said in (
        (tmp_path / "notes.txt", "it can't be read as the history of a run"),
        (tmp_path / "empty", "no run is kept there"),
        (tmp_path / "unused", "no run has begun in it"),
    ):
        assert motley("report", wanted) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line
    assert motley("report", "--dir", tmp_path / "empty") == 2
    assert "make one with: motley simulate" in capsys.readouterr().err


def test_a_broken_store_does_not_hide_the_others(runs: Path) -> None:
    (runs / "broken").mkdir()
    (runs / "broken" / STORE).write_text("no database at all, and longer than its header would be")
    assert [each.name for each in kept_runs(runs, comparisons=False)] == [
        "222",
        "111",
        "tiny-random-2",
        "tiny-random-1",
    ]


def test_the_page_lies_beside_its_run(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert motley("report", "tiny-random-1", "--dir", runs) == 0
    path = runs / "tiny-random-1" / "report.html"
    assert capsys.readouterr().out.strip() == str(path)
    assert 4_000_000 < path.stat().st_size < 6_000_000
    assert "Run random-3 of fleet laptop" in path.read_text()
    assert motley("report", "111", "--dir", runs) == 0
    assert capsys.readouterr().out.strip() == str(runs / "server" / "report-111.html")


def test_an_id_of_several_runs_is_pointed_out(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert motley("report", "random-3", "--dir", runs, "--format", "md") == 0
    assert capsys.readouterr().err.strip() == "2 runs have the id random-3; this is tiny-random-2"
    assert motley("report", "tiny-random-1", "--dir", runs, "--format", "md") == 0
    assert capsys.readouterr().err == ""


def test_text_goes_to_the_terminal_or_to_a_file(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert motley("report", "111", "--dir", runs, "--format", "md") == 0
    assert capsys.readouterr().out.startswith("# Run 111 of fleet laptop\n")
    assert motley("report", "111", "--dir", runs, "--format", "json", "--out", tmp_path / "new" / "a.json") == 0
    assert json.loads((tmp_path / "new" / "a.json").read_text())["run"]["run_id"] == "111"
    capsys.readouterr()
    assert motley("report", "111", "--dir", runs, "--format", "csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["outcome"] for row in rows] == ["finished", "crashed"]
    assert motley("report", "111", "--dir", runs, "--format", "csv", "--table", "reasons") == 0
    assert "resting" in capsys.readouterr().out


def test_two_runs_are_compared(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert motley("report", "111", "tiny-random-1", "--dir", runs) == 0
    path = runs / "report-111-and-tiny-random-1.html"
    assert capsys.readouterr().out.strip() == str(path)
    assert "A is 111." in path.read_text()
    for form, begins in (("md", "# 111 and 222\n"), ("csv", "measure,111,222\n"), ("json", '{\n "runs": [')):
        assert motley("report", "111", "222", "--dir", runs, "--format", form) == 0
        assert capsys.readouterr().out.startswith(begins)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["111", "222", "random-3"], "3 runs are given; write one, or two to compare"),
        (["111", "--table", "rounds"], "--table rounds is for --format csv of one run"),
        (["111", "--out", "/dev/null/page.html"], "/dev/null/page.html can't be written"),
        (["111", "--format", "pdf"], "'pdf' is not one of"),
    ],
)
def test_wrong_use_is_said_in_words(
    arguments: list[str], said: str, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert motley("report", *arguments, "--dir", runs) == 2
    assert said in capsys.readouterr().err


def test_runs_are_listed_by_the_name_that_report_takes(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert motley("runs", "--dir", runs, "--json", tmp_path / "runs.json") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["222", "111", "tiny-random-2", "tiny-random-1"]
    assert all("1/3" in line and "0.600" in line for line in lines[2:])
    for each in json.loads((tmp_path / "runs.json").read_text()):
        assert find_run(each["name"], runs).run.run_id == each["run_id"]
    assert motley("runs", "--dir", runs, "--all") == 0
    assert "compare-1/runs/tiny/oort-3" in capsys.readouterr().out


def test_a_run_under_way_can_be_reported_and_goes_on(tmp_path: Path) -> None:
    """What a server has written and not yet taken into the file counts, and the server can go on writing."""
    store = tmp_path / "server" / STORE
    with closing(History(store)) as history:
        history.start_run(run_row("9", ended_s=None))
        history.end_round(round_row(1, "9"), [(1, outcome(used=True))])
        assert len(read_facts(find_run("9", tmp_path)).record.outcomes) == 1
        history.end_round(round_row(2, "9"), [(2, outcome(used=True))])
        assert len(read_facts(find_run("9", tmp_path)).record.outcomes) == 2


# From containers, with a `docker` of our own on the path


DOCKER = """#!{python}
import os, pathlib, shutil, subprocess, sys
words = sys.argv[1:]
with open("{calls}", "a") as calls:
    calls.write(" ".join(words[:7]).replace(chr(10), " ") + chr(10))
state = pathlib.Path("{state}")
if "ps" in words:
    running = os.environ["SERVER"] == "running" or (os.environ["SERVER"] == "stopped" and "--all" in words)
    print("0123abcd" if running else "")
elif "exec" in words:
    sys.exit(subprocess.run([sys.executable, "-c", words[-1].replace("/state/", f"{{state}}/")]).returncode)
elif "cp" in words:
    source = state / words[-2].removeprefix("server:/state/")
    if not source.exists():
        sys.exit(f"Could not find the file {{source}} in container")
    shutil.copy(source, words[-1])
"""


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state directory of a server in a container; SERVER in the environment says whether it runs."""
    state, tools = tmp_path / "container", tmp_path / "tools"
    state.mkdir()
    tools.mkdir()
    script = tools / "docker"
    script.write_text(DOCKER.format(python=sys.executable, calls=tmp_path / "calls.txt", state=state))
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SERVER", "running")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docker-compose.yml").write_text("services: {}\n")
    return state


def test_a_running_server_is_copied_while_it_writes(docker: Path, tmp_path: Path) -> None:
    keep(docker / STORE, "111", "222")
    with closing(History(docker / STORE)) as history:
        history.start_run(run_row("333", started_s=5000.0))  # in the log beside the file, not in the file itself
        copy = fetch(tmp_path, Path("docker-compose.yml"), None)
    with closing(sqlite3.connect(copy)) as db:
        assert db.execute("SELECT COUNT(*) FROM runs").fetchone() == (3,)
    assert (
        (tmp_path / "calls.txt")
        .read_text()
        .splitlines()[-1]
        .startswith("compose -f docker-compose.yml exec -T server python")
    )
    assert [path.name for path in docker.iterdir() if path.suffix == ".db"] == [STORE]


def test_a_stopped_server_is_copied_file_by_file(docker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVER", "stopped")
    keep(docker / STORE, "111")
    assert find_run(str(fetch(tmp_path, None, "mine")), tmp_path).run.run_id == "111"
    assert "compose -p mine cp" in (tmp_path / "calls.txt").read_text()


def test_the_report_of_a_fleet_in_containers(docker: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep(docker / STORE, "111", "222")
    assert motley("report", "--compose") == 0
    assert capsys.readouterr().out.strip() == "report-222.html"
    assert (tmp_path / "report-222.html").stat().st_size > 4_000_000
    assert motley("report", "111", "--project", "mine", "--format", "md") == 0
    assert capsys.readouterr().out.startswith("# Run 111 of fleet laptop")
    assert motley("report", "113", "--compose") == 2
    assert "the nearest is '111'" in capsys.readouterr().err


def test_without_a_server_or_a_run_it_says_so(docker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RunFailed, match="no run has begun"):
        fetch(tmp_path, None, "mine")
    monkeypatch.setenv("SERVER", "none")
    with pytest.raises(HostError, match="project 'mine' has no server container; start it with: motley up"):
        fetch(tmp_path, None, "mine")
    with pytest.raises(InputError, match=r"other\.yml is not there"):
        fetch(tmp_path, Path("other.yml"), None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HostError, match="docker is not installed"):
        fetch(tmp_path, None, "mine")


def test_what_runs_in_the_container_needs_nothing_but_python() -> None:
    """The image may be of another version of Motley."""
    assert "motley" not in _BACKUP
