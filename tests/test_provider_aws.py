"""EC2, against moto's server."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cache
from typing import Any, ClassVar

import boto3
import botocore.loaders
import pytest
from cloud_servers import GIB, AwsServer
from factories import ROOT
from moto.ec2.models.instance_types import InstanceTypeBackend
from provider_contract import Fault, ProviderContract

from motley.errors import InputError
from motley.providers import aws
from motley.providers.aws import Aws
from motley.providers.base import Needs, Provider, ProviderError, Unavailable
from motley.providers.cloud import tags

KEYS = {"AWS_ACCESS_KEY_ID": "AKIAMOTLEYTEST000000", "AWS_SECRET_ACCESS_KEY": "secret/lab+0123456789abcdef"}
REGION = "us-east-1"
KINDS = ("t3.small", "t3.medium", "m7i.large", "c7i.2xlarge", "g4dn.xlarge")


class AwsHarness:
    needs = Needs(cpus=2, memory_bytes=4 * GIB)
    secrets: Sequence[str] = tuple(KEYS.values())

    def __init__(self, server: AwsServer) -> None:
        self.server = server
        self.provider: Provider = self.another()

    def another(self, **changes: str) -> Aws:
        given = {"endpoint_url": self.server.url, "image": "registry.example/motley:1"}
        given |= {"kinds": "t3.small,t3.medium,m7i.large,g4dn.xlarge", "regions": REGION}
        return aws.make(given | changes, KEYS)

    def unusable(self) -> Provider:
        return self.another(secret_key="${NO_SUCH_KEY}")

    def ec2(self) -> Any:
        """A client of the tests' own."""
        keys = {"aws_access_key_id": "tests", "aws_secret_access_key": "tests"}
        return boto3.client("ec2", region_name=REGION, endpoint_url=self.server.url, **keys)

    def remains(self) -> Sequence[str]:
        ec2 = self.ec2()
        instances = [each for page in ec2.describe_instances()["Reservations"] for each in page["Instances"]]
        live = [f"{REGION}/{each['InstanceId']}" for each in instances if each["State"]["Name"] != "terminated"]
        return live + [each["VolumeId"] for each in ec2.describe_volumes()["Volumes"]]

    def foreign(self) -> str:
        made = self.ec2().run_instances(ImageId="ami-12345678", MinCount=1, MaxCount=1, ClientToken="foreign")
        return f"{REGION}/{made['Instances'][0]['InstanceId']}"

    def fault(self, step: str, fault: Fault) -> AbstractContextManager[None]:
        return self.server.faults.on(step, fault)

    def exhausted(self) -> AbstractContextManager[None]:
        return self.server.faults.exhaustion()

    def settle(self) -> None:
        """moto's machines start and end at once."""


@pytest.fixture(scope="module")
def server() -> Iterator[AwsServer]:
    """Sessions share what they read of EC2's description, and moto has few kinds: both would take long."""
    server = AwsServer()
    kinds = [each for each in InstanceTypeBackend.instance_types if each.name in KINDS]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(InstanceTypeBackend, "instance_types", kinds)
        patch.setattr("botocore.session.create_loader", cache(botocore.loaders.create_loader))
        yield server
    server.close()


@pytest.fixture
def harness(server: AwsServer) -> AwsHarness:
    server.reset()
    return AwsHarness(server)


class TestAws(ProviderContract):
    steps: ClassVar[tuple[str, ...]] = ("RunInstances",)

    # EC2's own ways

    def asked(self, harness: AwsHarness) -> dict[str, str]:
        """The last order that EC2 got."""
        return next(form for form in reversed(harness.server.asked) if form["Action"] == "RunInstances")

    def test_prices_come_from_the_price_list(self, harness: AwsHarness) -> None:
        found = [(quote.kind, quote.place, quote.usd_per_hour) for quote in harness.provider.quote(harness.needs)]
        assert found == [("t3.medium", REGION, 0.0416), ("m7i.large", REGION, 0.1008), ("g4dn.xlarge", REGION, 0.526)]

    def test_a_pinned_price_goes_first_and_is_not_asked_for(self, harness: AwsHarness) -> None:
        provider = harness.another(kinds="c7i.2xlarge,m7i.large", prices="c7i.2xlarge=0.05, c7i.2xlarge/spot=0.02")
        fixed = [(quote.kind, quote.usd_per_hour) for quote in provider.quote(harness.needs)]
        assert fixed == [("c7i.2xlarge", 0.05), ("m7i.large", 0.1008)]
        spot = {quote.usd_per_hour for quote in provider.quote(harness.needs, spot=True) if quote.kind == "c7i.2xlarge"}
        assert spot == {0.02}

    def test_a_kind_without_a_price_is_not_quoted(self, harness: AwsHarness) -> None:
        assert list(harness.another(kinds="c7i.2xlarge").quote(harness.needs)) == []

    def test_a_kind_that_the_region_lacks_is_left_out(self, harness: AwsHarness) -> None:
        quotes = harness.another(kinds="z9.huge,m7i.large").quote(harness.needs)
        assert [quote.kind for quote in quotes] == ["m7i.large"]

    def test_spot_is_quoted_by_zone_with_its_margin(self, harness: AwsHarness) -> None:
        """moto's price is 0.00001 everywhere."""
        quotes = harness.another(kinds="m7i.large").quote(harness.needs, spot=True)
        assert {quote.usd_per_hour for quote in quotes} == {0.000011}
        assert len({quote.place for quote in quotes}) == len(quotes) > 1
        in_subnet = harness.another(kinds="m7i.large", subnet="subnet-1").quote(harness.needs, spot=True)
        assert [quote.place for quote in in_subnet] == [REGION]

    def test_accelerators_are_counted(self, harness: AwsHarness) -> None:
        (quote,) = harness.provider.quote(replace(harness.needs, accelerators=1))
        assert (quote.kind, quote.accelerators, quote.accelerator_memory_bytes) == ("g4dn.xlarge", 1, 16 * GIB)
        harness.provider.launch(self.order(harness, quote=quote))
        assert self.asked(harness)["ImageId"].endswith("/gpu/recommended/image_id")

    def test_a_disk_larger_than_the_options_is_not_to_be_had(self, harness: AwsHarness) -> None:
        large = replace(harness.needs, disk_bytes=31 * GIB)
        assert list(harness.provider.quote(large)) == []
        assert harness.another(disk="50g").quote(large)

    def test_an_order_says_all_at_once(self, harness: AwsHarness) -> None:
        order = self.order(harness, tags={"team": "lab"})
        launched = harness.provider.launch(order)
        asked = self.asked(harness)
        assert asked["InstanceInitiatedShutdownBehavior"] == "terminate"
        assert asked["BlockDeviceMapping.1.Ebs.DeleteOnTermination"] == "true"
        assert asked["MetadataOptions.HttpTokens"] == "required"
        assert base64.b64decode(asked["UserData"]).startswith(b"#!/bin/bash\n")
        assert not any(secret in text for secret in harness.secrets for text in asked.values())
        (volume,) = harness.ec2().describe_volumes()["Volumes"]
        labels = {each["Key"]: each["Value"] for each in volume["Tags"]}
        assert labels == tags(order)
        assert labels["team"] == "lab"
        assert launched.place.startswith(REGION)

    def test_a_spot_order_bids_its_quote_in_its_zone(self, harness: AwsHarness) -> None:
        quote = harness.provider.quote(harness.needs, spot=True)[0]
        launched = harness.provider.launch(self.order(harness, quote=quote))
        asked = self.asked(harness)
        assert asked["InstanceMarketOptions.SpotOptions.MaxPrice"] == "0.000011"
        assert asked["InstanceMarketOptions.SpotOptions.SpotInstanceType"] == "one-time"
        assert launched.place == quote.place == asked["Placement.AvailabilityZone"]

    def test_another_quote_under_the_same_token_is_another_request(self, harness: AwsHarness) -> None:
        """As where the first could not be had: EC2 refuses another order under a client token that it knows."""
        order = self.order(harness)
        with harness.exhausted(), pytest.raises(Unavailable):
            harness.provider.launch(order)
        first = self.asked(harness)["ClientToken"]
        other = next(quote for quote in harness.provider.quote(harness.needs) if quote.kind != order.quote.kind)
        assert harness.provider.launch(replace(order, quote=other)).kind == other.kind
        assert self.asked(harness)["ClientToken"] != first
        assert len(harness.provider.list()) == 1

    def test_a_machine_without_its_tags_is_ended(self, harness: AwsHarness) -> None:
        harness.server.strips_tags = True
        with pytest.raises(ProviderError, match="came without its tags; see that it ended"):
            harness.provider.launch(self.order(harness))
        assert harness.remains() == []

    def test_wildcards_in_a_name_stand_for_themselves(self, harness: AwsHarness) -> None:
        for run_id in ("run-1", "run-?"):
            harness.provider.launch(self.order(harness, run_id=run_id))
        assert [machine.run_id for machine in harness.provider.list("run-?")] == ["run-?"]

    def test_all_regions_of_the_options_are_looked_at(self, harness: AwsHarness) -> None:
        provider = harness.another(regions="us-east-1, eu-west-1", prices="t3.medium=0.04")
        places = {quote.place for quote in provider.quote(harness.needs)}
        assert places == {"us-east-1", "eu-west-1"}
        quote = next(each for each in provider.quote(harness.needs) if each.place == "eu-west-1")
        order = self.order(harness, quote=quote)
        launched = provider.launch(order)
        assert launched.machine_id.startswith("eu-west-1/i-")
        assert provider.launch(order).machine_id == launched.machine_id
        assert [machine.machine_id for machine in provider.list()] == [launched.machine_id]
        assert list(harness.provider.list()) == []
        harness.provider.terminate(launched.machine_id)
        assert list(provider.list()) == []

    def test_an_environment_too_long_for_user_data_is_refused(self, harness: AwsHarness) -> None:
        with pytest.raises(ProviderError, match="longer than 16 KiB"):
            harness.provider.launch(self.order(harness, environment={"LONG": "x" * 16_000}))
        assert harness.remains() == []

    @pytest.mark.parametrize(
        "machine_id", ["", "i-1", "us-east-1", "us-east-1/", "us-east-1/i-zzz", "../x/i-1", "a/b/c"]
    )
    def test_ids_that_are_none(self, harness: AwsHarness, machine_id: str) -> None:
        assert harness.provider.status(machine_id) is None
        harness.provider.terminate(machine_id)


# Options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"region": "x"}, "has no option 'region'; did you mean 'regions'?"),
        (
            {"secret_key": "literal-secret"},
            "the option 'secret_key' is a credential; write a reference such as ${NAME}",
        ),
        ({"prices": "m7i.large"}, "prices '' is not a number above 0"),
        ({"prices": "m7i.large=-1"}, "prices '-1' is not a number above 0"),
        ({"disk": "30"}, "aws: disk: '30' has no unit"),
        ({"spot_margin": "nan"}, "spot_margin 'nan' is not a number above 0"),
    ],
)
def test_options_that_are_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(InputError) as error:
        aws.make(options, {})
    assert message in str(error.value)
    assert "literal-secret" not in str(error.value)


def test_without_credentials_it_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    assert aws.make({}, {}).available().startswith("no credentials; set AWS_ACCESS_KEY_ID")
    assert "lab-profile" in aws.make({"profile": "lab-profile"}, {}).available()
    with pytest.raises(ProviderError, match="aws: no credentials"):
        aws.make({}, {}).list()


def test_without_the_sdk_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "botocore.exceptions", None)
    assert aws.make({}, KEYS).available() == "boto3 is not installed; pip install 'motley[aws]'"


def test_making_one_loads_no_sdk() -> None:
    code = "import sys; from motley.providers import aws; aws.make({}, {}); print('boto3' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT).stdout == "False\n"
