"""Time, dollars and energy of plans: dominance, the front, weighted sums, bounds, and choosing devices."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motley.errors import InputError
from motley.objectives import (
    Bounds,
    Cost,
    Participant,
    Weights,
    best,
    choose,
    cost_of,
    pareto_front,
    parse_objective,
)

small = st.integers(0, 4).map(float)
costs = st.builds(Cost, small, small, small)
weights = st.builds(Weights, small, small, small)


@pytest.mark.parametrize(
    ("one", "other", "dominates"),
    [
        (Cost(1, 1, 1), Cost(1, 1, 1), False),
        (Cost(1, 1, 1), Cost(1, 1, 2), True),
        (Cost(1, 1, 2), Cost(1, 1, 1), False),
        (Cost(0, 1, 1), Cost(1, 0, 1), False),
        (Cost(0, 0, 0), Cost(1, 1, 1), True),
        (Cost(1, 1, 1), Cost(1, 1, 1 + 1e-12), True),
    ],
)
def test_dominance(one: Cost, other: Cost, dominates: bool) -> None:
    assert one.dominates(other) is dominates


def test_the_front_by_hand() -> None:
    made = [Cost(3, 1, 1), Cost(1, 3, 1), Cost(2, 2, 1), Cost(2, 3, 1), Cost(3, 1, 1), Cost(3, 3, 3)]
    assert pareto_front(made) == [0, 1, 2, 4]
    assert pareto_front([]) == []


@given(st.lists(costs, max_size=25))
def test_the_front_is_all_that_nobody_dominates(made: list[Cost]) -> None:
    front = pareto_front(made)
    assert front == [
        place for place, cost in enumerate(made) if not any(other.dominates(cost) for other in made if other != cost)
    ]


@given(st.lists(costs, min_size=1, max_size=25), weights, st.builds(Bounds, small, small, small) | st.just(Bounds()))
def test_the_best_keeps_its_bounds_is_least_and_is_not_dominated(
    made: list[Cost], given_weights: Weights, bounds: Bounds
) -> None:
    place = best(made, given_weights, bounds)
    allowed = [each for each in made if bounds.allow(each)]
    assert (place is None) == (not allowed)
    if place is not None:
        assert bounds.allow(made[place])
        assert given_weights.score(made[place]) == min(given_weights.score(each) for each in allowed)
        assert place in pareto_front(made)


def test_a_score_is_in_hours_dollars_and_kilowatt_hours() -> None:
    assert Weights(1, 0.2, 3).score(Cost(7200, 10, 500)) == pytest.approx(2 + 2 + 1.5)


@pytest.mark.parametrize(
    ("text", "found", "words"),
    [
        ("time", Weights(time=1), "time"),
        ("dollars=2", Weights(dollars=2), "dollars"),
        (" time = 1 , dollars=0.2 ", Weights(time=1, dollars=0.2), "1·time + 0.2·dollars"),
        ("energy=1e-3,time=0", Weights(energy=0.001), "energy"),
    ],
)
def test_objectives_are_read(text: str, found: Weights, words: str) -> None:
    assert parse_objective(text) == found
    assert found.in_words() == words


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tme", "--objective: 'tme' is not known; did you mean 'time'?"),
        ("", "--objective: '' is not known; known: dollars, energy, time"),
        ("time,time=2", "--objective 'time,time=2': time stands twice"),
        ("time=fast", "--objective: the weight of time, 'fast', must be a number from 0"),
        ("time=-1", "--objective: the weight of time, '-1', must be a number from 0"),
        ("time=inf", "--objective: the weight of time, 'inf', must be a number from 0"),
        ("time=nan", "--objective: the weight of time, 'nan', must be a number from 0"),
        ("time=0", "--objective 'time=0': all weights are 0; write at least one above"),
    ],
)
def test_other_objectives_are_one_line(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_objective(text)
    assert str(caught.value) == message


def test_a_round_costs_its_length_and_the_waiting_too() -> None:
    quick = Participant("a", 600, 300, usd_per_hour=1.2, idle_w=2, busy_w=8)
    slow = Participant("b", 1800, 1800, usd_per_hour=0.6, idle_w=1, busy_w=4)
    assert quick.cost(1800).as_tuple() == pytest.approx((1800, 0.6, (2 * 1800 + 6 * 300) / 3600))
    assert cost_of([quick, slow], 1800).as_tuple() == pytest.approx((1800, 0.9, 1.5 + 2.0))


devices = st.lists(
    st.builds(
        lambda duration, share, usd, idle, more: Participant(
            "device", duration, duration * share, usd, idle, idle + more
        ),
        st.integers(1, 6).map(lambda each: 600.0 * each),
        st.floats(0, 1),
        st.integers(0, 5).map(float),
        st.integers(0, 50).map(float),
        st.integers(0, 500).map(float),
    ),
    min_size=1,
    max_size=6,
)


@given(devices, st.integers(1, 6), weights, st.sampled_from([math.inf, 1200.0, 2400.0]))
def test_the_choice_is_the_least_of_all_choices(
    candidates: list[Participant], wanted: int, given_weights: Weights, most_s: float
) -> None:
    bounds = Bounds(time_s=most_s)
    all_costs = [
        cost_of(chosen, max(each.duration_s for each in chosen)) for chosen in combinations(candidates, wanted)
    ]
    allowed = [given_weights.score(cost) for cost in all_costs if bounds.allow(cost)]
    chosen = choose(candidates, wanted, given_weights, bounds)
    if chosen is None:
        assert not allowed
    else:
        cost = cost_of(chosen, max(each.duration_s for each in chosen))
        assert bounds.allow(cost)
        assert given_weights.score(cost) == pytest.approx(min(allowed))


def test_bounds_make_room_for_cheaper_ones() -> None:
    dear = [Participant(f"dear-{number}", 600, usd_per_hour=6.0) for number in range(2)]
    cheap = [Participant(f"cheap-{number}", 1800, usd_per_hour=0.6) for number in range(2)]
    both = [*dear, *cheap]
    assert choose(both, 2, Weights(time=1)) == dear
    assert choose(both, 2, Weights(time=1), Bounds(usd=1.0)) == cheap
    assert choose(both, 2, Weights(time=1), Bounds(usd=0.1)) is None
    assert choose(both, 5, Weights(time=1)) is None
    assert choose(both, 0, Weights(time=1)) == []
