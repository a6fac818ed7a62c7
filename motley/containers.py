"""`motley up`, `down` and `status`: thin over `docker compose`."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from motley.errors import HostError, InputError, MotleyError, RunFailed
from motley.history import History
from motley.report import device_table, figures, round_line, summary_lines

_END = "agent: still serving"
_CLEAR_LINE = "\x1b[2K"
"""Some versions of Compose put it in front of each line, terminal or not."""


def compose(file: Path, *arguments: str) -> list[str]:
    """The command line of `docker compose` on `file`. Raises InputError when there is no such file."""
    if not file.exists():
        raise InputError(f"{file} is not there; write it with: motley compose --output {file}")
    return ["docker", "compose", "-f", str(file), *arguments]


def up(file: Path, services: Sequence[str]) -> None:
    """Start the containers and follow the server's log to the end of the run; Ctrl-C leaves them running.

    Raises HostError when Docker can't start them, RunFailed when the server says that the run failed.
    """
    console = Console()
    _call(compose(file, "up", "--detach", "--build", *services))
    console.print("following the server; Ctrl-C leaves the containers running, 'motley down' ends them")
    failed = False
    with (
        _scaling(file),
        subprocess.Popen(
            compose(file, "logs", "--follow", "--no-log-prefix", "server"),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as logs,
    ):
        try:
            for line in logs.stdout or ():
                print(line.replace(_CLEAR_LINE, ""), end="", flush=True)
                failed = failed or "the run did not complete" in line
                if _END in line:
                    break
        except KeyboardInterrupt:
            console.print("the containers go on; see them with: motley status")
        finally:
            logs.terminate()
    if failed:
        raise RunFailed("the run did not complete; see: docker compose logs")


@contextmanager
def _scaling(file: Path) -> Iterator[None]:
    """Grow and shrink the fleet meanwhile, where its file says so; then end what was added."""
    from motley.growing.command import fleet_of, scale

    _, fleet = fleet_of(file)
    if fleet.scaling is None or not fleet.scaling.enabled:
        yield
        return
    over = threading.Event()

    def loop() -> None:
        try:
            scale(file, is_over=over.is_set)
        except MotleyError as error:
            print(f"scaling: {error}", flush=True)

    thread = threading.Thread(target=loop, name="scaling")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def down(file: Path, volumes: bool) -> None:
    """Stop and remove the containers, those that scaling added too, and with `volumes` their history and models."""
    _call(compose(file, "down", "--remove-orphans", *(["--volumes"] if volumes else [])))


def show_status(file: Path, state: Path | None, json_file: Path | None) -> None:
    """Show the newest run of a state directory, or of the running server container."""
    if state is None:
        inside = ["python", "-m", "motley.cli", "status", "--state", "/state"]
        _call(compose(file, "exec", "-T", "server", *inside))
        return
    path = state / "history.db"
    if not path.exists():
        raise InputError(f"{path} is not there; --state names a directory that holds a history")
    history = History(path)
    run = history.latest_run()
    if run is None:
        print("no run yet; the server waits for its devices")
        return
    record = history.record(run.run_id)
    for row in record.rounds[-5:]:
        if row.duration_s is not None:
            print(round_line(row, [each for number, each in record.outcomes if number == row.round], run.rounds))
    print(*summary_lines(record), sep="\n")
    if json_file is not None:
        json_file.write_text(json.dumps(figures(record), indent=1) + "\n")
    Console(width=None if sys.stdout.isatty() else 110).print(device_table(record))


def _call(argv: Sequence[str]) -> None:
    try:
        code = subprocess.run(argv, check=False).returncode
    except FileNotFoundError:
        raise HostError("docker is not installed; train without it: motley run") from None
    if code:
        raise HostError(f"'{' '.join(argv[:6])} …' failed with exit code {code}; see: motley doctor")
