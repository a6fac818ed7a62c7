"""The loop that scales: what it launches and ends, when, what it says, and what it does about refusals and losses."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motley.clock import ManualClock
from motley.errors import MotleyError
from motley.scaler import LISTED_AFTER_S, Crew, Facts, Launched, Measured, Scaler, Step
from motley.scaling import Cause, Kind
from motley.scaling_spec import Scaling

FIXED = ("client-1", "client-2")


class FakeCrew:
    """Devices that join at once unless `slow`, within a budget of so many launches."""

    def __init__(self, budget: int = 100) -> None:
        self.budget = budget
        self.slow = False
        self.broken = ""
        self.machines: dict[str, bool] = {}
        self.launches: list[int] = []
        self.ended: list[str] = []

    def launch(self, count: int) -> Launched:
        self._check()
        self.launches.append(count)
        given = min(count, self.budget)
        self.budget -= given
        names = [f"added-{len(self.ended) + len(self.machines) + number + 1}" for number in range(given)]
        self.machines |= dict.fromkeys(names, not self.slow)
        return Launched(names, "" if given == count else "account 'lab' has 0.00 dollars left this month")

    def terminate(self, names: Sequence[str]) -> None:
        self._check()
        for name in names:
            if self.machines.pop(name, None) is not None:
                self.ended.append(name)

    def requested(self) -> Collection[str]:
        if self.broken == "list":
            raise MotleyError("no route to the provider")
        return list(self.machines)

    def observed(self) -> Collection[str]:
        return [*FIXED, *(name for name, joined in self.machines.items() if joined)]

    def _check(self) -> None:
        if self.broken == "act":
            raise MotleyError("the provider says 503")


class World:
    """A scaler over a fake crew; `demand` gives the devices that a round wants, from those that are there."""

    def __init__(self, budget: int = 100, **changes: Any) -> None:
        self.crew, self.clock = FakeCrew(budget), ManualClock(1000.0)
        self.rules = Scaling.model_validate({"device_class": "fast", "max": 4, **changes})
        self.said: list[str] = []
        self.steps: list[Step] = []
        self.facts: dict[str, Facts] = {}
        self.demand: Callable[[int], float] = lambda present: present
        crew: Crew = self.crew
        self.scaler = Scaler(self.rules, crew, self.clock, self.said.append, self.steps.append)

    def play(self, seconds: float) -> None:
        until_s = self.clock.now_s() + seconds
        self.scaler.run(self._measure, lambda: self.clock.now_s() >= until_s)

    @property
    def count(self) -> int:
        return len(self.crew.observed())

    def acted(self) -> list[tuple[float, Kind]]:
        return [(each.advice.at_s - 1000, each.advice.kind) for each in self.steps if each.advice.kind is not Kind.HOLD]

    def _measure(self) -> Measured:
        demand = self.demand(self.count)
        return Measured(min(demand, self.count), max(0.0, demand - self.count), self.facts)


def test_a_fleet_of_two_grows_to_four_under_load_and_shrinks_after() -> None:
    world = World()
    world.demand = lambda present: 4
    world.play(310)
    assert (world.count, world.crew.launches) == (4, [2])
    world.play(600)
    assert world.count == 4
    world.demand = lambda present: 0.2
    world.play(1000)
    assert world.count == 2
    assert sorted(world.crew.ended) == ["added-1", "added-2"]
    assert world.acted() == [(300, Kind.UP), (pytest.approx(1100, abs=120), Kind.DOWN)]


def test_what_it_does_is_said_once_and_counted() -> None:
    world = World()
    world.play(1500)
    assert world.said == [
        "scaling: the load is not known for 300 s yet",
        "scaling: utilisation 1.00 over 300 s is above 0.8: 1 more brings it to 0.67",
        "scaling: utilisation 0.67 over 300 s is between 0.3 and 0.8",
        "scaling: utilisation 0.72 over 300 s, but 120 s from now it will be 1.00 (0.83 to 1.16), above 0.8; "
        "after the last change it waits for another 240 s",
        "scaling: utilisation 0.98 over 300 s is above 0.8: 1 more brings it to 0.74",
        "scaling: utilisation 0.75 over 300 s is between 0.3 and 0.8",
        "scaling: utilisation 0.78 over 300 s, but 120 s from now it will be 0.94 (0.83 to 1.06), above 0.8, "
        "but 4 is the maximum",
    ]
    assert world.scaler.counts[Kind.HOLD, Cause.NO_DATA] == 20
    assert sum(world.scaler.counts.values()) == len(world.steps) == 100


def test_a_refusal_is_a_reason_and_is_tried_again_later() -> None:
    world = World(budget=0)
    world.play(590)
    assert world.crew.launches == [1]
    refused = [each.advice for each in world.steps if each.advice.cause is Cause.REFUSED]
    assert refused[0].text.endswith("; refused: account 'lab' has 0.00 dollars left this month")
    assert refused[1].text.endswith(
        "; refused before (account 'lab' has 0.00 dollars left this month), next try in 285 s"
    )
    assert {each.kind for each in refused} == {Kind.HOLD}
    world.crew.budget = 5
    world.play(100)
    assert world.count == 3


def test_a_part_of_what_was_asked_for_is_taken() -> None:
    world = World(budget=1, max=9)
    world.demand = lambda present: 6.0
    world.play(310)
    (step,) = [each for each in world.steps if each.launched]
    assert step.launched == ("added-1",)
    assert step.advice.text.endswith("; no more than 1: account 'lab' has 0.00 dollars left this month")


def test_an_error_of_the_provider_is_a_refusal() -> None:
    world = World()
    world.crew.broken = "act"
    world.play(310)
    assert world.steps[-1].advice.cause is Cause.REFUSED
    assert world.steps[-1].advice.text.endswith("the provider says 503")
    world.crew.broken = ""
    world.play(310)
    assert world.count > 2


def test_a_provider_that_can_not_be_asked_stops_nothing() -> None:
    world = World()
    world.crew.broken = "list"
    world.play(400)
    assert world.scaler.counts == {(Kind.HOLD, Cause.FAILED): 27}
    assert world.said == ["scaling: can't see who is there: no route to the provider"]
    world.crew.broken = ""
    world.play(400)
    assert world.count > 2


def test_who_could_not_be_ended_is_ended_later_and_no_longer_counts() -> None:
    world = World()
    world.demand = lambda present: 4
    world.play(310)
    world.demand = lambda present: 0.2
    world.play(550)
    world.crew.broken = "act"
    world.play(500)
    (step,) = [each for each in world.steps if each.stopped]
    assert world.steps[-1].advice.count == 2
    assert world.crew.ended == []
    world.crew.broken = ""
    world.play(15)
    assert sorted(world.crew.ended) == sorted(step.stopped) == ["added-1", "added-2"]
    assert len([each for each in world.steps if each.advice.kind is Kind.DOWN]) == 1


def test_devices_on_their_way_are_not_asked_for_again() -> None:
    world = World(cool_down_up="0s", forecast="0s")
    world.crew.slow = True
    world.demand = lambda present: 2.0
    world.play(500)
    assert world.crew.launches == [1]
    assert world.scaler.planned == {"added-1"}
    assert world.scaler.observed == set(FIXED)


def test_a_device_that_never_joins_is_given_up() -> None:
    world = World(start_timeout="200s")
    world.crew.slow = True
    world.play(550)
    (step,) = [each for each in world.steps if each.advice.cause is Cause.OVERDUE]
    assert step.stopped == ("added-1",) == tuple(world.crew.ended)
    assert step.advice.text == "added-1 did not join within 200 s of the launch: given up"
    assert world.crew.machines == {}


def test_a_device_that_is_lost_is_said_and_replaced_after_the_cool_down() -> None:
    world = World(min=3)
    world.demand = lambda present: 1.5
    world.play(20)
    assert world.count == 3
    world.play(LISTED_AFTER_S)
    world.crew.machines.clear()
    world.play(100)
    assert "scaling: added-1 is gone and was not ended by Motley" in world.said
    assert world.count == 2
    world.play(200)
    assert world.count == 3


def test_a_provider_that_lists_late_has_lost_nothing() -> None:
    world = World(min=3)
    world.crew.slow = True
    world.play(5)
    machines, world.crew.machines = world.crew.machines, {}
    world.play(LISTED_AFTER_S - 20)
    assert world.scaler.planned == {"added-1"}
    world.crew.machines = machines
    world.play(100)
    assert (world.crew.launches, [each.lost for each in world.steps if each.lost]) == ([1], [])


def test_idle_and_useless_ones_go_first() -> None:
    world = World(min=2, max=6)
    world.demand = lambda present: 4.0
    world.play(310)
    assert world.count == 6
    world.facts = {
        "added-1": Facts(busy=True),
        "added-2": Facts(usefulness=0.9),
        "added-3": Facts(usefulness=0.1, usd_per_hour=1.0),
        "added-4": Facts(usefulness=0.1, usd_per_hour=2.0),
    }
    world.demand = lambda present: 1.5
    world.play(800)
    (step,) = [each for each in world.steps if each.stopped]
    assert step.stopped == ("added-4", "added-3", "added-2")


def test_a_scaler_that_starts_again_knows_who_was_launched_and_when() -> None:
    world = World()
    world.play(310)
    state = world.scaler.state()
    again = Scaler(world.rules, world.crew, world.clock, world.said.append)
    again.restore(state)
    step = again.step(Measured(used=4.0))
    assert again.planned == {"added-1"} | {f"added-{number}" for number in range(2, world.count - 1)}
    assert step.lost == ()
    assert again.state() == state


def test_in_the_end_nothing_is_left() -> None:
    world = World(min=4)
    world.play(20)
    world.scaler.end_all()
    assert (world.crew.machines, len(world.crew.ended)) == ({}, 2)
    world.scaler.end_all()
    assert len(world.crew.ended) == 2


@given(
    demand=st.floats(0, 30),
    least=st.integers(0, 8),
    more=st.integers(0, 12),
    start=st.integers(0, 20),
)
def test_under_a_constant_load_it_settles_within_its_bounds(demand: float, least: int, more: int, start: int) -> None:
    world = World(min=least, max=max(2, least + more), interval="30s")
    world.crew.machines = {f"old-{number:02}": True for number in range(start)}
    world.demand = lambda present: demand
    world.play(6000)
    kinds = [kind for _, kind in world.acted()]
    assert len(kinds) <= 2
    assert max(2, least) <= world.count <= world.rules.max
    settled = world.count
    world.play(3000)
    assert (world.count, len(world.acted())) == (settled, len(kinds))


@given(st.lists(st.tuples(st.floats(0, 15), st.integers(1, 30)), min_size=1, max_size=12))
def test_cool_downs_lie_between_any_two_changes(course: list[tuple[float, int]]) -> None:
    world = World(min=2, max=12)
    for demand, looks in course:
        world.demand = lambda present, demand=demand: demand
        world.play(15.0 * looks)
        assert 2 <= world.count <= 12
    changes = world.acted()
    for (before_s, _), (after_s, kind) in pairwise(changes):
        assert after_s - before_s >= (300 if kind is Kind.UP else 600)
