"""The predictor as its users see it: tiers, intervals, learning in the background, advice."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from factories import MIB, ROOT, order, outcome, profile, round_row, run_row, task_figures

from motley.clock import ManualClock
from motley.device import DeviceProfile, Outcome, RoundOutcome
from motley.knowledge import Knowledge
from motley.predictor import (
    REFIT_ROWS,
    REFIT_S,
    TARGETS,
    Case,
    Cases,
    Learner,
    Predictor,
    Status,
    Tier,
    Trail,
    batch_scaling,
    best_platform,
    forest,
    importance,
)
from motley.predictor.cases import Sample
from motley.records import RunRecord

TASK = task_figures(bytes_per_example=10**6)
PHONES = {f"phone-{number}": profile(f"phone-{number}", gflops=5.0 + number, examples=200) for number in range(8)}
TRUE_STEP_S = 0.01


def done(device: DeviceProfile, rng: np.random.Generator, at_s: float, noise: float = 0.05, **changes: Any) -> Any:
    """An outcome by a law that the heuristic does not know: 10 ms a step, and half the speed that the probe says."""
    batch, steps = int(rng.choice([8, 16, 32])), int(rng.integers(5, 60))
    examples = batch * steps
    train_s = (TRUE_STEP_S * steps + 2 * 0.05 * examples / device.gflops) * float(np.exp(rng.normal(0, noise)))
    known: dict[str, Any] = {
        "batch_size": batch,
        "steps": steps,
        "examples": examples,
        "wall_s": train_s,
        "round_trip_s": train_s + 0.5,
        "peak_memory_bytes": 250 * MIB + batch * 2 * 10**6,
        "energy_wh": (2.0 * (train_s + 0.5) + 4.0 * train_s) / 3600,
        "known_s": at_s,
    }
    return outcome(device.device, **{**known, **changes})


def history(count: int, seed: int = 1, noise: float = 0.05) -> Iterator[tuple[int, DeviceProfile, RoundOutcome]]:
    rng, phones = np.random.default_rng(seed), list(PHONES.values())
    for row in range(count):
        device = phones[row % len(phones)]
        yield row // len(phones) + 1, device, done(device, rng, at_s=100.0 + 60 * row, noise=noise)


def record(count: int) -> RunRecord:
    outcomes = [(number, what) for number, _, what in history(count)]
    return RunRecord(run_row(), [round_row(1)], outcomes, list(PHONES.values()), {})


def taught(count: int, **options: Any) -> Predictor:
    predictor = Predictor(clock=ManualClock(), background=False, **options)
    predictor.learn_record(record(count), TASK)
    return predictor


@pytest.fixture(scope="module", autouse=True)
def _few_trees() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forest, "TREES", 10)
        yield


@pytest.fixture(scope="module")
def many() -> Predictor:
    return taught(160)


def samples(count: int, seed: int = 1, noise: float = 0.05) -> list[Sample]:
    trail = Trail()
    found = [trail.sample(number, device, what, TASK) for number, device, what in history(count, seed, noise)]
    return [each for each in found if each is not None]


def test_with_nothing_learned_it_says_what_planning_would() -> None:
    device = profile("new", gflops=10.0, down_bits_per_s=8e6, up_bits_per_s=4e6, latency_s=0.1)
    asked = order("new", batch_size=32, steps=13)
    answer = Predictor(background=False).predict(device, asked, TASK)
    knowledge = Knowledge(TASK)
    row = knowledge.join(device)
    expected_s = knowledge.example_s()[row] * 400 + sum(way[row] for way in knowledge.transfer_s())
    assert answer["seconds"].tier is Tier.HEURISTIC
    assert answer["seconds"].value[0] == pytest.approx(expected_s)
    assert answer["train_s"].value[0] == pytest.approx(400 * 0.001 * 50 / 10)
    assert answer["seconds"].low[0] < expected_s / 2
    assert answer["seconds"].high[0] > expected_s * 2


def test_tiers_come_with_the_samples() -> None:
    tiers = {count: taught(count).model.available("seconds")[-1] for count in (0, 4, 5, 29, 30)}
    assert tiers == {0: "heuristic", 4: "heuristic", 5: "statistics", 29: "statistics", 30: "forest"}


def test_what_was_learned_is_near_the_truth_where_the_heuristic_is_not(many: Predictor) -> None:
    device = PHONES["phone-3"]
    asked = order(device.device, batch_size=16, steps=40)
    examples = 40 // 13 * 200 + 16
    train_s = TRUE_STEP_S * 40 + 2 * 0.05 * examples / device.gflops
    answer = many.predict(device, asked, TASK)
    truth = {
        "seconds": train_s + 0.5,
        "train_s": train_s,
        "memory_bytes": 250 * MIB + 16 * 2e6,
        "energy_wh": (2 * (train_s + 0.5) + 4 * train_s) / 3600,
    }
    for target, value in truth.items():
        estimate = answer[target]
        assert estimate.tier is not Tier.HEURISTIC
        assert estimate.value[0] == pytest.approx(value, rel=0.1)
        assert estimate.low[0] < estimate.value[0] < estimate.high[0]


def test_intervals_hold_what_they_promise_on_samples_that_were_not_learned_from() -> None:
    learner, inside = Learner(), []
    rows = samples(480, noise=0.15)
    for start in range(0, 480, 40):
        block = rows[start : start + 40]
        if start >= 160:
            answer = learner.model.answer(Cases.of([each.case for each in block]))["seconds"]
            inside += [
                low <= each.seconds <= high for each, low, high in zip(block, answer.low, answer.high, strict=True)
            ]
        learner.absorb(block)
    assert 0.85 <= np.mean(inside) <= 0.95


def test_it_beats_the_moving_average_when_work_changes(many: Predictor) -> None:
    scores = many.scores()
    best = scores[Tier.STATISTICS]
    assert best is not None
    assert best.average_error > 1.5 * best.error
    assert best.error < 0.1


def test_it_steps_down_while_the_heuristic_is_right_and_up_again() -> None:
    """Noisy work of which the heuristic knows the law, and the others but what noise shows them."""
    learner, rows = Learner(), samples(240, noise=0.3)
    exact = Learner().model.values(Cases.of([each.case for each in rows]), Tier.HEURISTIC)
    learner.absorb(rows[:60])
    learner.absorb(rows[60:120])
    assert learner.model.tier("train_s") is not Tier.HEURISTIC
    for start in range(0, 240, 60):
        block = range(start, start + 60)
        learner.absorb([rows[row]._replace(train_s=float(exact["train_s"][row])) for row in block])
    assert learner.model.tier("train_s") is Tier.HEURISTIC
    for start in range(0, 240, 60):
        learner.absorb(rows[start : start + 60])
    assert learner.model.tier("train_s") is not Tier.HEURISTIC


def test_equal_rows_and_seed_give_equal_answers() -> None:
    one, other = taught(60), taught(60)
    cases = Cases.of([each.case for each in one.samples()])
    for target in TARGETS:
        np.testing.assert_array_equal(one.predict_many(cases)[target].high, other.predict_many(cases)[target].high)


def test_a_resumed_one_goes_on_as_the_first_would() -> None:
    rows = list(history(95))
    first = Predictor(clock=ManualClock(), background=False)
    for number, device, what in rows[:64]:
        first.learn(number, device, what, TASK)
    resumed = Predictor(clock=ManualClock(), background=False)
    resumed.restore(json.loads(json.dumps(first.state())))
    for number, device, what in rows[64:]:
        first.learn(number, device, what, TASK)
        resumed.learn(number, device, what, TASK)
    cases = Cases.of([each.case for each in first.samples()])
    one, other = first.predict_many(cases), resumed.predict_many(cases)
    assert len(first.samples()) == 90
    for target in TARGETS:
        np.testing.assert_array_equal(one[target].value, other[target].value)
        np.testing.assert_array_equal(one[target].low, other[target].low)


def test_it_learns_after_ten_new_rows_or_an_hour() -> None:
    clock = ManualClock()
    predictor, rows = Predictor(clock=clock, background=False), list(history(40))
    for number, device, what in rows[: REFIT_ROWS - 1]:
        predictor.learn(number, device, what, TASK)
    assert len(predictor.samples()) == 0
    predictor.learn(*rows[REFIT_ROWS - 1], TASK)
    assert len(predictor.samples()) == REFIT_ROWS
    predictor.learn(*rows[REFIT_ROWS], TASK)
    clock.sleep(REFIT_S)
    predictor.predict(PHONES["phone-1"], order("phone-1"), TASK)
    assert len(predictor.samples()) == REFIT_ROWS + 1


def test_the_last_model_answers_while_the_next_is_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, may_end, absorb = threading.Event(), threading.Event(), Learner.absorb

    def slow(self: Learner, block: Any) -> None:
        begun.set()
        may_end.wait(30)
        absorb(self, block)

    monkeypatch.setattr(Learner, "absorb", slow)
    with Predictor(background=True) as predictor:
        for number, device, what in history(REFIT_ROWS):
            predictor.learn(number, device, what, TASK)
        assert begun.wait(30)
        asked = order("phone-1")
        assert predictor.predict(PHONES["phone-1"], asked, TASK)["seconds"].tier is Tier.HEURISTIC
        may_end.set()
        predictor.close()
        assert predictor.predict(PHONES["phone-1"], asked, TASK)["seconds"].tier is Tier.STATISTICS


def test_only_the_newest_rows_are_kept() -> None:
    predictor = taught(60, most_samples=25)
    assert len(predictor.samples()) == 25
    assert predictor.samples()[-1].number == 8


def test_a_past_run_is_taken_in_whole_but_for_devices_without_a_profile() -> None:
    run = record(80)
    run = replace(run, outcomes=[*run.outcomes, (9, outcome("gone", known_s=1.0))])
    predictor = Predictor(clock=ManualClock(), background=False)
    predictor.learn_record(run, TASK)
    assert len(predictor.samples()) == 80


def test_a_sample_tells_the_temperature_before_and_the_rest_since() -> None:
    trail, device = Trail(), PHONES["phone-1"]
    first = trail.sample(1, device, outcome("phone-1", known_s=100.0, round_trip_s=10.0, celsius=41.0), TASK)
    second = trail.sample(2, device, outcome("phone-1", known_s=150.0, round_trip_s=20.0, celsius=44.0), TASK)
    assert first is not None
    assert second is not None
    assert math.isnan(first.case.celsius)
    assert math.isnan(first.case.rest_s)
    assert (second.case.celsius, second.case.rest_s) == (41.0, 30.0)
    assert trail.status("phone-1", 160.0) == Status(44.0, 10.0)


@pytest.mark.parametrize("kind", [Outcome.OUT_OF_MEMORY, Outcome.CRASHED, Outcome.UNREACHABLE, Outcome.REFUSED])
def test_work_that_was_not_done_teaches_no_duration(kind: Outcome) -> None:
    assert Trail().sample(1, PHONES["phone-1"], outcome("phone-1", kind), TASK) is None
    late = outcome("phone-1", Outcome.LATE, steps=0, examples=0, wall_s=0.0)
    assert Trail().sample(1, PHONES["phone-1"], late, TASK) is None


def test_an_order_asks_for_the_figures_that_its_outcome_will_have() -> None:
    device = profile(examples=100, cpus=2.5, host_cores=8)
    asked = order(batch_size=64, steps=3, compression="int8", width=0.5)
    case = Case.of(device, asked, TASK, Status(40.0, 5.0))
    assert (case.examples, case.threads, case.physical_batch) == (164, 2, 64)
    assert (case.down_bytes, case.up_bytes) == (250_000, 62_500)
    assert (case.celsius, case.rest_s) == (40.0, 5.0)
    small = Case.of(device, order(batch_size=512, steps=3, physical_batch=16), TASK)
    assert (small.batch_size, small.physical_batch, small.examples) == (100, 16, 300)


def test_batch_scaling_larger_batches_are_quicker_and_take_more_memory(many: Predictor) -> None:
    device = PHONES["phone-3"]
    model = replace(many.model, tiers=dict.fromkeys(TARGETS, Tier.STATISTICS))
    scaling = batch_scaling(model, device, order(device.device, batch_size=8, steps=50), TASK, [8, 16, 32])
    assert scaling.time_factors[0] == scaling.memory_factors[0] == 1.0
    assert (np.diff(scaling.seconds) < 0).all()
    assert (np.diff(scaling.memory_bytes) > 0).all()
    per_step = (scaling.seconds[0] - scaling.seconds[2]) / (50 - 13)
    assert per_step == pytest.approx(TRUE_STEP_S, rel=0.25)


def test_the_best_platform_is_the_quickest_that_holds_the_work(many: Predictor) -> None:
    strong = replace(PHONES["phone-7"], device="strong", gflops=40.0)
    small = replace(strong, device="small", gflops=80.0, memory_bytes=200 * MIB)
    candidates = [PHONES["phone-0"], small, strong]
    ranked = best_platform(many.model, candidates, order(batch_size=32, steps=30), TASK)
    assert [each.device for each in ranked] == ["strong", "phone-0", "small"]
    assert [each.fits for each in ranked] == [True, True, False]
    assert ranked[-1].reason.startswith("may not fit")


def test_what_matters_is_the_work_and_the_speed(many: Predictor) -> None:
    found = importance(many.model, many.samples())
    assert next(iter(found)) == "examples"
    assert found["examples"] > 0.1
    assert found["celsius"] == pytest.approx(0.0, abs=1e-9)


def test_importing_loads_no_scikit_learn() -> None:
    code = "import sys, motley.predictor; print('sklearn' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
