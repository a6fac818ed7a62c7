"""The provider `fake`, the table of providers, and what is done with their options."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from factories import ROOT
from provider_contract import GIB, Fault, ProviderContract

from motley.clock import ManualClock
from motley.errors import InputError
from motley.providers import PROVIDERS, check_options, make_provider
from motley.providers.base import Launch, Needs, ProviderError, State, conceal
from motley.providers.fake import STEPS, Failure, FakeCloud, FakeProvider, make

ORDER = Launch(
    token="a-token",
    quote=FakeProvider(FakeCloud(ManualClock())).quote(Needs(cpus=1, memory_bytes=GIB), spot=True)[0],
    run_id="run-1",
    device="client-9",
    environment={"MOTLEY_PARTITION": "0"},
    superlink="server:8000",
)


class FakeHarness:
    needs = Needs(cpus=4, memory_bytes=8 * GIB)
    secrets: Sequence[str] = ()

    def __init__(self, path: Path) -> None:
        self.clock = ManualClock(1000.0)
        self.cloud = FakeCloud(self.clock, path, start_up_s=30.0)
        self.provider = FakeProvider(self.cloud)

    def another(self) -> FakeProvider:
        return FakeProvider(self.cloud)

    def unusable(self) -> FakeProvider:
        return FakeProvider(self.cloud, problem="fake: no account")

    def remains(self) -> Sequence[str]:
        return self.cloud.remaining()

    def foreign(self) -> str:
        return self.cloud.add_foreign()

    @contextmanager
    def fault(self, step: str, fault: Fault) -> Iterator[None]:
        self.cloud.fail_at(step, Failure(fault.value))
        yield
        self.cloud.mend()

    @contextmanager
    def exhausted(self) -> Iterator[None]:
        self.cloud.capacity, capacity = 0, self.cloud.capacity
        yield
        self.cloud.capacity = capacity

    def settle(self) -> None:
        self.clock.sleep(60.0)


class TestFake(ProviderContract):
    steps = STEPS

    @pytest.fixture
    def harness(self, tmp_path: Path) -> Iterator[FakeHarness]:
        harness = FakeHarness(tmp_path / "cloud.db")
        yield harness
        harness.cloud.close()


# Of the fake alone


def test_a_machine_starts_up_on_the_clock() -> None:
    clock = ManualClock()
    provider = FakeProvider(FakeCloud(clock, start_up_s=30.0))
    machine = provider.launch(ORDER)
    clock.sleep(29.0)
    assert provider.status(machine.machine_id) == replace(machine, state=State.STARTING)
    clock.sleep(1.0)
    assert provider.status(machine.machine_id) == replace(machine, state=State.RUNNING)


def test_a_spot_machine_is_taken_away_and_another_is_not() -> None:
    clock = ManualClock()
    provider = FakeProvider(FakeCloud(clock, interrupt_after_s=100.0))
    spot = provider.launch(ORDER)
    stays = provider.launch(replace(ORDER, token="b", quote=replace(ORDER.quote, spot=False)))
    clock.sleep(99.0)
    assert len(provider.list()) == 2
    clock.sleep(1.0)
    assert [machine.machine_id for machine in provider.list()] == [stays.machine_id]
    assert provider.status(spot.machine_id) == replace(spot, state=State.GONE)


def test_a_machine_can_be_taken_away_at_will() -> None:
    cloud = FakeCloud(ManualClock())
    provider = FakeProvider(cloud)
    cloud.interrupt(provider.launch(ORDER).machine_id)
    assert provider.list() == []


@pytest.mark.parametrize("step", STEPS)
def test_what_a_killed_process_had_launched_is_listed(tmp_path: Path, step: str) -> None:
    options = {"file": str(tmp_path / "cloud.db"), "fail_at": step, "failure": "killed"}
    program = f"from test_provider_fake import ORDER, make; make({options!r}, {{}}).launch(ORDER)"
    path = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    ended = subprocess.run([sys.executable, "-c", program], env=path, check=False, capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    cloud = FakeCloud(ManualClock(), tmp_path / "cloud.db")
    (left,) = FakeProvider(cloud).list()
    assert (left.token, left.run_id) == (ORDER.token, ORDER.run_id)
    assert FakeProvider(cloud).launch(ORDER).machine_id == left.machine_id
    cloud.close()


def test_options_of_the_fake() -> None:
    provider = make({"fail_at": "start", "capacity": "1", "start_up_s": "5"}, {})
    with pytest.raises(ProviderError, match="start: refused"):
        provider.launch(ORDER)
    assert provider.list() == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fail_at": "sart"}, "fail_at 'sart' is not known; did you mean 'start'"),
        ({"fail_at": "start", "failure": "refuse"}, "failure 'refuse' is not known; did you mean 'refused'"),
        ({"capacity": "many"}, "capacity 'many' is not a number"),
        ({"capcity": "1"}, "has no option 'capcity'; did you mean 'capacity'"),
    ],
)
def test_wrong_options_of_the_fake(options: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_provider("fake", options, {})


# The table


def test_the_table_makes_a_provider() -> None:
    provider = make_provider("fake", {"capacity": "${MANY}"}, {"MANY": "0"})
    assert provider.available() == ""
    with pytest.raises(ProviderError, match="no small is left"):
        provider.launch(ORDER)


def test_an_unknown_provider_is_refused() -> None:
    with pytest.raises(InputError, match="provider 'dokcer' is not known; did you mean 'docker'"):
        make_provider("dokcer", {}, {})


def test_a_variable_that_is_not_set_is_refused_and_named() -> None:
    with pytest.raises(InputError, match="fake: file: the variable PLACE is not set"):
        make_provider("fake", {"file": "${PLACE}/cloud.db"}, {"OTHER": "x"})


def test_a_missing_sdk_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "docker", None)
    monkeypatch.delitem(sys.modules, "motley.providers.docker", raising=False)
    with pytest.raises(InputError, match=r"needs the Python module 'docker'.*pip install 'motley\[docker\]'"):
        make_provider("docker", {}, {})


def test_the_table_loads_no_sdk() -> None:
    program = (
        "import sys, motley.providers, motley.providers.base\n"
        f"loaded = set(sys.modules) & ({set(PROVIDERS.values())!r} | {{'docker', 'boto3', 'google.cloud', 'httpx'}})\n"
        "sys.exit(str(loaded) if loaded else 0)"
    )
    loaded = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert loaded.returncode == 0, loaded.stderr


def test_options_are_checked_by_name() -> None:
    check_options("docker", {"host": "x"}, frozenset({"host", "file"}))
    with pytest.raises(InputError, match="provider 'docker' has no option 'hots'; did you mean 'host'"):
        check_options("docker", {"hots": "x"}, frozenset({"host", "file"}))


def test_secrets_are_concealed_even_where_one_holds_another() -> None:
    assert conceal("key abc123 and abc", ["abc", "abc123", ""]) == "key *** and ***"
