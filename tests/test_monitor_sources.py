"""What each source of the monitor reads from small trees, and why it says nothing where it can't."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from factories import FIXTURES, MIB
from hypothesis import given
from hypothesis import strategies as st

from motley.limits import Cgroup
from motley.monitor import Missing, Roots, Source
from motley.monitor.battery import Battery
from motley.monitor.cpu import Cpu, Pressure
from motley.monitor.gpu import Gpus
from motley.monitor.memory import ContainerMemory, ProcessMemory
from motley.monitor.network import Network
from motley.monitor.power import Rapl
from motley.monitor.reading import Reading, assemble, read_all
from motley.monitor.sources import all_sources
from motley.monitor.temperature import Hwmon, ThermalZones
from motley.samples import GpuSample, Sample

TREES = FIXTURES / "device"
PAGE = os.sysconf("SC_PAGE_SIZE")
TICK = os.sysconf("SC_CLK_TCK")
KIB = 1024


def _roots(tree: str) -> Roots:
    return Roots(TREES / tree / "cgroup", TREES / tree / "proc", TREES / tree / "sys")


def _write(root: Path, files: Mapping[str, str]) -> Path:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


def _read(sources: Sequence[Source], at_s: float) -> list[Reading]:
    return read_all(sources, lambda: at_s)


# Memory


def test_process_memory_covers_all_descendants_and_no_one_else() -> None:
    source = ProcessMemory(100, TREES / "laptop" / "proc")
    assert source.read(0.0) == {"process_memory_bytes": (1000 + 20 + 3 + 4) * PAGE}


def test_process_memory_of_a_kernel_without_lists_of_children(tmp_path: Path) -> None:
    _write(tmp_path, {"7/statm": "9 5 1", "8/statm": "9 2 1", "9/statm": "garbage"})
    assert ProcessMemory(7, tmp_path, lambda pid: [8, 9, 10]).read(0.0) == {"process_memory_bytes": 7 * PAGE}


def test_a_process_that_is_gone_has_no_memory(tmp_path: Path) -> None:
    assert ProcessMemory(7, tmp_path, lambda pid: []).read(0.0) == {
        "process_memory_bytes": Missing("process 7 can't be read")
    }


def test_own_memory_is_there_and_grows_with_a_child() -> None:
    source = ProcessMemory(os.getpid())
    alone = source.read(0.0)["process_memory_bytes"]
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(theirs)
        os.read(ours, 1)
        os._exit(0)
    with_child = source.read(0.0)["process_memory_bytes"]
    os.close(theirs)
    os.waitpid(child, 0)
    assert with_child > alone > 0


def test_memory_of_a_container_with_a_limit() -> None:
    roots = _roots("phone")
    reading = ContainerMemory(Cgroup(roots.cgroup, roots.proc), roots.proc).read(0.0)
    assert reading == {
        "memory_bytes": 256 * MIB,
        "memory_limit_bytes": 512 * MIB,
        "machine_memory_total_bytes": 4_000_000 * KIB,
        "machine_memory_bytes": Missing(f"{roots.proc / 'meminfo'} has no MemAvailable"),
        "oom_kills": 1,
    }


@pytest.mark.parametrize("limit", ["max", "999999999999999"])
def test_without_a_limit_below_the_machines_memory_it_is_the_machine_that_counts(tmp_path: Path, limit: str) -> None:
    _write(tmp_path, {"cgroup.controllers": "", "memory.max": limit, "memory.current": "5"})
    proc = TREES / "laptop" / "proc"
    sample = assemble(0.0, [ContainerMemory(Cgroup(tmp_path, proc), proc).read(0.0)])
    assert (sample.memory_bytes, sample.memory_limit_bytes) == (3_000_000 * KIB, 8_000_000 * KIB)
    assert sample.memory_share == pytest.approx(0.375)
    assert sample.missing == {"oom_kills": "the cgroup counts no kills"}


# CPU and pressure


def test_cpu_share_of_the_cores_without_a_quota(tmp_path: Path) -> None:
    _write(tmp_path, {"stat": (TREES / "laptop" / "proc" / "stat").read_text()})
    source = Cpu(Cgroup(tmp_path, tmp_path), tmp_path, cores=(0, 1))
    assert source.read(10.0)["cpu_share"] == Missing("the first sample has no rate")
    later = f"cpu 9 9 9 9\ncpu0 {300 + TICK} 0 100 9999 9999 0 0 77 0 0\ncpu1 100 0 {100 + TICK // 2} 1 1 0 0 0 0 0\n"
    _write(tmp_path, {"stat": later})
    assert source.read(12.0) == {"cpu_share": 1.5 / 2 / 2, "throttled_share": Missing("no CPU quota")}


def test_only_the_cores_count_that_the_process_may_run_on(tmp_path: Path) -> None:
    source = Cpu(Cgroup(tmp_path, tmp_path), tmp_path, cores=(1,))
    shares = []
    for at_s, ticks in ((0.0, 0), (1.0, TICK // 2)):
        _write(tmp_path, {"stat": f"cpu0 {1000 * ticks} 0 0 0 0\ncpu1 {ticks} 0 0 0 0\n"})
        shares.append(source.read(at_s)["cpu_share"])
    assert shares[1] == 0.5


def _quota_reading(root: Path, source: Cpu, at_s: float, used_s: float, throttled_s: float) -> Reading:
    stat = f"usage_usec {used_s * 1e6:.0f}\nthrottled_usec {throttled_s * 1e6:.0f}\n"
    _write(root, {"cpu.stat": stat})
    return source.read(at_s)


def test_cpu_share_of_a_quota(tmp_path: Path) -> None:
    _write(tmp_path, {"cgroup.controllers": "", "cpu.max": "50000 100000"})
    source = Cpu(Cgroup(tmp_path, tmp_path), tmp_path, cores=(0, 1))
    _quota_reading(tmp_path, source, 10.0, 1.0, 0.5)
    reading = _quota_reading(tmp_path, source, 14.0, 2.0, 1.5)
    assert reading == {"cpu_share": 0.5, "throttled_share": 0.25}
    assert _quota_reading(tmp_path, source, 15.0, 2.5, 9.5)["throttled_share"] == 1.0


def test_a_quota_beyond_the_cores_counts_as_the_cores(tmp_path: Path) -> None:
    _write(tmp_path, {"cgroup.controllers": "", "cpu.max": "800000 100000"})
    source = Cpu(Cgroup(tmp_path, tmp_path), tmp_path, cores=(0, 1))
    _quota_reading(tmp_path, source, 0.0, 0.0, 0.0)
    assert _quota_reading(tmp_path, source, 1.0, 2.0, 0.0)["cpu_share"] == 1.0


def test_a_counter_that_cant_give_a_rate_gives_a_reason(tmp_path: Path) -> None:
    _write(tmp_path, {"cgroup.controllers": "", "cpu.max": "50000 100000"})
    source = Cpu(Cgroup(tmp_path, tmp_path), tmp_path, cores=(0,))
    _quota_reading(tmp_path, source, 1.0, 5.0, 5.0)
    assert _quota_reading(tmp_path, source, 1.0, 6.0, 6.0)["cpu_share"] == Missing(
        "no time has passed since the sample before"
    )
    assert _quota_reading(tmp_path, source, 2.0, 1.0, 6.0)["cpu_share"] == Missing("the counter was set back")
    (tmp_path / "cpu.stat").unlink()
    assert source.read(3.0) == {
        "cpu_share": Missing("the kernel does not count CPU time"),
        "throttled_share": Missing("the cgroup does not count throttled time"),
    }


def test_pressure_of_the_container_before_that_of_the_machine(tmp_path: Path) -> None:
    proc = TREES / "laptop" / "proc"
    _write(tmp_path, {"cgroup.controllers": "", "cpu.pressure": "some avg10=50.00 avg60=0.00"})
    assert Pressure(Cgroup(tmp_path, proc), proc).read(0.0) == {"cpu_pressure": 0.5, "memory_pressure": 0.015}


def test_a_kernel_without_pressure(tmp_path: Path) -> None:
    reading = Pressure(Cgroup(tmp_path, tmp_path), tmp_path).read(0.0)
    assert set(reading.values()) == {Missing("the kernel measures no pressure (PSI)")}


# Power


def _powercap(root: Path, zones: Mapping[str, tuple[str, int, int | None]]) -> Path:
    """zones: name of the directory → name of the zone, energy, range. Made here: a colon is no name everywhere."""
    for directory, (name, energy_uj, range_uj) in zones.items():
        files = {"name": f"{name}\n", "energy_uj": f"{energy_uj}\n"}
        if range_uj is not None:
            files["max_energy_range_uj"] = f"{range_uj}\n"
        _write(root / "class" / "powercap" / directory, files)
    return root


def test_rapl_sums_packages_and_their_memory(tmp_path: Path) -> None:
    def write(package: int, dram: int, others: int) -> None:
        zones = {"intel-rapl:0": ("package-0", package, None), "intel-rapl:0:0": ("core", others, None)}
        zones |= {"intel-rapl:0:1": ("dram", dram, None), "intel-rapl:1": ("psys", others, None)}
        zones |= {"intel-rapl-mmio:0": ("package-0", others, None), "intel-rapl:2": ("package-1", package, None)}
        _powercap(tmp_path, zones)

    source = Rapl(tmp_path)
    write(1_000_000, 500_000, 7)
    assert source.read(1.0) == {"power_w": Missing("RAPL: the first sample has no rate", for_now=True)}
    write(21_000_000, 4_500_000, 700_000_000)
    assert source.read(3.0) == {"power_w": (20 + 20 + 4) / 2, "power_source": "rapl"}


@given(
    range_uj=st.integers(10**6, 10**12),
    start=st.floats(0, 1),
    used=st.lists(st.floats(0, 1), min_size=1, max_size=5),
    elapsed_s=st.floats(0.1, 10),
)
def test_rapl_counts_on_where_its_counter_starts_again(
    tmp_path_factory: pytest.TempPathFactory, range_uj: int, start: float, used: list[float], elapsed_s: float
) -> None:
    """Energy in total is what was used, however often the counter wraps: once between two reads at most."""
    root = tmp_path_factory.mktemp("powercap")
    source, energy, total_j, at_s = Rapl(root), int(start * (range_uj - 1)), 0.0, 0.0
    steps_uj = [0, *(int(share * (range_uj - 1)) for share in used)]
    for step_uj in steps_uj:
        energy, at_s = (energy + step_uj) % range_uj, at_s + elapsed_s
        _powercap(root, {"intel-rapl:0": ("package-0", energy, range_uj)})
        watts = source.read(at_s)["power_w"]
        total_j += 0.0 if isinstance(watts, Missing) else watts * elapsed_s
    assert total_j == pytest.approx(sum(steps_uj) / 1e6, rel=1e-6, abs=1e-9)


def test_rapl_without_a_range_says_so(tmp_path: Path) -> None:
    source = Rapl(_powercap(tmp_path, {"intel-rapl:0": ("package-0", 100, None)}))
    source.read(0.0)
    _powercap(tmp_path, {"intel-rapl:0": ("package-0", 5, None)})
    assert "started again" in source.read(1.0)["power_w"].reason


def test_rapl_that_is_for_root_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("motley.monitor.power.read_text", denied)
    source = Rapl(_powercap(tmp_path, {"intel-rapl:0": ("package-0", 1, 9)}))
    reading = source.read(0.0)["power_w"]
    assert reading == Missing("RAPL is for root alone; make energy_uj readable to use it")


def test_rapl_that_holds_garbage_names_the_file(tmp_path: Path) -> None:
    root = _powercap(tmp_path, {"intel-rapl:0": ("package-0", -1, 9)})
    (reading,) = _read([Rapl(root)], 0.0)
    assert "energy_uj holds '-1', not micro-joules" in reading["power_w"].reason


def test_a_series_of_power_has_one_source(tmp_path: Path) -> None:
    """While RAPL has no rate yet, neither battery nor GPUs stand in for it."""
    root = _powercap(tmp_path, {"intel-rapl:0": ("package-0", 0, 10**9)})
    sources = [Rapl(root), Battery(TREES / "laptop" / "sys"), Gpus(FakeNvml)]
    first = assemble(0.0, _read(sources, 0.0))
    _powercap(tmp_path, {"intel-rapl:0": ("package-0", 8_000_000, 10**9)})
    second = assemble(1.0, _read(sources, 1.0))
    assert (first.power_w, first.power_source, first.missing["power_w"]) == (
        None,
        "",
        "RAPL: the first sample has no rate",
    )
    assert (second.power_w, second.power_source) == (8.0 + 120.5, "rapl+nvml")


# Battery


def test_a_laptop_with_two_batteries_and_a_mouse() -> None:
    assert Battery(TREES / "laptop" / "sys").read(0.0) == {
        "battery_level": 0.4,
        "charging": False,
        "battery_source": "sysfs",
        "power_w": 12.5,
        "power_source": "battery",
    }


def test_a_phone_of_an_older_kernel() -> None:
    reading = Battery(TREES / "phone" / "sys").read(0.0)
    assert (reading["battery_level"], reading["charging"], reading["power_w"]) == (0.63, False, 2.0)


def _supply(root: Path, name: str, **told: object) -> None:
    lines = "".join(f"POWER_SUPPLY_{key}={value}\n" for key, value in told.items())
    _write(root, {f"class/power_supply/{name}/uevent": lines})


@pytest.mark.parametrize(
    ("status", "online", "charging"),
    [
        ("Discharging", 1, True),
        ("Discharging", 0, False),
        ("Charging", 0, True),
        ("Full", 0, True),
        ("Not charging", 0, True),
        ("Unknown", 0, None),
        ("Unknown", 1, True),
    ],
)
def test_charging_is_living_on_the_mains(tmp_path: Path, status: str, online: int, charging: bool | None) -> None:
    _supply(tmp_path, "AC", TYPE="Mains", ONLINE=online)
    _supply(tmp_path, "BAT0", TYPE="Battery", STATUS=status, CAPACITY=50)
    told = Battery(tmp_path).read(0.0)["charging"]
    assert told == (Missing("the battery does not tell its state") if charging is None else charging)


@pytest.mark.parametrize("told", [{}, {"CAPACITY": "lots"}, {"ENERGY_NOW": "5", "ENERGY_FULL": "0"}, {"CAPACITY": ""}])
def test_a_battery_that_tells_nothing_is_not_empty(tmp_path: Path, told: dict[str, str]) -> None:
    _supply(tmp_path, "BAT0", TYPE="Battery", **told)
    assert Battery(tmp_path).read(0.0)["battery_level"] == Missing("the battery does not tell its charge")


@given(
    st.dictionaries(
        st.sampled_from(["TYPE", "SCOPE", "PRESENT", "STATUS", "CAPACITY", "ENERGY_NOW", "ENERGY_FULL"]),
        st.sampled_from(["Battery", "Mains", "1", "0", "Charging", "250", "-7", ""]),
    )
)
def test_a_level_is_a_share_whatever_is_told(tmp_path_factory: pytest.TempPathFactory, told: dict[str, str]) -> None:
    root = tmp_path_factory.mktemp("supply")
    _supply(root, "BAT0", **told)
    level = Battery(root).read(0.0)["battery_level"]
    assert isinstance(level, Missing) or 0 <= level <= 1


# Temperature


def test_the_hottest_sensor_of_the_processor() -> None:
    assert Hwmon(TREES / "laptop" / "sys").read(0.0) == {"celsius": 61.0, "celsius_source": "hwmon"}


def test_thermal_zones_of_the_processor_before_all_others() -> None:
    assert ThermalZones(TREES / "phone" / "sys").read(0.0) == {"celsius": 48.2, "celsius_source": "thermal zone"}
    assert ThermalZones(TREES / "laptop" / "sys").read(0.0)["celsius"] == 27.8


@pytest.mark.parametrize("text", ["", "hot", "-273200", "999000", "nan"])
def test_a_broken_sensor_is_no_temperature(tmp_path: Path, text: str) -> None:
    _write(tmp_path / "class" / "thermal" / "thermal_zone0", {"type": "cpu-thermal", "temp": text})
    assert ThermalZones(tmp_path).read(0.0)["celsius"] == Missing("thermal zone: no sensor that can be read")


def test_frost_is_a_temperature(tmp_path: Path) -> None:
    _write(tmp_path / "class" / "thermal" / "thermal_zone0", {"type": "cpu-thermal", "temp": "-5500\n"})
    assert ThermalZones(tmp_path).read(0.0)["celsius"] == -5.5


# Network


def test_network_bytes_without_the_loopback() -> None:
    assert Network(TREES / "laptop" / "proc").read(0.0) == {"received_bytes": 1030, "sent_bytes": 204}


def test_a_network_namespace_with_nothing_but_the_loopback(tmp_path: Path) -> None:
    _write(tmp_path, {"net/dev": "a\nb\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n"})
    assert assemble(0.0, _read([Network(tmp_path)], 0.0)).received_bytes is None


# GPUs


class FakeNvml:
    """Two GPUs, of which the second one tells neither power nor use."""

    NVML_TEMPERATURE_GPU = 0

    def __init__(self, *, count: int = 2, init_error: Exception | None = None) -> None:
        self.count, self.init_error, self.open = count, init_error, 0

    def nvmlInit(self) -> None:
        if self.init_error:
            raise self.init_error
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:
        return self.count

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetName(self, handle: int) -> str | bytes:
        return "big" if handle == 0 else b"small"

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        return SimpleNamespace(used=(handle + 1) * MIB, total=100 * MIB)

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:
        return SimpleNamespace(gpu=(self._told(handle), 75)[1])

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        return (self._told(handle), 120_500)[1]

    def nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> int:
        return 60 + handle

    @staticmethod
    def _told(handle: int) -> None:
        if handle == 1:
            raise RuntimeError("Not Supported")


def test_several_gpus_each_with_what_it_tells() -> None:
    nvml = FakeNvml()
    source = Gpus(lambda: nvml)
    sample = assemble(0.0, _read([source, ThermalZones(TREES / "bare" / "sys")], 0.0))
    assert sample.gpus == (
        GpuSample(0, "big", MIB, 100 * MIB, 0.75, 120.5, 60.0),
        GpuSample(1, "small", 2 * MIB, 100 * MIB, None, None, 61.0),
    )
    assert sample.missing == {
        "gpu1_power_w": "RuntimeError: Not Supported",
        "gpu1_utilisation": "RuntimeError: Not Supported",
    }
    assert (sample.power_w, sample.power_source) == (120.5, "nvml")
    assert (sample.celsius, sample.celsius_source) == (61.0, "nvml")
    source.close()
    assert nvml.open == 0


def _no_module() -> Any:
    raise ModuleNotFoundError("No module named 'pynvml'")


@pytest.mark.parametrize(
    ("load", "reason"),
    [
        (_no_module, "nvidia-ml-py is not installed"),
        (lambda: FakeNvml(init_error=RuntimeError("Library Not Found")), "NVML can't be used: Library Not Found"),
        (lambda: FakeNvml(count=0), "NVML shows no GPU"),
    ],
)
def test_no_gpus_for_a_reason(load: Callable[[], Any], reason: str) -> None:
    sample = assemble(0.0, _read([Gpus(load)], 0.0))
    assert (sample.gpus, sample.missing) == ((), {"gpus": reason})


def test_nvml_is_looked_for_once_until_it_is_closed() -> None:
    asked = []
    source = Gpus(lambda: asked.append(1) or FakeNvml(init_error=RuntimeError()))
    for _ in range(3):
        source.read(0.0)
    assert len(asked) == 1
    source.close()
    source.read(0.0)
    assert len(asked) == 2


# All of them


def test_all_figures_of_a_laptop() -> None:
    sources = [source for source in all_sources(_roots("laptop"), 100) if not isinstance(source, Gpus)]
    sample = assemble(5.0, _read(sources, 0.0))
    assert sample == Sample(
        at_s=5.0,
        process_memory_bytes=1027 * PAGE,
        memory_bytes=3_000_000 * KIB,
        memory_limit_bytes=8_000_000 * KIB,
        machine_memory_bytes=3_000_000 * KIB,
        machine_memory_total_bytes=8_000_000 * KIB,
        cpu_pressure=0.25,
        memory_pressure=0.015,
        power_w=12.5,
        power_source="battery",
        celsius=61.0,
        celsius_source="hwmon",
        battery_level=0.4,
        charging=False,
        battery_source="sysfs",
        received_bytes=1030,
        sent_bytes=204,
        missing={
            "cpu_share": "the first sample has no rate",
            "throttled_share": "the first sample has no rate",
            "oom_kills": "the cgroup counts no kills",
        },
    )


def test_where_nothing_can_be_read_everything_is_none_with_a_reason() -> None:
    sources = [source for source in all_sources(_roots("bare"), 2**30) if not isinstance(source, Gpus)]
    samples = [assemble(0.0, _read(sources, at_s)) for at_s in (0.0, 1.0)]
    for sample in samples:
        figures = {name: value for name, value in vars(sample).items() if name not in ("at_s", "missing", "gpus")}
        assert not any(figures.values())
        assert sample.missing.keys() >= {name for name in figures if not name.endswith("_source")}
