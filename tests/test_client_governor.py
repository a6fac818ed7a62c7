"""A device's governor as the ClientApp meets it: what the fleet file says, and how it joins battery and heat."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from factories import fleet

import client.governor
from client.emulation import Emulation
from client.governor import ASK_AGAIN_S, Governing
from client.limits import limits_of
from client.settings import from_environment
from motley.environment import device_environment
from motley.errors import InputError
from motley.governor import Adjustment, Load
from motley.resource_limits import ResourceLimits

LOAD = Load(batch_size=8, threads=1, most_batch_size=32, most_threads=1)
MIB = 1024**2


class Condition:
    """What battery and heat say, as the test wants it."""

    def __init__(self, *adjustments: Adjustment) -> None:
        self.adjustments = list(adjustments)

    def adjust(self) -> Adjustment:
        return self.adjustments.pop(0) if self.adjustments else Adjustment()

    def figures(self) -> dict[str, float]:
        return {"celsius": 40.0, "paused_s": 1.5}


class Strategy:
    """What the governor says, as the test wants it; keeps what it was told."""

    def __init__(self, *adjustments: Adjustment) -> None:
        self.adjustments, self.adopted, self.asked = list(adjustments), list[int](), 0

    def adjustment(self) -> Adjustment:
        self.asked += 1
        return self.adjustments.pop(0) if self.adjustments else Adjustment()

    def adopt(self, batch_size: int) -> None:
        self.adopted.append(batch_size)


def governing(condition: Condition, strategy: Strategy | None = None) -> Governing:
    return Governing(condition, strategy and (lambda listeners: strategy))  # type: ignore[arg-type,return-value]


def node(**keys: Any) -> dict[str, str]:
    """The node configuration of a device whose class has these keys."""
    device = next(fleet(classes={"only": {"cpus": 0.5, "memory": "512m", **keys}}).devices())
    environment = device_environment(device) | {"MOTLEY_SUPERLINK": "server:9092"}
    return dict(from_environment(environment).node)


def test_limits_reach_the_device_as_the_fleet_file_has_them() -> None:
    limits = {"memory": "400m", "cpu_percent": 80.0, "power": "5w", "celsius": 45.0, "battery_floor": 0.3}
    told = node(limits=limits)
    assert limits_of(told) == ResourceLimits(400 * MIB, 80.0, None, 5.0, 45.0, 0.3)
    assert told["governor"] == "dynamic"


def test_without_limits_nothing_governs() -> None:
    assert "governor" not in node()
    assert limits_of(node()) == ResourceLimits()


def test_a_governor_can_be_switched_off() -> None:
    assert "governor" not in node(governor="none", limits={"celsius": 45.0})


def test_an_odd_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match="MOTLEY_GOVERNOR 'dynamik' is not known; did you mean 'dynamic'"):
        Governing.of_node({"governor": "dynamik"}, Emulation.from_node({}), Condition(), LOAD, None)  # type: ignore[arg-type]


def test_the_longer_pause_counts_and_both_reasons_are_said() -> None:
    own = Adjustment(pause_s=0.5, reason="too warm for full speed")
    told = Adjustment(batch_size=4, pause_s=2.0, reason="works 50 % of the time")
    joined = governing(Condition(own), Strategy(told))
    expected = Adjustment(batch_size=4, pause_s=2.0, reason="too warm for full speed; works 50 % of the time")
    assert joined.adjust() == expected
    assert joined.figures() == {"celsius": 40.0, "paused_s": 3.0, "adjustments": 0}


def test_a_long_pause_of_the_device_comes_before_the_governor_is_asked() -> None:
    strategy = Strategy(Adjustment(batch_size=4))
    joined = governing(Condition(Adjustment(pause_s=0.5, wait=True), Adjustment()), strategy)
    assert joined.adjust().wait
    assert strategy.asked == 0
    assert joined.adjust().batch_size == 4


def test_a_wait_of_the_governor_counts_as_a_pause() -> None:
    joined = governing(Condition(), Strategy(Adjustment(wait=True)))
    assert joined.adjust() == Adjustment(wait=True, pause_s=ASK_AGAIN_S)
    assert joined.figures()["paused_s"] == 1.5 + ASK_AGAIN_S


def test_the_governor_hears_what_fits_but_never_of_more_than_it_allows() -> None:
    strategy = Strategy(Adjustment(), Adjustment(batch_size=4), Adjustment())
    joined = governing(Condition(), strategy)
    for fitting in (16, 16, 2):
        joined.adjust()
        joined.fits(fitting)
    assert strategy.adopted == [16, 4, 2]


def test_without_a_governor_battery_and_heat_have_the_only_word() -> None:
    joined = governing(Condition(Adjustment(pause_s=0.5)))
    joined.fits(4)
    assert joined.adjust() == Adjustment(pause_s=0.5)
    assert joined.figures() == {"celsius": 40.0, "paused_s": 1.5}


def test_a_real_governor_sees_the_container_and_cuts_what_does_not_fit() -> None:
    """A limit far below what this process holds: the batch falls to its least."""
    told = {"governor": "dynamic", "limit-memory": "1048576"}
    emulation = Emulation.from_node({})
    with Governing.of_node(told, emulation, emulation.control(1.0), LOAD, None, interval_s=0.001) as joined:
        assert joined.adjust().batch_size == 1
        assert joined.figures()["adjustments"] >= 1


def test_a_cooperative_device_shares_its_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client.governor, "BUDGET_DIRECTORY", tmp_path / "budget")
    emulation = Emulation.from_node({})
    with Governing.of_node({"governor": "cooperative"}, emulation, emulation.control(1.0), LOAD, 64 * MIB):
        assert len(list((tmp_path / "budget").iterdir())) >= 1


def test_the_model_stands_for_the_sensors() -> None:
    """Of a device at 40 °C by its model, with a limit of 30: it waits."""
    body = {"power-idle": "1", "power-busy": "4", "heat-ambient": "40", "heat-throttle": "70", "heat-limit": "80"}
    emulation = Emulation.from_node(body)
    told = {"governor": "dynamic", "limit-celsius": "30"}
    with Governing.of_node(told, emulation, emulation.control(1.0), LOAD, None) as joined:
        adjustment = joined.adjust()
    assert adjustment.wait
    assert "too hot" in adjustment.reason
