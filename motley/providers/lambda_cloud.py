"""Machines with GPUs on Lambda Cloud, through its REST API. See docs/clouds.md for options.

Lambda knows no client tokens. A launch looks for a machine with the token before it asks for one and
again afterwards; where two have appeared it ends the younger. The launches of one host wait for each
other meanwhile. Lambda has no spot machines, and goes on charging for a machine that has shut itself down:
sweep often.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from motley.clock import Clock, SystemClock
from motley.providers.base import DEVICE_TAG, RUN_TAG, TOKEN_TAG, Launch, Machine, Needs, ProviderError, Quote, State
from motley.providers.cloud import (
    COMMON_OPTIONS,
    PRICE_TAG,
    NoAnswer,
    Options,
    digest,
    fitting,
    number_of,
    scripts,
    tags,
)
from motley.providers.lambda_account import LambdaAccount, Unknown

OPTIONS = {
    **COMMON_OPTIONS,
    "api_key": "${LAMBDA_API_KEY}",
    "endpoint_url": "https://cloud.lambda.ai/api/v1",
    "kinds": "",
    "ssh_key": "",
}
"""Names with their defaults. kinds: all where it is empty. ssh_key: the name of one; Lambda wants it."""
LAUNCHED_TAG = "motley-launched"

GIB = 1024**3
_GPU_MEMORY = re.compile(r"(\d+) ?GB")
_STATES = {
    "booting": State.STARTING,
    "active": State.RUNNING,
    "unhealthy": State.RUNNING,
    "terminating": State.STOPPING,
    "preempted": State.GONE,
    "terminated": State.GONE,
}
_MOST_NAME = 64
_SETTLING_S = (0.0, 2.0, 5.0)
"""Before each look for a machine that was just launched."""


def make(options: Mapping[str, str], environment: Mapping[str, str]) -> LambdaCloud:
    """The account that options and environment describe. Raises InputError for options that can't be read."""
    return LambdaCloud(Options("lambda_cloud", options, environment, OPTIONS, ("api_key",)))


class LambdaCloud:
    """One account at Lambda."""

    name = "lambda_cloud"

    def __init__(self, options: Options, clock: Clock | None = None) -> None:
        self._options = options
        self._clock = clock or SystemClock()
        self._account = LambdaAccount(options, self._clock)
        self._script = scripts(options)

    def available(self) -> str:
        """Looks for the key; asks no one whether it is good."""
        return self._account.problem()

    def quote(self, needs: Needs, spot: bool = False) -> Sequence[Quote]:
        """What has capacity now, at each place that has it. No spot machines."""
        if spot:
            return []
        return fitting(self._account.ask("GET", "instance-types", lambda data: self._quotes(data, needs)), needs)

    def launch(self, launch: Launch) -> Machine:
        """Takes the lock of the account on this host, so that equal orders of its processes give one machine."""
        request = self._request(launch)
        with self._account.alone():
            if known := self._with_token(launch.token):
                return known[0]
            try:
                machine_id = self._account.ask("POST", "instance-operations/launch", _first_id, request)
            except NoAnswer as error:
                return self._after(error, launch.token)
            try:
                return self._settled(launch.token, machine_id)
            except ProviderError:
                with suppress(ProviderError):
                    self._end([machine_id])
                raise

    def list(self, run_id: str | None = None) -> Sequence[Machine]:
        """In all regions."""
        machines = self._account.ask("GET", "instances", lambda data: [*filter(None, map(_machine, data))])
        live = [each for each in machines if each.state is not State.GONE]
        return [each for each in live if run_id in (None, each.run_id)]

    def status(self, machine_id: str) -> Machine | None:
        if not re.fullmatch(r"[A-Za-z0-9-]+", machine_id):
            return None
        try:
            return self._account.ask("GET", f"instances/{machine_id}", _machine)
        except Unknown:
            return None

    def terminate(self, machine_id: str) -> None:
        machine = self.status(machine_id)
        if machine is not None and machine.state is not State.GONE:
            self._end([machine_id])

    # Machines

    def _request(self, launch: Launch) -> dict[str, Any]:
        script = self._script(launch)
        if not (key := self._options.text("ssh_key")):
            raise ProviderError("lambda_cloud: launch: no SSH key; give the name of one of the account's as 'ssh_key'")
        labels = {**tags(launch), LAUNCHED_TAG: f"{self._clock.now_s():.3f}"}
        return {
            "region_name": launch.quote.place,
            "instance_type_name": launch.quote.kind,
            "ssh_key_names": [key],
            "name": _name(launch.token),
            "user_data": script,
            "tags": [{"key": key, "value": value} for key, value in labels.items()],
        }

    def _with_token(self, token: str) -> Sequence[Machine]:
        """The eldest first."""
        found = [each for each in self.list() if each.token == token]
        return sorted(found, key=_age)

    def _after(self, error: NoAnswer, token: str) -> Machine:
        """The machine of a launch whose reply was lost, where it was carried out; raises `error` otherwise."""
        for pause_s in _SETTLING_S:
            self._clock.sleep(pause_s)
            if known := self._with_token(token):
                return known[0]
        raise error

    def _settled(self, token: str, machine_id: str) -> Machine:
        """The one machine that is to stay. Raises ProviderError where the new one lacks its tags: it would be lost."""
        started = self._appeared(machine_id)
        others = [each for each in self._with_token(token) if each.machine_id != machine_id]
        kept, *surplus = sorted([started, *others], key=_age)
        if surplus:
            self._end([each.machine_id for each in surplus])
        return kept

    def _appeared(self, machine_id: str) -> Machine:
        """The machine, which may take some seconds to be known."""
        for pause_s in _SETTLING_S:
            self._clock.sleep(pause_s)
            if (machine := self.status(machine_id)) is not None:
                return machine
        raise ProviderError(f"lambda_cloud: launch: {machine_id} is not known or has no tags; see that it ended")

    def _end(self, machine_ids: Sequence[str]) -> None:
        with suppress(Unknown):
            request = {"instance_ids": [*machine_ids]}
            self._account.ask("POST", "instance-operations/terminate", lambda data: None, request)

    def _quotes(self, data: Mapping[str, Any], needs: Needs) -> Sequence[Quote]:
        """Of InstanceTypes."""
        kinds = self._options.names("kinds")
        offers = (offer for name, offer in data.items() if not kinds or name in kinds)
        return [quote for offer in offers for quote in _quotes_of(offer, needs.disk_bytes)]


def _first_id(data: Mapping[str, Any]) -> str:
    return str(data["instance_ids"][0])


def _quotes_of(offer: Mapping[str, Any], disk_bytes: int) -> Iterator[Quote]:
    """Of one kind, one for each region that has it."""
    kind = offer["instance_type"]
    specs = kind["specs"]
    if specs["storage_gib"] * GIB < disk_bytes:
        return
    gpu_memory = _GPU_MEMORY.search(kind.get("gpu_description", ""))
    for region in offer["regions_with_capacity_available"]:
        yield Quote(
            provider=LambdaCloud.name,
            kind=kind["name"],
            place=region["name"],
            cpus=specs["vcpus"],
            memory_bytes=specs["memory_gib"] * GIB,
            usd_per_hour=kind["price_cents_per_hour"] / 100,
            accelerators=specs["gpus"],
            accelerator_memory_bytes=int(gpu_memory[1]) * 10**9 if gpu_memory else 0,
        )


def _machine(instance: Mapping[str, Any]) -> Machine | None:
    """None for one that is not Motley's."""
    found = {each["key"]: each["value"] for each in instance.get("tags") or []}
    if TOKEN_TAG not in found:
        return None
    return Machine(
        provider=LambdaCloud.name,
        machine_id=instance["id"],
        token=found[TOKEN_TAG],
        run_id=found.get(RUN_TAG, ""),
        device=found.get(DEVICE_TAG, ""),
        state=_STATES.get(instance["status"], State.RUNNING),
        kind=instance["instance_type"]["name"],
        place=instance["region"]["name"],
        usd_per_hour=number_of(found, PRICE_TAG),
        spot=False,
        launched_s=number_of(found, LAUNCHED_TAG),
    )


def _age(machine: Machine) -> tuple[float, str]:
    return machine.launched_s, machine.machine_id


def _name(token: str) -> str:
    """What people see in Lambda's console; it takes 64 characters."""
    name = f"motley-{token}"
    return name if len(name) <= _MOST_NAME else f"motley-{digest(token)}"
