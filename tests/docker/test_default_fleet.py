"""The committed file, as it is: limits, hardening, training, metrics, and an end that leaves nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from engine import NOT_STARTED, Containers, command, committed, query, wait_for

from motley.device import Outcome
from motley.spec import Device

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

LIMITS = "import json; from motley.limits import Cgroup; print(json.dumps(vars(Cgroup().limits())))"


@pytest.fixture(scope="module")
def fleet() -> Iterator[Containers]:
    containers = committed("motley-e2e-default")
    containers.down()
    try:
        containers.up()
        yield containers
    finally:
        containers.down()


@pytest.fixture(scope="module")
def devices(fleet: Containers) -> list[Device]:
    return list(fleet.fleet.devices())


def test_engine_enforces_the_fleet_files_limits(fleet: Containers, devices: list[Device]) -> None:
    for device in devices:
        host = fleet.inspect(device.name)["HostConfig"]
        assert host["NanoCpus"] == pytest.approx(device.spec.cpus * 1e9, rel=1e-6)
        assert host["Memory"] == device.spec.memory
        assert host["MemorySwap"] == device.spec.memory
        assert host["PidsLimit"] == 256


def test_containers_see_their_limits_inside(fleet: Containers, devices: list[Device]) -> None:
    for device in devices:
        seen = json.loads(fleet.execute(device.name, "python", "-c", LIMITS))
        assert seen["cpus"] == pytest.approx(device.spec.cpus, abs=0.001)
        assert seen["memory_bytes"] == device.spec.memory
        assert seen["swap_bytes"] == 0
        assert seen["pids"] == 256


def test_containers_are_hardened(fleet: Containers) -> None:
    for service in fleet.compose("config", "--services").split():
        if service in NOT_STARTED:
            continue
        inspected = fleet.inspect(service)
        host, is_link = inspected["HostConfig"], service.endswith("-link")
        assert host["ReadonlyRootfs"], service
        assert host["CapDrop"] == ["ALL"], service
        assert host["CapAdd"] == (["NET_ADMIN"] if is_link else None), service
        assert "no-new-privileges:true" in host["SecurityOpt"], service
        assert not host["Privileged"], service
        assert (inspected["Config"]["User"] in ("0:0", "0")) == is_link, service
        assert not any("docker.sock" in mount["Source"] for mount in inspected["Mounts"]), service


def test_links_are_shaped(fleet: Containers, devices: list[Device]) -> None:
    for device in devices:
        network = device.spec.network
        assert network is not None
        shaped = fleet.execute(f"{device.name}-link", "tc", "qdisc", "show")
        rates = {name: rate for name, rate in re.findall(r"tbf \S+ dev (\S+) root .*?rate (\d+)Mbit", shaped)}
        assert rates == {"eth0": f"{network.up / 1e6:.0f}", "ifb0": f"{network.down / 1e6:.0f}"}


def test_trains_by_itself_to_the_target(fleet: Containers, devices: list[Device]) -> None:
    log = wait_for("summary", lambda: (text := fleet.logs("server")) and "still serving" in text and text, 300, 2)
    record = fleet.record()
    assert record is not None
    assert record.run.status == "completed"
    last = record.rounds[-1]
    assert last.round == fleet.fleet.training.rounds
    assert last.accuracy is not None
    assert last.accuracy >= 0.90
    assert f"test accuracy {last.accuracy:.3f}" in log
    assert all(device.name in log for device in devices)
    assert {outcome.device for _, outcome in record.outcomes} == {device.name for device in devices}
    assert all(outcome.outcome is Outcome.FINISHED for _, outcome in record.outcomes)


def test_prometheus_scrapes_every_target(fleet: Containers, devices: list[Device]) -> None:
    def all_up() -> bool:
        up = {(row["metric"].get("job"), row["metric"].get("client")) for row in query("up == 1")}
        return {("motley-server", None), *(("motley-client", device.name) for device in devices)} <= up

    wait_for("scrape of every target", all_up, 60)


def test_prometheus_answers_for_each_metric(fleet: Containers, devices: list[Device]) -> None:
    read = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1]).read().decode())"
    pages = {"server": 9100, devices[0].name: 9101}
    for service, port in pages.items():
        page = fleet.execute(service, "python", "-c", read, f"http://127.0.0.1:{port}/metrics")
        names = {line.split()[2] for line in page.splitlines() if line.startswith("# TYPE")}
        samples = {re.split(r"[{ ]", line)[0] for line in page.splitlines() if line.startswith("motley_")}
        assert len(samples) >= 15
        assert names
        for name in sorted(samples):
            wait_for(f"answer for {name}", lambda name=name: query(name), 30)


def test_every_container_ends_with_zero_and_nothing_stays(fleet: Containers) -> None:
    fleet.compose("stop", "--timeout", "15")
    states = [json.loads(line) for line in fleet.compose("ps", "--all", "--format", "json").splitlines()]
    assert {state["Service"]: state["ExitCode"] for state in states if state["ExitCode"]} == {}
    fleet.down()
    assert not any(fleet.left_behind().values())
    command("docker", "info")
