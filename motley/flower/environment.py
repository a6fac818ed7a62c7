"""The environment in which Motley starts every Flower process."""

from __future__ import annotations

import os
import sys

ENVIRONMENT = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.1",
    "FLWR_LOG_LEVEL": os.environ.get("FLWR_LOG_LEVEL", "WARNING"),
}
"""Set wherever Motley starts a Flower process."""


def quiet_environment() -> dict[str, str]:
    """This process's environment with Flower's telemetry, update check and installer off.

    Flower's commands are found beside this Python, whether or not its environment is active.
    """
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)])
    return {**os.environ, **ENVIRONMENT, "PATH": path}
