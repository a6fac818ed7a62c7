"""A fleet in containers whose work changes from round to round, for its history."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "tests/docker"))

from engine import generated, wait_for  # noqa: E402

from motley.history import History  # noqa: E402


def in_docker(fleet_file: Path, rounds: int | None, kept: Path) -> None:
    """Run a fleet in containers with varied work and keep its history. Ends all that it started."""
    data = yaml.safe_load(fleet_file.read_text())
    data["training"]["rounds"] = wanted = rounds or data["training"]["rounds"]
    data["monitoring"] = {"enabled": False}
    with tempfile.TemporaryDirectory() as directory:
        changed = Path(directory) / "fleet.yaml"
        changed.write_text(yaml.safe_dump(data, sort_keys=False))
        containers = generated(changed.parent, changed, f"motley-predictor-{os.getpid()}")
        vary(containers.file)
        try:
            containers.up()
            wait_for(f"round {wanted}", lambda: containers.rounds_done() >= wanted, timeout_s=1200, every_s=2)
            copy_history(containers, kept)
        finally:
            containers.down()


def vary(compose_file: Path) -> None:
    """Let the server of a compose file find `sitecustomize` here when its Python starts."""
    compose = yaml.safe_load(compose_file.read_text())
    server = compose["services"]["server"]
    server["volumes"] = [*server["volumes"], f"{HERE}:/varied_work:ro"]
    server["environment"] = {**server["environment"], "PYTHONPATH": "/varied_work:/app:/app/tasks"}
    compose_file.write_text(yaml.safe_dump(compose, sort_keys=False))


def copy_history(containers: Any, target: Path) -> None:
    """Out of the server's volume on this host."""
    inspect = ["docker", "volume", "inspect", f"{containers.project}_state"]
    volume = json.loads(subprocess.run(inspect, capture_output=True, text=True, check=True).stdout)[0]
    history = History(Path(volume["Mountpoint"]) / "history.db")
    history.copy_to(target)
    history.close()
