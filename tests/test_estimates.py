"""What rounds and runs are expected to cost: by hand, against the simulator, and what always holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from factories import fleet, known, profile
from hypothesis import given
from hypothesis import strategies as st

from motley.costing.command import runs_of
from motley.costing.inputs import inputs_of
from motley.estimates import Alternative, Estimator, Resource, count_choices, rounds_for
from motley.known_tasks import FIGURES
from motley.spec import Training

FAST_S, SLOW_S = 0.42, 2.02
"""Seconds of a device of each class: 400 examples of 1 or 5 ms, and 10 ms for each way of the link."""


def estimator(devices_per_round: int | str = "all", spread: tuple[int, int] = (2, 1), **training: Any) -> Estimator:
    """So many fast and slow devices without links; the fast cost 3.6 dollars an hour and draw 10 to 40 W."""
    fast, slow = spread
    profiles = [
        profile(f"client-{number + 1}", gflops=50.0 if number < fast else 10.0) for number in range(fast + slow)
    ]
    resources = [
        Resource(row, "fast", 3.6, 10.0, 40.0) if row < fast else Resource(row, "slow", 0.36, 1.0, 4.0)
        for row in range(fast + slow)
    ]
    settings = Training.model_validate({"policy": "random", "devices_per_round": devices_per_round, **training})
    return Estimator(settings, 7, known(*profiles), resources)


def test_a_round_that_waits_for_all_by_hand() -> None:
    found = estimator().round(Alternative({"fast": 2, "slow": 1}))
    assert found is not None
    assert found.cost.time_s == pytest.approx(SLOW_S)
    assert found.cost.usd == pytest.approx((2 * 3.6 + 0.36) * SLOW_S / 3600)
    joules = 2 * (10 * SLOW_S + 30 * 0.4) + 1 * SLOW_S + 3 * 2.0
    assert found.cost.energy_wh == pytest.approx(joules / 3600)
    assert (found.examples, found.data_share) == (1200, 1)


def test_a_class_that_is_left_out_costs_nothing_and_its_data_are_missing() -> None:
    found = estimator().round(Alternative({"fast": 2, "slow": 0}))
    assert found is not None
    assert found.cost.time_s == pytest.approx(FAST_S)
    assert found.data_share == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("alternative", "training", "round_s"),
    [(1.0, {}, 1.0), (None, {"deadline": "1s"}, 1.0), (None, {"quorum": 0.5}, FAST_S)],
    ids=["deadline of the alternative", "deadline of the file", "quorum"],
)
def test_who_is_late_costs_and_does_not_count(
    alternative: float | None, training: dict[str, Any], round_s: float
) -> None:
    found = estimator(**training).round(Alternative({"fast": 2, "slow": 1}, alternative))
    assert found is not None
    assert found.cost.time_s == pytest.approx(round_s)
    assert found.cost.usd == pytest.approx((2 * 3.6 + 0.36) * round_s / 3600)
    assert (found.examples, found.data_share) == (800, pytest.approx(2 / 3))


def test_nobody_in_time_is_no_round() -> None:
    assert estimator(deadline="100ms").round(Alternative({"fast": 2, "slow": 1})) is None


def test_with_a_buffer_the_quick_send_more() -> None:
    found = estimator(policy="fedbuff").round(Alternative({"fast": 2, "slow": 1}))
    assert found is not None
    version_s = 10 / (2 / FAST_S + 1 / SLOW_S)
    assert found.cost.time_s == pytest.approx(version_s)
    assert found.examples == pytest.approx(10 * 400)
    joules = version_s * (2 * (10 + 30 * 0.4 / FAST_S) + 1 + 3 * 2.0 / SLOW_S)
    assert found.cost.energy_wh == pytest.approx(joules / 3600)


def test_with_a_buffer_and_turns_all_send_alike() -> None:
    found = estimator(2, (2, 2), policy="fedbuff").round(Alternative({"fast": 1, "slow": 1}))
    assert found is not None
    assert found.cost.time_s == pytest.approx(10 * (FAST_S + SLOW_S) / 2 / 2)


def test_who_is_asked_beyond_need_does_not_hold_up_the_round() -> None:
    made = estimator(2, (2, 1), policy="over_commit", options={"over_commit": 1.5})
    assert made.own().counts == {"fast": 2, "slow": 1}
    found = made.round(made.own())
    assert found is not None
    assert (found.cost.time_s, found.examples) == (pytest.approx(FAST_S), 800)


def test_the_files_own_plan_comes_first_and_keeps_its_rounds() -> None:
    made = estimator(2, (4, 2), rounds=9)
    assert made.own().counts == {"fast": 1, "slow": 1}
    own = made.round(made.own())
    assert own is not None
    runs = made.runs(9, own.examples)
    assert (runs[0].alternative, runs[0].rounds) == (made.own(), 9)
    assert runs[0].cost.time_s == pytest.approx(9 * SLOW_S)
    assert len({(tuple(each.alternative.counts.values()), each.cost) for each in runs}) == len(runs)
    assert {"fast": 4, "slow": 0} in [each.alternative.counts for each in runs]
    assert any(each.alternative.deadline_s is not None for each in runs)


@pytest.mark.parametrize(("times", "rounds"), [(1, 40), (2, 30), (4, 25), (0.5, 60), (0.25, 100), (1e9, 21)])
def test_rounds_by_hand(times: float, rounds: int) -> None:
    assert rounds_for(40, 100.0, 100.0 * times) == rounds


@given(st.integers(1, 1000), st.floats(1, 1e6), st.floats(1, 1e6), st.floats(1, 1e6))
def test_more_examples_a_round_take_fewer_rounds_but_not_fewer_examples(
    known_rounds: int, own: float, one: float, other: float
) -> None:
    less, more = sorted((one, other))
    assert rounds_for(known_rounds, own, less) >= rounds_for(known_rounds, own, more) >= known_rounds / 2
    assert rounds_for(known_rounds, own, less) * less <= rounds_for(known_rounds, own, more) * more + less


@given(st.dictionaries(st.sampled_from("abcdefghijkl"), st.integers(1, 5000), min_size=1, max_size=12))
def test_choices_of_counts_fit_the_classes_and_the_limit(sizes: dict[str, int]) -> None:
    found = count_choices(sizes, 120, 10**6)
    assert 0 < len(found) <= 120
    assert all(0 <= each[name] <= size for each in found for name, size in sizes.items())
    assert all(sum(each.values()) for each in found)
    assert len({tuple(each.items()) for each in found}) == len(found)


def test_choices_are_halves_of_halves() -> None:
    assert [each["a"] for each in count_choices({"a": 9}, 100, 100)] == [1, 2, 4, 9]
    assert [each["a"] for each in count_choices({"a": 9}, 100, 4)] == [1, 2, 4]
    both = count_choices({"a": 4, "b": 1}, 11, 100)
    assert {tuple(each.values()) for each in both} == {(0, 1), (2, 0), (2, 1), (4, 0), (4, 1)}


@pytest.mark.parametrize("task", FIGURES)
def test_the_figures_of_known_tasks_are_those_of_their_recipes(task: str) -> None:
    from motley.training.figures import figures_of

    assert FIGURES[task] == figures_of(task)


@pytest.mark.parametrize("policy", ["random", "adaptive", "fedprox"])
def test_an_estimate_is_near_what_the_simulator_gives(tmp_path: Path, policy: str) -> None:
    """Without variation, on a fleet of two classes with links: the time of rounds, and the examples in them."""
    from motley.simulation.run import simulate

    network = {"down": "20mbit", "up": "8mbit", "latency": "20ms"}
    common = {"memory": "1g", "network": network, "compute_variation": 0.0, "ms_per_example": 20.0}
    made = fleet(
        training={"policy": policy, "rounds": 6, "device_evaluation": "never", "local_epochs": 2},
        data={"partition": "iid", "share": 0.2},
        classes={"fast": {"count": 3, "cpus": 2.0, **common}, "slow": {"count": 2, "cpus": 0.5, **common}},
    )
    estimate = runs_of(made, inputs_of(made, None))[0]
    record = simulate(made, tmp_path)
    took_s = record.rounds[-1].started_s + (record.rounds[-1].duration_s or 0.0)
    examples = sum(outcome.examples for _, outcome in record.outcomes if outcome.used)
    assert estimate.cost.time_s == pytest.approx(took_s, rel=0.25)
    assert estimate.round.examples * 6 == pytest.approx(examples, rel=0.25)
