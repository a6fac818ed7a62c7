"""Machines on Google Cloud's Compute Engine, standard and spot. See docs/clouds.md for permissions and options.

A machine's name is made of its token, and a name is given once in a zone: the second order gets the machine
of the first. Names and labels may hold little more than small letters and digits, so what was ordered
stands word for word in the machine's metadata, and in its labels for finding it.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from importlib import import_module
from typing import Any

from motley.clock import Clock, SystemClock
from motley.providers.base import (
    DEVICE_TAG,
    RUN_TAG,
    TOKEN_TAG,
    Launch,
    Machine,
    Needs,
    ProviderError,
    Quote,
    State,
    Unavailable,
)
from motley.providers.cloud import (
    COMMON_OPTIONS,
    PRICE_TAG,
    Options,
    capacity_or,
    digest,
    failure,
    fitting,
    number_of,
    scripts,
    tags,
)
from motley.providers.gcp_account import LACKING, TIMEOUT_S, GcpAccount

OPTIONS = {
    **COMMON_OPTIONS,
    "project": "${GOOGLE_CLOUD_PROJECT}",
    "credentials_file": "",
    "zones": "us-central1-a",
    "prices": "",
    "machine_image": "projects/debian-cloud/global/images/family/debian-12",
    "gpu_machine_image": "",
    "disk": "30g",
    "network": "global/networks/default",
    "subnetwork": "",
}
"""Names with their defaults. prices: also says which kinds may be launched."""

MIB = 1024**2
GIB = 1024**3
LAUNCH_S, _PAUSE_S = 120.0, 5.0
"""How long to wait for a launch, and between two questions for it; Compute Engine holds each back itself."""
_ACCELERATOR_GIB = {
    "nvidia-tesla-t4": 16,
    "nvidia-tesla-p4": 8,
    "nvidia-tesla-p100": 16,
    "nvidia-tesla-v100": 16,
    "nvidia-l4": 24,
    "nvidia-tesla-a100": 40,
    "nvidia-a100-80gb": 80,
    "nvidia-h100-80gb": 80,
    "nvidia-h200-141gb": 141,
}
"""Compute Engine's API does not say it."""
_STATES = {
    "PROVISIONING": State.STARTING,
    "STAGING": State.STARTING,
    "RUNNING": State.RUNNING,
    "REPAIRING": State.RUNNING,
}
"""All others stand for a machine that is stopped or stops: it still costs its disk."""
_LABEL = re.compile(r"[a-z0-9_-]{0,63}")
_MACHINE_ID = re.compile(r"[a-z][a-z0-9-]*/[a-z][a-z0-9-]*")


def make(options: Mapping[str, str], environment: Mapping[str, str]) -> Gcp:
    """The project that options and environment describe. Raises InputError for options that can't be read."""
    return Gcp(Options("gcp", options, environment, OPTIONS))


class Gcp:
    """One project."""

    name = "gcp"

    def __init__(self, options: Options, clock: Clock | None = None) -> None:
        self._options = options
        self._account = GcpAccount(options)
        self._clock = clock or SystemClock()
        self._prices = options.prices("prices")
        self._disk_bytes = options.size_bytes("disk")
        self._most_s = int(3600 * options.number("max_hours"))
        self._script = scripts(options)

    def available(self) -> str:
        """Looks for the SDK, the project and credentials; asks no one whether they are good."""
        return self._account.problem()

    def quote(self, needs: Needs, spot: bool = False) -> Sequence[Quote]:
        """Of the kinds that have a price in the options, `kind` or `kind/spot`, in all zones."""
        prices = {kind.removesuffix("/spot"): price for kind, price in self._prices.items() if _is_spot(kind) == spot}
        if not self._prices:
            raise ProviderError(
                "gcp: quote: no kind has a price; give the option 'prices', as in 'e2-standard-4=0.134'"
            )
        if needs.disk_bytes > self._disk_bytes or not prices:
            return []
        bare = [quote for zone in self._options.names("zones") for quote in self._kinds(zone, list(prices))]
        return fitting((replace(each, usd_per_hour=prices[each.kind], spot=spot) for each in bare), needs)

    def launch(self, launch: Launch) -> Machine:
        """Waits until Compute Engine says whether it has one, at most two minutes."""
        if known := self._machines(f"labels.{TOKEN_TAG}={label(launch.token)}", token=launch.token):
            return known[0]
        instance = self._instance(launch)
        machine_id = f"{launch.quote.place}/{instance.name}"
        problem = ProviderError(f"gcp: instances.insert: {machine_id} was made and is gone")
        try:
            self._insert(launch.quote.place, instance)
        except Unavailable:
            raise
        except ProviderError as error:
            problem = error
        machine = self._if_there(machine_id)
        if machine is None or machine.token != launch.token:
            raise problem
        return machine

    def list(self, run_id: str | None = None) -> Sequence[Machine]:
        """In all zones of the project, whatever the option `zones` says."""
        if run_id is None:
            return self._machines(f"labels.{TOKEN_TAG}:*")
        return self._machines(f"labels.{RUN_TAG}={label(run_id)}", run_id=run_id)

    def status(self, machine_id: str) -> Machine | None:
        """machine_id: zone/name."""
        if not _MACHINE_ID.fullmatch(machine_id):
            return None
        zone, name = machine_id.split("/")
        request = {"project": self._account.project, "zone": zone, "instance": name}
        with self._account.asking("instances.get"):
            client = self._account.client("InstancesClient")
            with suppress(import_module("google.api_core.exceptions").NotFound):
                return _machine(client.get(request=request, **self._account.patience()))
        return None

    def terminate(self, machine_id: str) -> None:
        """Its disk goes with it."""
        if self.status(machine_id) is not None:
            self._delete(machine_id)

    # What is on offer

    def _kinds(self, zone: str, kinds: Sequence[str]) -> Iterator[Quote]:
        """Those that the zone has, without their prices."""
        wanted = " OR ".join(f"(name = {kind})" for kind in kinds)
        with self._account.asking("machineTypes.list"):
            request = {"project": self._account.project, "zone": zone, "filter": wanted}
            found = list(self._account.client("MachineTypesClient").list(request=request, **self._account.patience()))
        return (_bare_quote(zone, each) for each in found if each.name in kinds)

    # Machines

    def _instance(self, launch: Launch) -> Any:
        """The resource as Compute Engine takes it: makes and deletes its own disk, and has no service account."""
        text = self._options.text
        script = self._script(launch)
        labels = {label(key): label(value) for key, value in launch.all_tags().items()}
        image = text("gpu_machine_image" if launch.quote.accelerators else "machine_image")
        if not image:
            raise ProviderError("gcp: instances.insert: machines with accelerators need the option 'gpu_machine_image'")
        disk = {"source_image": image, "disk_size_gb": -(-self._disk_bytes // GIB), "labels": labels}
        outside = {"name": "External NAT", "type_": "ONE_TO_ONE_NAT"}
        network = {"network": text("network"), "subnetwork": text("subnetwork"), "access_configs": [outside]}
        items = {**tags(launch), "startup-script": script}
        return import_module("google.cloud.compute_v1").Instance(
            name=f"motley-{digest(launch.token)}",
            machine_type=f"zones/{launch.quote.place}/machineTypes/{launch.quote.kind}",
            labels=labels,
            disks=[{"boot": True, "auto_delete": True, "initialize_params": disk}],
            network_interfaces=[{key: value for key, value in network.items() if value}],
            metadata={"items": [{"key": key, "value": value} for key, value in items.items()]},
            scheduling=self._scheduling(launch.quote),
        )

    def _scheduling(self, quote: Quote) -> dict[str, Any]:
        """Compute Engine itself deletes the machine at the end of its longest life, and a spot machine it takes."""
        return {
            "provisioning_model": "SPOT" if quote.spot else "STANDARD",
            "instance_termination_action": "DELETE",
            "automatic_restart": False,
            "on_host_maintenance": "TERMINATE" if quote.spot or quote.accelerators else "MIGRATE",
            "max_run_duration": {"seconds": self._most_s},
        }

    def _insert(self, zone: str, instance: Any) -> None:
        """The request's id makes the SDK's repetitions of it harmless; orders are told apart by the name."""
        request = {
            "project": self._account.project,
            "zone": zone,
            "instance_resource": instance,
            "request_id": _new_id(),
        }
        with self._account.asking("instances.insert"):
            operation = self._account.client("InstancesClient").insert_unary(request=request, timeout=TIMEOUT_S)
            until_s = self._clock.now_s() + LAUNCH_S
            while not _is_done(operation) and self._clock.now_s() < until_s:
                asked = {"project": self._account.project, "zone": zone, "operation": operation.name}
                waiting = self._account.client("ZoneOperationsClient")
                operation = waiting.wait(request=asked, timeout=LAUNCH_S + TIMEOUT_S)
                self._clock.sleep(0.0 if _is_done(operation) else _PAUSE_S)
        if problems := list(operation.error.errors):
            with suppress(ProviderError):
                self._delete(f"{zone}/{instance.name}")
            kind = capacity_or((each.code for each in problems), LACKING)
            raise failure(self._options, "instances.insert", "; ".join(map(_words, problems)), kind)

    def _if_there(self, machine_id: str) -> Machine | None:
        """A machine that is there to be used; None also where it can't be known."""
        try:
            machine = self.status(machine_id)
        except ProviderError:
            return None
        return machine if machine and machine.state in (State.STARTING, State.RUNNING) else None

    def _machines(self, wanted: str, **exactly: str) -> Sequence[Machine]:
        """Labels are shortened, so what they find is compared with what was ordered."""
        request = {"project": self._account.project, "filter": wanted}
        with self._account.asking("instances.aggregatedList"):
            pages = self._account.client("InstancesClient").aggregated_list(request=request, **self._account.patience())
            found = [_machine(instance) for _, scoped in pages for instance in scoped.instances]
        machines = (machine for machine in found if machine is not None)
        return [each for each in machines if all(getattr(each, key) == value for key, value in exactly.items())]

    def _delete(self, machine_id: str) -> None:
        zone, name = machine_id.split("/")
        with self._account.asking("instances.delete"):
            asked = {"project": self._account.project, "zone": zone, "instance": name, "request_id": _new_id()}
            client = self._account.client("InstancesClient")
            with suppress(import_module("google.api_core.exceptions").NotFound):
                client.delete_unary(request=asked, timeout=TIMEOUT_S)


def label(text: str) -> str:
    """What Compute Engine takes as a label: small letters, digits, `_` and `-`, at most 63.

    Text that is none becomes one that still begins alike, with a digest that tells it from others.
    """
    if _LABEL.fullmatch(text):
        return text
    return f"{re.sub('[^a-z0-9_-]', '-', text.lower())[:46]}-{digest(text, length=16)}"


def _is_spot(kind: str) -> bool:
    return kind.endswith("/spot")


def _is_done(operation: Any) -> bool:
    return bool(operation.status == type(operation).Status.DONE)


def _words(problem: Any) -> str:
    return f"{problem.code}: {problem.message}"


def _new_id() -> str:
    return str(uuid.uuid4())


def _bare_quote(zone: str, described: Any) -> Quote:
    """A kind as Compute Engine describes it, without its price."""
    first = next(iter(described.accelerators), None)
    kind = first.guest_accelerator_type if first else ""
    return Quote(
        provider=Gcp.name,
        kind=described.name,
        place=zone,
        cpus=described.guest_cpus,
        memory_bytes=described.memory_mb * MIB,
        usd_per_hour=0.0,
        accelerators=first.guest_accelerator_count if first else 0,
        accelerator_memory_bytes=_ACCELERATOR_GIB.get(kind, 0) * GIB,
    )


def _machine(instance: Any) -> Machine | None:
    """None for one that is not Motley's."""
    found = {item.key: item.value for item in instance.metadata.items}
    if TOKEN_TAG not in found or TOKEN_TAG not in instance.labels:
        return None
    zone = instance.zone.rpartition("/")[2]
    return Machine(
        provider=Gcp.name,
        machine_id=f"{zone}/{instance.name}",
        token=found[TOKEN_TAG],
        run_id=found.get(RUN_TAG, ""),
        device=found.get(DEVICE_TAG, ""),
        state=_STATES.get(instance.status, State.STOPPING),
        kind=instance.machine_type.rpartition("/")[2],
        place=zone,
        usd_per_hour=number_of(found, PRICE_TAG),
        spot=instance.scheduling.provisioning_model == "SPOT",
        launched_s=datetime.fromisoformat(instance.creation_timestamp).timestamp(),
    )
