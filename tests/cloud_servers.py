"""Stand-ins for clouds, on the loopback: the REST shapes that GCP and Lambda document, and moto for EC2.

Each has faults to switch on, and tells what it holds that would cost something.
"""

from __future__ import annotations

import json
import re
import socket
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any
from urllib.parse import parse_qs, urlsplit

from provider_contract import Fault

Reply = tuple[int, Any]
GIB = 1024**3


class Faults:
    """What is to happen to the next requests. `kill` is said instead of a reply where the connection breaks."""

    def __init__(self) -> None:
        self.exhausted = False
        self._step, self._fault = "", None
        self._is_cut = False

    @contextmanager
    def on(self, step: str, fault: Fault) -> Iterator[None]:
        self._step, self._fault = step, fault
        try:
            yield
        finally:
            self._fault, self._is_cut = None, False

    @contextmanager
    def exhaustion(self) -> Iterator[None]:
        self.exhausted = True
        try:
            yield
        finally:
            self.exhausted = False

    def meet(self, step: str) -> Fault | None:
        """The fault of this request."""
        if self._is_cut:
            return Fault.CUT_OFF
        if self._fault is None or step != self._step:
            return None
        fault = self._fault
        self._is_cut = fault is Fault.CUT_OFF
        self._fault = None
        return fault


class RestServer:
    """An HTTP server with JSON in and out. A subclass answers; `requests` has what it was asked."""

    def __init__(self) -> None:
        self.faults = Faults()
        self.requests: list[tuple[str, str, Any]] = []
        self.headers: list[Mapping[str, str]] = []
        self.instead: Reply | None = None
        """What every request is answered with, if anything."""
        self.lock = threading.RLock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def step(self, method: str, path: str) -> str:
        """The name of a request that changes something; empty for others."""
        raise NotImplementedError

    def answer(self, method: str, path: str, query: Mapping[str, str], body: Any) -> Reply:
        raise NotImplementedError

    def refusal(self) -> Reply:
        raise NotImplementedError


def _handler(server: RestServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            text = self.rfile.read(length)
            body = json.loads(text) if text else None
            parts = urlsplit(self.path)
            query = {key: values[0] for key, values in parse_qs(parts.query).items()}
            with server.lock:
                server.requests.append((self.command, self.path, body))
                server.headers.append(dict(self.headers))
                fault = server.faults.meet(server.step(self.command, parts.path))
                if fault is Fault.CUT_OFF:
                    return self._cut()
                if fault is Fault.REFUSED:
                    return self._reply(*server.refusal())
                reply = server.instead or server.answer(self.command, parts.path, query, body)
            return self._cut() if fault is Fault.REPLY_LOST else self._reply(*reply)

        do_GET = do_POST = do_DELETE = _serve

        def _cut(self) -> None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

        def _reply(self, status: int, content: Any) -> None:
            text = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

    return Handler


# Lambda Cloud

_LAMBDA_KINDS = {
    "gpu_1x_a10": (75, 1, "A10 (24 GB PCIe)", 30, 200, 1400, ["us-west-1", "us-east-1"]),
    "gpu_1x_a100_sxm4": (129, 1, "A100 (40 GB SXM4)", 30, 200, 512, ["us-west-2"]),
    "gpu_8x_h100_sxm5": (2392, 8, "H100 (80 GB SXM5)", 208, 1800, 22528, []),
    "cpu_4x_general": (8, 0, "N/A", 4, 16, 100, ["us-east-1"]),
}


class LambdaServer(RestServer):
    """Lambda's API, version 1.10, as far as Motley asks it."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.instances: dict[str, dict[str, Any]] = {}
        self.busy = 0
        """So many of the next requests are too many."""
        self.hidden = 0
        """So many of the next questions for one instance do not know it yet."""
        self.drops_tags = False
        self.broken = 0
        """So many of the next requests fail."""
        self.before_launch: Callable[[], None] = lambda: None
        """Called when a launch arrives, before it is carried out."""
        super().__init__()

    def step(self, method: str, path: str) -> str:
        return path.removeprefix("/api/v1/") if method == "POST" else ""

    def refusal(self) -> Reply:
        return self._error(400, "global/invalid-parameters", f"Invalid request data with key {self.key}.\nTry again.")

    def answer(self, method: str, path: str, query: Mapping[str, str], body: Any) -> Reply:
        if self.headers[-1].get("Authorization") != f"Bearer {self.key}":
            return self._error(401, "global/invalid-api-key", "API key was invalid, expired, or deleted.")
        if self.broken and method == "GET":
            self.broken -= 1
            return 500, {}
        if self.busy:
            self.busy -= 1
            return self._error(429, "global/rate-limit-exceeded", "Too many requests.")
        match path.removeprefix("/api/v1/").split("/"):
            case ["instance-types"]:
                return 200, {"data": {name: self._offer(name) for name in _LAMBDA_KINDS}}
            case ["instances"]:
                return 200, {"data": list(self.instances.values())}
            case ["instances", instance_id]:
                return self._one(instance_id)
            case ["instance-operations", "launch"]:
                return self._launch(body)
            case ["instance-operations", "terminate"]:
                return self._terminate(body["instance_ids"])
        return self._error(404, "global/not-found", path)

    def settle(self) -> None:
        with self.lock:
            for instance in list(self.instances.values()):
                if instance["status"] == "terminating":
                    del self.instances[instance["id"]]
                else:
                    instance["status"] = "active"

    def add(self, **changes: Any) -> str:
        """An instance, by whomever; returns its id."""
        instance_id = uuid.uuid4().hex
        kind = self._offer("gpu_1x_a10")["instance_type"]
        plain = {"id": instance_id, "status": "active", "ssh_key_names": ["lab"], "file_system_names": []}
        plain |= {"region": {"name": "us-west-1", "description": ""}, "instance_type": kind}
        self.instances[instance_id] = {**plain, **changes}
        return instance_id

    def _one(self, instance_id: str) -> Reply:
        if self.hidden or instance_id not in self.instances:
            self.hidden = max(0, self.hidden - 1)
            return self._error(404, "global/object-does-not-exist", "Specified instance does not exist.")
        return 200, {"data": self.instances[instance_id]}

    def _launch(self, body: Any) -> Reply:
        self.before_launch()
        assert len(body["ssh_key_names"]) == 1
        assert len(body["name"]) <= 64
        assert len(body["user_data"]) <= 2**20
        if self.faults.exhausted:
            code = "instance-operations/launch/insufficient-capacity"
            return self._error(400, code, "Not enough capacity to fulfill launch request.")
        kind = self._offer(body["instance_type_name"])["instance_type"]
        known = {"name": body["name"], "status": "booting", "instance_type": kind}
        known |= {"tags": [] if self.drops_tags else body["tags"]}
        known |= {"region": {"name": body["region_name"], "description": ""}}
        return 200, {"data": {"instance_ids": [self.add(**known)]}}

    def _terminate(self, instance_ids: list[str]) -> Reply:
        if not set(instance_ids) <= self.instances.keys():
            return self._error(404, "global/object-does-not-exist", "Specified instance does not exist.")
        for each in instance_ids:
            self.instances[each]["status"] = "terminating"
        return 200, {"data": {"terminated_instances": [self.instances[each] for each in instance_ids]}}

    @staticmethod
    def _offer(name: str) -> dict[str, Any]:
        cents, gpus, gpu, cpus, memory, storage, regions = _LAMBDA_KINDS[name]
        specs = {"vcpus": cpus, "memory_gib": memory, "storage_gib": storage, "gpus": gpus}
        kind = {"name": name, "description": name, "gpu_description": gpu, "price_cents_per_hour": cents}
        places = [{"name": region, "description": region} for region in regions]
        return {"instance_type": {**kind, "specs": specs}, "regions_with_capacity_available": places}

    @staticmethod
    def _error(status: int, code: str, message: str) -> Reply:
        return status, {"error": {"code": code, "message": message, "suggestion": ""}}


# Google Cloud

_GCP_KINDS = {
    "e2-standard-2": (2, 8192, None),
    "e2-standard-4": (4, 16384, None),
    "n2-standard-8": (8, 32768, None),
    "g2-standard-4": (4, 16384, ("nvidia-l4", 1)),
}
_GCP_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_GCP_LABEL = re.compile(r"[a-z0-9_-]{0,63}")


class GcpServer(RestServer):
    """Compute Engine's API, version 1, of one project, as far as Motley asks it."""

    def __init__(self, project: str = "lab") -> None:
        self.project = project
        self.instances: dict[str, dict[str, Any]] = {}
        self.disks: dict[str, Mapping[str, str]] = {}
        """Names with labels."""
        self.operations: dict[str, dict[str, Any]] = {}
        self.answered: dict[str, str] = {}
        """Request ids, and the operations that they began."""
        self.unready = 0
        """So many of the next waits end before the operation does."""
        super().__init__()

    def step(self, method: str, path: str) -> str:
        return "insert" if method == "POST" and path.endswith("/instances") else ""

    def refusal(self) -> Reply:
        return self._error(403, "forbidden", "Required 'compute.instances.create' permission\nfor the project")

    def answer(self, method: str, path: str, query: Mapping[str, str], body: Any) -> Reply:
        root = f"/compute/v1/projects/{self.project}/"
        if not path.startswith(root):
            return self._error(404, "notFound", path)
        match (method, *path.removeprefix(root).split("/")):
            case ("GET", "aggregated", "instances"):
                return 200, self._aggregated(query["filter"])
            case ("GET", "zones", zone, "machineTypes"):
                return 200, {"kind": "compute#machineTypeList", "items": self._kinds(zone, query["filter"])}
            case ("POST", "zones", zone, "instances"):
                return self._insert(zone, query["requestId"], body)
            case ("POST", "zones", zone, "operations", name, "wait"):
                return self._wait(name)
            case ("GET", "zones", zone, "instances", name) if f"{zone}/{name}" in self.instances:
                return 200, self.instances[f"{zone}/{name}"]
            case ("DELETE", "zones", zone, "instances", name) if f"{zone}/{name}" in self.instances:
                self.instances[f"{zone}/{name}"]["status"] = "STOPPING"
                return 200, self._operation(zone, query["requestId"])
        return self._error(404, "notFound", f"The resource '{path}' was not found")

    def settle(self) -> None:
        with self.lock:
            for key, instance in list(self.instances.items()):
                if instance["status"] == "STOPPING":
                    del self.instances[key]
                    if instance["disks"][0]["autoDelete"]:
                        self.disks.pop(key, None)
                elif instance["status"] != "TERMINATED":
                    instance["status"] = "RUNNING"

    def add(self, zone: str, name: str, /, **resource: Any) -> str:
        """An instance with its disk, by whomever; returns zone/name."""
        key = f"{zone}/{name}"
        plain = {"name": name, "status": "RUNNING", "zone": f"https://compute/v1/projects/{self.project}/zones/{zone}"}
        plain |= {"machineType": "zones/x/machineTypes/e2-standard-2", "disks": [{"autoDelete": True}]}
        plain |= {"creationTimestamp": datetime.now(UTC).isoformat(timespec="milliseconds"), "kind": "compute#instance"}
        self.instances[key] = {**plain, **resource}
        self.disks[key] = resource.get("labels", {})
        return key

    def _insert(self, zone: str, request_id: str, body: Any) -> Reply:
        uuid.UUID(request_id)
        if request_id in self.answered:
            return 200, self.operations[self.answered[request_id]]
        name, labels = body["name"], body["labels"]
        assert _GCP_NAME.fullmatch(name)
        assert all(_GCP_LABEL.fullmatch(text) for pair in labels.items() for text in pair)
        if f"{zone}/{name}" in self.instances:
            return self._error(409, "alreadyExists", f"The resource '{zone}/{name}' already exists")
        operation = self._operation(zone, request_id)
        if self.faults.exhausted:
            message = f"The zone 'projects/{self.project}/zones/{zone}' does not have enough resources\navailable."
            operation["error"] = {"errors": [{"code": "ZONE_RESOURCE_POOL_EXHAUSTED", "message": message}]}
        else:
            self.add(zone, name, **{**body, "status": "PROVISIONING"})
        return 200, {key: value for key, value in operation.items() if key != "error"} | {"status": "RUNNING"}

    def _wait(self, name: str) -> Reply:
        if self.unready:
            self.unready -= 1
            return 200, self.operations[name] | {"status": "RUNNING"}
        return 200, self.operations[name]

    def _operation(self, zone: str, request_id: str) -> dict[str, Any]:
        name = f"operation-{len(self.operations)}"
        self.answered[request_id] = name
        self.operations[name] = {"kind": "compute#operation", "name": name, "zone": zone, "status": "DONE"}
        return self.operations[name]

    def _aggregated(self, wanted: str) -> dict[str, Any]:
        key, value = re.fullmatch(r"labels\.([a-z-]+)(?::|=)(.*)", wanted).groups()  # type: ignore[union-attr]
        scopes: dict[str, Any] = {"zones/empty-zone": {"warning": {"code": "NO_RESULTS_ON_PAGE"}}}
        for machine_id, instance in self.instances.items():
            found = instance.get("labels", {}).get(key)
            if found is not None and value in ("*", found):
                scope = scopes.setdefault(f"zones/{machine_id.split('/')[0]}", {"instances": []})
                scope["instances"].append(instance)
        return {"kind": "compute#instanceAggregatedList", "items": scopes}

    @staticmethod
    def _kinds(zone: str, wanted: str) -> list[dict[str, Any]]:
        kinds = []
        for name in re.findall(r"name = ([a-z0-9-]+)", wanted):
            if name not in _GCP_KINDS:
                continue
            cpus, memory, gpu = _GCP_KINDS[name]
            kind: dict[str, Any] = {"name": name, "guestCpus": cpus, "memoryMb": memory, "zone": zone}
            if gpu:
                kind["accelerators"] = [{"guestAcceleratorType": gpu[0], "guestAcceleratorCount": gpu[1]}]
            kinds.append(kind)
        return kinds

    @staticmethod
    def _error(status: int, reason: str, message: str) -> Reply:
        errors = [{"message": message, "domain": "global", "reason": reason}]
        return status, {"error": {"code": status, "message": message, "errors": errors}}


# AWS

MOTO_ACCOUNT = "123456789012"
PRICES = {"t3.small": "0.0208", "t3.medium": "0.0416", "m7i.large": "0.1008", "g4dn.xlarge": "0.526"}


class AwsServer:
    """moto's EC2, and what moto lacks: client tokens that count, want of capacity, and the price list."""

    def __init__(self) -> None:
        from moto.server import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import WSGIRequestHandler, make_server

        class Quiet(WSGIRequestHandler):
            def log(self, *_: object, **__: object) -> None:
                pass

        self.faults = Faults()
        self.lock = threading.Lock()
        self.asked: list[dict[str, str]] = []
        self.strips_tags = False
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._tokens: dict[str, tuple[dict[str, str], tuple[str, Any, bytes]]] = {}
        self._server = make_server("127.0.0.1", 0, self._serve, threaded=True, request_handler=Quiet)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()

    def reset(self) -> None:
        """moto's own reset takes a tenth of a second more, because it forgets what EC2 is, too."""
        from moto.ec2.models import ec2_backends

        for backend in ec2_backends[MOTO_ACCOUNT].values():
            for held in (backend.reservations, backend.volumes, backend.tags):
                held.clear()
        self._tokens.clear()
        self.asked.clear()
        self.faults, self.strips_tags = Faults(), False

    def _serve(self, environ: dict[str, Any], start_response: Any) -> Any:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        if "GetProducts" in environ.get("HTTP_X_AMZ_TARGET", ""):
            return self._products(json.loads(body), start_response)
        form = {key: values[0] for key, values in parse_qs(body.decode()).items()}
        with self.lock:
            self.asked.append(form)
            fault = self.faults.meet(form.get("Action", ""))
            if fault is Fault.CUT_OFF:
                return self._cut(environ)
            if fault is Fault.REFUSED:
                return self._error(start_response, "403 Forbidden", "UnauthorizedOperation", "You are not\nauthorized.")
            status, headers, content = self._carried_out(environ, form, body)
        if fault is Fault.REPLY_LOST:
            return self._cut(environ)
        start_response(status, headers)
        return [content]

    def _carried_out(self, environ: dict[str, Any], form: dict[str, str], body: bytes) -> tuple[str, Any, bytes]:
        if form.get("Action") != "RunInstances":
            return self._ask_moto(environ, body)
        if self.faults.exhausted:
            text = _ec2_error("InsufficientInstanceCapacity", "We currently do not have sufficient capacity.")
            return "500 Internal Server Error", [("Content-Type", "text/xml")], text
        first, reply = self._tokens.get(form["ClientToken"], (form, None))
        if form != first:
            text = _ec2_error("IdempotentParameterMismatch", "The parameters do not match the first request's.")
            return "400 Bad Request", [("Content-Type", "text/xml")], text
        if reply is None:
            if self.strips_tags:
                body = b"&".join(each for each in body.split(b"&") if not each.startswith(b"TagSpecification"))
            reply = self._ask_moto(environ, body)
            self._tokens[form["ClientToken"]] = (form, reply)
        return reply

    def _ask_moto(self, environ: dict[str, Any], body: bytes) -> tuple[str, Any, bytes]:
        said: list[Any] = []
        asked = {**environ, "wsgi.input": BytesIO(body), "CONTENT_LENGTH": str(len(body))}
        content = b"".join(self._moto(asked, lambda status, headers, _=None: said.append((status, headers))))
        return (*said[0], content)

    @staticmethod
    def _products(body: Any, start_response: Any) -> Any:
        kind = next(each["Value"] for each in body["Filters"] if each["Field"] == "instanceType")
        prices = [_product(PRICES[kind])] if kind in PRICES else []
        start_response("200 OK", [("Content-Type", "application/x-amz-json-1.1")])
        return [json.dumps({"FormatVersion": "aws_v1", "PriceList": prices}).encode()]

    @staticmethod
    def _cut(environ: dict[str, Any]) -> Any:
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        return []

    @staticmethod
    def _error(start_response: Any, status: str, code: str, message: str) -> Any:
        start_response(status, [("Content-Type", "text/xml")])
        return [_ec2_error(code, message)]


def _ec2_error(code: str, message: str) -> bytes:
    error = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return f"<Response><Errors>{error}</Errors><RequestID>1</RequestID></Response>".encode()


def _product(usd: str) -> str:
    """One entry of the price list, with a price for keeping a reservation that is not to be taken for one of use."""
    dimensions = {
        "A.B.C": {"unit": "Quantity", "pricePerUnit": {"USD": "17.0"}},
        "A.B.D": {"unit": "Hrs", "pricePerUnit": {"USD": usd}},
    }
    return json.dumps({"product": {}, "terms": {"OnDemand": {"A.B": {"priceDimensions": dimensions}}}})
