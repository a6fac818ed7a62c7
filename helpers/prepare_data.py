"""Divide a fleet's data into one shard for each device.

python helpers/prepare_data.py --fleet config/fleet.yaml --output DIR
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from motley.errors import MotleyError
from motley.fleetfile import read_fleet
from motley.spec import Data
from motley.training.data import write_shards


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--fleet", type=Path, help="a fleet file")
    source.add_argument("--spec", type=json.loads, help="task, devices, seed, data and, for by_speed, slowness as JSON")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    try:
        if options.fleet:
            fleet = read_fleet(options.fleet)
            what = fleet.training.task, fleet.shards, fleet.data, fleet.seed, fleet.slowness()
        else:
            spec = options.spec
            what = spec["task"], spec["devices"], Data(**spec["data"]), spec["seed"], spec.get("slowness")
        sizes = write_shards(options.output, *what)
    except MotleyError as error:
        print(f"prepare_data: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{len(sizes)} shards of {min(sizes)} to {max(sizes)} examples in {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
