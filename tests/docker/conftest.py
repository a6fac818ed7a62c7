"""Tests against a real Docker Engine. Without one they are skipped, but in CI they fail."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session", autouse=True)
def engine() -> None:
    answer = subprocess.run(["docker", "info"], capture_output=True, check=False)
    if answer.returncode == 0:
        return
    if os.environ.get("MOTLEY_REQUIRE_DOCKER"):
        pytest.fail("MOTLEY_REQUIRE_DOCKER is set and no Docker Engine answers")
    pytest.skip("no Docker Engine answers")
