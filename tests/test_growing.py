"""The loop beside a running server: devices come with the load and go with it, and nothing stays behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from factories import MIB, fleet, profile, run_row
from test_launcher import Lab, account

from motley.clock import ManualClock
from motley.errors import InputError, RunFailed
from motley.growing.command import fleet_of, scale
from motley.growing.link import NoServer, Seen
from motley.growing.loop import SERVER_PATIENCE_S, Growth
from motley.growing.targets import FILE_NAME, write_targets
from motley.history import History
from motley.launches import LaunchState
from motley.registry import Amounts, Registry, registration_of
from motley.scaling_log import ScalingLog, ScalingStep
from server.scaling import load_of

RULES = {"device_class": "fast", "max": 6, "target": 0.5, "up": 0.7, "down": 0.3, "provider": "fake"}
RULES |= {"window": "30s", "interval": "10s", "forecast": "0s", "cool_down_up": "20s", "cool_down_down": "20s"}
CLASSES = {"fast": {"count": 2, "cpus": 0.5, "memory": "512m"}}


class FakeServer:
    """A run whose load the test sets; whoever was launched has joined by the next look."""

    def __init__(self, lab: Lab, share: Callable[[float], float], ends_s: float) -> None:
        self.lab, self.share, self.ends_s = lab, share, ends_s
        self.steps: list[ScalingStep] = []
        self.silent_from_s = float("inf")
        self.crowd: list[int] = []

    def look(self, window_s: float, step: ScalingStep | None) -> Seen:
        now_s = self.lab.clock.now_s() - START
        if now_s >= self.silent_from_s:
            raise NoServer("the server can't be asked")
        if step is not None:
            self.steps.append(step)
        (cloud,) = self.lab.clouds.values()
        there = ["client-1", "client-2", *(each.device for each in cloud.list())]
        self.crowd.append(len(there))
        used = self.share(now_s) * min(2, len(there))
        return Seen("7", now_s < self.ends_s, used, 0.0, there[:2], dict.fromkeys(there, 1.0))


START = 1_000_000.0


def growth(tmp_path: Path, share: Callable[[float], float], ends_s: float = 400.0, **rules: Any) -> tuple[Growth, Any]:
    lab = Lab(tmp_path, START, lab=account(monthly={"hours": 50}))
    server = FakeServer(lab, share, ends_s)
    targets = tmp_path / "targets"
    targets.mkdir()
    made = fleet(classes=CLASSES, scaling={**RULES, **rules})
    said: list[str] = []
    return Growth(made, lab.launcher, server, targets, "server:8000", lab.clock, said.append), server


def test_two_devices_come_while_there_is_work_and_go_when_there_is_none(tmp_path: Path) -> None:
    grows, server = growth(tmp_path, lambda now_s: 1.0 if now_s < 150 else 0.2)
    grows.run()
    assert max(server.crowd) == 4
    assert server.crowd[-1] == 2
    changes = [(step.kind, step.launched, step.stopped) for step in server.steps if step.launched or step.stopped]
    assert changes == [("up", ("client-3", "client-4"), ()), ("down", (), ("client-3", "client-4"))]
    assert server.lab.machines() == {}


def test_an_order_is_a_device_of_the_fleet_with_a_shard_of_its_own(tmp_path: Path) -> None:
    grows, _ = growth(tmp_path, lambda now_s: 1.0)
    order = grows.order_of("7", 1)
    assert (order.token, order.device, order.superlink) == ("run7-client-3", "client-3", "server:8000")
    assert order.environment["MOTLEY_PARTITION"] == "2"
    assert (order.needs.cpus, order.needs.memory_bytes) == (0.5, 512 * MIB)
    assert grows.order_of("7", 1) == order


def test_when_the_run_ends_everything_is_ended_and_its_run_is_over(tmp_path: Path) -> None:
    grows, server = growth(tmp_path, lambda now_s: 1.0, ends_s=100.0)
    grows.run()
    assert max(server.crowd) == 4
    assert server.lab.machines() == {}
    assert set(server.lab.states().values()) == {LaunchState.ENDED}
    assert server.lab.journal.live_runs(server.lab.clock.now_s()) == set()
    assert not (tmp_path / "targets" / FILE_NAME).exists()


def test_a_run_that_has_ended_before_is_none_of_its_business(tmp_path: Path) -> None:
    """As where a fleet is started once more: the newest run is the old one until all have joined."""
    grows, server = growth(tmp_path, lambda now_s: 1.0, ends_s=200.0)
    look = server.look

    def after_a_while(window_s: float, step: ScalingStep | None) -> Seen:
        if server.lab.clock.now_s() < START + 60:
            return Seen("6", False, 0.0, 0.0, [], {})
        return look(window_s, step)

    server.look = after_a_while
    grows.run()
    assert max(server.crowd) == 4
    assert {step.run_id for step in server.steps} == {"7"}


def test_where_no_run_comes_it_waits_until_it_is_told_otherwise(tmp_path: Path) -> None:
    grows, server = growth(tmp_path, lambda now_s: 1.0)
    server.look = lambda window_s, step: Seen("", True, 0.0, 0.0, [], {})
    grows.run(lambda: server.lab.clock.now_s() > START + 1000)
    assert server.lab.machines() == {}


def test_ctrl_c_ends_what_was_added(tmp_path: Path) -> None:
    grows, server = growth(tmp_path, lambda now_s: 1.0)

    def interrupted() -> bool:
        if len(server.crowd) > 6:
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt):
        grows.run(interrupted)
    assert max(server.crowd) == 4
    assert server.lab.machines() == {}


def test_a_server_that_starts_again_finds_its_devices(tmp_path: Path) -> None:
    grows, server = growth(tmp_path, lambda now_s: 1.0, ends_s=900.0)
    look, silent = server.look, range(100, 100 + int(SERVER_PATIENCE_S) - 50)

    def sometimes(window_s: float, step: ScalingStep | None) -> Seen:
        if int(server.lab.clock.now_s() - START) in silent:
            raise NoServer("it starts again")
        return look(window_s, step)

    server.look = sometimes
    grows.run()
    assert [step.launched for step in server.steps if step.launched] == [("client-3", "client-4")]


def test_a_server_that_is_gone_for_long_loses_them(tmp_path: Path) -> None:
    grows, server = growth(tmp_path, lambda now_s: 1.0)
    server.silent_from_s = 100.0
    with pytest.raises(RunFailed, match=r"the server can't be asked, for 300 s; its devices are ended"):
        grows.run()
    assert max(server.crowd) == 4
    assert server.lab.machines() == {}


def test_who_still_works_when_its_lease_ends_gets_a_longer_one(tmp_path: Path) -> None:
    grows, server = growth(tmp_path, lambda now_s: 1.0, ends_s=1500.0, lease="600s")
    grows.run()
    assert [step.stopped for step in server.steps if step.stopped] == []
    assert server.crowd[-1] == 4


def test_prometheus_is_told_of_those_that_are_there(tmp_path: Path) -> None:
    write_targets(tmp_path, {"client-4": "fast", "client-3": "fast"})
    found = json.loads((tmp_path / FILE_NAME).read_text())
    assert [each["targets"] for each in found] == [["client-3:9101"], ["client-4:9101"]]
    assert found[0]["labels"] == {"job": "motley-client", "client": "client-3", "device_class": "fast"}
    write_targets(tmp_path, {})
    assert list(tmp_path.iterdir()) == []


# The server's part


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "history.db"


def test_before_the_first_run_there_is_no_load(store: Path) -> None:
    assert load_of(store, ManualClock(0.0), 15.0)["run_id"] == ""


def test_the_load_is_who_is_there_and_who_works(store: Path) -> None:
    clock = ManualClock(1000.0)
    with closing(History(store)) as history:
        history.start_run(run_row("7", spec='{"training": {"devices_per_round": 5}}'))
    with closing(Registry(store, clock)) as registry:
        registry.register_many([registration_of(profile(name)) for name in ("a", "b", "c", "d")])
        registry.depart(["d"])
        registry.reserve("a", "7", Amounts(0.5), 600.0)
        clock.sleep(10.0)
    load = load_of(store, clock, 10.0)
    assert (load["run_id"], load["active"], load["busy"], sorted(load["fitness"])) == (
        "7",
        True,
        ["a"],
        ["a", "b", "c"],
    )
    assert load["used"] == pytest.approx(1.0)
    assert load["queued"] == 2.0


def test_steps_are_kept_and_counted(store: Path) -> None:
    log = ScalingLog(store)
    assert log.newest("7") is None
    up = ScalingStep("7", 1.0, "up", "above_up", "two more", 0.9, 2, 2, 2, ("c", "d"), usd_per_hour=0.5)
    for step in (up, ScalingStep("7", 2.0, "hold", "in_band", "enough", 0.6, 2, 2, 4)):
        log.put(step)
    log.put(ScalingStep("8", 3.0, "hold", "no_data", "nothing known", None, 0, 0, 0))
    assert log.steps("7")[0] == up
    assert log.newest("7") == ScalingStep("7", 2.0, "hold", "in_band", "enough", 0.6, 2, 2, 4)
    assert log.counts("7") == {("up", "above_up"): 1, ("hold", "in_band"): 1}


# The command


def test_a_file_that_is_not_motley_s_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.yml"
    with pytest.raises(InputError, match="can't read it"):
        fleet_of(other)
    other.write_text("services: {web: {image: nginx}}")
    with pytest.raises(InputError, match="not a compose file of Motley's; write it with: motley compose"):
        fleet_of(other)


def test_a_fleet_that_does_not_scale_is_refused(tmp_path: Path) -> None:
    from factories import ROOT

    with pytest.raises(InputError, match="no section 'scaling' that is enabled"):
        scale(ROOT / "docker-compose.yml", journal=tmp_path / "launches.db")
