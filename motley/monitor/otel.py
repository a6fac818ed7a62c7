"""A monitor's figures as OpenTelemetry instruments, sent over OTLP/HTTP. Needs the extra `otel`.

Choose it where a collector is there already; Prometheus (`motley.monitor.prometheus`) is the
default. The standard environment variables configure it: OTEL_EXPORTER_OTLP_ENDPOINT, …_HEADERS,
…_TIMEOUT, OTEL_METRIC_EXPORT_INTERVAL (ms), OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES,
OTEL_SDK_DISABLED, OTEL_METRICS_EXPORTER (otlp or none).

Names follow the OpenTelemetry semantic conventions for process, container, system and hardware
metrics where there is one, else they begin with `motley.`. What is not known is not sent.
"""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, NamedTuple
from urllib.parse import urlsplit

from motley import __version__
from motley.errors import InputError
from motley.resource_limits import LimitKind
from motley.samples import GpuSample, Sample

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Meter, Observation
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.resources import Resource

    from motley.monitor.exported import Exported

_WANTED = "opentelemetry-sdk and opentelemetry-exporter-otlp-proto-http"
_SOURCE = "motley.source"
_CLOSING_S = 3.0
"""How long an end waits for a collector that does not answer."""


class Instrument(NamedTuple):
    """An observable instrument; units in UCUM."""

    kind: Literal["gauge", "counter", "up_down_counter"]
    unit: str
    description: str


INSTRUMENTS: Mapping[str, Instrument] = {
    "process.memory.usage": Instrument("up_down_counter", "By", "Resident memory of the process and its descendants."),
    "container.memory.working_set": Instrument("up_down_counter", "By", "Memory in use that counts against the limit."),
    "container.memory.available": Instrument("up_down_counter", "By", "The container's limit less its working set."),
    "system.memory.usage": Instrument("up_down_counter", "By", "Memory in use on the whole machine."),
    "system.memory.limit": Instrument("up_down_counter", "By", "Memory of the machine."),
    "system.network.io": Instrument("counter", "By", "Bytes over all interfaces but the loopback."),
    "hw.host.power": Instrument("gauge", "W", "Power drawn, as far as its source sees it."),
    "hw.power": Instrument("gauge", "W", "Power that a GPU draws."),
    "hw.temperature": Instrument("gauge", "Cel", "Temperature of the device or of a GPU."),
    "hw.battery.charge": Instrument("gauge", "1", "Charge of the battery."),
    "hw.status": Instrument("up_down_counter", "1", "1 for what the battery does now, 0 for what it does not."),
    "hw.gpu.memory.usage": Instrument("up_down_counter", "By", "Memory in use on a GPU."),
    "hw.gpu.memory.limit": Instrument("up_down_counter", "By", "Memory of a GPU."),
    "hw.gpu.utilization": Instrument("gauge", "1", "Share of the time in which a kernel ran."),
    "motley.memory.utilization": Instrument("gauge", "1", "Memory in use over its limit."),
    "motley.memory.pressure": Instrument("gauge", "1", "Share of the time in which something waited for memory."),
    "motley.memory.oom_kills": Instrument("counter", "{kill}", "Processes killed at the memory limit."),
    "motley.cpu.utilization": Instrument("gauge", "1", "CPU time over what the quota allows, or over all cores."),
    "motley.cpu.throttled": Instrument("gauge", "1", "Share of the time held back by the quota."),
    "motley.cpu.pressure": Instrument("gauge", "1", "Share of the time in which something waited for a CPU."),
    "motley.limit.memory": Instrument("up_down_counter", "By", "Memory limit, by who sets it."),
    "motley.limit.cpu": Instrument("gauge", "1", "CPU limit, of the quota."),
    "motley.limit.gpu_memory": Instrument("up_down_counter", "By", "Memory limit of each GPU."),
    "motley.limit.power": Instrument("gauge", "W", "Power limit."),
    "motley.limit.temperature": Instrument("gauge", "Cel", "Temperature limit."),
    "motley.limit.battery": Instrument("gauge", "1", "Charge below which the battery shall not fall."),
    "motley.limit.crossings": Instrument("counter", "{crossing}", "Times that a limit was crossed."),
    "motley.limit.over": Instrument("up_down_counter", "1", "1 while a limit is crossed."),
}


class Reading(NamedTuple):
    """One value of one instrument."""

    instrument: str
    value: float
    attributes: Mapping[str, str]


def readings(monitor: Exported) -> list[Reading]:
    """All that is known now, from the monitor's newest sample; takes none itself."""
    sample = monitor.current
    found = list(_limits(monitor)) if sample is None else [*_sample(sample), *_limits(monitor)]
    return [Reading(name, value, attributes) for name, value, attributes in found if value is not None]


_Found = tuple[str, float | None, Mapping[str, str]]


def _sample(sample: Sample) -> Iterator[_Found]:
    yield from _memory(sample)
    yield "motley.memory.utilization", sample.memory_share, {}
    yield "motley.memory.pressure", sample.memory_pressure, {}
    yield "motley.memory.oom_kills", sample.oom_kills, {}
    yield "motley.cpu.utilization", sample.cpu_share, {}
    yield "motley.cpu.throttled", sample.throttled_share, {}
    yield "motley.cpu.pressure", sample.cpu_pressure, {}
    yield "system.network.io", sample.received_bytes, {"network.io.direction": "receive"}
    yield "system.network.io", sample.sent_bytes, {"network.io.direction": "transmit"}
    yield "hw.host.power", sample.power_w, {"hw.id": "host", _SOURCE: sample.power_source}
    yield "hw.temperature", sample.celsius, {"hw.id": "host", _SOURCE: sample.celsius_source}
    yield from _battery(sample)
    for gpu in sample.gpus:
        yield from _gpu(gpu)


def _memory(sample: Sample) -> Iterator[_Found]:
    yield "process.memory.usage", sample.process_memory_bytes, {}
    limit, machine = sample.memory_limit_bytes, sample.machine_memory_total_bytes
    if limit is not None and limit != machine and sample.memory_bytes is not None:
        yield "container.memory.working_set", sample.memory_bytes, {}
        yield "container.memory.available", max(0, limit - sample.memory_bytes), {}
    yield "system.memory.usage", sample.machine_memory_bytes, {"system.memory.state": "used"}
    yield "system.memory.limit", machine, {}
    yield "motley.limit.memory", limit, {"motley.limit.set_by": "kernel"}


def _battery(sample: Sample) -> Iterator[_Found]:
    battery = {"hw.id": "battery", _SOURCE: sample.battery_source}
    yield "hw.battery.charge", sample.battery_level, battery
    if sample.charging is not None:
        states = {"charging": sample.charging, "discharging": not sample.charging}
        for state, holds in states.items():
            yield "hw.status", int(holds), {**battery, "hw.type": "battery", "hw.state": state}


def _gpu(gpu: GpuSample) -> Iterator[_Found]:
    own = {"hw.id": f"gpu{gpu.index}", "hw.name": gpu.name}
    yield "hw.gpu.memory.usage", gpu.memory_bytes, own
    yield "hw.gpu.memory.limit", gpu.memory_total_bytes, own
    yield "hw.gpu.utilization", gpu.utilisation, own
    yield "hw.power", gpu.power_w, {**own, "hw.type": "gpu"}
    yield "hw.temperature", gpu.celsius, own


def _limits(monitor: Exported) -> Iterator[_Found]:
    own = monitor.limits
    yield "motley.limit.memory", own.memory_bytes, {"motley.limit.set_by": "device"}
    yield "motley.limit.cpu", None if own.cpu_percent is None else own.cpu_percent / 100, {}
    yield "motley.limit.gpu_memory", own.gpu_memory_bytes, {}
    yield "motley.limit.power", own.power_w, {}
    yield "motley.limit.temperature", own.celsius, {}
    yield "motley.limit.battery", own.battery_floor, {}
    for kind in LimitKind:
        yield "motley.limit.crossings", monitor.event_counts.get(kind, 0), {"motley.limit.kind": kind.value}
        yield "motley.limit.over", int(kind in monitor.over), {"motley.limit.kind": kind.value}


@contextmanager
def exporting(monitor: Exported) -> Iterator[None]:
    """Export within the block, and once more at its end. Raises InputError as `start_otel` does."""
    shutdown = start_otel(monitor)
    try:
        yield
    finally:
        shutdown()


def start_otel(monitor: Exported) -> Callable[[], None]:
    """Export the monitor's figures from a thread of its own, until the function returned is called.

    That function sends the newest figures once more and waits at most 3 s. A collector that does
    not answer costs a logged warning for each attempt, never the monitor. Raises InputError when
    the extra is not installed or an environment variable can't be used.
    """
    if not _wanted():
        return lambda: None
    provider = _provider()
    meter = provider.get_meter("motley.monitor", __version__)
    for name, instrument in INSTRUMENTS.items():
        _create(meter, name, instrument, monitor)
    return lambda: provider.shutdown(timeout_millis=_CLOSING_S * 1000)


def _create(meter: Meter, name: str, instrument: Instrument, monitor: Exported) -> None:
    from opentelemetry.metrics import Observation

    owner = os.getpid()

    def observe(options: CallbackOptions) -> list[Observation]:
        if os.getpid() != owner:  # the SDK goes on in a forked child, where no monitor runs
            return []
        return [Observation(each.value, each.attributes) for each in readings(monitor) if each.instrument == name]

    create = getattr(meter, f"create_observable_{instrument.kind}")
    create(name, callbacks=[observe], unit=instrument.unit, description=instrument.description)


def _wanted() -> bool:
    """Whether the environment asks for an export at all. Raises InputError for a kind that there is not."""
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporter = os.environ.get("OTEL_METRICS_EXPORTER", "").strip().lower() or "otlp"
    if exporter not in ("otlp", "none"):
        raise InputError(f"OTEL_METRICS_EXPORTER '{exporter}' is not supported; set it to otlp or none")
    return exporter == "otlp"


def _provider() -> MeterProvider:
    _check_environment()
    try:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    except ImportError as error:
        raise InputError(
            f"OpenTelemetry is not installed ({error}); install Motley with its extra 'otel', or {_WANTED}"
        ) from None
    reader = PeriodicExportingMetricReader(OTLPMetricExporter())
    return MeterProvider([reader], _resource(), shutdown_on_exit=False)


def _resource() -> Resource:
    """What the environment says, and where it is silent the service `motley` on this host."""
    from opentelemetry.sdk.resources import Resource

    said = Resource.create().attributes
    unnamed = str(said.get("service.name", "unknown_service")).startswith("unknown_service")
    named = {"service.name": "motley"} if unnamed else {}
    return Resource({"host.name": socket.gethostname(), **said, **named})


def _check_environment() -> None:
    """Refuse what the SDK would take for something else, or stumble over at each export."""
    for name in ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"):
        endpoint = os.environ.get(name, "")
        if endpoint and not _is_url(endpoint):
            raise InputError(f"{name} '{endpoint}' is not a URL; write it like http://localhost:4318")
    for name in ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        protocol = os.environ.get(name, "") or "http/protobuf"
        if protocol != "http/protobuf":
            raise InputError(f"{name} '{protocol}' is not supported; set it to http/protobuf")
    interval = os.environ.get("OTEL_METRIC_EXPORT_INTERVAL", "")
    if interval and not _is_positive(interval):
        raise InputError(f"OTEL_METRIC_EXPORT_INTERVAL '{interval}' is not a number of milliseconds above 0")


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc)


def _is_positive(text: str) -> bool:
    try:
        return 0 < float(text) < math.inf
    except ValueError:
        return False
