"""Makers of pools and turns for tests of selection policies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np
from hypothesis import strategies as st

from motley.policies import POLICIES
from motley.selection import Pool, Turn

_USUAL: dict[str, tuple[float, type]] = {
    "free": (True, bool),
    "at_work": (False, bool),
    "examples": (100, int),
    "memory_bytes": (2**30, int),
    "download_s": (1.0, float),
    "compute_s": (10.0, float),
    "upload_s": (1.0, float),
    "tried": (True, bool),
    "selected": (0, int),
    "last_selected": (0, int),
    "loss": (1.0, float),
    "squared_loss": (1.0, float),
    "accuracy": (0.5, float),
    "battery": (np.nan, float),
    "charging": (False, bool),
    "ready": (1.0, float),
    "priority": (1.0, float),
}


def pool(devices: int, **columns: Sequence[Any]) -> Pool:
    """Equal devices but for the columns given."""
    assert columns.keys() <= {each.name for each in fields(Pool)}
    usual = {name: np.full(devices, value, kind) for name, (value, kind) in _USUAL.items()}
    given = {name: np.array(values, dtype=_USUAL[name][1]) for name, values in columns.items()}
    assert all(column.shape == (devices,) for column in given.values())
    return Pool(names=[f"client-{index}" for index in range(devices)], **{**usual, **given})  # type: ignore[arg-type]


def turn(count: int, policy: str = "random", **changes: Any) -> Turn:
    """A turn of `policy` with its default options; `seed` makes its random generator."""
    seed = changes.pop("seed", 1)
    known = {"number": 1, "rounds": 100, "options": POLICIES[policy].options()}
    return Turn(count=count, rng=np.random.default_rng(seed), **{**known, **changes})


def random_pool(devices: int, seed: int) -> Pool:
    """A pool with gaps in what is known, ties and extreme values."""
    rng = np.random.default_rng(seed)

    def some(*values: float) -> list[float]:
        return rng.choice([rng.random(), *values], devices).tolist()

    seconds = (np.nan, 0, 1e-3, 7, 1000)
    share = (np.nan, 0, 0.19, 0.5, 1)
    return pool(
        devices,
        free=some(0, 1),
        examples=some(0, 10, 5000),
        download_s=some(*seconds),
        compute_s=some(*seconds),
        upload_s=some(*seconds),
        tried=some(0, 0, 1),
        selected=some(0, 1, 50),
        last_selected=some(0, 1, 50),
        squared_loss=some(np.nan, 0, 3, 1e6),
        accuracy=some(*share),
        battery=some(*share),
        charging=some(0, 0, 1),
        ready=some(*share),
        priority=some(0, 1, 10),
    )


def pools() -> st.SearchStrategy[Pool]:
    return st.builds(random_pool, devices=st.integers(0, 20), seed=st.integers(0, 100_000))
