"""Compute Engine, against a server on the loopback that speaks its REST shapes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from cloud_servers import GIB, GcpServer
from factories import ROOT
from hypothesis import given
from hypothesis import strategies as st
from provider_contract import Fault, ProviderContract

from motley.clock import ManualClock
from motley.errors import InputError
from motley.providers import gcp
from motley.providers.base import Needs, Provider, ProviderError, State
from motley.providers.cloud import Options, digest
from motley.providers.gcp import Gcp, label

ZONE = "us-central1-a"
PRICES = "e2-standard-2=0.067,e2-standard-4=0.134,n2-standard-8=0.388,e2-standard-4/spot=0.05,g2-standard-4=0.707"


class GcpHarness:
    needs = Needs(cpus=4, memory_bytes=8 * GIB)
    secrets: Sequence[str] = ("private-key-of-the-lab",)

    def __init__(self, server: GcpServer) -> None:
        self.server = server
        self.clock = ManualClock(1_000_000.0)
        self.provider: Provider = self.another()

    def another(self, **changes: str) -> Gcp:
        given = {"endpoint_url": self.server.url, "prices": PRICES, "image": "registry.example/motley:1"}
        environment = {"GOOGLE_CLOUD_PROJECT": self.server.project}
        return Gcp(Options("gcp", given | changes, environment, gcp.OPTIONS), self.clock)

    def unusable(self) -> Provider:
        return self.another(project="${NO_SUCH_PROJECT}")

    def remains(self) -> Sequence[str]:
        return [*self.server.instances, *(f"disk of {name}" for name in self.server.disks)]

    def foreign(self) -> str:
        return self.server.add(ZONE, "motley-of-someone-else")

    def fault(self, step: str, fault: Fault) -> AbstractContextManager[None]:
        return self.server.faults.on(step, fault)

    def exhausted(self) -> AbstractContextManager[None]:
        return self.server.faults.exhaustion()

    def settle(self) -> None:
        self.server.settle()


@pytest.fixture
def harness() -> Iterator[GcpHarness]:
    server = GcpServer()
    yield GcpHarness(server)
    server.close()


class TestGcp(ProviderContract):
    steps: ClassVar[tuple[str, ...]] = ("insert",)

    # Compute Engine's own ways

    def inserted(self, harness: GcpHarness) -> dict[str, Any]:
        """The resource of the last order that Compute Engine got."""
        found = [body for method, path, body in harness.server.requests if method == "POST" and "/instances?" in path]
        return dict(found[-1])

    def test_kinds_and_prices_are_those_of_the_options(self, harness: GcpHarness) -> None:
        quotes = harness.another(zones="us-central1-a, europe-west4-b").quote(Needs(cpus=8, memory_bytes=GIB))
        assert [(quote.kind, quote.place, quote.cpus, quote.memory_bytes, quote.usd_per_hour) for quote in quotes] == [
            ("n2-standard-8", "europe-west4-b", 8, 32 * GIB, 0.388),
            ("n2-standard-8", "us-central1-a", 8, 32 * GIB, 0.388),
        ]
        spot = harness.provider.quote(harness.needs, spot=True)
        assert [(quote.kind, quote.usd_per_hour) for quote in spot] == [("e2-standard-4", 0.05)]

    def test_without_prices_nothing_is_quoted(self, harness: GcpHarness) -> None:
        with pytest.raises(ProviderError, match="no kind has a price; give the option 'prices'"):
            harness.another(prices="").quote(harness.needs)
        assert list(harness.another(prices="e2-standard-4=0.1").quote(harness.needs, spot=True)) == []

    def test_a_disk_larger_than_the_options_is_not_to_be_had(self, harness: GcpHarness) -> None:
        large = replace(harness.needs, disk_bytes=31 * GIB)
        assert list(harness.provider.quote(large)) == []
        assert harness.another(disk="40g").quote(large)

    def test_accelerators_need_an_image_with_drivers(self, harness: GcpHarness) -> None:
        (quote,) = harness.provider.quote(replace(harness.needs, accelerators=1))
        assert (quote.accelerators, quote.accelerator_memory_bytes) == (1, 24 * GIB)
        with pytest.raises(ProviderError, match="need the option 'gpu_machine_image'"):
            harness.provider.launch(self.order(harness, quote=quote))
        harness.another(gpu_machine_image="projects/lab/global/images/cuda").launch(self.order(harness, quote=quote))
        asked = self.inserted(harness)
        assert asked["scheduling"]["onHostMaintenance"] == "TERMINATE"
        assert asked["disks"][0]["initializeParams"]["sourceImage"] == "projects/lab/global/images/cuda"

    def test_an_order_says_all_at_once(self, harness: GcpHarness) -> None:
        order = self.order(harness, run_id="Run 7: Größe", device="client.1", tags={"Team": "Lab A"})
        launched = harness.provider.launch(order)
        asked = self.inserted(harness)
        assert asked["scheduling"]["instanceTerminationAction"] == "DELETE"
        assert int(asked["scheduling"]["maxRunDuration"]["seconds"]) == 24 * 3600
        assert asked["disks"][0]["initializeParams"]["labels"] == asked["labels"]
        assert "serviceAccounts" not in asked
        items = {item["key"]: item["value"] for item in asked["metadata"]["items"]}
        assert items["startup-script"].startswith("#!/bin/bash\n")
        assert (launched.run_id, launched.device) == ("Run 7: Größe", "client.1")
        assert harness.provider.list("Run 7: Größe") == harness.provider.list()
        assert list(harness.provider.list("run 7: größe")) == []

    def test_a_spot_machine_is_deleted_when_it_is_taken(self, harness: GcpHarness) -> None:
        quote = harness.provider.quote(harness.needs, spot=True)[0]
        harness.provider.launch(self.order(harness, quote=quote))
        scheduling = self.inserted(harness)["scheduling"]
        assert scheduling["provisioningModel"] == "SPOT"
        assert scheduling["instanceTerminationAction"] == "DELETE"
        assert scheduling["onHostMaintenance"] == "TERMINATE"

    def test_a_launch_is_waited_for(self, harness: GcpHarness) -> None:
        harness.server.unready = 3
        harness.provider.launch(self.order(harness))
        assert harness.clock.now_s() == 1_000_000.0 + 15

    def test_a_launch_that_takes_very_long_is_still_starting(self, harness: GcpHarness) -> None:
        harness.server.unready = 10**6
        assert harness.provider.launch(self.order(harness)).state is State.STARTING
        assert harness.clock.now_s() == pytest.approx(1_000_000.0 + 120)

    def test_the_same_token_in_another_zone_is_the_same_machine(self, harness: GcpHarness) -> None:
        order = self.order(harness)
        first = harness.provider.launch(order)
        elsewhere = replace(order, quote=replace(order.quote, place="europe-west4-b"))
        assert harness.another().launch(elsewhere).machine_id == first.machine_id

    def test_a_name_that_someone_else_has_is_an_error(self, harness: GcpHarness) -> None:
        order = self.order(harness)
        foreign = harness.server.add(ZONE, f"motley-{digest(order.token)}")
        with pytest.raises(ProviderError, match="already exists"):
            harness.provider.launch(order)
        assert foreign in harness.remains()

    def test_a_machine_that_has_shut_itself_down_is_still_there(self, harness: GcpHarness) -> None:
        """It costs its disk until it is ended."""
        launched = harness.provider.launch(self.order(harness))
        harness.server.instances[launched.machine_id]["status"] = "TERMINATED"
        assert [machine.state for machine in harness.provider.list()] == [State.STOPPING]
        harness.provider.terminate(launched.machine_id)
        harness.settle()
        assert harness.remains() == []

    @pytest.mark.parametrize("machine_id", ["", "zone", "zone/", "../a/b", "us-central1-a/a/b", "us-central1-a/A"])
    def test_ids_that_are_none(self, harness: GcpHarness, machine_id: str) -> None:
        asked = len(harness.server.requests)
        assert harness.provider.status(machine_id) is None
        harness.provider.terminate(machine_id)
        assert len(harness.server.requests) == asked


def test_replies_that_can_not_be_read_are_provider_errors(harness: GcpHarness) -> None:
    for said in ([1], {"items": 3}, {"items": {"zones/a": {"instances": [{"status": {}}]}}}):
        harness.server.instead = (200, said)
        with pytest.raises(ProviderError, match=r"gcp: instances\.aggregatedList"):
            harness.provider.list()


@given(st.text(max_size=100))
def test_labels_are_what_compute_engine_takes(text: str) -> None:
    assert re.fullmatch(r"[a-z0-9_-]{0,63}", label(text))
    assert label(label(text)) == label(text)


@given(st.lists(st.text("Aa.-é", max_size=70), min_size=2, max_size=2, unique=True))
def test_labels_tell_texts_apart(texts: list[str]) -> None:
    assert label(texts[0]) != label(texts[1])


# Options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"zone": "x"}, "has no option 'zone'; did you mean 'zones'?"),
        ({"endpoint_url": "http://compute.example"}, "would send credentials in the clear"),
        ({"prices": "e2-standard-4=free"}, "prices 'free' is not a number above 0"),
    ],
)
def test_options_that_are_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(InputError) as error:
        gcp.make(options, {})
    assert message in str(error.value)


def test_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gcp.make({}, {}).available().startswith("no project; give the option 'project'")
    monkeypatch.setitem(sys.modules, "google.cloud.compute_v1", None)
    assert gcp.make({"project": "lab"}, {}).available() == (
        "google-cloud-compute is not installed; pip install 'motley[gcp]'"
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file"),
        ("{", "Expecting property name"),
        ("[]", "is neither a service account's key"),
        ('{"type": "external_account", "private_key": "lab-secret"}', "is neither a service account's key"),
        ('{"type": "service_account", "private_key": "lab-secret"}', "credentials: "),
        ('{"type": "authorized_user", "client_secret": "lab-secret"}', "credentials: "),
    ],
)
def test_credentials_that_can_not_be_read(tmp_path: Path, content: str | None, reason: str) -> None:
    path = tmp_path / "key.json"
    if content is not None:
        path.write_text(content)
    provider = gcp.make({"project": "lab", "credentials_file": "${KEY_FILE}"}, {"KEY_FILE": str(path)})
    assert reason in provider.available()
    with pytest.raises(ProviderError, match="gcp: ") as error:
        provider.list()
    assert "lab-secret" not in str(error.value)


def test_a_user_s_credentials_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    found = {"client_id": "lab", "client_secret": "s", "refresh_token": "r"}
    path.write_text(json.dumps({"type": "authorized_user", **found}))
    assert gcp.make({"project": "lab", "credentials_file": str(path)}, {}).available() == ""


def test_credentials_are_not_sent_to_a_stand_in(harness: GcpHarness) -> None:
    harness.provider.list()
    assert all("Authorization" not in headers for headers in harness.server.headers)


def test_making_one_loads_no_sdk() -> None:
    code = "import sys; from motley.providers import gcp; gcp.make({}, {}); print('google.cloud' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT).stdout == "False\n"
