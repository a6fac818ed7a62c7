"""Limits and use, read from small trees as the kernel writes them: cgroup v1 and v2."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from factories import FIXTURES

from motley.device import DeviceLimits
from motley.limits import Cgroup, Usage, host_cores, host_memory_bytes

TREES = FIXTURES / "cgroup"
MIB = 1024**2


def _cgroup(tree: str) -> Cgroup:
    return Cgroup(TREES / tree / "sys", TREES / tree / "proc")


@pytest.mark.parametrize(
    ("tree", "version"), [("v2", 2), ("v2-unlimited", 2), ("v1", 1), ("v1-unlimited", 1), ("empty", 1)]
)
def test_the_version_is_told_by_the_mount(tree: str, version: int) -> None:
    assert _cgroup(tree).version == version


@pytest.mark.parametrize(
    ("tree", "limits"),
    [
        ("v2", DeviceLimits(cpus=0.525, memory_bytes=384 * MIB, swap_bytes=0, pids=256)),
        ("v1", DeviceLimits(cpus=0.15, memory_bytes=768 * MIB, swap_bytes=0, pids=256)),
        ("v2-unlimited", DeviceLimits(None, None, None, None)),
        ("v1-unlimited", DeviceLimits(None, None, None, None)),
        ("empty", DeviceLimits(None, None, None, None)),
    ],
)
def test_limits(tree: str, limits: DeviceLimits) -> None:
    assert _cgroup(tree).limits() == limits


def test_usage_v2() -> None:
    assert _cgroup("v2").usage() == Usage(
        cpu_s=pytest.approx(12.345678),
        throttled_s=pytest.approx(2.5),
        periods=400,
        throttled_periods=37,
        memory_bytes=200 * MIB,
        working_set_bytes=180 * MIB,
        memory_peak_bytes=300 * MIB,
        oom_kills=2,
        pids=24,
    )


def test_usage_v1() -> None:
    assert _cgroup("v1").usage() == Usage(
        cpu_s=pytest.approx(7.25),
        throttled_s=pytest.approx(4.5),
        periods=900,
        throttled_periods=300,
        memory_bytes=256 * MIB,
        working_set_bytes=224 * MIB,
        memory_peak_bytes=384 * MIB,
        oom_kills=1,
        pids=31,
    )


def test_what_the_kernel_does_not_say_is_none() -> None:
    assert _cgroup("empty").usage() == Usage(*[None] * 9)
    assert _cgroup("empty").oom_kills() is None
    quiet = _cgroup("v2-unlimited").usage()
    assert (quiet.cpu_s, quiet.throttled_s, quiet.periods, quiet.memory_peak_bytes) == (5.0, None, None, None)


def test_a_working_set_is_never_negative() -> None:
    assert _cgroup("v2-unlimited").usage().working_set_bytes == 0


def test_a_working_set_without_statistics_is_all_of_the_memory() -> None:
    assert _cgroup("v1-unlimited").usage().working_set_bytes == MIB


def test_a_missing_proc_means_the_mount_itself(tmp_path: Path) -> None:
    assert Cgroup(TREES / "v2" / "sys", tmp_path).limits() == _cgroup("v2").limits()


def test_files_are_read_anew_each_time(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("memory\n")
    (tmp_path / "memory.events").write_text("oom_kill 0\n")
    cgroup = Cgroup(tmp_path, tmp_path)
    assert cgroup.oom_kills() == 0
    (tmp_path / "memory.events").write_text("oom_kill 5\n")
    assert cgroup.oom_kills() == 5


@pytest.mark.parametrize("text", ["", "\n", "max", "many 100000", "100000"])
def test_an_odd_quota_is_no_quota(tmp_path: Path, text: str) -> None:
    (tmp_path / "cgroup.controllers").write_text("")
    (tmp_path / "cpu.max").write_text(text)
    assert Cgroup(tmp_path, tmp_path).limits().cpus is None


def test_swap_on_top_of_memory_v1(tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text(f"{100 * MIB}\n")
    (tmp_path / "memory" / "memory.memsw.limit_in_bytes").write_text(f"{150 * MIB}\n")
    assert Cgroup(tmp_path, tmp_path).limits() == DeviceLimits(None, 100 * MIB, 50 * MIB, None)


def test_the_host() -> None:
    assert host_memory_bytes(TREES / "v2" / "proc") == 16_384_000 * 1024
    assert 1 <= host_cores() <= (os.cpu_count() or 1)


def test_a_meminfo_without_a_total_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemFree: 1 kB\n")
    with pytest.raises(OSError, match="no MemTotal"):
        host_memory_bytes(tmp_path)
