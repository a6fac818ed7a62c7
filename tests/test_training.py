"""Data divided as asked, shards on disk, and a loop that learns the same thing for the same seed."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from factories import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from motley.errors import InputError
from motley.spec import BUILT_IN_TASKS, Data
from motley.training import data, loop, model

rng = np.random.default_rng
KINDS = ("iid", "dirichlet", "shards")
LABELS = rng(0).integers(0, 10, 600)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    loop.set_threads(1)


@pytest.fixture(scope="module")
def digits() -> data.DataSet:
    return data.load_digits(1)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40)
@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=150).map(np.array),
    devices=st.integers(1, 20),
    alpha=st.floats(0.01, 100),
    per_device=st.integers(1, 5),
    share=st.floats(0.05, 1),
    seed=st.integers(0, 2**31 - 1),
)
def test_a_partition_is_disjoint_covers_the_share_and_leaves_nobody_empty(
    kind: Any, labels: Any, devices: int, alpha: float, per_device: int, share: float, seed: int
) -> None:
    how = Data(partition=kind, alpha=alpha, shards_per_device=per_device, share=share)
    wanted = max(1, round(share * len(labels)))
    if wanted < devices:
        with pytest.raises(InputError, match=f"{wanted} training examples can't be divided among {devices} devices"):
            data.partition(labels, devices, how, seed)
        return
    parts = data.partition(labels, devices, how, seed)
    together = np.concatenate(parts)
    assert len(parts) == devices
    assert min(map(len, parts)) >= 1
    assert len(together) == len(set(together.tolist())) == wanted
    assert set(together.tolist()) <= set(range(len(labels)))
    for part, again in zip(parts, data.partition(labels, devices, how, seed), strict=True):
        assert_array_equal(part, again)


@pytest.mark.parametrize("kind", KINDS)
def test_another_seed_divides_differently(kind: Any) -> None:
    def sets(seed: int) -> list[list[int]]:
        return [part.tolist() for part in data.partition(LABELS, 6, Data(partition=kind), seed)]

    assert sets(1) != sets(2)


def _labels_held(how: Data) -> float:
    """Mean over devices of the share of the most frequent label."""
    parts = data.partition(LABELS, 10, how, 0)
    return float(np.mean([np.bincount(LABELS[part]).max() / len(part) for part in parts]))


def test_alpha_and_shards_skew_the_labels_and_iid_does_not() -> None:
    assert _labels_held(Data(partition="iid")) < 0.25
    assert _labels_held(Data(partition="dirichlet", alpha=100)) < 0.3
    assert _labels_held(Data(partition="dirichlet", alpha=0.05)) > 0.5
    assert _labels_held(Data(partition="shards", shards_per_device=1)) > 0.7


def test_iid_parts_differ_by_at_most_one_example() -> None:
    sizes = [len(part) for part in data.partition(LABELS, 7, Data(partition="iid"), 0)]
    assert max(sizes) - min(sizes) <= 1


def test_digits_are_all_there_once(digits: data.DataSet) -> None:
    assert len(digits.train) + len(digits.test) == 1797
    assert len(digits.test) == 359
    assert digits.train.images.shape[1:] == (1, 8, 8)
    assert (digits.train.images.dtype, digits.train.labels.dtype) == (np.float32, np.int64)
    assert 0 <= digits.train.images.min() <= digits.train.images.max() <= 1
    again, other = data.load_digits(1), data.load_digits(2)
    assert_array_equal(digits.train.labels, again.train.labels)
    assert digits.test.labels.tolist() != other.test.labels.tolist()


def test_shards_are_written_and_read_back(tmp_path: Path) -> None:
    how = Data(partition="dirichlet", alpha=0.3, share=0.5)
    sizes = data.write_shards(tmp_path / "data", "digits", 5, how, 3)
    loaded = data.load_task("digits", 3)
    parts = data.partition(loaded.train.labels, 5, how, 3)
    assert sizes == [len(part) for part in parts]
    for index, part in enumerate(parts):
        shard = data.read_shard(tmp_path / "data", index)
        assert_array_equal(shard.images, loaded.train.images[part])
        assert_array_equal(shard.labels, loaded.train.labels[part])
    assert_array_equal(data.read_test_set(tmp_path / "data").labels, loaded.test.labels)


def test_a_shard_that_is_not_there_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"shard-00003\.npz is not there; .*prepare_data"):
        data.read_shard(tmp_path, 3)
    with pytest.raises(InputError, match=r"test\.npz is not there"):
        data.read_test_set(tmp_path)


@pytest.mark.parametrize("reference", ["no_such_module:load", "math:no_such_function", "a..b:c", "math"])
def test_a_wrong_reference_is_one_line(reference: str) -> None:
    with pytest.raises(InputError, match=f"task '{reference}' can't be loaded: .*PYTHONPATH"):
        data.load_task(reference, 0)


def test_a_function_that_returns_something_else_is_told_what_to_return(monkeypatch: pytest.MonkeyPatch) -> None:
    odd = types.SimpleNamespace(load=lambda seed: [seed])
    monkeypatch.setitem(sys.modules, "odd_task", odd)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"returned list; return a motley\.training\.data\.DataSet"):
        data.load_task("odd_task:load", 0)
    with pytest.raises(InputError, match=r"has no recipe; set odd_task\.load\.recipe"):
        model.recipe_of("odd_task:load")


def test_the_tables_hold_every_built_in_task() -> None:
    assert tuple(data.LOADERS) == BUILT_IN_TASKS
    assert model.RECIPES.keys() == data.LOADERS.keys()


class _Rows:
    """Behaves like `datasets.Dataset`: a column comes as a list of pictures, or of numbers."""

    def __init__(self, **columns: list[Any]) -> None:
        self._columns = columns

    def __getitem__(self, key: str) -> list[Any]:
        return self._columns[key]


class _Picture:
    """Behaves like a `PIL.Image`, which NumPy reads through this method."""

    def __init__(self, pixels: Any) -> None:
        self._pixels = pixels

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self._pixels.astype(dtype) if dtype is not None else self._pixels


@pytest.mark.parametrize(("shape", "becomes"), [((28, 28), (1, 28, 28)), ((32, 32, 3), (3, 32, 32))])
def test_pictures_become_channels_first_within_0_and_1(shape: tuple[int, ...], becomes: tuple[int, ...]) -> None:
    pixels = rng(0).integers(0, 256, (5, *shape)).astype(np.uint8)
    pixels[0].flat[:2] = (0, 255)
    examples = data.from_rows(_Rows(img=[_Picture(each) for each in pixels], label=[3, 1, 0, 9, 2]), "img")
    assert examples.images.shape == (5, *becomes)
    assert examples.images.dtype == np.float32
    assert (examples.images.min(), examples.images.max()) == (0, 1)
    assert examples.labels.tolist() == [3, 1, 0, 9, 2]
    assert examples.labels.dtype == np.int64
    last = pixels[4, 7, 9] / 255
    assert examples.images[4, :, 7, 9] == pytest.approx(np.atleast_1d(last), abs=1e-6)


@pytest.mark.parametrize("task", BUILT_IN_TASKS)
def test_models_take_the_pictures_of_their_task(task: str) -> None:
    shape = {"digits": (1, 8, 8), "fashion_mnist": (1, 28, 28), "cifar10": (3, 32, 32)}[task]
    few = data.Examples(rng(0).random((4, *shape), np.float32), np.array([0, 3, 6, 9]))
    built = model.build(task, 0)
    loss, accuracy = loop.evaluate(built, few)
    assert loss == pytest.approx(np.log(10), abs=0.3)  # an untrained model knows nothing
    assert 0 <= accuracy <= 1
    assert loop.train(built, few, 2, 0.01, 1, 0).steps == 2


def test_initial_weights_depend_on_the_seed_alone() -> None:
    one, same, other = (model.arrays_of(model.build("digits", seed)) for seed in (1, 1, 2))
    assert all(np.array_equal(one[name], same[name]) for name in one)
    assert not np.array_equal(one["0.weight"], other["0.weight"])


def test_arrays_go_into_a_model_and_out_again() -> None:
    source, target = model.build("digits", 1), model.build("digits", 2)
    arrays = {name: array.copy() for name, array in model.arrays_of(source).items()}
    model.load_arrays(target, arrays)
    for name, array in model.arrays_of(target).items():
        assert_array_equal(array, arrays[name])
    loop.train(target, data.Examples(np.ones((8, 1, 8, 8), np.float32), np.zeros(8, np.int64)), 4, 0.1, 1, 0)
    assert_array_equal(arrays["0.weight"], model.arrays_of(source)["0.weight"])  # a copy, not a view
    with pytest.raises(RuntimeError, match=r"0\.weight"):
        model.load_arrays(target, {"other": np.zeros(1)})


def _trained(examples: data.Examples, seed: int) -> tuple[Any, loop.TrainResult]:
    built = model.build("digits", 0)
    return built, loop.train(built, examples, 32, 0.1, 2, seed)


def test_training_lowers_the_loss_and_learns_digits(digits: data.DataSet) -> None:
    before, _ = loop.evaluate(model.build("digits", 0), digits.test)
    built, result = _trained(digits.train, 5)
    after, accuracy = loop.evaluate(built, digits.test)
    assert after < before / 2
    assert accuracy > 0.7
    assert (result.steps, result.examples) == (2 * 45, 2 * len(digits.train))
    assert after < result.loss < before


def test_the_same_seed_gives_identical_weights_and_another_does_not(digits: data.DataSet) -> None:
    few = digits.train.take(np.arange(200))
    one, same, other = (model.arrays_of(_trained(few, seed)[0]) for seed in (5, 5, 6))
    assert all(np.array_equal(one[name], same[name]) for name in one)
    assert not all(np.array_equal(one[name], other[name]) for name in one)


def test_one_step_is_stochastic_gradient_descent(digits: data.DataSet) -> None:
    """One batch of everything: the weights move against the gradient by rate times its size."""
    import torch

    few = digits.train.take(np.arange(16))
    moved, still = model.build("digits", 0), model.build("digits", 0)
    loop.train(moved, few, 16, 0.1, 1, 0)
    scores = still(torch.from_numpy(few.images))
    loss = torch.nn.functional.cross_entropy(scores, torch.from_numpy(few.labels))
    gradients = torch.autograd.grad(loss, list(still.parameters()))
    for after, before, gradient in zip(moved.parameters(), still.parameters(), gradients, strict=True):
        assert torch.allclose(after, before - 0.1 * gradient, atol=1e-5)


def test_momentum_carries_from_step_to_step_as_in_torch(digits: data.DataSet) -> None:
    import torch

    same = digits.train.take(np.zeros(8, np.int64))  # eight times the same, so the order does not matter
    ours, peer = model.build("digits", 0), model.build("digits", 0)
    loop.train(ours, same, 4, 0.05, 2, 0)
    optimiser = torch.optim.SGD(peer.parameters(), lr=0.05, momentum=loop.MOMENTUM)
    images, labels = torch.from_numpy(same.images[:4]), torch.from_numpy(same.labels[:4])
    for _ in range(4):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(peer(images), labels).backward()
        optimiser.step()
    for after, expected in zip(ours.parameters(), peer.parameters(), strict=True):
        assert torch.allclose(after, expected, atol=1e-5)


def test_the_speed_probe_measures_something() -> None:
    assert loop.speed_probe(seconds=0.002, side=16) > 0


def test_a_task_of_one_s_own_is_loaded_and_learned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tasks"))
    task = "breast_cancer:load"
    sizes = data.write_shards(tmp_path, task, 3, Data(partition="iid"), 1)
    assert sum(sizes) == 569 - 114
    built = model.build(task, 0)
    before, _ = loop.evaluate(built, data.read_test_set(tmp_path))
    for index in range(3):
        loop.train(built, data.read_shard(tmp_path, index), 32, model.recipe_of(task).learning_rate, 2, index)
    after, accuracy = loop.evaluate(built, data.read_test_set(tmp_path))
    assert after < before
    assert accuracy > 0.9
