"""The predictor in a running server: orders say what they will take, deadlines follow, and memory is minded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from factories import MIB, known, order, outcome, profile, round_row, run_row, task_figures

from motley.clock import ManualClock
from motley.device import Outcome
from motley.history import History
from motley.planning import Situation, plan_round
from motley.predictor import Predictor, Tier
from motley.spec import Training
from server.foresight import Foreseeing, learn_history

PROFILES = {name: profile(name) for name in ("a", "b")}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1000.0)


@pytest.fixture
def predictor(clock: ManualClock) -> Predictor:
    return Predictor(0, clock, background=False)


def taught(predictor: Predictor, rounds: int = 20, **changes: Any) -> Foreseeing:
    """Device a takes 2 s for its round, b takes 4."""
    foresight = Foreseeing(predictor, task_figures())
    for number in range(1, rounds + 1):
        for device, seconds in (("a", 2.0), ("b", 4.0)):
            told = {"wall_s": seconds - 0.5, "round_trip_s": seconds, "known_s": 1000.0 + 10 * number, **changes}
            foresight.learn(number, PROFILES[device], outcome(device, **told))
    return foresight


def test_without_anything_learned_an_order_stays_as_it_was(predictor: Predictor) -> None:
    orders = [order("a", expected_s=7.0)]
    assert Foreseeing(predictor, task_figures()).foresee(orders, PROFILES) == orders


def test_an_order_says_what_it_will_take_and_who_says_so(predictor: Predictor) -> None:
    foresight = taught(predictor)
    first, second = foresight.foresee([order("a"), order("b")], PROFILES)
    assert first.expected_s == pytest.approx(2.0, rel=0.1)
    assert second.expected_s == pytest.approx(4.0, rel=0.1)
    for each in (first, second):
        assert each.expected_by in {Tier.STATISTICS.value, Tier.FOREST.value}
        assert each.expected_low_s is not None
        assert each.expected_high_s is not None
        assert each.expected_low_s <= (each.expected_s or 0.0) <= each.expected_high_s
    assert foresight.foresee([order("a", steps=26)], PROFILES)[0].expected_s == pytest.approx(3.5, rel=0.25)


def test_work_that_memory_would_not_hold_is_done_in_pieces(predictor: Predictor) -> None:
    """A batch of 32 was seen to take 300 MiB; one of 400 would take far more than the device has."""
    foresight = taught(predictor)
    small = {"a": profile("a", memory_bytes=290 * MIB)}
    (asked,) = foresight.foresee([order("a")], small)
    assert (asked.batch_size, 0 < asked.physical_batch < 32) == (32, True)
    (left,) = foresight.foresee([order("a", fit=True)], small)
    assert left.physical_batch == 0
    (fits,) = foresight.foresee([order("a")], PROFILES)
    assert fits.physical_batch == 0


def test_a_deadline_is_twice_the_longest_that_is_likely(predictor: Predictor) -> None:
    knowledge, foresight = known(*PROFILES.values()), taught(predictor)
    now = Situation(21, 2, np.ones(2, bool))
    training = Training.model_validate({"policy": "random"})

    plan = plan_round(training, 0, knowledge, now, lambda orders: foresight.foresee(orders, PROFILES))
    longest_s = max(each.expected_high_s or 0.0 for each in plan.orders)
    assert plan.deadline_s == pytest.approx(5 + 2 * longest_s)
    assert {each.deadline_s for each in plan.orders} == {plan.deadline_s}
    assert plan.deadline_s < plan_round(training, 0, knowledge, now).deadline_s


def test_a_deadline_of_the_fleet_file_stays(predictor: Predictor) -> None:
    foresight = taught(predictor)
    training = Training.model_validate({"policy": "random", "deadline": "90s"})
    now = Situation(21, 2, np.ones(2, bool))
    plan = plan_round(training, 0, known(*PROFILES.values()), now, lambda orders: foresight.foresee(orders, PROFILES))
    assert {plan.deadline_s, *(each.deadline_s for each in plan.orders)} == {90.0}


def test_it_learns_from_the_runs_of_the_same_task_that_history_holds(tmp_path: Path, predictor: Predictor) -> None:
    history = History(tmp_path / "history.db")
    for run_id, task in (("1", "digits"), ("2", "synthetic"), ("3", "digits")):
        spec = f'{{"training": {{"task": "{task}"}}}}'
        history.start_run(run_row(run_id, spec=spec, started_s=1000.0 * int(run_id)))
        history.see_device(run_id, PROFILES["a"], 1000.0)
        for number in range(1, 11):
            done = outcome("a", known_s=1000.0 * int(run_id) + number, wall_s=3.0, round_trip_s=3.5)
            history.end_round(round_row(number, run_id=run_id), [(number, done)])
    assert learn_history(predictor, history, "digits", task_figures()) == 20
    (told,) = Foreseeing(predictor, task_figures()).foresee([order("a")], PROFILES)
    assert told.expected_s == pytest.approx(3.5, rel=0.1)


def test_what_did_not_finish_teaches_no_time(predictor: Predictor) -> None:
    foresight = taught(predictor, outcome=Outcome.CRASHED, examples=0)
    assert foresight.foresee([order("a")], PROFILES) == [order("a")]
