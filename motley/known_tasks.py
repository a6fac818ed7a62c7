"""Figures of the built-in tasks, written down so that planning needs to load neither PyTorch nor data."""

from __future__ import annotations

from motley.knowledge import TaskFigures

FIGURES: dict[str, TaskFigures] = {
    "digits": TaskFigures(0.1, 0.1, 153_128, 65_536, 0.9),
    "fashion_mnist": TaskFigures(0.05, 0.25, 153_128, 524_288, 0.9),
    "cifar10": TaskFigures(0.05, 0.7, 342_568, 1_048_576, 0.9),
    "synthetic": TaskFigures(0.01, 0.01, 2_440, 4_096, 0.0),
}

DOWNLOADED_EXAMPLES = {"fashion_mnist": 60_000, "cifar10": 50_000}
"""Training examples of the tasks whose data must be downloaded first."""
