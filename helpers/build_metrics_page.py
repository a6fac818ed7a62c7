"""Write docs/metrics.md: every metric that a fleet's exporters show, as the collectors themselves give it.

python helpers/build_metrics_page.py [--check]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from prometheus_client.metrics_core import Metric

from client.emulator import Emulator
from client.metrics import DeviceCollector
from motley.clock import SystemClock
from motley.device import DeviceLimits, DeviceProfile, Outcome, RoundOutcome
from motley.history import History
from motley.limits import Cgroup, Usage
from motley.physics import Body
from motley.records import RoundRow, RunRow
from motley.registry import Amounts, Registry, registration_of
from motley.resource_limits import LimitKind, ResourceLimits
from motley.samples import GpuSample, Sample
from motley.scaling_log import ScalingLog, ScalingStep
from server.metrics import FleetCollector

OUTPUT = Path(__file__).resolve().parents[1] / "docs/metrics.md"

UNITS = {
    "_timestamp_seconds": "Unix time in seconds",
    "_per_second": "per second",
    "_seconds": "seconds",
    "_bytes": "bytes",
    "_cores": "cores",
    "_watts": "watts",
    "_joules": "joules",
    "_celsius": "degrees Celsius",
    "_ratio": "0 to 1",
}
"""By how a name ends; the first that fits counts."""

_PAGE = """\
# Metrics

What the exporters of a fleet show to Prometheus. This page is written by `helpers/build_metrics_page.py`
from the collectors themselves; a test fails when the two differ.

A metric whose value is not known is left out: a limit that is not set, a file that the kernel does not
have, the figures of a training before the first one. A ratio is a number from 0 to 1, never a percentage.
The round is a value and not a label, so that the number of series does not grow with a run.

## Server

Shown at port 9100 of the server's container, read from the history at each scrape; the newest run counts.
Scraped with `job="motley-server"`.

{server}

## Devices

Shown at port 9101 of each device's container: limits and use from its cgroup at the scrape, what the monitor
saw within the last second, and the events of its executor. Power, temperature and battery come from sensors,
or from the model where the fleet file has `battery`, `power` or `heat`; `source` says which.
Scraped with `job="motley-client"`, `client` and `device_class`, which therefore stand on every one of these
metrics and not in the table.

{device}
"""


class _Limited(Cgroup):
    """A container of which everything is known."""

    def __init__(self) -> None:
        pass

    def limits(self) -> DeviceLimits:
        return DeviceLimits(cpus=0.5, memory_bytes=2**30, swap_bytes=0, pids=256)

    def usage(self) -> Usage:
        return Usage(20.0, 5.0, 200, 50, 2**29, 2**28, 2**29, 1, 12)


class _Watched:
    """A monitor of a device of which everything is known."""

    limits = ResourceLimits(2**29, 80.0, 2**33, 5.0, 60.0, 0.2)
    event_counts = dict.fromkeys(LimitKind, 0)
    over = frozenset[LimitKind]()
    current = Sample(
        *(1e9, 2**28, 2**28, 2**29, 2**33, 2**34, 0.5, 0.1, 0.2, 0.0, 1),
        gpus=(GpuSample(0, "GPU", 2**30, 2**34, 0.5, 90.0, 61.0),),
        power_w=4.0,
        celsius=40.0,
        battery_level=0.5,
        charging=True,
        received_bytes=1000,
        sent_bytes=1000,
    )


def server_metrics() -> list[Metric]:
    """All that the server's collector gives, of a run with one device and one round."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "history.db"
        history = History(path)
        history.start_run(
            RunRow("run", "fleet", "{}", "uniform", 1, "compose", 3, 0.9, 1e9, None, "running", "train", "")
        )
        profile = DeviceProfile("client-1", "fast", 2, 1.0, 2**30, 2**27, 100, 1.5)
        registry = Registry(path, SystemClock())
        registry.register_many([registration_of(profile)])
        registry.reserve("nobody", "run", Amounts(1.0), 60.0)
        registry.close()
        log = ScalingLog(path)
        log.put(ScalingStep("run", 1e9, "up", "above_up", "two more", 0.9, 2, 2, 4, ("client-3", "client-4")))
        log.close()
        history.see_device("run", profile, 1e9)
        history.start_round("run", 1, 1e9, 60.0)
        outcome = RoundOutcome("client-1", "fast", Outcome.FINISHED, round_trip_s=3.0, expected_s=2.5)
        outcome = replace(outcome, expected_low_s=2.0, expected_high_s=3.5, expected_by="forest")
        history.end_round(RoundRow("run", 1, 1, 60.0, 1e9, 4.0, 0.1, 3.0, 0.1, 0.8, 0.7, 0.5), [(1, outcome)])
        history.set_device_accuracy("run", {"client-1": 0.7})
        history.close()
        return list(FleetCollector(path).collect())


def device_metrics() -> list[Metric]:
    """All that a device's collector gives, after one training."""
    figures = {"batch_size": 32, "learning_rate": 0.1, "train_loss": 0.5, "steps": 4, "num-examples": 128}
    figures |= {"wall_s": 2.0, "peak_memory_bytes": 2**28, "physical_batch": 16, "paused_s": 0.5}
    body = Body(throttle_celsius=45.0, limit_celsius=60.0, capacity_wh=10.0)
    emulator = Emulator(body, level=0.5, cpu_s=lambda: 0.0, cpus=0.5)
    collector = DeviceCollector("client-1", "fast", _Limited(), _Watched(), emulator)
    collector.take({"event": "connected"})
    collector.take({"event": "start", "type": "train"})
    collector.take({"event": "end", "type": "train", "outcome": "finished", "wall_s": 2.0, "figures": figures})
    return list(collector.collect())


def render() -> str:
    return _PAGE.format(server=table(server_metrics()), device=table(device_metrics(), ("client", "device_class")))


def table(metrics: Iterable[Metric], on_every: Iterable[str] = ()) -> str:
    """A Markdown table; labels in `on_every` are left out of it."""
    head = ["| Metric | Type | Unit | Labels | Meaning |", "| --- | --- | --- | --- | --- |"]
    return "\n".join([*head, *(_row(metric, set(on_every)) for metric in metrics)])


def _row(metric: Metric, left_out: set[str]) -> str:
    labels = ", ".join(f"`{label}`" for label in _labels(metric) if label not in left_out)
    return f"| `{name(metric)}` | {metric.type} | {_unit(metric)} | {labels or '–'} | {metric.documentation} |"


def name(metric: Metric) -> str:
    """What a query calls it; of a histogram, the part before `_bucket`, `_sum` and `_count`."""
    return metric.name + {"counter": "_total", "info": "_info"}.get(metric.type, "")


def _labels(metric: Metric) -> Iterator[str]:
    found = {label for sample in metric.samples for label in sample.labels}
    yield from sorted(found - {"le"})


def _unit(metric: Metric) -> str:
    if metric.type == "info":
        return "–"
    if metric.documentation.startswith("1 "):
        return "0 or 1"
    known = next((unit for ending, unit in UNITS.items() if metric.name.endswith(ending)), None)
    return known or ("count" if metric.type == "counter" else "number")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when the page is not current")
    if not parser.parse_args().check:
        OUTPUT.write_text(render(), encoding="utf-8")
    elif not OUTPUT.exists() or OUTPUT.read_text(encoding="utf-8") != render():
        print(f"{OUTPUT} is not current; run: python helpers/build_metrics_page.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
