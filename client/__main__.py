"""The executor's process. What a device never needs is left out before anything of Flower is imported."""

from __future__ import annotations

import sys

from motley.flower import postpone_database

if __name__ == "__main__":
    postpone_database()
    from client.executor import main

    sys.exit(main())
