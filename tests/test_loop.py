"""A loop that learns the same thing for the same job, and models of every width."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from factories import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn

from motley.errors import InputError
from motley.governor.base import Adjustment
from motley.spec import Data
from motley.training import data, loop, model
from motley.training.jobs import Job, Trained, batches
from motley.training.model import RECIPES, WIDTHS, Recipe
from motley.training.pieces import ASK_AGAIN_S

rng = np.random.default_rng
SHAPES = {"digits": (1, 8, 8), "fashion_mnist": (1, 28, 28), "cifar10": (3, 32, 32), "synthetic": (60,)}


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    loop.set_threads(1)


@pytest.fixture(scope="module")
def digits() -> data.DataSet:
    return data.load_digits(1)


def digits_job(examples: data.Examples, **changes: Any) -> Job:
    known: dict[str, Any] = {"batch_size": 16, "learning_rate": 0.1, "steps": 1, "seed": 0}
    return Job(model.arrays_of(model.build("digits", 0)), examples, **{**known, **changes})


@given(examples=st.integers(1, 40), batch=st.integers(1, 50), steps=st.integers(1, 30), seed=st.integers(0, 2**32 - 1))
def test_batches_are_whole_passes_one_after_the_other(examples: int, batch: int, steps: int, seed: int) -> None:
    taken = batches(examples, batch, steps, seed)
    assert len(taken) == steps
    a_pass = -(-examples // batch)
    for start in range(0, steps - a_pass + 1, a_pass):
        assert sorted(np.concatenate(taken[start : start + a_pass])) == list(range(examples))
    assert all(len(each) == batch for each in taken if len(each) != examples % batch)


@pytest.mark.parametrize("name", ["batch_size", "steps"])
def test_a_job_without_work_is_refused(digits: data.DataSet, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} of a job is 0; must be at least 1"):
        digits_job(digits.train, **{name: 0})
    with pytest.raises(ValueError, match="examples of a job is 0"):
        digits_job(digits.train.take(np.arange(0)))


@pytest.mark.parametrize("task", SHAPES)
def test_models_take_the_inputs_of_their_task(task: str) -> None:
    few = data.Examples(rng(0).random((4, *SHAPES[task]), np.float32), np.array([0, 3, 6, 9]))
    built = model.build(task, 0)
    loss, accuracy = loop.evaluate(built, few)
    assert loss == pytest.approx(np.log(10), abs=0.5)  # an untrained model knows nothing
    assert 0 <= accuracy <= 1
    assert loop.train(built, Job(model.arrays_of(built), few, 2, 0.01, 3, 0)).examples == 6


def test_every_task_has_a_recipe() -> None:
    assert RECIPES.keys() == SHAPES.keys()


def test_initial_weights_depend_on_the_seed_alone() -> None:
    one, same, other = (model.arrays_of(model.build("digits", seed)) for seed in (1, 1, 2))
    assert all(np.array_equal(one[name], same[name]) for name in one)
    assert not np.array_equal(one["0.weight"], other["0.weight"])


@pytest.mark.parametrize("task", SHAPES)
@pytest.mark.parametrize("width", WIDTHS)
def test_width_narrows_all_but_inputs_and_classes(task: str, width: float) -> None:
    full, narrow = model.shapes_of(task), model.shapes_of(task, width)
    built = model.arrays_of(model.build(task, 0, width))
    assert narrow == {name: array.shape for name, array in built.items()}
    assert list(full) == list(narrow)
    *hidden, last = [name for name in full if name.endswith("weight")]
    for name in hidden:
        assert narrow[name][0] == np.ceil(full[name][0] * width)
    assert narrow[last][0] == full[last][0] == 10
    first = (hidden or [last])[0]
    assert narrow[first][1] == full[first][1] == SHAPES[task][0]
    examples = data.Examples(rng(0).random((2, *SHAPES[task]), np.float32), np.array([0, 9]))
    loop.evaluate(model.build(task, 0, width), examples)  # its layers fit together


def _task(monkeypatch: pytest.MonkeyPatch, recipe: Recipe) -> str:
    def load(seed: int) -> None: ...

    load.recipe = recipe  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "odd_task", types.SimpleNamespace(load=load))  # type: ignore[arg-type]
    return "odd_task:load"


def test_a_builder_without_an_argument_has_one_width(monkeypatch: pytest.MonkeyPatch) -> None:
    task = _task(monkeypatch, Recipe(lambda: nn.Linear(3, 2), 0.1, 100))
    assert model.build(task, 0)(torch.ones(1, 3)).shape == (1, 2)
    with pytest.raises(InputError, match=r"'odd_task:load' has no model of width 0\.5; let its recipe's build take"):
        model.build(task, 0, 0.5)


def test_an_argument_with_another_meaning_is_not_a_width(monkeypatch: pytest.MonkeyPatch) -> None:
    def network(hidden: int = 7) -> nn.Module:
        return nn.Linear(3, hidden)

    task = _task(monkeypatch, Recipe(network, 0.1, 100))
    assert model.build(task, 0)(torch.ones(1, 3)).shape == (1, 7)
    with pytest.raises(InputError, match=r"no model of width 0\.25"):
        model.build(task, 0, 0.25)


@pytest.mark.parametrize("width", [0.3, 2.0, 0.0, -1.0, float("nan")])
def test_an_odd_width_is_told_the_known_ones(width: float) -> None:
    with pytest.raises(InputError, match=r"width \S+ of task 'digits' is not one of 1, 0\.5, 0\.25, 0\.125, 0\.0625"):
        model.build("digits", 0, width)


def test_arrays_go_into_a_model_and_out_again(digits: data.DataSet) -> None:
    source, target = model.build("digits", 1), model.build("digits", 2)
    arrays = {name: array.copy() for name, array in model.arrays_of(source).items()}
    model.load_arrays(target, arrays)
    for name, array in model.arrays_of(target).items():
        assert_array_equal(array, arrays[name])
    loop.train(target, Job(arrays, digits.train, 4, 0.1, 2, 0))
    assert_array_equal(arrays["0.weight"], model.arrays_of(source)["0.weight"])  # a copy, not a view
    with pytest.raises(RuntimeError, match=r"0\.weight"):
        model.load_arrays(target, {"other": np.zeros(1)})


def test_training_lowers_the_loss_and_learns_digits(digits: data.DataSet) -> None:
    built = model.build("digits", 0)
    before, _ = loop.evaluate(built, digits.test)
    done = loop.train(built, digits_job(digits.train, batch_size=32, steps=90, seed=5))
    after, accuracy = loop.evaluate(built, digits.test)
    assert after < before / 2
    assert accuracy > 0.7
    assert (done.steps, done.examples) == (90, 2 * len(digits.train))
    assert after < done.loss < before
    assert 0.3 < done.accuracy < accuracy


def test_the_update_leads_from_the_old_weights_to_the_new(digits: data.DataSet) -> None:
    built, job = model.build("digits", 7), digits_job(digits.train, steps=2)
    done = loop.train(built, job)
    for name, array in model.arrays_of(built).items():
        assert_allclose(job.weights[name] + done.update[name], array, atol=1e-6)
        assert done.update[name].dtype == np.float32
        assert done.update[name].any()


def test_figures_are_those_of_single_examples_before_the_step(digits: data.DataSet) -> None:
    few = digits.train.take(np.arange(9))
    done = loop.train(model.build("digits", 0), digits_job(few))
    scores = model.build("digits", 0)(torch.from_numpy(few.inputs))
    losses = nn.functional.cross_entropy(scores, torch.from_numpy(few.labels), reduction="none").detach().numpy()
    assert done.loss == pytest.approx(losses.mean(), rel=1e-5)
    assert done.squared_loss == pytest.approx((losses**2).mean(), rel=1e-5)
    assert done.accuracy == pytest.approx((scores.argmax(1).numpy() == few.labels).mean())


def test_the_same_job_gives_identical_updates_and_another_seed_does_not(digits: data.DataSet) -> None:
    learner = model.build("digits", 3)
    one, same, other = (loop.train(learner, digits_job(digits.train, steps=5, seed=seed)) for seed in (5, 5, 6))
    assert all(np.array_equal(one.update[name], same.update[name]) for name in one.update)
    assert one.loss == same.loss != other.loss


def test_dropout_follows_the_job_s_seed() -> None:
    learner = nn.Sequential(nn.Linear(4, 30), nn.Dropout(0.5), nn.Linear(30, 2))
    few = data.Examples(rng(0).random((8, 4), np.float32), np.zeros(8, np.int64))
    job = Job({name: array.copy() for name, array in model.arrays_of(learner).items()}, few, 8, 0.1, 3, 1)
    before = torch.random.get_rng_state()
    one, same = loop.train(learner, job), loop.train(learner, job)
    assert one.loss == same.loss
    assert torch.equal(torch.random.get_rng_state(), before)


def test_one_step_is_stochastic_gradient_descent(digits: data.DataSet) -> None:
    """One batch of everything: the weights move against the gradient by rate times its size."""
    few = digits.train.take(np.arange(16))
    done = loop.train(model.build("digits", 1), digits_job(few))
    still = model.build("digits", 0)
    loss = nn.functional.cross_entropy(still(torch.from_numpy(few.inputs)), torch.from_numpy(few.labels))
    gradients = torch.autograd.grad(loss, list(still.parameters()))
    for moved, gradient in zip(done.update.values(), gradients, strict=True):
        assert_allclose(moved, -0.1 * gradient.numpy(), atol=1e-6)


@pytest.mark.parametrize(("momentum", "proximal"), [(0.9, 0.0), (0.0, 0.0), (0.5, 3.0)])
def test_steps_are_those_of_torch_s_own_optimiser(digits: data.DataSet, momentum: float, proximal: float) -> None:
    same = digits.train.take(np.zeros(8, np.int64))  # eight times the same, so the order does not matter
    job = digits_job(same, batch_size=4, learning_rate=0.05, steps=4, proximal=proximal)
    done = loop.train(model.build("digits", 0), job, momentum)
    peer, anchors = model.build("digits", 0), list(model.build("digits", 0).parameters())
    optimiser = torch.optim.SGD(peer.parameters(), lr=0.05, momentum=momentum)
    for _ in range(4):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(peer(torch.from_numpy(same.inputs[:4])), torch.from_numpy(same.labels[:4]))
        pull = sum(((at - start) ** 2).sum() for at, start in zip(peer.parameters(), anchors, strict=True))
        (loss + proximal / 2 * pull).backward()
        optimiser.step()
    for moved, after, before in zip(done.update.values(), peer.parameters(), anchors, strict=True):
        assert_allclose(moved, (after - before).detach().numpy(), atol=1e-5)


@settings(max_examples=10, deadline=None)
@given(allowed=st.integers(1, 6))
def test_it_stops_when_asked_but_not_before_the_first_step(allowed: int) -> None:
    few = data.Examples(rng(0).random((8, 60), np.float32), np.arange(8))
    learner = model.build("synthetic", 0)
    weights = {name: array.copy() for name, array in model.arrays_of(learner).items()}
    asked = iter(range(1, 100))
    stopped = loop.train(learner, Job(weights, few, 4, 0.1, 6, 3), 0.0, lambda: next(asked) >= allowed)
    short = loop.train(learner, Job(weights, few, 4, 0.1, allowed, 3), 0.0)
    assert stopped.steps == allowed
    assert_array_equal(stopped.update["weight"], short.update["weight"])


def alike(one: Trained, other: Trained, tolerance: float = 1e-5) -> None:
    """The same update and the same figures, but for rounding."""
    for name, array in other.update.items():
        assert_allclose(one.update[name], array, atol=tolerance)
    assert (one.steps, one.examples, one.accuracy) == (other.steps, other.examples, other.accuracy)
    assert one.loss == pytest.approx(other.loss, rel=1e-4)
    assert one.squared_loss == pytest.approx(other.squared_loss, rel=1e-4)


@settings(max_examples=25, deadline=None)
@given(
    held=st.integers(1, 40),
    batch=st.integers(1, 50),
    physical=st.integers(0, 60),
    steps=st.integers(1, 4),
    proximal=st.sampled_from([0.0, 0.5]),
)
def test_pieces_of_whatever_size_come_to_the_whole_batch(
    held: int, batch: int, physical: int, steps: int, proximal: float
) -> None:
    few = data.Examples(rng(held).standard_normal((held, 60), np.float32), rng(held).integers(0, 10, held))
    learner = model.build("synthetic", 0)
    weights = {name: array.copy() for name, array in model.arrays_of(learner).items()}
    whole = Job(weights, few, batch, 0.05, steps, 3, proximal)
    cut = replace(whole, physical_batch=physical)
    done = loop.train(learner, cut)
    alike(done, loop.train(learner, whole))
    assert done.physical_batch == min(physical or batch, batch, held)


def test_four_at_a_time_learn_digits_as_well_as_sixty_four_at_once(digits: data.DataSet) -> None:
    """Two passes and a half: the same steps of the same batches, so the same accuracy but for rounding."""
    learner, accuracies = model.build("digits", 0), []
    for physical in (0, 4):
        job = digits_job(digits.train, batch_size=64, steps=60, seed=5, learning_rate=0.14, physical_batch=physical)
        assert loop.train(learner, job).physical_batch == (physical or 64)
        accuracies.append(loop.evaluate(learner, digits.test)[1])
    assert accuracies[1] == pytest.approx(accuracies[0], abs=0.01)
    assert min(accuracies) > 0.7


class Script:
    """A control that says one thing after the other, the last for ever; and a clock that only sleeps."""

    def __init__(self, *said: Adjustment) -> None:
        self.said, self.asked, self.slept = said, 0, list[float]()

    def __call__(self) -> Adjustment:
        self.asked += 1
        return self.said[min(self.asked, len(self.said)) - 1]


def small_job(**changes: Any) -> Job:
    few = data.Examples(rng(0).random((24, 60), np.float32), np.arange(24) % 10)
    learner = model.build("synthetic", 0)
    weights = {name: array.copy() for name, array in model.arrays_of(learner).items()}
    known: dict[str, Any] = {"batch_size": 8, "learning_rate": 0.1, "steps": 6, "seed": 3}
    return Job(weights, few, **{**known, **changes})


def controlled(script: Script, job: Job, should_stop: Callable[[], bool] = lambda: False) -> Trained:
    learner = model.build("synthetic", 0)
    return loop.train(learner, job, 0.0, should_stop, control=script, sleep=script.slept.append)


def test_a_control_is_asked_between_pieces_and_changes_nothing_by_itself() -> None:
    script = Script(Adjustment())
    done = controlled(script, small_job(physical_batch=4))
    assert script.asked == 6 * 2 - 1
    assert script.slept == []
    alike(done, loop.train(model.build("synthetic", 0), small_job(), 0.0))


def test_a_pause_is_slept_before_each_piece_but_the_first() -> None:
    script = Script(Adjustment(pause_s=0.25))
    controlled(script, small_job())
    assert script.slept == [0.25] * 5


def test_a_wait_lasts_until_the_control_says_otherwise() -> None:
    script = Script(Adjustment(wait=True), Adjustment(wait=True, pause_s=2.0), Adjustment())
    assert controlled(script, small_job()).steps == 6
    assert script.slept == [ASK_AGAIN_S, 2.0]


def test_a_wait_ends_at_the_deadline_with_what_is_done() -> None:
    script = Script(Adjustment(), Adjustment(wait=True))
    assert controlled(script, small_job(), lambda: len(script.slept) >= 3).steps == 2
    assert len(script.slept) == 3


@pytest.mark.parametrize(("physical", "asked"), [(8, 1), (4, 1), (4, 2)])
def test_a_stop_finishes_the_step_at_hand(physical: int, asked: int) -> None:
    """With two pieces a step, the first question comes in the middle of the first step, the second after it."""
    script = Script(*[Adjustment()] * (asked - 1), Adjustment(stop=True, pause_s=9.0))
    done = controlled(script, small_job(physical_batch=physical))
    assert (done.steps, done.examples) == (1, 8)
    assert script.slept == []


def test_a_control_changes_the_physical_batch_and_not_the_result() -> None:
    script = Script(Adjustment(batch_size=2))
    done = controlled(script, small_job())
    assert script.asked == 5 * 4
    alike(done, loop.train(model.build("synthetic", 0), small_job(), 0.0))


def test_a_control_sets_the_threads() -> None:
    try:
        controlled(Script(Adjustment(threads=2)), small_job())
        assert torch.get_num_threads() == 2
    finally:
        loop.set_threads(1)


def test_who_measures_says_how_large_the_next_piece_may_be() -> None:
    told: list[int] = []

    def measured(examples: int) -> int:
        told.append(examples)
        return 2 * examples

    done = loop.train(
        model.build("synthetic", 0), small_job(batch_size=24, steps=2, physical_batch=1), 0.0, measured=measured
    )
    assert told == [1, 2, 4, 8, 9, 18, 6]
    assert done.physical_batch == 18
    alike(done, loop.train(model.build("synthetic", 0), small_job(batch_size=24, steps=2), 0.0))


def test_the_speed_probe_measures_something() -> None:
    assert loop.speed_probe(seconds=0.002, side=16) > 0


def test_a_task_of_one_s_own_is_loaded_and_learned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tasks"))
    task = "breast_cancer:load"
    sizes = data.write_shards(tmp_path, task, 3, Data(partition="iid"), 1)
    assert sum(sizes) == 569 - 114
    built, recipe = model.build(task, 0), model.recipe_of(task)
    before, _ = loop.evaluate(built, data.read_test_set(tmp_path))
    for index in range(3):
        weights = {name: array.copy() for name, array in model.arrays_of(built).items()}
        loop.train(built, Job(weights, data.read_shard(tmp_path, index), 32, recipe.learning_rate, 10, index))
    after, accuracy = loop.evaluate(built, data.read_test_set(tmp_path))
    assert after < before
    assert accuracy > 0.9
