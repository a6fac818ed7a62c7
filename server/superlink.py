"""Flower's own SuperLink, with its housekeeping once a second in place of once a request.

python -m server.superlink  <the arguments of flower-superlink>
"""

from __future__ import annotations

import sys

from flwr.superlink.cli.flower_superlink import flower_superlink

from motley.flower import adapt_http, adapt_superlink

SWITCH_S = 0.0005
"""How long a thread may keep the interpreter while another waits: a tenth of Python's own 5 ms, since
every request changes threads several times."""

if __name__ == "__main__":
    adapt_superlink()
    adapt_http()
    sys.setswitchinterval(SWITCH_S)
    sys.argv[0] = "flower-superlink"
    flower_superlink()
