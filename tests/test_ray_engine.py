"""The engines that run the ClientApp itself: here, and in Flower's own simulation runtime."""

from __future__ import annotations

import importlib.util
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from factories import fleet

from motley.errors import InputError
from motley.records import RunRecord
from motley.simulation.contexts import Contexts
from motley.simulation.engine import client_app, device_contexts
from motley.simulation.ray_engine import RayEngine
from motley.simulation.run import EngineName, simulate
from motley.spec import Fleet

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the extra 'simulation'")

CLASSES = {
    "fast": {"count": 4, "cpus": 1.0, "memory": "1g", "network": {"up": "1mbit", "down": "2mbit", "latency": "20ms"}},
    "slow": {"count": 2, "cpus": 0.3, "memory": "512m", "batch_size": 8, "learning_rate": 0.05},
    "small": {"count": 1, "cpus": 1.0, "memory": "336m", "battery": {"capacity": "1wh", "level": 0.201}},
}


def small(policy: str, **training: Any) -> Fleet:
    training = {"policy": policy, "rounds": 3, "devices_per_round": 4, "task": "synthetic", **training}
    return fleet(classes=CLASSES, data={"examples_per_device": 30}, training=training)


def run(made: Fleet, engine: EngineName, directory: Path) -> RunRecord:
    return simulate(made, directory / engine, engine=engine, processes=2)


def assert_same(one: RunRecord, other: RunRecord) -> None:
    """What is not a result of floating-point sums is equal, and what is nearly so."""
    assert len(one.rounds) == len(other.rounds)
    for mine, theirs in zip(one.rounds, other.rounds, strict=True):
        assert_close(asdict(mine), asdict(theirs))
    assert [number for number, _ in one.outcomes] == [number for number, _ in other.outcomes]
    for (_, mine), (_, theirs) in zip(one.outcomes, other.outcomes, strict=True):
        assert_close(asdict(mine), asdict(theirs))
    assert one.accuracies == pytest.approx(other.accuracies, rel=1e-4)


def assert_close(one: dict[str, Any], other: dict[str, Any]) -> None:
    numbers = [key for key, value in one.items() if isinstance(value, float)]
    assert {key: one[key] for key in numbers} == pytest.approx({key: other[key] for key in numbers}, rel=1e-3)
    assert {key: one[key] for key in one.keys() - numbers} == {key: other[key] for key in one.keys() - numbers}


@pytest.mark.parametrize(
    ("policy", "training"),
    [
        ("random", {"device_evaluation": "every"}),
        ("fedbuff", {"compression": "int8"}),
        ("fedprox", {"deadline": "2s"}),
    ],
)
def test_the_client_app_itself_comes_to_the_same(policy: str, training: dict[str, Any], tmp_path: Path) -> None:
    made = small(policy, **training)
    grouped, sequential = (run(made, name, tmp_path) for name in ("grouped", "sequential"))
    assert any(each.used for _, each in grouped.outcomes)
    assert_same(sequential, grouped)


@needs_ray
@pytest.mark.timeout(300)
def test_flowers_own_simulation_comes_to_the_same(tmp_path: Path) -> None:
    made = small("random", device_evaluation="every", compression="topk")
    grouped, ray = (run(made, name, tmp_path) for name in ("grouped", "ray"))
    assert_same(ray, grouped)


def test_without_ray_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r'install it with: pip install "motley\[simulation\]"'):
        RayEngine(Contexts(), client_app, 1)
    with pytest.raises(InputError, match="engine 'ray' needs Ray"):
        run(small("random"), "ray", tmp_path)


def test_a_context_says_what_the_devices_agent_would(tmp_path: Path) -> None:
    node = device_contexts(small("random"), tmp_path)[5].node_config
    assert (node["device"], node["device-class"], node["partition"]) == ("client-5", "slow", "4")
    assert (float(node["batch-size"]), float(node["learning-rate"]), float(node["cpus"])) == (8, 0.05, 0.3)
    assert node["data"] == str(tmp_path.resolve())
