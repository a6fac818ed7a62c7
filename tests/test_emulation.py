"""A container's battery and heat: the model of the virtual clock, stepped by CPU time and obeyed by pausing."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from factories import FIXTURES, fleet
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from client.emulation import Control, Emulation
from client.emulator import INTERVAL_S, Emulator, Reading, body_of, modelled, tree_cpu_s
from client.metrics import DeviceCollector
from client.settings import from_environment
from motley.device import DeviceStop, Outcome
from motley.environment import device_environment
from motley.errors import InputError
from motley.limits import Cgroup
from motley.monitor import ResourceMonitor
from motley.physics import DAY_S, Body, Condition, Heating
from motley.simulation.device import body_of as virtual_body_of

CPUS = 0.5
WARM = Body(idle_w=0.0, busy_w=5.0, ambient_celsius=25.0, throttle_celsius=45.0, limit_celsius=60.0)
"""Half its speed holds it at the threshold, which it reaches after 125 s."""

RICH = {
    "cpus": CPUS,
    "memory": "512m",
    "power": {"idle": "1w", "busy": "6w"},
    "heat": {"ambient_celsius": 20.0, "throttle_celsius": 40.0, "limit_celsius": 55.0},
    "battery": {"capacity": "2wh", "level": 0.7, "floor": 0.3, "charging_share": 0.25, "charging_from": 0.5},
}


class Container:
    """A container whose time passes only when the test works or sleeps in it; its agent looks twice a second."""

    def __init__(self, body: Body, path: Path, level: float = 1.0) -> None:
        self.body, self.path, self.level = body, path, level
        self.now_s, self.cpu_s = 1000.0, 50.0
        self.emulator = Emulator(body, level, lambda: self.cpu_s, CPUS, path, lambda: self.now_s)
        self.emulator.step()

    def task(self) -> Emulation:
        """As a process sees it that was just forked."""
        return Emulation(self.body, self.level, self.path, lambda: self.now_s)

    def control(self) -> Control:
        return self.task().control(CPUS, lambda: self.cpu_s)

    def work(self, seconds: float) -> None:
        self._pass(seconds, CPUS)

    def sleep(self, seconds: float) -> None:
        self._pass(seconds, 0.0)

    def train(self, step_s: float, seconds: float) -> float:
        """Steps with all the pauses that they need, for a time; returns the seconds of work done."""
        control, ends_s, worked_s = self.control(), self.now_s + seconds, 0.0
        while self.now_s < ends_s:
            self.work(step_s)
            worked_s += step_s
            told = control.adjust()
            while told.wait:
                self.sleep(told.pause_s)
                told = control.adjust()
            self.sleep(told.pause_s)
        return worked_s

    def _pass(self, seconds: float, cpus: float) -> None:
        while seconds > 0:
            part_s = min(seconds, INTERVAL_S)
            self.now_s, self.cpu_s, seconds = self.now_s + part_s, self.cpu_s + part_s * cpus, seconds - part_s
            self.emulator.step()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "condition.json"


def node(**spec: Any) -> dict[str, str]:
    """The node configuration of a device of the fleet file."""
    device = next(fleet(classes={"a": spec}).devices())
    return dict(from_environment(device_environment(device) | {"MOTLEY_SUPERLINK": "server:8000"}).node)


def test_containers_and_the_virtual_clock_have_the_same_body() -> None:
    device = next(fleet(classes={"a": RICH}).devices())
    assert body_of(node(**RICH)) == virtual_body_of(device.spec)
    assert body_of(node(**RICH)) == Body(1.0, 6.0, 20.0, 40.0, 55.0, 2.0, 0.3, 10.0, 0.25, 0.5)
    assert body_of(node(cpus=CPUS, memory="512m")) is None


@pytest.mark.parametrize("text", ["", "warm", "nan", "inf"])
def test_what_is_not_a_number_is_named(text: str) -> None:
    with pytest.raises(InputError, match=f"MOTLEY_HEAT_LIMIT '{text}' is not a number"):
        body_of({"heat-limit": text})


bodies = st.builds(
    Body,
    idle_w=st.floats(0, 1),
    busy_w=st.floats(2, 12),
    ambient_celsius=st.floats(15, 25),
    throttle_celsius=st.floats(36, 50),
    limit_celsius=st.just(90.0),
    capacity_wh=st.just(5.0),
    charge_w=st.floats(0, 5),
    charging_share=st.floats(0, 1),
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bodies, st.floats(0.2, 2.0), st.floats(30, 300))
def test_training_in_a_container_comes_to_what_the_closed_formulas_say(
    path: Path, body: Body, step_s: float, seconds: float
) -> None:
    """The last step and its pause may end after the time is up, and a step may begin just below the threshold."""
    container = Container(body, path, level=0.5)
    began_s = container.now_s
    worked_s = container.train(step_s, seconds)
    elapsed_s = container.now_s - began_s
    heating = Heating(body, body.rest_celsius)
    condition, used_wh = container.emulator.reading.condition, body.energy_wh(elapsed_s, worked_s)
    assert worked_s == pytest.approx(heating.work_s(elapsed_s), rel=0.05, abs=2 * step_s + 3)
    assert condition.celsius == pytest.approx(heating.celsius_after(elapsed_s), abs=1.5)
    assert container.emulator.reading.energy_wh == pytest.approx(used_wh, abs=1e-6)
    expected = body.drained(body.fresh(0.5), elapsed_s, used_wh, 0.0)
    assert condition.charge_wh == pytest.approx(expected.charge_wh, abs=1e-6)


def test_a_warm_device_works_at_the_throttled_share(path: Path) -> None:
    container = Container(WARM, path)
    container.train(0.3, 150)
    began_s, control = container.now_s, container.control()
    worked_s = container.train(0.3, 300)
    assert worked_s / (container.now_s - began_s) == pytest.approx(0.5, abs=0.02)
    assert container.emulator.reading.condition.celsius == pytest.approx(45.0, abs=0.5)
    assert control.figures()["energy_wh"] == pytest.approx(WARM.energy_wh(container.now_s - began_s, worked_s))


def test_a_pause_comes_in_parts_and_is_counted(path: Path) -> None:
    """At half the speed a step of 2 s is followed by 2 s of pause."""
    container = Container(WARM, path)
    container.train(0.5, 140)
    while container.emulator.reading.condition.celsius < 45.0:
        container.work(0.1)
    control = container.control()
    container.work(2.0)
    pauses = []
    while (told := control.adjust()).pause_s:
        pauses.append((told.pause_s, told.wait))
        container.sleep(told.pause_s)
        if not told.wait:
            break
    assert [wait for _, wait in pauses] == [True] * (len(pauses) - 1) + [False]
    assert max(pause_s for pause_s, _ in pauses) <= 0.5
    assert sum(pause_s for pause_s, _ in pauses) == pytest.approx(control.figures()["paused_s"])
    assert control.figures()["paused_s"] >= 0.5


def test_an_empty_battery_stops_the_work_and_what_flows_in_lets_it_begin_again(path: Path) -> None:
    """18 s at 10 W are 0.05 Wh, which is all above the floor; the window opens a minute after the start."""
    body = Body(0.0, 10.0, capacity_wh=0.1, floor=0.5, charge_w=36.0, charging_share=0.5, charging_from=60 / DAY_S)
    container = Container(body, path)
    with pytest.raises(DeviceStop, match="charge fell to 50%") as stopped:
        container.train(0.5, 100)
    assert stopped.value.outcome is Outcome.BATTERY_EMPTY
    assert container.now_s - 1000.0 == pytest.approx(18.0, abs=1.0)
    assert stopped.value.figures["battery_level"] == pytest.approx(0.5, abs=0.02)
    assert stopped.value.figures["energy_wh"] == pytest.approx(0.05, abs=0.003)
    assert container.task().facts() == {
        "battery_level": stopped.value.figures["battery_level"],
        "charging": False,
        "resting": True,
    }
    with pytest.raises(DeviceStop):
        container.control()
    container.sleep(50.0)
    facts = container.task().facts()
    assert (facts["charging"], facts["resting"]) == (True, False)
    assert facts["battery_level"] > 0.6
    assert container.train(0.5, 20) == pytest.approx(20.0, abs=0.5)


def test_a_device_at_its_limit_stops_and_has_to_cool_first(path: Path) -> None:
    """A threshold at the limit throttles nothing: 45 °C after 125 s; half-way back to 25 is where it begins again."""
    container = Container(replace(WARM, limit_celsius=45.0), path)
    with pytest.raises(DeviceStop, match=r"with a limit of 45 °C; .* below 35\.0 °C") as stopped:
        container.train(0.5, 200)
    assert stopped.value.outcome is Outcome.TOO_HOT
    assert container.now_s - 1000.0 == pytest.approx(180 * math.log(2), abs=1.0)
    container.sleep(90.0)
    assert container.task().facts()["resting"]
    with pytest.raises(DeviceStop, match="below 35"):
        container.control()
    container.sleep(180 * math.log(2) - 88)
    assert container.train(0.5, 10) == pytest.approx(10.0, abs=0.5)


def test_an_executor_that_starts_anew_finds_the_condition_as_it_is(path: Path) -> None:
    container = Container(replace(WARM, capacity_wh=1.0), path)
    container.work(72.0)
    assert container.task().figures() == {
        "battery_level": pytest.approx(0.9),
        "charging": 0,
        "celsius": pytest.approx(Heating(WARM, 25.0).celsius_after(72.0)),
    }


def test_without_an_agent_a_device_stays_as_it_was_switched_on(tmp_path: Path) -> None:
    known = {"battery-capacity": 10, "battery-floor": 0.2, "battery-level": 0.4, "condition": str(tmp_path / "none")}
    assert Emulation.from_node(known).facts() == {"battery_level": 0.4, "charging": False, "resting": False}
    with pytest.raises(DeviceStop):
        Emulation.from_node({**known, "battery-level": 0.1}).control(CPUS)


def test_where_there_is_nothing_to_emulate_nothing_is_said_and_nothing_held_back() -> None:
    nothing = Emulation.from_node({"device": "client-1", "cpus": 0.5})
    control = nothing.control(CPUS)
    assert (control.adjust().pause_s, control.adjust().wait, control.figures()) == (0.0, False, {})
    assert nothing.facts() == {"battery_level": -1.0, "charging": False, "resting": False}


def test_a_reading_comes_back_as_it_was_written(path: Path) -> None:
    assert Reading.read(path) is None
    reading = Reading(12.5, Condition(3.0, 33.0, math.inf), 2.5, 0.001)
    reading.write(path)
    assert Reading.read(path) == reading
    assert [each.name for each in path.parent.iterdir()] == [path.name]


@given(st.lists(st.floats(0, 3), min_size=1, max_size=50))
def test_no_step_draws_more_than_full_load_and_none_is_counted_twice(cores: list[float]) -> None:
    now_s, used_s = 0.0, 0.0
    emulator = Emulator(Body(0.0, 10.0), 1.0, lambda: used_s, 1.0, None, lambda: now_s)
    for each in cores:
        now_s, used_s = now_s + 1.0, used_s + each
        emulator.step()
        assert 0.0 <= emulator.reading.watts <= 10.0
    drawn_s = 3600 * emulator.reading.energy_wh / 10.0
    assert drawn_s <= used_s + 1e-9
    if max(cores) <= 1.0:
        assert drawn_s == pytest.approx(used_s)


def test_a_burst_counts_in_the_step_after_it() -> None:
    now, used = iter([0.0, 1.0, 2.0]), iter([5.0, 6.5, 7.0])
    emulator = Emulator(Body(0.0, 10.0), 1.0, lambda: next(used), 1.0, None, lambda: next(now))
    emulator.step()
    assert emulator.reading.watts == 10.0
    emulator.step()
    assert emulator.reading.watts == 10.0
    assert emulator.reading.energy_wh == pytest.approx(20 / 3600)


def _processes(root: Path, ticks: dict[int, tuple[int, ...]], children: dict[int, str]) -> Path:
    for pid, (user, system, of_waited) in ticks.items():
        task = root / str(pid) / "task" / str(pid)
        task.mkdir(parents=True)
        (root / str(pid) / "stat").write_text(
            f"{pid} (a (b) c) S 1 1 1 0 -1 0 0 0 0 0 {user} {system} {of_waited} 0 20 0"
        )
        (task / "children").write_text(children.get(pid, ""))
    return root


def test_the_cpu_time_of_a_tree_of_processes(tmp_path: Path) -> None:
    """Hundredths of a second: 10 + 5 of its own, 100 of those that have ended, 7 + 3 of a child; one is gone."""
    proc = _processes(tmp_path, {1: (10, 5, 100), 8: (7, 3, 0)}, {1: "8 9 "})
    assert tree_cpu_s(1, proc) == pytest.approx(1.25)
    assert tree_cpu_s(5, proc) is None


@pytest.mark.parametrize(("cpus", "is_own"), [("0.5", True), ("0.25", False), ("2", False)])
def test_a_quota_that_is_not_the_device_s_counts_other_processes_too(cpus: str, is_own: bool) -> None:
    """The fixture's container has 0.525 cores and has used 12.3 s, which this test's process has not."""
    tree = FIXTURES / "cgroup" / "v2"
    emulator = Emulator.of_node({"power-busy": "4", "cpus": cpus}, Cgroup(tree / "sys", tree / "proc"))
    assert emulator is not None
    assert (emulator._cpus, emulator._used_s == pytest.approx(12.345678)) == (0.525 if is_own else float(cpus), is_own)
    assert Emulator.of_node({"cpus": cpus}, Cgroup(tree / "sys", tree / "proc")) is None


def _shown(body: Body, *events: dict[str, Any]) -> Callable[[str], float | None]:
    tree = FIXTURES / "cgroup" / "v2"
    emulator = Emulator(body, 0.5, lambda: 0.0, CPUS)
    monitor = ResourceMonitor(
        sources=(), model=lambda sample: modelled(body, emulator.reading, emulator.reading.taken_s)
    )
    monitor.sample()
    collector = DeviceCollector("client-1", "a", Cgroup(tree / "sys", tree / "proc"), monitor, emulator)
    for event in events:
        collector.take(event)
    registry = CollectorRegistry()
    registry.register(collector)

    def value(name: str) -> float | None:
        by_model = registry.get_sample_value(name, {"source": "modelled"})
        return registry.get_sample_value(name) if by_model is None else by_model

    return value


def test_the_exporter_shows_what_the_fleet_file_has() -> None:
    ended = {"event": "end", "type": "train", "wall_s": 1.0}
    value = _shown(
        replace(WARM, capacity_wh=10.0, charging_share=1.0),
        {**ended, "outcome": "finished", "figures": {"paused_s": 1.5}},
        {**ended, "outcome": "too_hot", "figures": {"paused_s": 2.0}},
        {**ended, "outcome": "crashed", "figures": {}},
    )
    assert value("motley_client_battery_ratio") == 0.5
    assert value("motley_client_charging") == 1
    assert value("motley_client_temperature_celsius") == 25.0
    assert value("motley_client_pause_seconds_total") == 3.5
    assert value("motley_client_energy_joules_total") == 0.0
    cool = _shown(Body())
    assert cool("motley_client_power_watts") == 0.0
    assert cool("motley_client_battery_ratio") is cool("motley_client_temperature_celsius") is None
