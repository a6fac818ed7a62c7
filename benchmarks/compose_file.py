"""How long a compose file takes, start of Python included, against `docker compose config` on the same file.

python benchmarks/compose_file.py [--clients 1000] [--repeat 5] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
GENERATOR = ROOT / "helpers" / "generate_docker_compose.py"


def seconds(argv: list[str], repeat: int) -> list[float]:
    """Wall time of each run of a command. Raises SystemExit when it fails."""
    taken = []
    for _ in range(repeat):
        started = time.perf_counter()
        done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
        taken.append(time.perf_counter() - started)
        if done.returncode:
            raise SystemExit(f"{' '.join(argv)}: {done.stderr}")
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "docker-compose.yml"
        write = [sys.executable, str(GENERATOR), "--total-clients", str(options.clients), "--output", str(file)]
        rows = {
            "motley compose": seconds(write, options.repeat),
            "docker compose config": seconds(
                ["docker", "compose", "-f", str(file), "config", "--quiet"], options.repeat
            ),
        }
    table = Table(title=f"A compose file of {options.clients} devices")
    for heading in ("command", "median, s", "worst, s"):
        table.add_column(heading)
    for command, taken in rows.items():
        table.add_row(command, f"{statistics.median(taken):.2f}", f"{max(taken):.2f}")
    Console().print(table)
    ours, peer = (statistics.median(taken) for taken in rows.values())
    figures = {"benchmark": "compose_file", "clients": options.clients, "seconds": rows, "ratio": peer / ours}
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
