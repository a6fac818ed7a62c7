"""What a collector receives, over OTLP/HTTP on loopback; and that a monitor survives one that is not there."""

from __future__ import annotations

import gzip
import os
import queue
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Semaphore, Thread
from typing import Any

import pytest
from factories import ROOT
from monitors import MIB, Half, Watched
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality

from motley.errors import InputError
from motley.monitor import ResourceMonitor, otel
from motley.resource_limits import LimitKind, ResourceLimits
from motley.samples import Sample


class Receiver:
    """A collector: takes what is sent to /v1/metrics."""

    def __init__(self) -> None:
        self.requests: queue.Queue[tuple[str, Any, ExportMetricsServiceRequest]] = queue.Queue()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                plain = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
                receiver.requests.put((self.path, self.headers, ExportMetricsServiceRequest.FromString(plain)))
                answer = ExportMetricsServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def take(self) -> tuple[str, Any, ExportMetricsServiceRequest]:
        return self.requests.get(timeout=30)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    made = Receiver()
    thread = Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", made.url)
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


def metrics(request: ExportMetricsServiceRequest) -> dict[str, Any]:
    (resource,) = request.resource_metrics
    (scope,) = resource.scope_metrics
    assert scope.scope.name == "motley.monitor"
    return {metric.name: metric for metric in scope.metrics}


def points(metric: Any) -> dict[frozenset[tuple[str, str]], float]:
    """Attributes → value."""
    data = getattr(metric, metric.WhichOneof("data"))
    return {
        frozenset((each.key, each.value.string_value) for each in point.attributes): getattr(
            point, point.WhichOneof("value")
        )
        for point in data.data_points
    }


def only(metric: Any) -> float:
    (value,) = points(metric).values()
    return value


def attributes(request: ExportMetricsServiceRequest) -> dict[str, str]:
    return {each.key: each.value.string_value for each in request.resource_metrics[0].resource.attributes}


def exported(receiver: Receiver, watched: Watched) -> ExportMetricsServiceRequest:
    """What one export sends: the one that closes it."""
    with otel.exporting(watched):  # type: ignore[arg-type]
        pass
    path, headers, request = receiver.take()
    assert path == "/v1/metrics"
    assert headers["Content-Type"] == "application/x-protobuf"
    return request


def test_every_instrument_arrives_with_its_unit(receiver: Receiver) -> None:
    arrived = metrics(exported(receiver, Watched()))
    assert {name: metric.unit for name, metric in arrived.items()} == {
        name: instrument.unit for name, instrument in otel.INSTRUMENTS.items()
    }
    kinds = {"gauge": "gauge", "counter": "sum", "up_down_counter": "sum"}
    for name, metric in arrived.items():
        kind = otel.INSTRUMENTS[name].kind
        assert metric.WhichOneof("data") == kinds[kind]
        if kind != "gauge":
            assert metric.sum.is_monotonic == (kind == "counter")
            assert metric.sum.aggregation_temporality == AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
        assert metric.description


def test_names_and_units_are_those_of_the_semantic_conventions() -> None:
    from opentelemetry.semconv._incubating.metrics import container_metrics, hw_metrics, process_metrics, system_metrics

    modules = (container_metrics, hw_metrics, process_metrics, system_metrics)
    known = {value for module in modules for value in vars(module).values() if isinstance(value, str)}
    assert {name for name in otel.INSTRUMENTS if not name.startswith("motley.")} <= known


def test_values_are_those_of_the_sample(receiver: Receiver) -> None:
    arrived = metrics(exported(receiver, Watched()))
    plain = {
        "process.memory.usage": 100 * MIB,
        "container.memory.working_set": 300 * MIB,
        "container.memory.available": 100 * MIB,
        "system.memory.usage": 5000 * MIB,
        "system.memory.limit": 16000 * MIB,
        "motley.memory.utilization": 0.75,
        "motley.memory.pressure": 0.0,
        "motley.memory.oom_kills": 2,
        "motley.cpu.utilization": 0.5,
        "motley.cpu.throttled": 0.25,
        "motley.cpu.pressure": 0.125,
        "hw.gpu.memory.usage": 10 * MIB,
        "hw.gpu.memory.limit": 20 * MIB,
        "hw.gpu.utilization": 0.75,
        "hw.power": 90.0,
        "motley.limit.cpu": 0.8,
        "motley.limit.gpu_memory": 15 * MIB,
        "motley.limit.power": 10.0,
        "motley.limit.temperature": 70.0,
        "motley.limit.battery": 0.25,
    }
    assert {name: only(arrived[name]) for name in plain} == plain


def test_attributes_tell_values_apart_and_modelled_ones_are_marked(receiver: Receiver) -> None:
    arrived = metrics(exported(receiver, Watched()))
    assert points(arrived["hw.host.power"]) == {frozenset({("hw.id", "host"), ("motley.source", "modelled")}): 7.5}
    assert points(arrived["hw.temperature"]) == {
        frozenset({("hw.id", "host"), ("motley.source", "hwmon")}): 48.0,
        frozenset({("hw.id", "gpu1"), ("hw.name", "NVIDIA X")}): 61.0,
    }
    assert points(arrived["system.network.io"]) == {
        frozenset({("network.io.direction", "receive")}): 1000,
        frozenset({("network.io.direction", "transmit")}): 10,
    }
    battery = {("hw.id", "battery"), ("motley.source", "psutil")}
    assert points(arrived["hw.battery.charge"]) == {frozenset(battery): 0.875}
    assert {dict(key)["hw.state"]: value for key, value in points(arrived["hw.status"]).items()} == {
        "charging": 0,
        "discharging": 1,
    }
    assert points(arrived["motley.limit.memory"]) == {
        frozenset({("motley.limit.set_by", "device")}): 350 * MIB,
        frozenset({("motley.limit.set_by", "kernel")}): 400 * MIB,
    }


def test_crossings_are_counted_by_kind(receiver: Receiver) -> None:
    arrived = metrics(exported(receiver, Watched()))
    for name, memory in (("motley.limit.crossings", 3), ("motley.limit.over", 1)):
        values = {dict(key)["motley.limit.kind"]: value for key, value in points(arrived[name]).items()}
        assert values == {kind.value: memory if kind is LimitKind.MEMORY else 0 for kind in LimitKind}


def test_what_is_not_known_is_not_sent(receiver: Receiver) -> None:
    watched = Watched(
        Sample(at_s=1.0, cpu_share=0.0, missing={"power_w": "no sensor"}), ResourceLimits(), {}, frozenset()
    )
    assert set(metrics(exported(receiver, watched))) == {
        "motley.cpu.utilization",
        "motley.limit.crossings",
        "motley.limit.over",
    }


def test_before_the_first_sample_only_limits_are_sent(receiver: Receiver) -> None:
    arrived = metrics(exported(receiver, Watched(current=None)))
    assert arrived
    assert all(name.startswith("motley.limit.") for name in arrived)


def test_on_a_bare_machine_there_is_no_container(receiver: Receiver) -> None:
    whole = Sample(at_s=1.0, memory_bytes=5, memory_limit_bytes=9, machine_memory_bytes=5, machine_memory_total_bytes=9)
    arrived = metrics(exported(receiver, Watched(whole)))
    assert not [name for name in arrived if name.startswith("container.")]
    assert (only(arrived["system.memory.usage"]), only(arrived["system.memory.limit"])) == (5, 9)


def test_the_interval_is_the_environments(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "20")
    watched = Watched()
    with otel.exporting(watched):  # type: ignore[arg-type]
        assert only(metrics(receiver.take()[2])["motley.memory.utilization"]) == 0.75
        watched.current = Sample(at_s=2.0, memory_bytes=1, memory_limit_bytes=2)
        while only(metrics(receiver.take()[2])["motley.memory.utilization"]) != 0.5:
            pass


def test_the_resource_says_who_sends(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = attributes(exported(receiver, Watched()))
    assert (sent["service.name"], sent["host.name"]) == ("motley", socket.gethostname())
    assert sent["telemetry.sdk.language"] == "python"
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=lab,service.name=other,host.name=box")
    sent = attributes(exported(receiver, Watched()))
    assert (sent["deployment.environment.name"], sent["service.name"], sent["host.name"]) == ("lab", "other", "box")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "phone-7")
    assert attributes(exported(receiver, Watched()))["service.name"] == "phone-7"


def test_headers_and_compression_are_the_environments(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20abc")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    with otel.exporting(Watched()):  # type: ignore[arg-type]
        pass
    _, headers, request = receiver.take()
    assert (headers["authorization"], headers["Content-Encoding"]) == ("Bearer abc", "gzip")
    assert metrics(request)


@pytest.mark.parametrize(("name", "value"), [("OTEL_SDK_DISABLED", "true"), ("OTEL_METRICS_EXPORTER", "none")])
def test_it_can_be_switched_off(receiver: Receiver, monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with otel.exporting(Watched()):  # type: ignore[arg-type]
        pass
    assert receiver.requests.empty()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4318", "OTEL_EXPORTER_OTLP_ENDPOINT 'localhost:4318' is not a URL"),
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://[", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT 'http://[' is not"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "OTEL_EXPORTER_OTLP_PROTOCOL 'grpc' is not supported"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "0", "OTEL_METRIC_EXPORT_INTERVAL '0' is not a number of milliseconds"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "1s", "OTEL_METRIC_EXPORT_INTERVAL '1s' is not a number of milliseconds"),
        ("OTEL_METRICS_EXPORTER", "console", "OTEL_METRICS_EXPORTER 'console' is not supported"),
    ],
)
def test_a_variable_that_can_not_be_used_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InputError) as refused:
        otel.start_otel(Watched())  # type: ignore[arg-type]
    assert str(refused.value).startswith(message)


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.metrics", None)
    with pytest.raises(InputError, match=r"not installed .* its extra 'otel'.*opentelemetry-exporter-otlp-proto-http"):
        otel.start_otel(Watched())  # type: ignore[arg-type]


def test_importing_it_loads_no_opentelemetry() -> None:
    code = "import sys, motley.monitor.otel; print([name for name in sys.modules if name.startswith('opentelemetry')])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr


@pytest.mark.parametrize("dead", ["refused", "silent"])
def test_a_dead_endpoint_neither_blocks_nor_ends_the_monitor(monkeypatch: pytest.MonkeyPatch, dead: str) -> None:
    monkeypatch.setattr(otel, "_CLOSING_S", 0.2)
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "10")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "600")
    tried, sampled, real = Event(), Semaphore(0), otel.readings

    def looked(monitor: ResourceMonitor) -> list[otel.Reading]:
        tried.set()
        return real(monitor)

    monkeypatch.setattr(otel, "readings", looked)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        if dead == "silent":
            listening.listen(1)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{listening.getsockname()[1]}")
        with (
            ResourceMonitor(0.005, sources=[Half()], on_sample=lambda sample: sampled.release()) as monitor,
            otel.exporting(monitor),
        ):
            assert tried.wait(30)
            assert all(sampled.acquire(timeout=30) for _ in range(20))
    # Had the end waited for the collector, the test's own time limit had ended it.


def test_the_page_names_every_instrument_and_its_unit() -> None:
    page = (ROOT / "docs/monitor.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`[a-z_.]+`(?:, `[a-z_.]+`)*) \| (\S+) \|.*\|$", page.split("| instrument |")[1], re.M)
    told = {name: unit for names, unit in rows for name in re.findall(r"`(.+?)`", names)}
    assert told == {name: instrument.unit for name, instrument in otel.INSTRUMENTS.items()}
