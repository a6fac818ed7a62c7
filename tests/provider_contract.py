"""What every provider does alike. A test module inherits `ProviderContract` and says how to reach its provider."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from enum import StrEnum
from itertools import count
from typing import Any, ClassVar, Protocol

import pytest

from motley.providers.base import Launch, Machine, Needs, Provider, ProviderError, Quote, State, Unavailable

GIB = 1024**3
LIVE = (State.STARTING, State.RUNNING)
CALLERS = 4
"""At the same time."""

_numbers = count(1)


class Fault(StrEnum):
    """What can happen to a request of a provider to its other end."""

    REFUSED = "refused"
    """It is answered with an error, this once."""
    CUT_OFF = "cut off"
    """It does not get through, nor does any later one: as where the caller is killed, too."""
    REPLY_LOST = "reply lost"
    """It is carried out, but its reply does not get through, this once."""


class Harness(Protocol):
    """A provider with its other end (cloud, engine or a server that stands in for them)."""

    provider: Provider
    needs: Needs
    """That some of its kinds meet, and others if there are several do not."""
    secrets: Sequence[str]
    """That it works with."""

    def another(self) -> Provider:
        """A second one of the same account, as another process has it."""

    def unusable(self) -> Provider:
        """One that can't work: it lacks a credential, or nothing answers; whatever it has is in `secrets`."""

    def remains(self) -> Sequence[str]:
        """All that there is at the other end and costs something, whatever the provider says of it."""

    def foreign(self) -> str:
        """Make a machine that is not Motley's; returns its id, which is among what remains."""

    def fault(self, step: str, fault: Fault) -> AbstractContextManager[None]:
        """While it lasts, `fault` happens to the next request of this step."""

    def exhausted(self) -> AbstractContextManager[None]:
        """While it lasts, the other end has no machine to give."""

    def settle(self) -> None:
        """Let time pass until what starts is running and what stops is gone."""


class ProviderContract:
    """The tests. A subclass has a fixture `harness`, fresh for each test, which removes what a test leaves."""

    steps: ClassVar[tuple[str, ...]]
    """The requests of a launch that change something, in their order; names as `Harness.fault` takes them."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "step" in metafunc.fixturenames:
            metafunc.parametrize("step", metafunc.cls.steps)

    # What is on offer

    def test_it_is_available(self, harness: Harness) -> None:
        assert harness.provider.available() == ""

    def test_it_says_why_it_is_not_available(self, harness: Harness) -> None:
        unusable = harness.unusable()
        reason = unusable.available()
        assert reason
        with pytest.raises(ProviderError) as error:
            unusable.list()
        for said in (reason, str(error.value)):
            assert not any(secret in said for secret in harness.secrets)
            assert "\n" not in said

    def test_quotes_meet_the_needs_and_begin_with_the_cheapest(self, harness: Harness) -> None:
        quotes = harness.provider.quote(harness.needs)
        assert quotes
        prices = [quote.usd_per_hour for quote in quotes]
        assert prices == sorted(prices)
        for quote in quotes:
            assert quote.provider == harness.provider.name
            assert meets(quote, harness.needs)

    def test_what_is_too_small_is_not_quoted(self, harness: Harness) -> None:
        largest = max(harness.provider.quote(harness.needs), key=lambda quote: quote.cpus)
        assert all(quote.cpus >= largest.cpus for quote in self._quotes(harness, cpus=largest.cpus))
        assert self._quotes(harness, cpus=1e6) == []
        assert self._quotes(harness, memory_bytes=10**18) == []
        assert self._quotes(harness, accelerators=1000) == []

    def test_spot_is_quoted_only_where_it_is_asked_for(self, harness: Harness) -> None:
        assert not any(quote.spot for quote in harness.provider.quote(harness.needs))
        assert all(quote.spot for quote in harness.provider.quote(harness.needs, spot=True))

    # A machine's life

    def test_life_of_a_machine(self, harness: Harness) -> None:
        before = sorted(harness.remains())
        launched = harness.provider.launch(self.order(harness))
        assert launched.state in LIVE
        harness.settle()
        assert [self._known(each) for each in harness.provider.list()] == [self._known(launched)]
        status = harness.provider.status(launched.machine_id)
        assert status is not None
        assert status.state is State.RUNNING
        harness.provider.terminate(launched.machine_id)
        harness.settle()
        assert list(harness.provider.list()) == []
        assert is_gone(harness.provider, launched.machine_id)
        assert sorted(harness.remains()) == before

    def test_a_machine_knows_what_it_was_ordered_for(self, harness: Harness) -> None:
        order = self.order(harness)
        launched = harness.provider.launch(order)
        quote = order.quote
        expected = (quote.provider, order.token, order.run_id, order.device)
        expected += (quote.kind, quote.usd_per_hour, quote.spot)
        for machine in (launched, harness.another().status(launched.machine_id), *harness.another().list()):
            assert machine is not None
            told = (machine.provider, machine.token, machine.run_id, machine.device)
            assert (*told, machine.kind, machine.usd_per_hour, machine.spot) == expected
            assert machine.machine_id == launched.machine_id
            assert machine.launched_s == launched.launched_s > 0

    def test_a_spot_machine_is_one(self, harness: Harness) -> None:
        quotes = harness.provider.quote(harness.needs, spot=True)
        if not quotes:
            pytest.skip(f"{harness.provider.name} has no spot machines")
        launched = harness.provider.launch(replace(self.order(harness), quote=quotes[0]))
        assert [machine.spot for machine in (launched, *harness.provider.list())] == [True, True]

    def test_an_end_may_be_asked_for_twice(self, harness: Harness) -> None:
        launched = harness.provider.launch(self.order(harness))
        for provider in (harness.provider, harness.provider, harness.another()):
            provider.terminate(launched.machine_id)
        harness.settle()
        assert is_gone(harness.provider, launched.machine_id)

    def test_a_machine_may_end_by_several_callers_at_once(self, harness: Harness) -> None:
        before = sorted(harness.remains())
        launched = harness.provider.launch(self.order(harness))
        harness.settle()
        providers = [harness.another() for _ in range(CALLERS)]
        with ThreadPoolExecutor(CALLERS) as pool:
            list(pool.map(lambda each: each.terminate(launched.machine_id), providers))
        harness.settle()
        assert sorted(harness.remains()) == before

    def test_a_machine_that_never_was(self, harness: Harness) -> None:
        launched = harness.provider.launch(self.order(harness))
        harness.provider.terminate(launched.machine_id)
        harness.settle()
        unknown = launched.machine_id[:-1] + ("1" if launched.machine_id[-1] == "0" else "0")
        assert harness.provider.status(unknown) is None
        harness.provider.terminate(unknown)

    # Equal tokens

    def test_equal_tokens_are_one_machine(self, harness: Harness) -> None:
        order = self.order(harness)
        first = harness.provider.launch(order)
        assert harness.another().launch(order).machine_id == first.machine_id
        harness.settle()
        assert harness.provider.launch(order).machine_id == first.machine_id
        assert len(harness.provider.list()) == 1

    def test_equal_tokens_are_one_machine_for_callers_at_once(self, harness: Harness) -> None:
        before = sorted(harness.remains())
        order = self.order(harness)
        providers = [harness.another() for _ in range(CALLERS)]
        with ThreadPoolExecutor(CALLERS) as pool:
            machines = list(pool.map(lambda provider: provider.launch(order), providers))
        assert len({machine.machine_id for machine in machines}) == 1
        assert len(harness.provider.list()) == 1
        harness.provider.terminate(machines[0].machine_id)
        harness.settle()
        assert sorted(harness.remains()) == before

    def test_another_token_is_another_machine(self, harness: Harness) -> None:
        first, second = (harness.provider.launch(self.order(harness)) for _ in range(2))
        assert first.machine_id != second.machine_id
        harness.provider.terminate(first.machine_id)
        harness.settle()
        assert [machine.machine_id for machine in harness.provider.list()] == [second.machine_id]

    # Whose machines

    def test_machines_are_listed_by_run(self, harness: Harness) -> None:
        ours, theirs = (harness.provider.launch(self.order(harness, run_id=name)) for name in ("run-a", "run-b"))
        assert [machine.machine_id for machine in harness.provider.list("run-a")] == [ours.machine_id]
        assert [machine.machine_id for machine in harness.provider.list("run-b")] == [theirs.machine_id]
        assert list(harness.provider.list("run")) == []
        assert {machine.run_id for machine in harness.provider.list()} == {"run-a", "run-b"}

    def test_a_foreign_machine_is_let_alone(self, harness: Harness) -> None:
        foreign = harness.foreign()
        assert list(harness.provider.list()) == []
        assert harness.provider.status(foreign) is None
        harness.provider.terminate(foreign)
        harness.settle()
        assert foreign in harness.remains()

    # What goes wrong

    def test_nothing_is_launched_where_there_is_nothing_to_be_had(self, harness: Harness) -> None:
        before, order = sorted(harness.remains()), self.order(harness)
        with harness.exhausted(), pytest.raises(Unavailable) as error:
            harness.provider.launch(order)
        self._is_one_clean_line(harness, error.value)
        harness.settle()
        assert sorted(harness.remains()) == before
        assert list(harness.provider.list()) == []

    def test_a_refused_launch_leaves_nothing(self, harness: Harness, step: str) -> None:
        before, order = sorted(harness.remains()), self.order(harness)
        with harness.fault(step, Fault.REFUSED), pytest.raises(ProviderError) as error:
            harness.provider.launch(order)
        self._is_one_clean_line(harness, error.value)
        harness.settle()
        assert sorted(harness.remains()) == before
        assert list(harness.provider.list()) == []

    def test_what_is_left_of_a_launch_that_was_cut_off_is_found(self, harness: Harness, step: str) -> None:
        before = sorted(harness.remains())
        with harness.fault(step, Fault.CUT_OFF), pytest.raises(ProviderError) as error:
            harness.provider.launch(self.order(harness))
        self._is_one_clean_line(harness, error.value)
        for machine in harness.another().list():
            harness.another().terminate(machine.machine_id)
        harness.settle()
        assert sorted(harness.remains()) == before

    def test_a_launch_that_was_cut_off_can_be_repeated(self, harness: Harness, step: str) -> None:
        before, order = sorted(harness.remains()), self.order(harness)
        with harness.fault(step, Fault.CUT_OFF), pytest.raises(ProviderError):
            harness.provider.launch(order)
        launched = harness.another().launch(order)
        harness.settle()
        listed = harness.provider.list()
        assert [(each.machine_id, each.state) for each in listed] == [(launched.machine_id, State.RUNNING)]
        harness.provider.terminate(launched.machine_id)
        harness.settle()
        assert sorted(harness.remains()) == before

    def test_a_lost_reply_leaves_a_machine_that_was_returned_or_nothing(self, harness: Harness, step: str) -> None:
        before, launched = sorted(harness.remains()), None
        with harness.fault(step, Fault.REPLY_LOST), suppress(ProviderError):
            launched = harness.provider.launch(self.order(harness))
        harness.settle()
        assert [each.machine_id for each in harness.provider.list()] == ([launched.machine_id] if launched else [])
        if launched is not None:
            harness.provider.terminate(launched.machine_id)
            harness.settle()
        assert sorted(harness.remains()) == before

    # Helpers

    def order(self, harness: Harness, **changes: Any) -> Launch:
        """The cheapest that meets the needs, under a new token."""
        number = next(_numbers)
        known: dict[str, Any] = {
            "token": f"contract-{os.getpid()}-{number}",
            "quote": harness.provider.quote(harness.needs)[0],
            "run_id": "contract-run",
            "device": f"client-{number}",
            "environment": {"MOTLEY_DEVICE_CLASS": "rented", "MOTLEY_PARTITION": "0"},
            "superlink": "server:8000",
        }
        return Launch(**{**known, **changes})

    @staticmethod
    def _quotes(harness: Harness, **changes: Any) -> list[Quote]:
        return list(harness.provider.quote(replace(harness.needs, **changes)))

    @staticmethod
    def _known(machine: Machine) -> Machine:
        """Without what changes in its life."""
        return replace(machine, state=State.RUNNING)

    @staticmethod
    def _is_one_clean_line(harness: Harness, error: ProviderError) -> None:
        assert str(error)
        assert "\n" not in str(error)
        assert harness.provider.name in str(error)
        assert not any(secret in str(error) for secret in harness.secrets)


def meets(quote: Quote, needs: Needs) -> bool:
    """Whether a kind has all that is needed; disks are made as large as they are needed."""
    has_memory = quote.accelerator_memory_bytes >= needs.accelerator_memory_bytes or not needs.accelerators
    return (
        quote.cpus >= needs.cpus
        and quote.memory_bytes >= needs.memory_bytes
        and quote.accelerators >= needs.accelerators
        and has_memory
    )


def is_gone(provider: Provider, machine_id: str) -> bool:
    """Some providers know a machine for a while after its end."""
    machine = provider.status(machine_id)
    return machine is None or machine.state is State.GONE
