"""Machines on Amazon EC2, on demand and spot, through boto3. See docs/clouds.md for permissions and options.

An order is one request, RunInstances, which makes the machine and its tags together or not at all. Its
client token makes a repetition harmless: EC2 answers it with the machine of the first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from motley.clock import Clock, SystemClock
from motley.providers.aws_account import UNKNOWN, AwsAccount
from motley.providers.aws_offers import AwsOffers
from motley.providers.base import DEVICE_TAG, RUN_TAG, TOKEN_TAG, Launch, Machine, Needs, ProviderError, Quote, State
from motley.providers.cloud import COMMON_OPTIONS, PRICE_TAG, Options, digest, fitting, number_of, scripts, tags

_IMAGES = "resolve:ssm:/aws/service/ecs/optimized-ami/amazon-linux-2023"
OPTIONS = {
    **COMMON_OPTIONS,
    "access_key": "${AWS_ACCESS_KEY_ID}",
    "secret_key": "${AWS_SECRET_ACCESS_KEY}",
    "session_token": "${AWS_SESSION_TOKEN}",
    "profile": "${AWS_PROFILE}",
    "endpoint_url": "${AWS_ENDPOINT_URL}",
    "regions": "us-east-1",
    "kinds": "t3.small,t3.medium,m7i.large,m7i.xlarge,c7i.2xlarge,g4dn.xlarge,g5.xlarge",
    "prices": "",
    "spot_margin": "0.1",
    "machine_image": f"{_IMAGES}/recommended/image_id",
    "gpu_machine_image": f"{_IMAGES}/gpu/recommended/image_id",
    "disk": "30g",
    "root_device": "/dev/xvda",
    "subnet": "",
    "security_groups": "",
}
"""Names with their defaults."""
SECRET_OPTIONS = ("access_key", "secret_key", "session_token")
MOST_USER_DATA_BYTES = 16 * 1024

_STATES = {
    "pending": State.STARTING,
    "running": State.RUNNING,
    "shutting-down": State.STOPPING,
    "stopping": State.STOPPING,
    "stopped": State.STOPPING,
    "terminated": State.GONE,
}
_REGION = re.compile(r"[a-z]+(?:-[a-z]+)+-\d+")
_GIB = 1024**3


def make(options: Mapping[str, str], environment: Mapping[str, str]) -> Aws:
    """The account that options and environment describe. Raises InputError for options that can't be read."""
    return Aws(Options("aws", options, environment, OPTIONS, SECRET_OPTIONS))


class Aws:
    """One AWS account in one or more regions."""

    name = "aws"

    def __init__(self, options: Options, clock: Clock | None = None) -> None:
        self._options = options
        self._account = AwsAccount(options)
        self._offers = AwsOffers(options, self._account, clock or SystemClock())
        self._regions = options.names("regions")
        self._disk_bytes = options.size_bytes("disk")
        self._script = scripts(options)

    def available(self) -> str:
        """Looks for the SDK and for credentials; asks no one whether they are good."""
        return self._account.problem()

    def quote(self, needs: Needs, spot: bool = False) -> Sequence[Quote]:
        """Of the option `kinds`, in all regions. A spot quote holds the margin up to the highest price that is bid."""
        if needs.disk_bytes > self._disk_bytes:
            return []
        offers = self._offers.spot if spot else self._offers.fixed
        return fitting((quote for region in self._regions for quote in offers(region, needs)), needs)

    def launch(self, launch: Launch) -> Machine:
        """Spot machines are asked for once, with the price of the quote as the highest bid."""
        if known := self._machines(TOKEN_TAG, launch.token):
            return known[0]
        region = _region(launch.quote.place)
        request = self._request(launch)
        with self._account.asking("RunInstances"):
            instance = self._account.client("ec2", region).run_instances(**request)["Instances"][0]
        machine = _machine(region, instance)
        if machine is None:
            with suppress(ProviderError):
                self._end(region, instance["InstanceId"])
            raise ProviderError(f"aws: RunInstances: {instance['InstanceId']} came without its tags; see that it ended")
        return machine

    def list(self, run_id: str | None = None) -> Sequence[Machine]:
        """In the regions of the option `regions`."""
        return self._machines(RUN_TAG, run_id)

    def status(self, machine_id: str) -> Machine | None:
        """machine_id: region/instance."""
        region, _, instance_id = machine_id.partition("/")
        if not _REGION.fullmatch(region):
            return None
        page: Mapping[str, Any] = {"Reservations": []}
        with self._account.asking("DescribeInstances", unless=UNKNOWN):
            page = self._account.client("ec2", region).describe_instances(InstanceIds=[instance_id])
        return next(_found(region, page), None)

    def terminate(self, machine_id: str) -> None:
        """Its disk goes with it."""
        machine = self.status(machine_id)
        if machine is not None and machine.state is not State.GONE:
            self._end(*machine_id.split("/"))

    # Machines

    def _request(self, launch: Launch) -> dict[str, Any]:
        """Of RunInstances. Equal orders give equal requests, as the client token demands."""
        quote, text = launch.quote, self._options.text
        script = self._script(launch)
        if len(script.encode()) > MOST_USER_DATA_BYTES:
            raise ProviderError(f"aws: RunInstances: the start-up script of {launch.device} is longer than 16 KiB")
        labels = [{"Key": key, "Value": value} for key, value in tags(launch).items()]
        kinds = ["instance", "volume", *(["spot-instances-request"] if quote.spot else [])]
        disk = {"VolumeSize": -(-self._disk_bytes // 1024**3), "VolumeType": "gp3", "DeleteOnTermination": True}
        request: dict[str, Any] = {
            "ImageId": text("gpu_machine_image" if quote.accelerators else "machine_image"),
            "InstanceType": quote.kind,
            "MinCount": 1,
            "MaxCount": 1,
            "ClientToken": digest(launch.token, quote.place, quote.kind, quote.spot),
            "InstanceInitiatedShutdownBehavior": "terminate",
            "UserData": script,
            "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 1},
            "BlockDeviceMappings": [{"DeviceName": text("root_device"), "Ebs": disk}],
            "TagSpecifications": [{"ResourceType": kind, "Tags": labels} for kind in kinds],
        }
        if quote.spot:
            spot = {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"}
            spot["MaxPrice"] = f"{quote.usd_per_hour:.6f}"
            request["InstanceMarketOptions"] = {"MarketType": "spot", "SpotOptions": spot}
        if not _REGION.fullmatch(quote.place):
            request["Placement"] = {"AvailabilityZone": quote.place}
        if subnet := text("subnet"):
            request["SubnetId"] = subnet
        if groups := self._options.names("security_groups"):
            request["SecurityGroupIds"] = list(groups)
        return request

    def _machines(self, tag: str, value: str | None) -> Sequence[Machine]:
        """All that are not gone and have this tag; None for any value. EC2 takes `*` and `?` for wildcards."""
        live = [name for name, state in _STATES.items() if state is not State.GONE]
        filters = [{"Name": "instance-state-name", "Values": live}, {"Name": "tag-key", "Values": [TOKEN_TAG]}]
        if value is not None:
            filters.append({"Name": f"tag:{tag}", "Values": [value]})
        machines: list[Machine] = []
        for region in self._regions:
            with self._account.asking("DescribeInstances"):
                pages = self._account.client("ec2", region).get_paginator("describe_instances")
                machines += [each for page in pages.paginate(Filters=filters) for each in _found(region, page)]
        told = {RUN_TAG: "run_id", TOKEN_TAG: "token"}[tag]
        return [each for each in machines if value in (None, getattr(each, told))]

    def _end(self, region: str, instance_id: str) -> None:
        with self._account.asking("TerminateInstances", unless=UNKNOWN):
            self._account.client("ec2", region).terminate_instances(InstanceIds=[instance_id])


def _machine(region: str, instance: Mapping[str, Any]) -> Machine | None:
    """None for one that is not Motley's."""
    found = {each["Key"]: each["Value"] for each in instance.get("Tags", [])}
    if TOKEN_TAG not in found:
        return None
    return Machine(
        provider=Aws.name,
        machine_id=f"{region}/{instance['InstanceId']}",
        token=found[TOKEN_TAG],
        run_id=found.get(RUN_TAG, ""),
        device=found.get(DEVICE_TAG, ""),
        state=_STATES.get(instance["State"]["Name"], State.RUNNING),
        kind=instance["InstanceType"],
        place=instance["Placement"]["AvailabilityZone"],
        usd_per_hour=number_of(found, PRICE_TAG),
        spot=instance.get("InstanceLifecycle") == "spot",
        launched_s=instance["LaunchTime"].timestamp(),
    )


def _found(region: str, page: Mapping[str, Any]) -> Iterator[Machine]:
    """Motley's machines on a page of DescribeInstances."""
    instances = (instance for each in page["Reservations"] for instance in each["Instances"])
    yield from filter(None, (_machine(region, instance) for instance in instances))


def _region(place: str) -> str:
    """Of a region or of a zone in it."""
    match = _REGION.match(place)
    if match is None:
        raise ProviderError(f"aws: RunInstances: '{place}' is neither a region nor a zone")
    return match[0]
