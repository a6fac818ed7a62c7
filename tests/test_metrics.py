"""Both collectors: names after Prometheus's conventions, bounded labels, and the values of a fed history."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from factories import FIXTURES, MIB, outcome, plan, profile, round_row, run_row
from monitors import UNKNOWN, Watched
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from client.metrics import DeviceCollector
from motley.device import Outcome
from motley.history import History
from motley.limits import Cgroup
from server.metrics import BUCKETS_S, PHASES, FleetCollector

UNBOUNDED = {"round", "run", "run_id", "node", "node_id", "message", "device", "id", "pid", "error"}
NOT_BASE_UNITS = re.compile(r"_(ms|milliseconds|minutes|hours|kb|mb|mib|gb|kilobytes|megabytes|percent|bits)(_|$)")
LABELS = {
    "phase",
    "part",
    "device_class",
    "reason",
    "client",
    "type",
    "le",
    "source",
    "kind",
    "gpu",
    "name",
    "by",
    "state",
    "short",
    "cause",
}


def _registry(collector: Any) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(collector)
    return registry


def _finished(**figures: float) -> dict[str, Any]:
    known = {"steps": 13, "num-examples": 400, "wall_s": 2.0, "batch_size": 32, "learning_rate": 0.1, "train_loss": 0.7}
    return {"event": "end", "type": "train", "outcome": "finished", "wall_s": 2.5, "figures": {**known, **figures}}


def _device() -> DeviceCollector:
    tree = FIXTURES / "cgroup" / "v2"
    collector = DeviceCollector("client-1", "fast", Cgroup(tree / "sys", tree / "proc"), Watched())
    for event in ({"event": "connected"}, {"event": "start", "type": "train"}, _finished(peak_memory_bytes=300 * MIB)):
        collector.take(event)
    return collector


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.db"


@pytest.fixture
def fed(path: Path) -> FleetCollector:
    history = History(path)
    history.start_run(run_row("6", started_s=1.0, fleet="older"))
    history.start_run(run_row("7"))
    for device, device_class in (("client-1", "fast"), ("client-2", "slow")):
        history.see_device("7", profile(device, device_class=device_class), 1001.0)
    for number in (1, 2):
        history.start_round("7", number, 1000.0 + 10 * number, 60.0)
        done = outcome("client-1", round_trip_s=number, expected_s=1.5)
        late = outcome("client-2", Outcome.LATE, device_class="slow", reason="no reply within 60.0 s")
        history.end_round(round_row(number), [(number, done), (number, late)])
    history.start_round("7", 3, 1030.0, 60.0)
    history.put_plan("7", plan(3, "client-1"))
    history.set_phase("7", "train")
    history.set_device_accuracy("7", {"client-2": 0.25})
    return FleetCollector(path)


@pytest.fixture(params=["device", "fleet", "empty fleet"])
def collector(request: pytest.FixtureRequest, path: Path) -> Any:
    if request.param == "device":
        return _device()
    return request.getfixturevalue("fed") if request.param == "fleet" else FleetCollector(path)


def test_the_exposition_parses_and_follows_the_conventions(collector: Any) -> None:
    text = generate_latest(_registry(collector)).decode()
    families = list(text_string_to_metric_families(text))
    assert families
    assert len({family.name for family in families}) == len(families)
    for family in families:
        assert re.fullmatch(r"motley_[a-z][a-z0-9_]*[a-z0-9]", family.name)
        assert family.documentation.strip().endswith("."), family.name
        assert not NOT_BASE_UNITS.search(family.name), family.name
        assert family.type in {"counter", "gauge", "histogram"}, family.name
        is_total = {sample.name.endswith("_total") for sample in family.samples}
        assert is_total <= {family.type == "counter"}, family.name
        assert not re.search(r"_(count|sum|bucket|total)$", family.name) or family.type == "counter"


def test_labels_are_few_and_bounded(collector: Any) -> None:
    for family in _registry(collector).collect():
        for sample in family.samples:
            if sample.name.endswith("_info"):
                assert sample.value == 1
                continue
            assert not sample.labels.keys() & UNBOUNDED, sample
            assert sample.labels.keys() <= LABELS, sample
            assert all(len(value) <= 40 for value in sample.labels.values())


def test_no_reason_in_words_becomes_a_label(fed: FleetCollector) -> None:
    text = generate_latest(_registry(fed)).decode()
    assert "no reply" not in text
    reasons = set(re.findall(r'motley_outcomes_total\{[^}]*reason="(\w+)"', text))
    assert reasons == {each.value for each in Outcome}


def test_before_the_first_run_there_is_only_a_sign_of_life(path: Path) -> None:
    families = list(_registry(FleetCollector(path)).collect())
    assert [(family.name, family.samples[0].value) for family in families] == [("motley_up", 1)]


def test_the_fleet_s_figures(fed: FleetCollector) -> None:
    value = _registry(fed).get_sample_value
    facts = {"run_id": "7", "fleet": "laptop", "policy": "random", "runtime": "processes"}
    assert value("motley_run_info", facts) == 1
    assert value("motley_run_active") == 1
    assert value("motley_run_rounds") == 3
    assert value("motley_round") == 3
    assert value("motley_rounds_completed_total") == 2
    assert value("motley_round_selected") == 1
    assert value("motley_accuracy_ratio") == pytest.approx(0.7)
    assert value("motley_loss") == pytest.approx(0.5)
    assert value("motley_devices") == 2
    assert value("motley_participation_jain_ratio") == pytest.approx(0.5)
    assert value("motley_outcomes_total", {"device_class": "fast", "reason": "finished"}) == 2
    assert value("motley_outcomes_total", {"device_class": "slow", "reason": "late"}) == 2
    assert value("motley_outcomes_total", {"device_class": "slow", "reason": "crashed"}) == 0
    assert value("motley_round_part_seconds", {"part": "train"}) == 3.0
    assert value("motley_device_accuracy_ratio", {"client": "client-2"}) == 0.25
    latest = {"client": "client-1", "device_class": "fast"}
    assert value("motley_device_round_trip_seconds", latest) == 2
    assert value("motley_device_expected_seconds", latest) == 1.5
    assert value("motley_device_round_trip_seconds", {"client": "client-2", "device_class": "slow"}) is None


def test_one_phase_at_a_time(fed: FleetCollector) -> None:
    value = _registry(fed).get_sample_value
    phases = {phase: value("motley_run_phase", {"phase": phase}) for phase in PHASES}
    assert phases == {**dict.fromkeys(PHASES, 0), "train": 1}


def test_the_histogram_counts_each_round_once(fed: FleetCollector) -> None:
    value = _registry(fed).get_sample_value
    counts = [value("motley_round_duration_seconds_bucket", {"le": str(float(each))}) for each in BUCKETS_S]
    assert counts == sorted(counts)
    assert [count for bound, count in zip(BUCKETS_S, counts, strict=True) if bound >= 5] == [2] * 9
    assert value("motley_round_duration_seconds_bucket", {"le": "2.5"}) == 0
    assert value("motley_round_duration_seconds_count") == 2
    assert value("motley_round_duration_seconds_sum") == 8


def test_a_round_that_takes_a_bound_exactly_is_within_it(path: Path) -> None:
    History(path).start_run(run_row())
    History(path).end_round(round_row(1, duration_s=2.5), [])
    value = _registry(FleetCollector(path)).get_sample_value
    assert value("motley_round_duration_seconds_bucket", {"le": "2.5"}) == 1
    assert value("motley_round_duration_seconds_bucket", {"le": "1.0"}) == 0


def test_a_scrape_sees_what_was_written_since_the_last(path: Path) -> None:
    registry = _registry(FleetCollector(path))
    assert registry.get_sample_value("motley_run_active") is None
    history = History(path)
    history.start_run(run_row("9"))
    assert registry.get_sample_value("motley_run_active") == 1
    history.end_run("9", "completed", 2000.0)
    assert registry.get_sample_value("motley_run_active") == 0


def test_the_device_s_limits_and_use() -> None:
    value = _registry(_device()).get_sample_value
    assert value("motley_client_cpu_limit_cores") == 0.525
    assert value("motley_client_memory_limit_bytes") == 384 * MIB
    assert value("motley_client_memory_working_set_bytes") == 180 * MIB
    assert value("motley_client_cpu_seconds_total") == pytest.approx(12.345678)
    assert value("motley_client_cpu_throttled_seconds_total") == 2.5
    assert value("motley_client_oom_kills_total") == 2


def test_what_the_kernel_does_not_say_is_not_shown(tmp_path: Path) -> None:
    registry = _registry(DeviceCollector("client-1", "fast", Cgroup(tmp_path, tmp_path), UNKNOWN))
    assert registry.get_sample_value("motley_client_memory_limit_bytes") is None
    assert registry.get_sample_value("motley_client_cpu_seconds_total") is None
    assert registry.get_sample_value("motley_client_connected") == 0


def test_the_device_s_work() -> None:
    collector = _device()
    collector.take(_finished(steps=7, wall_s=4.0, batch_size=16))
    collector.take({"event": "end", "type": "train", "outcome": "out_of_memory", "wall_s": 1.0, "figures": {}})
    collector.take({"event": "end", "type": "evaluate", "outcome": "finished", "wall_s": 1.0, "figures": {"steps": 99}})
    value = _registry(collector).get_sample_value
    assert value("motley_client_steps_total") == 20
    assert value("motley_client_examples_total") == 800
    assert value("motley_client_train_seconds_total") == 6.0
    assert value("motley_client_batch_size") == 16
    assert value("motley_client_examples_per_second") == 100
    assert value("motley_client_tasks_total", {"type": "train", "reason": "finished"}) == 2
    assert value("motley_client_tasks_total", {"type": "train", "reason": "out_of_memory"}) == 1
    assert value("motley_client_tasks_total", {"type": "evaluate", "reason": "finished"}) == 1


@pytest.mark.parametrize(
    ("events", "connected", "busy", "restarts"),
    [
        ([], 0, 0, 0),
        (["connected"], 1, 0, 0),
        (["connected", "start"], 1, 1, 0),
        (["connected", "disconnected"], 0, 0, 1),
        (["connected", "disconnected", "connected"], 1, 0, 1),
        (["warm", "nonsense"], 0, 0, 0),
    ],
    ids=str,
)
def test_connection_and_restarts(tmp_path: Path, events: list[str], connected: int, busy: int, restarts: int) -> None:
    collector = DeviceCollector("client-1", "fast", Cgroup(tmp_path, tmp_path), UNKNOWN)
    for event in events:
        collector.take({"event": event, "type": "train"})
    value = _registry(collector).get_sample_value
    assert value("motley_client_connected") == connected == collector.connected
    assert value("motley_client_busy") == busy
    assert value("motley_client_runtime_restarts_total") == restarts


def test_a_lost_executor_ends_all_that_it_was_doing() -> None:
    collector = _device()
    collector.take({"event": "start", "type": "train"})
    collector.executor_lost()
    value = _registry(collector).get_sample_value
    assert value("motley_client_connected") == value("motley_client_busy") == 0
    assert value("motley_client_runtime_restarts_total") == 1
