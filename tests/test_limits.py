"""Limits and use, read from small trees as the kernel writes them, and as it never would: cgroup v1 and v2."""

from __future__ import annotations

import math
import os
import tempfile
from dataclasses import astuple
from pathlib import Path

import pytest
from factories import FIXTURES, MIB
from hypothesis import given
from hypothesis import strategies as st

from motley.device import DeviceLimits
from motley.kernel_files import count_of, parse_number, parse_table, pressure_share
from motley.limits import Cgroup, Usage, host_cores, host_memory_bytes

TREES = FIXTURES / "cgroup"


def _cgroup(tree: str) -> Cgroup:
    return Cgroup(TREES / tree / "sys", TREES / tree / "proc")


@pytest.mark.parametrize(
    ("tree", "version"),
    [("v2", 2), ("v2-unlimited", 2), ("v1", 1), ("v1-unlimited", 1), ("hybrid", 1), ("empty", 1)],
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
        ("v2-hostile", DeviceLimits(None, None, None, None)),
        ("v1-hostile", DeviceLimits(None, None, None, None)),
        ("v2-nested", DeviceLimits(cpus=0.5, memory_bytes=512 * MIB, swap_bytes=0, pids=100)),
        ("hybrid", DeviceLimits(cpus=2.0, memory_bytes=256 * MIB, swap_bytes=None, pids=64)),
        ("v1-within", DeviceLimits(None, 128 * MIB)),
        ("v1-flat", DeviceLimits(None, 512 * MIB)),
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


def test_usage_is_that_of_the_cgroup_whose_limit_is_the_tightest() -> None:
    used = _cgroup("v2-nested").usage()
    of_the_pod = (used.memory_bytes, used.working_set_bytes, used.memory_peak_bytes, used.pids)
    assert of_the_pod == (400 * MIB, 350 * MIB, 450 * MIB, 12)
    assert (used.cpu_s, used.throttled_s, used.throttled_periods, used.oom_kills) == (2.0, 0.5, 4, 3)


def test_v1_and_v2_beside_each_other() -> None:
    cgroup = _cgroup("hybrid")
    used = cgroup.usage()
    assert (used.cpu_s, used.throttled_s, used.throttled_periods) == (8.0, 1.5, 5)
    assert (used.memory_bytes, used.working_set_bytes, used.pids) == (200 * MIB, 180 * MIB, 3)
    assert (cgroup.pressure("cpu"), cgroup.pressure("memory")) == (0.4, None)


@pytest.mark.parametrize("tree", ["v1", "v2", "hybrid", "v2-nested", "v2-hostile", "empty"])
def test_the_parts_of_usage_that_can_be_had_alone(tree: str) -> None:
    cgroup = _cgroup(tree)
    used = cgroup.usage()
    assert cgroup.cpu_times_s() == (used.cpu_s, used.throttled_s)
    assert cgroup.memory() == (cgroup.limits().memory_bytes, used.working_set_bytes)
    assert cgroup.cpus() == cgroup.limits().cpus
    assert cgroup.oom_kills() == used.oom_kills


def test_pressure_is_a_share() -> None:
    assert _cgroup("v2-nested").pressure("cpu") == 0.125
    assert _cgroup("v2-nested").pressure("memory") == 0.0
    assert _cgroup("v2-nested").pressure("io") is None
    assert _cgroup("v1").pressure("cpu") is None


@pytest.mark.parametrize("tree", ["empty", "v2-hostile", "v1-hostile"])
def test_what_the_kernel_does_not_say_is_none(tree: str) -> None:
    assert _cgroup(tree).usage() == Usage(*[None] * 9)
    assert _cgroup(tree).pressure("cpu") is None


def test_quiet_counters() -> None:
    assert _cgroup("empty").oom_kills() is None
    quiet = _cgroup("v2-unlimited").usage()
    assert (quiet.cpu_s, quiet.throttled_s, quiet.periods, quiet.memory_peak_bytes) == (5.0, None, None, None)


def test_a_working_set_is_never_negative() -> None:
    assert _cgroup("v2-unlimited").usage().working_set_bytes == 0


@pytest.mark.parametrize(("tree", "held"), [("v2", 180 * MIB - 19_000_000), ("v1", 224 * MIB - 1_048_576)])
def test_what_is_held_has_no_pages_of_files(tree: str, held: int) -> None:
    assert _cgroup(tree).held_bytes() == held


@pytest.mark.parametrize("tree", ["empty", "v2-hostile", "v1-hostile"])
def test_of_nothing_known_nothing_is_held(tree: str) -> None:
    assert _cgroup(tree).held_bytes() is None


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


@pytest.mark.parametrize(
    "text", ["", "\n", "max", "many 100000", "100000", "100000 0", "1 100000", "-1 100000", "9 9 9"]
)
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


@pytest.mark.parametrize("text", ["MemTotal: 0 kB", "MemTotal: -5 kB", "MemTotal: lots kB", ""])
def test_an_odd_total_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "meminfo").write_text(text)
    with pytest.raises(OSError, match="no MemTotal"):
        host_memory_bytes(tmp_path)


@pytest.mark.parametrize(
    ("text", "number"),
    [(" 12\n", 12), ("0", 0), ("-1", None), ("max", None), ("", None), ("²", None), ("٣", None), ("1" * 21, None)],
)
def test_a_number_is_digits(text: str, number: int | None) -> None:
    assert parse_number(text) == number


def test_a_table_leaves_out_what_is_no_pair() -> None:
    assert parse_table("a 1\nb -2\nc\nd 3 4\n\ne 5") == {"a": 1, "e": 5}


@pytest.mark.parametrize(("name", "count"), [("a", 1), ("ab", 22), ("b:", 3), ("c", None), ("d", None), ("e", None)])
def test_one_line_of_a_table(name: str, count: int | None) -> None:
    assert count_of("ab 22\na 1\na 5\nb: 3 kB\nc\nd -4\n", name) == count


@pytest.mark.parametrize("text", ["", "some", "full avg10=1.00", "some avg10=", "some avg10=nan", "some avg10=101"])
def test_an_odd_pressure_is_none(text: str) -> None:
    assert pressure_share(text) is None


FILES = {
    2: "memory.max memory.current memory.stat memory.events memory.peak memory.swap.max cpu.max cpu.stat pids.max "
    "pids.current cpu.pressure cgroup.controllers",
    1: "memory/memory.limit_in_bytes memory/memory.usage_in_bytes memory/memory.stat memory/memory.max_usage_in_bytes "
    "memory/memory.memsw.limit_in_bytes memory/memory.oom_control memory/memory.use_hierarchy cpu/cpu.cfs_quota_us "
    "cpu/cpu.cfs_period_us cpu/cpu.stat cpuacct/cpuacct.usage pids/pids.max",
}
NUMBERS = st.integers(-(2**70), 2**70).map(str) | st.sampled_from(["0", "-1", "max", "1000", "100000", "1048576"])
LINES = st.lists(
    st.sampled_from(["usage_usec", "throttled_time", "inactive_file", "oom_kill", "some avg10=5"]) | NUMBERS, max_size=3
).map(" ".join)
CONTENTS = NUMBERS.map(str.encode) | st.lists(LINES, max_size=3).map("\n".join).map(str.encode) | st.binary(max_size=20)
OWN_PATHS = st.sampled_from(["/", "/a", "/a/b", "/x/a", "/../a", "/a/b/c", "a", "", "/\0", "//", "/a (deleted)"])


@st.composite
def _trees(draw: st.DrawFn) -> tuple[list[str], dict[str, bytes]]:
    """Lines of /proc/self/cgroup, and files by their path below the mount."""
    version = draw(st.sampled_from([1, 2]))
    lines = draw(
        st.lists(st.builds("{}:{}:{}".format, NUMBERS, st.sampled_from(["", "memory", "cpu,cpuacct"]), OWN_PATHS))
    )
    lines += draw(st.lists(st.text(max_size=8), max_size=2))
    files = {}
    for name in FILES[version].split():
        controller, _, file = name.rpartition("/")
        for level in draw(st.sets(st.sampled_from(["", "a", "a/b"]), max_size=3)):
            files["/".join(filter(None, (controller, level, file)))] = draw(CONTENTS)
    return lines, files


@given(_trees())
def test_no_content_raises_or_gives_an_impossible_figure(tree: tuple[list[str], dict[str, bytes]]) -> None:
    lines, files = tree
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "self").mkdir()
        (root / "self" / "cgroup").write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
        for path, content in files.items():
            (root / "sys" / path).parent.mkdir(parents=True, exist_ok=True)
            (root / "sys" / path).write_bytes(content)
        cgroup = Cgroup(root / "sys", root)
        limits, used = cgroup.limits(), astuple(cgroup.usage())
        assert all(cgroup.pressure(each) is None or 0 <= cgroup.pressure(each) <= 1 for each in ("cpu", "memory", "io"))
    assert limits.cpus is None or (limits.cpus >= 0.001 and math.isfinite(limits.cpus))
    assert all(each is None or 0 < each < 2**62 for each in (limits.memory_bytes, limits.pids))
    assert limits.swap_bytes is None or 0 <= limits.swap_bytes < 2**62
    assert all(each is None or (each >= 0 and math.isfinite(each)) for each in used)


@given(st.lists(st.integers(1, 2**40), min_size=1, max_size=4))
def test_the_tightest_limit_up_the_tree_wins(limits: list[int]) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        path = "/".join(f"level-{depth}" for depth in range(len(limits) - 1))
        (root / "self").mkdir()
        (root / "self" / "cgroup").write_text(f"0::/{path}\n")
        (root / path).mkdir(parents=True, exist_ok=True)
        (root / "cgroup.controllers").write_text("memory\n")
        levels = [root / path, *(root / path).parents][: len(limits)]
        for level, limit in zip(levels, limits, strict=True):
            (level / "memory.max").write_text(f"{limit}\n")
            (level / "memory.current").write_text(f"{limit}\n")
        cgroup = Cgroup(root, root)
        assert cgroup.limits().memory_bytes == cgroup.usage().memory_bytes == min(limits)


def test_a_directory_or_a_pipe_in_place_of_a_file_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("")
    (tmp_path / "memory.max").mkdir()
    os.mkfifo(tmp_path / "cpu.max")
    assert Cgroup(tmp_path, tmp_path).limits() == DeviceLimits(None, None)
