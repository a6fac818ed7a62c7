"""The compose file: golden, current, limited and hardened; and what `motley compose` may be asked for."""

from __future__ import annotations

import json
import os
import re
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from factories import FIXTURES, MIB, ROOT, fleet, fleet_data, write_fleet

from motley import deployment
from motley.cli import main
from motley.compose import Origin, compose_file, data_spec
from motley.deployment import Deployment, Options, deploy
from motley.errors import HostError, InputError
from motley.spec import Fleet
from motley.units import parse_bytes

GOLDEN = FIXTURES / "compose"
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
SCHEMA = jsonschema.Draft7Validator(json.loads((FIXTURES / "compose.schema.json").read_text()))


def _made(tmp_path: Path, fleet_file: Path, **options: Any) -> tuple[Deployment, dict[str, Any]]:
    """What `options` come to, and its compose file, read back."""
    output = tmp_path / "compose.yml"
    made = deploy(Options(fleet_file, output, **{"host_cores": 64, **options}))
    return made, yaml.load(made.files[output], LOADER)


def _data(made: Fleet) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.load(deployment.dump(compose_file(made, Origin("f.yaml"))), LOADER)
    return loaded


RICH = fleet(
    classes={
        "fast": {"count": 2, "cpus": 0.5, "memory": "512m", "network": {"down": "1mbit"}, "accelerators": 1},
        "slow": {"cpus": 0.2, "memory": "768m", "battery": {"capacity": "10wh"}, "batch_size": 8},
    }
)


@cache
def _rich() -> dict[str, Any]:
    return _data(RICH)


SERVICES = tuple(_rich()["services"])


def test_the_tiny_fleet_gives_the_golden_files(tmp_path: Path) -> None:
    root = tmp_path / "repository"
    root.mkdir()
    shutil.copy(GOLDEN / "tiny.yaml", root / "tiny.yaml")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deployment, "ROOT", root)
        made = deploy(Options(root / "tiny.yaml", root / "tiny.compose.yml", host_cores=4))
    texts = {path.relative_to(root).as_posix(): text for path, text in made.files.items()}
    golden = {
        "tiny.compose.yml": GOLDEN / "tiny.compose.yml",
        "tiny.compose-targets/fleet.json": GOLDEN / "tiny.targets.json",
    }
    if os.environ.get("MOTLEY_REWRITE_GOLDEN"):
        for name, path in golden.items():
            path.write_text(texts[name])
    assert texts == {name: path.read_text() for name, path in golden.items()}


def test_the_committed_compose_file_is_current(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    made = deploy(Options(Path("config/fleet.yaml"), host_cores=2))
    assert [path.as_posix() for path in made.outdated()] == [], "run: motley compose"
    assert {path.resolve() for path in made.files} == {
        ROOT / "docker-compose.yml",
        ROOT / "config/prometheus/targets/fleet.json",
    }


def test_check_writes_nothing_and_tells_with_its_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "compose.yml"
    asked = ["compose", "--fleet", str(write_fleet(tmp_path)), "--output", str(output), "--host-cores", "8"]

    def code(*more: str) -> Any:
        with pytest.raises(SystemExit) as left:
            main([*asked, *more])
        return left.value.code

    assert code("--check") == 1
    assert not output.exists()
    assert code() == code("--check") == 0
    output.write_text(output.read_text() + "\n")
    capsys.readouterr()
    assert code("--check") == 1
    assert capsys.readouterr().err.startswith(f"{output} is not current")
    assert code("--total-clients", "5", "--check") == 1


@pytest.mark.parametrize("made", [RICH, fleet(monitoring={"enabled": False}), fleet()], ids=["rich", "bare", "plain"])
def test_it_keeps_to_the_compose_specification(made: Fleet) -> None:
    assert [error.message for error in SCHEMA.iter_errors(_data(made))] == []


def test_the_schema_would_see_a_fault() -> None:
    data = _data(fleet())
    data["services"]["client-1"]["mem_limits"] = "1g"
    assert [error.message for error in SCHEMA.iter_errors(data)] != []


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_has_hard_limits_and_no_swap(name: str) -> None:
    service = _rich()["services"][name]
    limits = service["deploy"]["resources"]["limits"]
    assert 0 < float(limits["cpus"]) <= 64
    assert parse_bytes(limits["memory"]) >= 6 * MIB  # Docker's own least
    assert service["memswap_limit"] == limits["memory"]
    assert 0 < limits["pids"] <= 1024


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_hardened(name: str) -> None:
    service = _rich()["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}
    assert not {"privileged", "container_name", "pid", "ipc", "devices", "env_file"} & service.keys()


@pytest.mark.parametrize("name", SERVICES)
def test_only_link_sidecars_are_root_and_shape_the_network(name: str) -> None:
    service = _rich()["services"][name]
    if name.endswith("-link"):
        assert service["cap_add"] == ["NET_ADMIN"]
        assert service["network_mode"] == f"service:{name.removesuffix('-link')}"
        assert "volumes" not in service
        return
    assert "cap_add" not in service
    if name != "cadvisor":  # reads the host's cgroups
        assert int(str(service["user"]).partition(":")[0]) > 0


@pytest.mark.parametrize("name", SERVICES)
def test_nothing_of_the_host_can_be_written(name: str) -> None:
    volumes = [str(each) for each in _rich()["services"][name].get("volumes", [])]
    mounts = [each for each in volumes if each.startswith((".", "/"))]
    assert [each for each in mounts if not each.endswith(":ro")] == []
    assert name == "cadvisor" or not any("docker.sock" in each for each in volumes)


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_bound_to_the_loopback_address(name: str) -> None:
    ports = _rich()["services"][name].get("ports", [])
    assert [each for each in ports if not each.startswith("127.0.0.1:")] == []
    assert bool(ports) == (name in ("prometheus", "grafana"))


def test_devices_reach_only_the_network_without_a_way_out() -> None:
    data = _rich()
    assert data["networks"]["fleet"] == {"internal": True}
    for name in ("server", "client-1", "client-2", "client-3"):
        assert data["services"][name]["networks"] == ["fleet"]


def test_devices_get_their_limits_environment_and_shard() -> None:
    services = _rich()["services"]
    assert [services[f"client-{n}"]["deploy"]["resources"]["limits"]["cpus"] for n in (1, 2, 3)] == [
        "0.5",
        "0.5",
        "0.2",
    ]
    assert [services[f"client-{n}"]["environment"]["MOTLEY_PARTITION"] for n in (1, 2, 3)] == ["0", "1", "2"]
    assert services["client-3"]["environment"] == {
        "MOTLEY_DEVICE": "client-3",
        "MOTLEY_PARTITION": "2",
        "MOTLEY_DEVICE_CLASS": "slow",
        "MOTLEY_CPUS": "0.2",
        "MOTLEY_MEMORY": str(768 * MIB),
        "MOTLEY_BATCH_SIZE": "8",
        "MOTLEY_BATTERY_CAPACITY": "10",
        "MOTLEY_BATTERY_LEVEL": "1",
        "MOTLEY_BATTERY_FLOOR": "0.2",
        "MOTLEY_BATTERY_CHARGE": "10",
        "MOTLEY_SUPERLINK": "server:8000",
        "MOTLEY_DATA": "/data",
    }
    gpus = services["client-1"]["deploy"]["resources"]["reservations"]["devices"]
    assert gpus == [{"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}]
    assert "reservations" not in services["client-3"]["deploy"]["resources"]


def test_a_drawn_population_is_deployed_as_drawn() -> None:
    phone = {
        "count": 3,
        "cpus": {"uniform": {"low": 0.1, "high": 2}},
        "memory": {"choice": {"1g": 1, "2g": 1, "3g": 1}},
        "network": {"down": {"lognormal": {"median": "5mbit", "sigma": 0.5}}, "up": "1mbit"},
        "battery": {"capacity": "15wh", "level": {"uniform": {"low": 0.1, "high": 1}}},
        "accelerators": 1,
    }
    made = fleet(classes={"phone": phone, "desk": {"cpus": 1, "memory": "1g", "priority": 2}})
    services = _data(made)["services"]
    for device in made.devices():
        service, spec = services[device.name], device.spec
        limits = service["deploy"]["resources"]["limits"]
        assert (float(limits["cpus"]), parse_bytes(limits["memory"])) == (spec.cpus, spec.memory)
        assert service["memswap_limit"] == limits["memory"]
        told = service["environment"]
        assert (told["MOTLEY_DEVICE"], float(told["MOTLEY_CPUS"]), int(told["MOTLEY_MEMORY"])) == (
            device.name,
            spec.cpus,
            spec.memory,
        )
        assert service["depends_on"] == {"server": {"condition": "service_healthy"}}
        if spec.network and spec.battery:
            assert float(told["MOTLEY_DOWN"]) == spec.network.down
            assert float(told["MOTLEY_BATTERY_LEVEL"]) == pytest.approx(spec.battery.level)
            assert int(services[f"{device.name}-link"]["environment"]["LINK_DOWN_BIT"]) == spec.network.down
            assert "devices" in service["deploy"]["resources"]["reservations"]
    assert services["client-4"]["environment"]["MOTLEY_PRIORITY"] == "2"
    assert len({services[f"client-{n}"]["environment"]["MOTLEY_CPUS"] for n in (1, 2, 3)}) == 3
    assert [error.message for error in SCHEMA.iter_errors(_data(made))] == []


def test_a_drawn_population_is_fitted_to_the_host(tmp_path: Path) -> None:
    made, data = _made(tmp_path, ROOT / "config/fleets/phones-100.yaml", host_cores=16, fit_host=True)
    assert made.fleet.total_cpus == pytest.approx(16, abs=0.02)
    quotas = [device.spec.cpus for device in made.fleet.devices()]
    assert max(quotas) / min(quotas) > 10
    assert data["x-motley"]["cpu_factor"] < 0.2
    with pytest.raises(HostError, match=re.escape("less than Docker's 0.01")):
        deploy(Options(ROOT / "config/fleets/phones-100.yaml", host_cores=1, fit_host=True))


def test_only_devices_with_a_shaped_link_have_a_sidecar() -> None:
    assert [name for name in SERVICES if name.endswith("-link")] == ["client-1-link", "client-2-link"]
    assert _rich()["services"]["client-1-link"]["environment"]["LINK_DOWN_BIT"] == "1000000"


def test_the_server_reads_the_same_fleet_as_the_generator() -> None:
    told = _rich()["services"]["server"]["environment"]["MOTLEY_FLEET"]
    assert Fleet.model_validate(yaml.safe_load(told.replace("$$", "$"))).as_mapping() == RICH.as_mapping()


@pytest.mark.parametrize("names", [("base", "hardened"), ("motley", "monitoring"), ("fast", "fast-link")], ids=str)
def test_no_class_name_gets_in_the_way_of_the_file_s_own(names: tuple[str, str]) -> None:
    one = {"count": 2, "cpus": 0.5, "memory": "512m", "network": {"down": "1mbit"}}
    data = _data(fleet(classes={names[0]: one, names[1]: {**one, "cpus": 0.7}}))
    plain = _data(fleet(classes={"one": one, "two": {**one, "cpus": 0.7}}))
    assert data["x-motley"] == plain["x-motley"]
    for name, service in plain["services"].items():
        if name == "server":
            continue
        if "MOTLEY_DEVICE_CLASS" in service.get("environment", {}):
            index = ("one", "two").index(service["environment"]["MOTLEY_DEVICE_CLASS"])
            service["environment"]["MOTLEY_DEVICE_CLASS"] = names[index]
        assert data["services"][name] == service


def test_the_target_list_labels_server_and_devices(tmp_path: Path) -> None:
    made, _ = _made(tmp_path, write_fleet(tmp_path))
    targets = json.loads(made.files[tmp_path / "compose-targets" / "fleet.json"])
    assert targets[0] == {"targets": ["server:9100"], "labels": {"job": "motley-server"}}
    assert targets[3] == {
        "targets": ["client-3:9101"],
        "labels": {"job": "motley-client", "client": "client-3", "device_class": "slow"},
    }
    assert len(targets) == 4


def test_the_image_tag_changes_with_the_shards_and_with_nothing_else() -> None:
    def tag(**changes: Any) -> str:
        image: str = _data(fleet(**changes))["services"]["server"]["image"]
        return image

    assert tag() == tag(training={"rounds": 99}) == tag(server={"cpus": 1})
    assert len({tag(), tag(seed=4), tag(data={"alpha": 0.1}), tag(training={"task": "cifar10"})}) == 4


def test_the_image_depends_on_who_is_slow_only_where_the_data_do() -> None:
    def tag(cpus: float, partition: str) -> str:
        classes = {"a": {"cpus": cpus, "memory": "1g"}, "b": {"cpus": 0.5, "memory": "1g"}}
        image: str = _data(fleet(classes=classes, data={"partition": partition}))["services"]["server"]["image"]
        return image

    assert tag(0.1, "dirichlet") == tag(0.9, "dirichlet")
    assert tag(0.1, "by_speed") == tag(0.2, "by_speed") != tag(0.9, "by_speed")
    by_speed = fleet(data={"partition": "by_speed"})
    assert data_spec(by_speed)["slowness"] == [0, 1, 2]


def test_a_fleet_beyond_the_host_is_refused_with_advice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "compose.yml"
    with pytest.raises(SystemExit) as left:
        main(["compose", "--fleet", str(write_fleet(tmp_path)), "--output", str(output), "--host-cores", "1"])
    error = capsys.readouterr().err
    assert left.value.code == 2
    assert "needs 1.7 cores (devices 1.2, server 0.5), this host has 1" in error
    assert "0.5882 with --fit-host" in error
    assert error.count("\n") == 1
    assert not output.exists()


def test_fit_host_scales_all_quotas_by_one_factor_and_says_so(tmp_path: Path) -> None:
    made, data = _made(tmp_path, write_fleet(tmp_path), host_cores=1, fit_host=True)
    factor = data["x-motley"]["cpu_factor"]
    assert factor == 0.5882
    quotas = {
        name: float(service["deploy"]["resources"]["limits"]["cpus"])
        for name, service in data["services"].items()
        if name == "server" or name.startswith("client")
    }
    assert quotas == {"server": 0.294, "client-1": 0.294, "client-2": 0.294, "client-3": 0.117}
    assert sum(quotas.values()) <= 1
    assert data["services"]["client-3"]["environment"]["MOTLEY_CPUS"] == "0.117"
    header = made.files[tmp_path / "compose.yml"].split("name:")[0]
    assert "Every CPU quota is the fleet file's times 0.5882, to fit a host of 1 cores." in header


def test_fit_host_changes_nothing_that_fits(tmp_path: Path) -> None:
    path = write_fleet(tmp_path)
    assert _made(tmp_path, path, fit_host=True)[1] == _made(tmp_path, path)[1]


@pytest.mark.parametrize(
    ("changes", "advice"),
    [
        ({"classes": {"x": {"count": 1000, "cpus": 1, "memory": "1g"}}}, "--total-clients 49"),
        (
            {"classes": {"x": {"count": 2, "cpus": 900, "memory": "1g"}}, "server": {"cpus": 0.01}},
            "use smaller classes",
        ),
    ],
    ids=["too many devices", "the server's share"],
)
def test_fit_host_never_goes_below_docker_s_smallest_quota(tmp_path: Path, changes: Any, advice: str) -> None:
    with pytest.raises(HostError, match=re.escape("less than Docker's 0.01")) as caught:
        deploy(Options(write_fleet(tmp_path, **changes), host_cores=1, fit_host=True))
    assert advice in str(caught.value)


def test_the_advised_number_of_devices_fits(tmp_path: Path) -> None:
    path = write_fleet(tmp_path, classes={"x": {"count": 1000, "cpus": 1, "memory": "1g"}})
    made, _ = _made(tmp_path, path, host_cores=1, fit_host=True, total_clients=49)
    assert made.fleet.total_cpus <= 1


def test_total_clients_keeps_the_proportions(tmp_path: Path) -> None:
    made, data = _made(tmp_path, write_fleet(tmp_path), total_clients=30)
    assert {name: each.count for name, each in made.fleet.classes.items()} == {"fast": 20, "slow": 10}
    assert data["x-motley"]["changes"] == ["30 devices in the file's proportions"]
    assert made.warnings == ()


def test_more_devices_than_the_host_carries_warn_because_they_were_asked_for(tmp_path: Path) -> None:
    made, _ = _made(tmp_path, write_fleet(tmp_path), total_clients=300, host_cores=8)
    assert len(made.warnings) == 1
    assert "this host has 8" in made.warnings[0]


def test_a_random_fleet_depends_on_its_seed_alone(tmp_path: Path) -> None:
    path = write_fleet(tmp_path)

    def text(**options: Any) -> str:
        return _made(tmp_path, path, random=True, total_clients=20, **options)[0].files[tmp_path / "compose.yml"]

    assert text(seed=5) == text(seed=5)
    assert text() == text(seed=fleet_data()["seed"])
    assert len({text(seed=seed) for seed in range(6)}) > 3
    assert "drawn at random with seed 5" in text(seed=5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "smal"}, "--preset 'smal' is not in {fleet}; did you mean 'small'?"),
        ({"preset": "nobody"}, "--preset 'nobody': the classes hold 0 devices; write 1 to 100000"),
        (
            {"preset": "small"},
            "--preset 'small': devices_per_round 2 does not fit a fleet of 1; write 1 to 1, or 'all'",
        ),
        ({"total_clients": 0}, "--total-clients 0: write 1 to 100000"),
        ({"total_clients": 100_001}, "--total-clients 100001: write 1 to 100000"),
        ({"total_clients": 1}, "--total-clients 1 is fewer than the fleet's devices_per_round of 2"),
        ({"seed": 3}, "--seed 3 has no effect without --random; add it"),
        ({"rounds": 0}, "--rounds 0: write 1 to 100000"),
        ({"rounds": 100_001}, "--rounds 100001: write 1 to 100000"),
    ],
    ids=str,
)
def test_odd_options_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    one = {"cpus": 1, "memory": "1g"}
    presets = {"small": {"one": one}, "nobody": {"one": {**one, "count": 0}}}
    path = write_fleet(tmp_path, training={"devices_per_round": 2}, presets=presets)
    with pytest.raises(InputError) as caught:
        deploy(Options(path, host_cores=8, **options))
    assert str(caught.value) == message.replace("{fleet}", str(path))


def test_preset_and_rounds_change_the_fleet_and_leave_a_note(tmp_path: Path) -> None:
    path = write_fleet(tmp_path, presets={"small": {"one": {"cpus": 1, "memory": "1g"}}})
    made, data = _made(tmp_path, path, preset="small", rounds=2)
    assert (list(made.fleet.classes), made.fleet.training.rounds) == (["one"], 2)
    assert data["x-motley"]["changes"] == ["preset small", "2 rounds"]


def test_memory_below_the_floor_is_refused_with_the_floor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_fleet(tmp_path, classes={"x": {"cpus": 1, "memory": "100m"}})
    with pytest.raises(SystemExit) as left:
        main(["compose", "--fleet", str(path), "--output", str(tmp_path / "compose.yml")])
    error = capsys.readouterr().err
    assert left.value.code == 2
    assert "memory '100m' is below the measured floor of 336m" in error
    assert "write at least '336m'" in error


@pytest.mark.parametrize("output", ["", "fleet.yaml/compose.yml"], ids=["a directory", "below a file"])
def test_what_can_not_be_written_leaves_nothing_behind(tmp_path: Path, output: str) -> None:
    path = write_fleet(tmp_path)
    made = deploy(Options(path, tmp_path / output, host_cores=8))
    before = sorted(tmp_path.parent.rglob("*"))
    with pytest.raises(InputError, match=r"can't write it: .* --output"):
        made.write()
    assert sorted(tmp_path.parent.rglob("*")) == before


def test_a_thousand_devices(tmp_path: Path) -> None:
    made, data = _made(tmp_path, write_fleet(tmp_path, monitoring={"enabled": False}), total_clients=1000)
    names = [f"client-{number}" for number in range(1, 1001)]
    assert list(data["services"]) == ["server", *names]
    partitions = [data["services"][name]["environment"]["MOTLEY_PARTITION"] for name in names]
    assert partitions == [str(number) for number in range(1000)]
    classes = [data["services"][name]["environment"]["MOTLEY_DEVICE_CLASS"] for name in names]
    assert (classes.count("fast"), classes.count("slow")) == (667, 333)
    assert data["x-motley"]["devices"] == 1000
    lines = made.files[tmp_path / "compose.yml"].count("\n")
    assert lines < 8 * 1000  # what a class shares stands once
    assert len(json.loads(made.files[tmp_path / "compose-targets" / "fleet.json"])) == 1001
