"""The command line: one line and an exit code for whatever goes wrong, a traceback only when asked for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from factories import ROOT, write_fleet

import motley
from motley import cli, comparing, deployment
from motley.comparison.request import Comparison
from motley.errors import FleetFileError, HostError, InputError, MotleyError, RunFailed
from motley.watching import command as watching
from motley.watching.request import Request

Command = Callable[..., tuple[Any, str, str]]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """Runs the command in this process; gives exit code, stdout, stderr."""
    before = signal.getsignal(signal.SIGTERM)

    def run(*arguments: str) -> tuple[Any, str, str]:
        with pytest.raises(SystemExit) as left:
            cli.main(arguments)
        return left.value.code, *capsys.readouterr()

    yield run
    signal.signal(signal.SIGTERM, before)


def test_version(command: Command) -> None:
    assert command("--version") == (0, f"motley {motley.__version__}\n", "")
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == motley.__version__


def test_help_names_every_command(command: Command) -> None:
    code, out, _ = command("--help")
    assert code == 0
    for name in ("compose", "run", "simulate", "compare", "up", "down", "status", "runs", "doctor", "monitor"):
        assert f" {name} " in out


def test_no_arguments_show_the_help(command: Command) -> None:
    code, out, err = command()
    assert code == 2
    assert " Commands " in out + err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compse"], "Error: No such command 'compse'."),
        (["compose", "--fleets", "x"], "Error: No such option '--fleets'"),
        (["--loud"], "Error: No such option '--loud'"),
        (["compose", "--rounds", "many"], "Error: Invalid value for '--rounds': 'many' is not a valid integer."),
        (
            ["compose", "--host-cores", "0"],
            "Error: Invalid value for '--host-cores': 0 is not in the range x>=1.",
        ),
        (["compose", "--fleet"], "Error: Option '--fleet' requires an argument."),
        (["compose", "surplus"], "Error: Got unexpected extra argument (surplus)"),
        (["simulate", "--engine", "warp"], "Error: Invalid value for '--engine': 'warp' is not one of 'grouped',"),
        (["compare", "--target", "2"], "Error: Invalid value for '--target': 2.0 is not in the range 0<=x<=1."),
        (["run", "--rounds", "0"], "Error: Invalid value for '--rounds': 0 is not in the range 1<=x<=100000."),
        (["monitor", "--serve", "70000"], "Error: Invalid value for '--serve': 70000 is not in the range 0<=x<=65535."),
        (["monitor", "--max-temp", "hot"], "Error: Invalid value for '--max-temp': 'hot' is not a valid float."),
    ],
    ids=str,
)
def test_what_can_not_be_parsed_is_exit_code_2_and_one_error(
    command: Command, arguments: list[str], message: str
) -> None:
    code, out, err = command(*arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("Error:") == 1
    assert "Traceback" not in err


@pytest.mark.parametrize("name", ["compose", "run", "simulate", "compare", "doctor"])
def test_a_fleet_file_that_is_not_there_is_one_line(command: Command, name: str) -> None:
    arguments = ["--fleet", "/nowhere/fleet.yaml"] if name == "compose" else ["/nowhere/fleet.yaml"]
    code, _, err = command(name, *arguments)
    assert code == 2
    assert err.startswith("motley: /nowhere/fleet.yaml: can't read the fleet file: No such file or directory")
    assert err.count("\n") == 1


@pytest.mark.parametrize("name", ["compose", "run", "simulate", "compare", "doctor"])
def test_a_wrong_fleet_file_is_one_line_with_its_line_number(command: Command, tmp_path: Path, name: str) -> None:
    path = write_fleet(tmp_path, sed=3)
    arguments = ["--fleet", str(path)] if name == "compose" else [str(path)]
    code, _, err = command(name, *arguments)
    assert code == 2
    assert err.startswith(f"motley: {path}:12: unknown key 'sed'; did you mean 'seed'?")
    assert err.count("\n") == 1


def test_a_good_fleet_says_what_was_written(command: Command, tmp_path: Path) -> None:
    output = tmp_path / "new" / "compose.yml"
    code, out, err = command(
        "compose", "--fleet", str(write_fleet(tmp_path)), "--output", str(output), "--host-cores", "8"
    )
    assert (code, err) == (0, "")
    assert out == f"{output}: 3 devices and the server, 1.7 cores in all\n"
    assert output.exists()


def test_warnings_go_to_stderr_and_do_not_fail(command: Command, tmp_path: Path) -> None:
    arguments = ["--fleet", str(write_fleet(tmp_path)), "--output", str(tmp_path / "c.yml"), "--host-cores", "1"]
    code, _, err = command("compose", *arguments, "--total-clients", "9")
    assert code == 0
    assert err.startswith("warning: fleet 'tiny' needs ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "--policies", "adaptive,orot"], "--policies: unknown policy 'orot'; did you mean 'oort'?"),
        (
            ["compare", "--seeds", "few"],
            "--seeds 'few': write how many ('5') or which ones ('3,7,11', or '7,' for one)",
        ),
        (["compare", "--suite-dir", "/nowhere"], "no fleet files in /nowhere; write another with --suite-dir"),
        (["simulate", "--policy", "fedavgg"], "--policy: unknown policy 'fedavgg'"),
        (["simulate", "--resume", "/nowhere"], "--resume /nowhere: no run is kept there"),
    ],
    ids=str,
)
def test_what_can_not_be_simulated_or_compared_is_one_line(
    command: Command, tmp_path: Path, arguments: list[str], message: str
) -> None:
    fleet = [] if "--suite-dir" in arguments else [str(write_fleet(tmp_path))]
    code, _, err = command(*arguments, *fleet)
    assert code == 2
    assert err.startswith(f"motley: {message}")
    assert err.count("\n") == 1


def test_options_reach_the_comparison(command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Comparison] = []
    monkeypatch.setattr(comparing, "run_comparison", asked.append)
    suite = write_fleet(tmp_path)
    options = ["--policies", "all", "--seeds", "7,", "--rounds", "9", "--target", "0.9", "--processes", "2"]
    assert command("compare", "a.yaml", "b.yaml", "--suite", "--suite-dir", str(tmp_path), *options)[0] == 0
    assert asked == [Comparison([Path("a.yaml"), Path("b.yaml"), suite], "all", "7,", 9, 0.9, None, 2)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--simulate-load", "--strategy", "predictiv"],
            "--strategy: unknown strategy 'predictiv'; did you mean 'predictive'?",
        ),
        (["--max-memory", "512"], "--max-memory: '512' has no unit; write it like '512m'"),
        (["--save", "samples.txt"], "--save samples.txt: the name must end with .jsonl or .csv"),
        (["--min-battery", "20"], "--min-battery '20' is not a share of the charge; write it like 0.2 or 20%"),
    ],
    ids=str,
)
def test_what_can_not_be_watched_is_one_line(command: Command, arguments: list[str], message: str) -> None:
    assert command("monitor", *arguments) == (2, "", f"motley: {message}\n")


def test_options_reach_the_monitor(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Request] = []
    monkeypatch.setattr(watching, "watch", asked.append)
    limits = ["--max-memory", "1g", "--max-cpu-percent", "80", "--max-gpu-memory", "2g", "--max-temp", "70"]
    others = ["--max-power", "15w", "--min-battery", "20%", "--strategy", "adaptive", "--simulate-load", "--otel"]
    outputs = ["--save", "a.csv", "--serve", "0", "--json", "b.json", "--pid", "7"]
    assert command("monitor", "--interval", "2s", "--duration", "1m", *limits, *others, *outputs)[0] == 0
    assert asked == [
        Request(
            interval="2s",
            duration="1m",
            max_memory="1g",
            max_cpu_percent=80.0,
            max_gpu_memory="2g",
            max_temp=70.0,
            max_power="15w",
            min_battery="20%",
            strategy="adaptive",
            simulate_load=True,
            save=Path("a.csv"),
            serve=0,
            otel=True,
            json_file=Path("b.json"),
            pid=7,
        )
    ]


def _raises(error: BaseException) -> Callable[..., Any]:
    def deploy(options: object) -> Any:
        raise error

    return deploy


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (MotleyError("it is so"), 1, "motley: it is so"),
        (RunFailed("no device answered"), 1, "motley: no device answered"),
        (InputError("write another"), 2, "motley: write another"),
        (HostError("too few cores"), 2, "motley: too few cores"),
        (FleetFileError("f.yaml", 7, "odd"), 2, "motley: f.yaml:7: odd"),
        (ZeroDivisionError("by zero"), 1, "motley: ZeroDivisionError: by zero; see --debug"),
    ],
    ids=str,
)
def test_exceptions_become_exit_codes_here(
    command: Command, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int, line: str
) -> None:
    monkeypatch.setattr(deployment, "deploy", _raises(error))
    assert command("compose") == (code, "", line + "\n")


def test_an_interrupt_is_130(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployment, "deploy", _raises(KeyboardInterrupt()))
    code, _, err = command("compose")
    assert (code, "Traceback" in err) == (130, False)


@pytest.mark.parametrize("arguments", [("--debug", "compose"), ("compose", "--debug")], ids=str)
def test_debug_lets_the_exception_through(monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]) -> None:
    monkeypatch.setattr(deployment, "deploy", _raises(InputError("write another")))
    with pytest.raises(InputError, match="write another"):
        cli.main(arguments)


def _process(*command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, check=False, cwd=ROOT, env=environment, timeout=60
    )


def test_debug_shows_a_traceback_and_nothing_else_does() -> None:
    asked = ["-m", "motley.cli", "compose", "--fleet", "/nowhere.yaml"]
    plain, debug = _process(*asked), _process(*asked, "--debug")
    assert (plain.returncode, "Traceback" in plain.stderr) == (2, False)
    assert debug.returncode != 0
    assert "Traceback" in debug.stderr
    assert "motley.errors.InputError: /nowhere.yaml" in debug.stderr


def test_the_helper_is_the_same_command(tmp_path: Path) -> None:
    path, outputs = write_fleet(tmp_path), [tmp_path / name / "compose.yml" for name in ("a", "b")]
    entries = (["-m", "motley.cli", "compose"], ["helpers/generate_docker_compose.py"])
    for entry, output in zip(entries, outputs, strict=True):
        done = _process(*entry, "--fleet", str(path), "--output", str(output), "--host-cores", "8", "--rounds", "2")
        assert (done.returncode, done.stderr) == (0, "")
    assert outputs[0].read_text() == outputs[1].read_text()
    refused = _process("helpers/generate_docker_compose.py", "--preset", "none")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
