"""Write docker-compose.yml from a fleet file; the same as `motley compose`.

python helpers/generate_docker_compose.py --help
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from motley.cli import main

if __name__ == "__main__":
    main(["compose", *sys.argv[1:]])
