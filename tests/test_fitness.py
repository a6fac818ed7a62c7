"""The score of a device for a piece of work: by hand, and the laws that it keeps."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motley.errors import InputError
from motley.fitness import USUAL_BITS_PER_S, Condition, Factors, Weights, factors, fitness

USUAL = 20.0


def test_factors_by_hand() -> None:
    now = Condition(0.25, 60.0, 6, 2, battery_level=0.5, bits_per_s=3 * USUAL_BITS_PER_S)
    assert factors(now, USUAL) == Factors(headroom=0.8, speed=0.75, reliability=0.7, battery=0.5, link=0.75)


def test_a_score_by_hand() -> None:
    """√(0.8·0.5) where headroom and battery alone count, and equally."""
    now = Condition(0.25, battery_level=0.5)
    assert fitness(now, USUAL, Weights(1, 0, 0, 1, 0)) == pytest.approx(0.4**0.5)


def test_only_ratios_of_weights_matter() -> None:
    now = Condition(0.5, 10.0, 3, 1, 0.4, bits_per_s=1e6)
    assert fitness(now, USUAL, Weights(1, 2, 3, 4, 5)) == pytest.approx(fitness(now, USUAL, Weights(2, 4, 6, 8, 10)))


@pytest.mark.parametrize(
    ("now", "like"),
    [
        (Condition(0.5), Condition(0.5, USUAL)),
        (Condition(0.5, battery_level=0.1, charging=True), Condition(0.5)),
        (Condition(0.5, battery_level=1.0), Condition(0.5)),
    ],
)
def test_what_counts_the_same(now: Condition, like: Condition) -> None:
    assert fitness(now, USUAL) == fitness(like, USUAL)


def test_where_no_speed_is_known_all_have_a_half() -> None:
    assert factors(Condition(0.5), 0.0).speed == 0.5


@pytest.mark.parametrize("now", [Condition(1.0001, 1e9), Condition(0.0, 1e9, 99, battery_level=0.0)])
def test_work_that_does_not_fit_and_an_empty_battery_can_not_be_made_up_for(now: Condition) -> None:
    assert fitness(now, USUAL) == 0.0


def test_an_empty_battery_does_not_matter_where_it_has_no_weight() -> None:
    assert fitness(Condition(0.0, battery_level=0.0), USUAL, Weights(battery=0)) > 0


@pytest.mark.parametrize("bad", [(-1.0, 1, 1, 1, 1), (0, 0, 0, 0, 0), (float("nan"), 1, 1, 1, 1)])
def test_weights_that_say_nothing_are_refused(bad: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="give numbers of 0 or more"):
        Weights(*bad)


conditions = st.builds(
    Condition,
    load=st.floats(0, 1.5),
    speed=st.floats(0.01, 1e6),
    successes=st.floats(0, 50),
    failures=st.floats(0, 50),
    battery_level=st.floats(0, 1),
    charging=st.booleans(),
    bits_per_s=st.none() | st.floats(0, 1e10),
)


@given(conditions, st.floats(0, 1e6))
def test_a_score_is_from_0_to_1(now: Condition, usual_speed: float) -> None:
    assert 0 <= fitness(now, usual_speed) <= 1


@given(conditions, st.data())
def test_a_device_that_is_better_in_one_thing_never_scores_less(now: Condition, data: st.DataObject) -> None:
    better = data.draw(
        st.sampled_from(
            [
                replace(now, load=now.load / 2),
                replace(now, speed=now.speed * 2),
                replace(now, successes=now.successes + 1),
                replace(now, failures=now.failures / 2),
                replace(now, battery_level=(1 + now.battery_level) / 2),
                replace(now, charging=True),
                replace(now, bits_per_s=now.bits_per_s and now.bits_per_s * 2),
                replace(now, bits_per_s=None),
            ]
        )
    )
    assert fitness(better, USUAL) >= fitness(now, USUAL) - 1e-12


@pytest.mark.parametrize(
    "better",
    [
        {"load": 0.1},
        {"speed": 11.0},
        {"successes": 5.0},
        {"failures": 0.0},
        {"battery_level": 0.6},
        {"charging": True},
        {"bits_per_s": 2e6},
    ],
)
def test_each_factor_tells(better: dict[str, float]) -> None:
    now = Condition(0.5, 10.0, 4, 1, 0.5, False, 1e6)
    assert fitness(replace(now, **better), USUAL) > fitness(now, USUAL)
