"""Tell Prometheus of the devices that were launched: a file of targets beside the fleet's own."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from motley.compose import DEVICE_METRICS_PORT

FILE_NAME = "launched.json"


def targets_of(device_classes: Mapping[str, str]) -> list[dict[str, Any]]:
    """In the form of Prometheus's `file_sd`; `device_classes` by device. They are reached by their names."""
    return [
        {
            "targets": [f"{device}:{DEVICE_METRICS_PORT}"],
            "labels": {"job": "motley-client", "client": device, "device_class": device_class},
        }
        for device, device_class in sorted(device_classes.items())
    ]


def write_targets(directory: Path, device_classes: Mapping[str, str]) -> None:
    """Replace the file as a whole, since Prometheus reads it at any time; without devices there is none."""
    path = directory / FILE_NAME
    if not device_classes:
        path.unlink(missing_ok=True)
        return
    new = path.with_name(f".{FILE_NAME}.new")
    new.write_text(json.dumps(targets_of(device_classes), indent=1) + "\n")
    os.replace(new, path)
