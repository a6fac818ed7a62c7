"""What holds for all tests: nobody's home is touched, nothing is reported anywhere, nothing is random."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("motley", derandomize=True, deadline=None, database=None, max_examples=60)
settings.load_profile("motley")

_OPTIONS = ("MOTLEY_REWRITE_GOLDEN", "MOTLEY_REQUIRE_DOCKER")
"""Of the tests themselves."""


def pytest_configure(config: pytest.Config) -> None:
    """Before any test module is imported, because Flower reads its home on import."""
    home = Path(tempfile.mkdtemp(prefix="motley-tests-home-"))
    os.environ |= {
        "HOME": str(home),
        "FLWR_HOME": str(home / ".flwr"),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
    }
    for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"):
        os.environ.pop(name, None)
    for name in [each for each in os.environ if each.startswith("MOTLEY_") and each not in _OPTIONS]:
        del os.environ[name]
    # A shell that starts this in the background has it ignored, here and in every process that tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.add_cleanup(lambda: shutil.rmtree(home, ignore_errors=True))
