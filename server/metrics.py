"""The fleet's metrics for Prometheus, read from the history at each scrape."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector

from motley.clock import Clock, SystemClock
from motley.device import Outcome, RoundOutcome
from motley.fairness import jain_index
from motley.history import History
from motley.records import RoundRow, RunRecord
from motley.registry import Registry
from motley.scaling_log import ScalingLog
from server.prediction_metrics import prediction_metrics
from server.registry_metrics import registry_metrics
from server.scaling_metrics import scaling_metrics

PHASES = ("join", "train", "aggregate", "evaluate", "ended")
BUCKETS_S = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
_PARTS = ("plan", "train", "aggregate", "evaluate")


class FleetCollector(Collector):
    """Shows the newest run in the history at `path`; nothing but `motley_up` before the first."""

    def __init__(self, path: Path, clock: Clock | None = None) -> None:
        self._history = History(path)
        self._registry = Registry(path, clock or SystemClock())
        self._scaling = ScalingLog(path)

    def collect(self) -> Iterator[Any]:
        yield GaugeMetricFamily("motley_up", "1 while the server's agent is running.", value=1)
        latest = self._history.latest_run()
        if latest is None:
            return
        record = self._history.record(latest.run_id)
        yield from _run(record)
        yield from _rounds(record)
        yield from _devices(record)
        yield from prediction_metrics([outcome for _, outcome in record.outcomes])
        yield from registry_metrics(self._registry.snapshot())
        yield from scaling_metrics(self._scaling, latest.run_id)


def _run(record: RunRecord) -> Iterator[Any]:
    run = record.run
    facts = {"run_id": run.run_id, "fleet": run.fleet, "policy": run.policy, "runtime": run.runtime}
    yield InfoMetricFamily("motley_run", "The newest run.", value=facts)
    running = float(run.status == "running")
    yield GaugeMetricFamily("motley_run_active", "1 while the run goes on.", value=running)
    yield GaugeMetricFamily("motley_run_start_timestamp_seconds", "When the run began.", value=run.started_s)
    yield GaugeMetricFamily("motley_run_rounds", "Rounds that the run is to have.", value=run.rounds)
    phases = GaugeMetricFamily("motley_run_phase", "1 for what the run is doing now.", labels=["phase"])
    for phase in PHASES:
        phases.add_metric([phase], float(phase == run.phase))
    yield phases
    if run.target_accuracy is not None:
        yield GaugeMetricFamily("motley_run_target_accuracy_ratio", "Accuracy aimed at.", value=run.target_accuracy)


def _rounds(record: RunRecord) -> Iterator[Any]:
    done = [row for row in record.rounds if row.duration_s is not None]
    current = record.rounds[-1] if record.rounds else None
    yield GaugeMetricFamily("motley_round", "The round under way, or the last.", value=current.round if current else 0)
    yield CounterMetricFamily("motley_rounds_completed", "Rounds that have ended.", value=len(done))
    yield _histogram(done)
    if current is not None:
        yield GaugeMetricFamily("motley_round_selected", "Devices asked in the round.", value=current.selected)
        yield GaugeMetricFamily("motley_round_deadline_seconds", "Deadline of the round.", value=current.deadline_s)
    if not done:
        return
    last = done[-1]
    parts = GaugeMetricFamily("motley_round_part_seconds", "Parts of the last round.", labels=["part"])
    for part in _PARTS:
        parts.add_metric([part], getattr(last, f"{part}_s") or 0.0)
    yield parts
    yield GaugeMetricFamily("motley_round_last_duration_seconds", "Duration of the last round.", value=last.duration_s)
    if last.accuracy is not None:
        yield GaugeMetricFamily("motley_accuracy_ratio", "Accuracy on the held-out data.", value=last.accuracy)
    if last.loss is not None:
        yield GaugeMetricFamily("motley_loss", "Mean loss on the held-out data.", value=last.loss)


def _histogram(done: Sequence[RoundRow]) -> HistogramMetricFamily:
    durations = [row.duration_s or 0.0 for row in done]
    buckets = [(str(float(bound)), float(sum(each <= bound for each in durations))) for bound in BUCKETS_S]
    return HistogramMetricFamily(
        "motley_round_duration_seconds",
        "Duration of rounds.",
        buckets=[*buckets, ("+Inf", float(len(durations)))],
        sum_value=sum(durations),
    )


def _devices(record: RunRecord) -> Iterator[Any]:
    yield GaugeMetricFamily("motley_devices", "Devices that have given their profile.", value=len(record.profiles))
    outcomes = [outcome for _, outcome in record.outcomes]
    counts = Counter((each.device_class, each.outcome) for each in outcomes)
    family = CounterMetricFamily(
        "motley_outcomes", "What became of devices in rounds.", labels=["device_class", "reason"]
    )
    for device_class in sorted({profile.device_class for profile in record.profiles}):
        for outcome in Outcome:
            family.add_metric([device_class, outcome.value], counts[device_class, outcome])
    yield family
    finished = Counter(each.device for each in outcomes if each.outcome is Outcome.FINISHED)
    shares = [finished[profile.device] for profile in record.profiles]
    yield GaugeMetricFamily(
        "motley_participation_jain_ratio", "Jain's index of rounds finished per device.", value=jain_index(shares)
    )
    yield from _latest(outcomes)
    accuracy = GaugeMetricFamily(
        "motley_device_accuracy_ratio", "Accuracy of the model on a device's own examples.", labels=["client"]
    )
    for device, value in sorted(record.accuracies.items()):
        accuracy.add_metric([device], value)
    yield accuracy


def _latest(outcomes: Sequence[RoundOutcome]) -> Iterator[Any]:
    latest = {each.device: each for each in outcomes if each.outcome is Outcome.FINISHED}
    actual = GaugeMetricFamily(
        "motley_device_round_trip_seconds", "Last round trip of a device.", labels=["client", "device_class"]
    )
    expected = GaugeMetricFamily(
        "motley_device_expected_seconds", "What was expected of it.", labels=["client", "device_class"]
    )
    for device, each in sorted(latest.items()):
        actual.add_metric([device, each.device_class], each.round_trip_s)
        if each.expected_s is not None:
            expected.add_metric([device, each.device_class], each.expected_s)
    yield actual
    yield expected
