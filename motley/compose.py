"""A fleet as a Docker Compose file: data in, data out; no I/O.

Every container gets hard limits, a read-only root and no capability; the only exceptions are the link
sidecars, which may shape the network of their own device, and cAdvisor, which reads the host.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from motley import __version__
from motley.environment import class_environment
from motley.hardware import LinkSpec
from motley.spec import Device, Fleet
from motley.units import format_bytes

PROMETHEUS_IMAGE = "prom/prometheus:v3.5.0"
CADVISOR_IMAGE = "ghcr.io/google/cadvisor:v0.60.5"
GRAFANA_IMAGE = "grafana/grafana:13.0.1"

SERVER_PORT, SERVER_METRICS_PORT, DEVICE_METRICS_PORT = 8000, 9100, 9101
USER = "10001:10001"
GRACE = "15s"
DEVICE_PIDS, SERVER_PIDS = 256, 512

Mapping = dict[str, Any]


class Merge(str):
    """The key `<<`, which the writer must not quote."""


MERGE = Merge("<<")


class Block(str):
    """Text of several lines, which the writer keeps as it is."""


@dataclass(frozen=True)
class Paths:
    """Where the repository's files lie, as seen from the compose file."""

    root: str = "."
    targets: str = "./config/prometheus/targets"

    def of(self, name: str) -> str:
        return f"{self.root}/{name}"


@dataclass(frozen=True)
class Origin:
    """How the fleet of this file came about, for its metadata."""

    fleet_file: str
    changes: tuple[str, ...] = ()
    """Options of the generator that were used, in words."""
    factor: float = 1.0
    """By which every CPU quota was multiplied."""


def compose_file(fleet: Fleet, origin: Origin, paths: Paths = Paths()) -> Mapping:
    """The whole file. Mappings that stand in it more than once are meant to become anchors."""
    image = image_name(fleet)
    base = _base(image)
    extensions: Mapping = {"x-motley": metadata(fleet, origin), "x-hardened": _HARDENED, "x-base": base}
    services: Mapping = {"server": _server(fleet, base, paths)}
    drawn = frozenset(name for name, each in fleet.classes.items() if each.is_drawn)
    classes = _Classes(base, extensions, drawn)
    for device in fleet.devices():
        services[device.name] = classes.client(device)
        if _is_shaped(device):
            services[f"{device.name}-link"] = classes.link(device)
    volumes: Mapping = {"state": {}}
    networks: Mapping = {"fleet": {"internal": True}}
    if fleet.monitoring.enabled:
        extensions["x-monitoring"] = _OBSERVER
        services |= _monitoring(fleet, paths)
        volumes |= {"prometheus": {}, "grafana": {}}
        networks["monitoring"] = {}
    return {
        "name": f"motley-{fleet.name}",
        **extensions,
        "services": services,
        "networks": networks,
        "volumes": volumes,
    }


def scrape_targets(fleet: Fleet) -> list[Mapping]:
    """Prometheus's file_sd list: the server and every device, with its labels."""
    server = {"targets": [f"server:{SERVER_METRICS_PORT}"], "labels": {"job": "motley-server"}}
    return [server] + [
        {
            "targets": [f"{device.name}:{DEVICE_METRICS_PORT}"],
            "labels": {"job": "motley-client", "client": device.name, "device_class": device.class_name},
        }
        for device in fleet.devices()
    ]


def metadata(fleet: Fleet, origin: Origin) -> Mapping:
    """What the file says of itself under `x-motley`."""
    return {
        "generator": f"motley {__version__}",
        "fleet": fleet.name,
        "fleet_file": origin.fleet_file,
        "changes": list(origin.changes),
        "devices": fleet.total_devices,
        "cpus": round(fleet.total_cpus, 3),
        "cpu_factor": origin.factor,
    }


def data_spec(fleet: Fleet) -> Mapping:
    """All that the shards in the image depend on."""
    spec = {
        "task": fleet.training.task,
        "devices": fleet.shards,
        "seed": fleet.seed,
        "data": fleet.data.model_dump(mode="json", exclude_none=True),
    }
    if fleet.data.partition != "by_speed":
        return spec
    slowness = fleet.slowness()
    by_slowness = sorted(range(len(slowness)), key=slowness.__getitem__)
    ranks = {device: rank for rank, device in enumerate(by_slowness)}
    return spec | {"slowness": [ranks[device] for device in range(len(slowness))]}


def image_name(fleet: Fleet) -> str:
    """The image's tag tells apart fleets whose shards differ."""
    digest = hashlib.sha256(json.dumps(data_spec(fleet), sort_keys=True).encode()).hexdigest()
    return f"motley:{__version__}-{digest[:8]}"


_HARDENED: Mapping = {
    "read_only": True,
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges:true"],
    "stop_grace_period": GRACE,
    "logging": {"driver": "json-file", "options": {"max-size": "10m", "max-file": "3"}},
}

_OBSERVER: Mapping = {MERGE: _HARDENED, "restart": "unless-stopped", "cpu_shares": 128}


def _base(image: str) -> Mapping:
    ready = {"interval": "5s", "timeout": "5s", "start_period": "120s", "retries": 6}
    return {
        MERGE: _HARDENED,
        "image": image,
        "pull_policy": "never",
        "user": USER,
        "networks": ["fleet"],
        "restart": "on-failure",
        "healthcheck": {"test": ["CMD-SHELL", _IS_READY], **ready},
    }


_IS_READY = 'test -n "$$(find /tmp/ready -mmin -1 2>/dev/null)"'
"""The agents keep a file fresh while they are connected; looking at it costs next to nothing."""


def limits(cpus: float, memory_bytes: int, pids: int) -> Mapping:
    """Hard limits; swap is off, so that what goes over its memory is killed and does not swap."""
    memory = format_bytes(memory_bytes)
    return {
        "deploy": {"resources": {"limits": {"cpus": f"{cpus:.15g}", "memory": memory, "pids": pids}}},
        "memswap_limit": memory,
    }


def _server(fleet: Fleet, base: Mapping, paths: Paths) -> Mapping:
    spec = json.dumps(fleet.as_mapping(), indent=1)
    return {
        MERGE: base,
        "pull_policy": "build",
        "build": {
            "context": paths.root,
            "args": {
                "TORCH_INDEX": "${TORCH_INDEX:-}",
                "DATA_SPEC": json.dumps(data_spec(fleet)),
            },
        },
        "command": ["python", "-m", "server.agent"],
        "environment": {
            "MOTLEY_FLEET": Block(spec.replace("$", "$$") + "\n"),
            "MOTLEY_STATE": "/state",
            "MOTLEY_DATA": "/data",
            "MOTLEY_RUNTIME": "compose",
        },
        "volumes": ["state:/state"],
        "tmpfs": ["/tmp:size=128m,mode=1777"],
        **limits(fleet.server.cpus, fleet.server.memory, SERVER_PIDS),
    }


_RESERVED = ("x-motley", "x-hardened", "x-base", "x-monitoring")


class _Classes:
    """Emits services; what the devices of a class share is emitted once, under `x-…`.

    Where the class leaves something to chance, that is the class's first device, and each other one
    tells in what it differs.
    """

    def __init__(self, base: Mapping, extensions: Mapping, drawn: frozenset[str]) -> None:
        self._base = base
        self._extensions = extensions
        self._drawn = drawn
        self._shared: dict[str, tuple[Mapping, Mapping, Mapping]] = {}

    def client(self, device: Device) -> Mapping:
        service, environment, _ = self._of(device)
        name = {"MOTLEY_DEVICE": device.name, "MOTLEY_PARTITION": str(device.partition)}
        own, drawn = {}, {}
        if device.class_name in self._drawn:
            own = _other_than(service, _client(device, self._base))
            drawn = _other_than(environment, _client_environment(device))
        return {MERGE: service, **own, "hostname": device.name, "environment": {MERGE: environment, **name, **drawn}}

    def link(self, device: Device) -> Mapping:
        _, _, link = self._of(device)
        own = _other_than(link, _link(device, self._base)) if device.class_name in self._drawn else {}
        return {
            MERGE: link,
            **own,
            "network_mode": f"service:{device.name}",
            "depends_on": {device.name: {"condition": "service_started", "restart": True}},
        }

    def _of(self, device: Device) -> tuple[Mapping, Mapping, Mapping]:
        name = device.class_name
        if name not in self._shared:
            shared = _client(device, self._base), _client_environment(device), _link(device, self._base)
            self._shared[name] = shared
            label = f"x-class-{name}" if f"x-{name}" in _RESERVED else f"x-{name}"
            self._extensions[label], self._extensions[f"{label}-environment"] = shared[:2]
            if _is_shaped(device):
                self._extensions[f"{label}-link"] = shared[2]
        return self._shared[name]


def _other_than(shared: Mapping, own: Mapping) -> Mapping:
    """What `own` has that `shared` has not, or has otherwise."""
    return {key: value for key, value in own.items() if shared.get(key) != value}


def _client(device: Device, base: Mapping) -> Mapping:
    spec = device.spec
    resources = limits(spec.cpus, spec.memory, DEVICE_PIDS)
    if spec.accelerators:
        gpus = {"driver": "nvidia", "count": spec.accelerators, "capabilities": ["gpu"]}
        resources["deploy"]["resources"]["reservations"] = {"devices": [gpus]}
    return {
        MERGE: base,
        "command": ["python", "-m", "client.agent"],
        "depends_on": {"server": {"condition": "service_healthy"}},
        "tmpfs": ["/tmp:size=64m,mode=1777"],
        **resources,
    }


def _client_environment(device: Device) -> Mapping:
    return {**class_environment(device), "MOTLEY_SUPERLINK": f"server:{SERVER_PORT}", "MOTLEY_DATA": "/data"}


def _is_shaped(device: Device) -> bool:
    network = device.spec.network
    return network is not None and any((network.down, network.up, network.latency))


def _link(device: Device, base: Mapping) -> Mapping:
    """A sidecar in the device's network namespace: the one that needs NET_ADMIN, so that the device does not."""
    network = device.spec.network or LinkSpec()
    environment = {
        "LINK_DOWN_BIT": f"{network.down or 0:.0f}",
        "LINK_UP_BIT": f"{network.up or 0:.0f}",
        "LINK_LATENCY_MS": f"{1000 * (network.latency or 0):g}",
    }
    return {
        MERGE: _HARDENED,
        "image": base["image"],
        "pull_policy": "never",
        "user": "0:0",
        "restart": "on-failure",
        "cap_add": ["NET_ADMIN"],
        "command": ["sh", "/app/client/link.sh"],
        "environment": environment,
        **limits(0.05, 32 * 1024**2, 16),
    }


def _monitoring(fleet: Fleet, paths: Paths) -> Mapping:
    settings = fleet.monitoring
    return {
        "prometheus": _prometheus(settings.prometheus_port, paths),
        "cadvisor": _cadvisor(),
        "grafana": _grafana(settings.grafana_port, paths),
    }


def _prometheus(port: int, paths: Paths) -> Mapping:
    return {
        MERGE: _OBSERVER,
        "image": PROMETHEUS_IMAGE,
        "user": "65534:65534",
        "command": [
            "--config.file=/etc/prometheus/prometheus.yml",
            "--storage.tsdb.path=/prometheus",
            "--storage.tsdb.retention.time=7d",
            "--web.enable-lifecycle",
        ],
        "volumes": [
            f"{paths.of('prometheus.yaml')}:/etc/prometheus/prometheus.yml:ro",
            f"{paths.targets}:/etc/prometheus/targets:ro",
            "prometheus:/prometheus",
        ],
        "networks": ["fleet", "monitoring"],
        "ports": [f"127.0.0.1:{port}:9090"],
        "healthcheck": _http_check("http://127.0.0.1:9090/-/healthy"),
        **limits(0.5, 512 * 1024**2, 256),
    }


def _cadvisor() -> Mapping:
    return {
        MERGE: _OBSERVER,
        "image": CADVISOR_IMAGE,
        "user": "0:0",
        "command": [
            "--docker_only=true",
            "--housekeeping_interval=5s",
            "--store_container_labels=false",
            "--whitelisted_container_labels=com.docker.compose.project,com.docker.compose.service",
            "--enable_metrics=cpu,memory,network,oom_event,pressure",
        ],
        "volumes": [
            "/:/rootfs:ro",
            "/sys:/sys:ro",
            "/var/lib/docker:/var/lib/docker:ro",
            "/var/run/docker.sock:/var/run/docker.sock:ro",
        ],
        "networks": ["monitoring"],
        **limits(0.25, 256 * 1024**2, 128),
    }


def _grafana(port: int, paths: Paths) -> Mapping:
    return {
        MERGE: _OBSERVER,
        "image": GRAFANA_IMAGE,
        "user": "472:0",
        "environment": {
            "GF_AUTH_ANONYMOUS_ENABLED": "true",
            "GF_AUTH_ANONYMOUS_ORG_ROLE": "Viewer",
            "GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION": "true",
            "GF_AUTH_DISABLE_LOGIN_FORM": "true",
            "GF_ANALYTICS_REPORTING_ENABLED": "false",
            "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
            "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH": "/etc/motley/dashboards/overview.json",
        },
        "volumes": [
            f"{paths.of('config/grafana/provisioning')}:/etc/grafana/provisioning:ro",
            f"{paths.of('config/grafana/dashboards')}:/etc/motley/dashboards:ro",
            "grafana:/var/lib/grafana",
        ],
        "tmpfs": ["/tmp"],
        "networks": ["monitoring"],
        "ports": [f"127.0.0.1:{port}:3000"],
        "healthcheck": _http_check("http://127.0.0.1:3000/api/health"),
        **limits(0.5, 512 * 1024**2, 256),
    }


def _http_check(url: str) -> Mapping:
    return {"test": ["CMD", "wget", "-q", "-O", "-", url], "interval": "10s", "timeout": "5s", "retries": 6}
