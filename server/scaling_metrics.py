"""Scaling for Prometheus: the last step, and how many there were of each kind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from motley.scaling_log import ScalingLog


def scaling_metrics(log: ScalingLog, run_id: str) -> Iterator[Any]:
    """Of one run; nothing where nothing scales it."""
    last = log.newest(run_id)
    if last is None:
        return
    decisions = CounterMetricFamily(
        "motley_scaling_decisions", "Looks at the load, by what was recommended and why.", labels=["kind", "cause"]
    )
    for (kind, cause), count in sorted(log.counts(run_id).items()):
        decisions.add_metric([kind, cause], count)
    yield decisions
    devices = GaugeMetricFamily(
        "motley_scaling_devices",
        "Devices launched and to stay (planned), listed by the providers (requested), and joined (observed).",
        labels=["state"],
    )
    for state in ("planned", "requested", "observed"):
        devices.add_metric([state], getattr(last, state))
    yield devices
    if last.utilisation is not None:
        text = "Devices at work or wanted over those there, over the window of scaling; above 1 where some are missing."
        yield GaugeMetricFamily("motley_scaling_utilisation_ratio", text, value=last.utilisation)
    text = "What the devices that were launched cost in dollars an hour."
    yield GaugeMetricFamily("motley_scaling_usd_per_hour", text, value=last.usd_per_hour)
    yield GaugeMetricFamily(
        "motley_scaling_last_step_timestamp_seconds", "When the load was looked at last.", value=last.at_s
    )
