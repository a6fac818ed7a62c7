"""Fetch the history of a fleet that runs in containers: a consistent copy, while the server goes on writing."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from motley.errors import HostError, InputError, RunFailed
from motley.reporting.find import STORE

_IN_CONTAINER = f"/state/{STORE}"

_BACKUP = f"""
import os, shutil, sqlite3, sys, tempfile
if not os.path.isfile("{_IN_CONTAINER}"):
    sys.exit("no run has begun: {_IN_CONTAINER} is missing")
with tempfile.TemporaryDirectory() as place:
    copy = os.path.join(place, "copy.db")
    source, target = sqlite3.connect("{_IN_CONTAINER}"), sqlite3.connect(copy)
    source.backup(target)
    target.close()
    with open(copy, "rb") as file:
        shutil.copyfileobj(file, sys.stdout.buffer)
"""
"""It reads through SQLite, since the newest rows are not in the file yet, and streams: Docker copies no tmpfs."""


def fetch(into: Path, file: Path | None, project: str | None) -> Path:
    """The store of the server's container, as a file in the directory `into`.

    A stopped container has all in its files, which are copied. Raises InputError for a compose file that is not
    there, HostError without Docker or a container, RunFailed where no run has begun in it.
    """
    compose = _compose(file, project)
    target = into / STORE
    if _has_server(compose, running=True):
        with target.open("wb") as copy:
            _call([*compose, "exec", "-T", "server", "python", "-c", _BACKUP], copy.fileno())
    elif _has_server(compose, running=False):
        _call([*compose, "cp", f"server:{_IN_CONTAINER}", str(target)], subprocess.DEVNULL)
        log = [*compose, "cp", f"server:{_IN_CONTAINER}-wal", f"{target}-wal"]
        subprocess.run(log, capture_output=True, check=False)
    else:
        raise HostError(f"{_named(file, project)} has no server container; start it with: motley up")
    return target


def _compose(file: Path | None, project: str | None) -> list[str]:
    if file is not None and not file.exists():
        raise InputError(f"{file} is not there; name the compose file with --file, or its project with --project")
    named = [*(["-f", str(file)] if file else []), *(["-p", project] if project else [])]
    return ["docker", "compose", *named]


def _named(file: Path | None, project: str | None) -> str:
    return f"project '{project}'" if project else str(file)


def _has_server(compose: Sequence[str], running: bool) -> bool:
    which = [] if running else ["--all"]
    return bool(_call([*compose, "ps", "--quiet", *which, "server"], subprocess.PIPE).strip())


def _call(argv: Sequence[str], stdout: int) -> bytes:
    try:
        done = subprocess.run(argv, stdout=stdout, stderr=subprocess.PIPE, check=False)
    except FileNotFoundError:
        raise HostError("docker is not installed; give the run as a file: motley report PATH/history.db") from None
    if done.returncode == 0:
        return done.stdout or b""
    said = done.stderr.decode(errors="replace").strip().splitlines()
    last = said[-1] if said else f"exit code {done.returncode}"
    if "no run has begun" in last:
        raise RunFailed(last)
    raise HostError(f"docker compose can't fetch the history: {last}")
