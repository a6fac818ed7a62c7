"""Lambda Cloud, against a server on the loopback that speaks its REST shapes."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from cloud_servers import GIB, LambdaServer
from factories import ROOT
from provider_contract import Fault, ProviderContract

from motley.clock import ManualClock
from motley.errors import InputError
from motley.providers import lambda_cloud, make_provider
from motley.providers.base import Needs, Provider, ProviderError, State
from motley.providers.cloud import Options, tags
from motley.providers.lambda_cloud import LambdaCloud

KEY = "secret_lab_0123456789abcdef"


class LambdaHarness:
    needs = Needs(cpus=8, memory_bytes=64 * GIB, accelerators=1)
    secrets: Sequence[str] = (KEY,)

    def __init__(self, server: LambdaServer) -> None:
        self.server = server
        self.clock = ManualClock(1_000_000.0)
        self.provider: Provider = self.another()

    def another(self, **changes: str) -> LambdaCloud:
        given = {"endpoint_url": f"{self.server.url}/api/v1", "ssh_key": "lab", "image": "registry.example/motley:1"}
        environment = {"LAMBDA_API_KEY": KEY}
        options = Options("lambda_cloud", given | changes, environment, lambda_cloud.OPTIONS, ("api_key",))
        return LambdaCloud(options, self.clock)

    def unusable(self) -> Provider:
        return self.another(api_key="${NO_SUCH_KEY}")

    def remains(self) -> Sequence[str]:
        return list(self.server.instances)

    def foreign(self) -> str:
        return self.server.add(name="motley-of-someone-else")

    def fault(self, step: str, fault: Fault) -> AbstractContextManager[None]:
        return self.server.faults.on(step, fault)

    def exhausted(self) -> AbstractContextManager[None]:
        return self.server.faults.exhaustion()

    def settle(self) -> None:
        self.server.settle()


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LambdaHarness]:
    """The locks of its accounts lie in `tmp_path`."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    server = LambdaServer(KEY)
    yield LambdaHarness(server)
    server.close()


class TestLambda(ProviderContract):
    steps: ClassVar[tuple[str, ...]] = ("instance-operations/launch",)

    # Lambda's own ways

    def test_a_kind_is_described_as_lambda_sells_it(self, harness: LambdaHarness) -> None:
        first = harness.provider.quote(replace(harness.needs, accelerator_memory_bytes=24 * 10**9))[0]
        assert (first.kind, first.place, first.usd_per_hour) == ("gpu_1x_a10", "us-east-1", 0.75)
        assert (first.cpus, first.memory_bytes) == (30, 200 * GIB)
        assert (first.accelerators, first.accelerator_memory_bytes) == (1, 24 * 10**9)

    def test_what_has_no_capacity_or_too_small_a_disk_is_not_quoted(self, harness: LambdaHarness) -> None:
        kinds = {quote.kind for quote in harness.provider.quote(Needs(cpus=1, memory_bytes=GIB))}
        assert kinds == {"gpu_1x_a10", "gpu_1x_a100_sxm4", "cpu_4x_general"}
        large = Needs(cpus=1, memory_bytes=GIB, disk_bytes=600 * GIB)
        assert {quote.kind for quote in harness.provider.quote(large)} == {"gpu_1x_a10"}

    def test_only_kinds_of_the_options_are_quoted(self, harness: LambdaHarness) -> None:
        provider = harness.another(kinds="gpu_1x_a100_sxm4")
        assert {quote.kind for quote in provider.quote(harness.needs)} == {"gpu_1x_a100_sxm4"}

    def test_a_launch_says_all_that_lambda_wants_and_no_secret(self, harness: LambdaHarness) -> None:
        order = self.order(harness, token="t" * 64, tags={"team": "lab"})
        harness.provider.launch(order)
        body = next(body for _, path, body in harness.server.requests if path.endswith("launch"))
        assert (body["region_name"], body["instance_type_name"]) == (order.quote.place, order.quote.kind)
        assert body["ssh_key_names"] == ["lab"]
        assert body["user_data"].startswith("#!/bin/bash\n")
        found = {tag["key"]: tag["value"] for tag in body["tags"]}
        assert found["team"] == "lab"
        assert found["motley-token"] == order.token
        assert KEY not in json.dumps(body)

    def test_a_launch_without_an_ssh_key_is_refused(self, harness: LambdaHarness) -> None:
        with pytest.raises(ProviderError, match="no SSH key; give the name"):
            harness.another(ssh_key="").launch(self.order(harness))
        assert harness.remains() == []

    def test_too_many_requests_are_asked_again_later(self, harness: LambdaHarness) -> None:
        harness.server.busy = 4
        assert harness.provider.list() == []
        assert harness.clock.now_s() == 1_000_000 + 1 + 2 + 4 + 8

    def test_patience_has_an_end(self, harness: LambdaHarness) -> None:
        harness.server.busy = 5
        with pytest.raises(ProviderError, match="GET instances: global/rate-limit-exceeded"):
            harness.provider.list()

    def test_a_machine_that_is_not_known_at_once_is_waited_for(self, harness: LambdaHarness) -> None:
        harness.server.hidden = 2
        launched = harness.provider.launch(self.order(harness))
        assert harness.remains() == [launched.machine_id]

    def test_a_machine_without_its_tags_is_ended(self, harness: LambdaHarness) -> None:
        harness.server.drops_tags = True
        with pytest.raises(ProviderError, match="is not known or has no tags; see that it ended"):
            harness.provider.launch(self.order(harness))
        harness.settle()
        assert harness.remains() == []

    @pytest.mark.parametrize(("launched_s", "keeps_other"), [("5.0", True), ("2000000.0", False)])
    def test_of_two_with_one_token_the_younger_is_ended(
        self, harness: LambdaHarness, launched_s: str, keeps_other: bool
    ) -> None:
        """Another host launches between the look and the launch."""
        order, others = self.order(harness), []
        labels = {**tags(order), lambda_cloud.LAUNCHED_TAG: launched_s}

        def elsewhere() -> None:
            found = [{"key": key, "value": value} for key, value in labels.items()]
            others.append(harness.server.add(name="motley-t", tags=found))

        harness.server.before_launch = elsewhere
        launched = harness.provider.launch(order)
        harness.settle()
        assert harness.remains() == [launched.machine_id]
        assert (launched.machine_id == others[0]) is keeps_other

    def test_a_launch_that_can_not_be_checked_is_taken_back(self, harness: LambdaHarness) -> None:
        """After the launch, the first request but no later one fails."""
        order = self.order(harness)
        harness.server.before_launch = lambda: setattr(harness.server, "broken", 1)
        with pytest.raises(ProviderError, match="HTTP 500"):
            harness.provider.launch(order)
        harness.settle()
        assert harness.remains() == []

    @pytest.mark.parametrize(
        ("said", "state"),
        [
            ("unhealthy", State.RUNNING),
            ("terminating", State.STOPPING),
            ("preempted", State.GONE),
            ("new", State.RUNNING),
        ],
    )
    def test_states(self, harness: LambdaHarness, said: str, state: State) -> None:
        launched = harness.provider.launch(self.order(harness))
        harness.server.instances[launched.machine_id]["status"] = said
        status = harness.provider.status(launched.machine_id)
        assert status is not None
        assert status.state is state
        assert bool(harness.provider.list()) is (state is not State.GONE)


def test_a_key_that_lambda_does_not_know(harness: LambdaHarness) -> None:
    harness.server.key = "another"
    with pytest.raises(ProviderError) as error:
        harness.provider.list()
    assert str(error.value) == (
        "lambda_cloud: GET instances: global/invalid-api-key: API key was invalid, expired, or deleted."
    )


def test_an_error_that_repeats_the_key_is_cleaned(harness: LambdaHarness) -> None:
    order = TestLambda().order(harness)
    with harness.fault("instance-operations/launch", Fault.REFUSED), pytest.raises(ProviderError) as error:
        harness.provider.launch(order)
    told = "".join(traceback.format_exception(error.value))
    assert "with key ***. Try again." in told
    assert KEY not in told


def test_an_order_that_holds_the_key_is_refused(harness: LambdaHarness) -> None:
    order = TestLambda().order(harness)
    for bad in (replace(order, environment={"A": f"x{KEY}"}), replace(order, tags={"key": KEY})):
        with pytest.raises(ProviderError, match="holds a credential") as error:
            harness.provider.launch(bad)
        assert KEY not in str(error.value)
    assert not any(path.endswith("launch") for _, path, _ in harness.server.requests)


@pytest.mark.parametrize(
    "said", [None, [], {}, {"data": 3}, {"data": [{"tags": 3}]}, {"data": [None]}, {"error": "x"}, {"data": {"a": {}}}]
)
def test_replies_of_another_form_are_provider_errors(harness: LambdaHarness, said: Any) -> None:
    harness.server.instead = (200, said)
    for ask in (harness.provider.list, lambda: harness.provider.quote(harness.needs)):
        with pytest.raises(ProviderError, match="a reply that is not of Lambda's form"):
            ask()


def test_processes_of_a_host_launch_one_after_the_other(harness: LambdaHarness, tmp_path: Path) -> None:
    """While another holds the account's lock, a launch waits."""
    order = TestLambda().order(harness)
    harness.provider.launch(order)
    (lock,) = tmp_path.iterdir()
    assert KEY not in lock.name
    with lock.open("rb") as held, ThreadPoolExecutor(1) as pool:
        fcntl.flock(held, fcntl.LOCK_EX)
        waiting = pool.submit(harness.another().launch, replace(order, token="second"))
        asked = len(harness.server.requests)
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.2)
        assert len(harness.server.requests) == asked
        fcntl.flock(held, fcntl.LOCK_UN)
        assert waiting.result(timeout=30).token == "second"


KILLED = """
import json, os, sys
from motley.providers import lambda_cloud
from motley.providers.base import Launch, Quote
given = json.loads(sys.argv[1])
quote = Quote(**given.pop("quote"))
lambda_cloud.make(given.pop("options"), os.environ).launch(Launch(quote=quote, **given))
"""


def test_a_process_killed_in_a_launch_leaves_a_machine_that_is_found(harness: LambdaHarness) -> None:
    """Its order is carried out while it dies; the next one under its token gets the machine, and the lock."""
    order = TestLambda().order(harness)
    processes: list[subprocess.Popen[bytes]] = []

    def kill() -> None:
        processes[0].kill()
        processes[0].wait()

    harness.server.before_launch = kill
    options = {"endpoint_url": f"{harness.server.url}/api/v1", "ssh_key": "lab", "image": "registry.example/motley:1"}
    given = json.dumps({**asdict(order), "options": options})
    environment = {**os.environ, "LAMBDA_API_KEY": KEY, "TMPDIR": tempfile.gettempdir()}
    processes.append(subprocess.Popen([sys.executable, "-c", KILLED, given], env=environment, cwd=ROOT))
    assert processes[0].wait(timeout=60) == -signal.SIGKILL
    with harness.server.lock:
        (left,) = harness.remains()
    assert [(each.machine_id, each.token) for each in harness.provider.list(order.run_id)] == [(left, order.token)]
    assert harness.provider.launch(order).machine_id == left
    assert harness.remains() == [left]


def test_a_lock_that_can_not_be_had_is_a_provider_error(
    harness: LambdaHarness, monkeypatch: Any, tmp_path: Path
) -> None:
    order = TestLambda().order(harness)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with pytest.raises(ProviderError, match="can't lock"):
        harness.provider.launch(order)


# Options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"api-key": "x"}, "has no option 'api-key'; did you mean 'api_key'?"),
        ({"max_hours": "0"}, "max_hours '0' is not a number above 0"),
        ({"lost_minutes": "long"}, "lost_minutes 'long' is not a number above 0"),
        ({"endpoint_url": "http://cloud.example/api"}, "would send credentials in the clear"),
        ({"endpoint_url": "http://127.0.0.1.example/api"}, "would send credentials in the clear"),
        ({"api_key": "secret_literal"}, "the option 'api_key' is a credential"),
    ],
)
def test_options_that_are_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(InputError) as error:
        lambda_cloud.make(options, {})
    assert message in str(error.value)
    assert "secret_literal" not in str(error.value)


def test_the_key_comes_from_the_environment() -> None:
    assert lambda_cloud.make({}, {}).available() == "no API key; set LAMBDA_API_KEY"
    assert lambda_cloud.make({"api_key": "${LAB_KEY}"}, {}).available() == "not set in the environment: LAB_KEY"
    assert lambda_cloud.make({"api_key": "${LAB_KEY}"}, {"LAB_KEY": "k"}).available() == ""
    assert make_provider("lambda_cloud", {"api_key": "${LAB_KEY}"}, {"LAB_KEY": "k"}).available() == ""
