"""Data sets, and the shard that each device of a fleet gets: in memory, or as files that devices read.

A shard directory holds `shard-00000.npz` for each device, `test.npz` for the server and `meta.json`.
Inputs are float32: images of shape (examples, channels, height, width) within 0–1, or rows of features;
labels are int64.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from motley.errors import InputError
from motley.spec import Data, Fleet
from motley.training.examples import DataSet, Examples, Indices, Inputs, Labels
from motley.training.partition import partition
from motley.training.synthetic import DEVICES, load_synthetic

__all__ = ["DataSet", "Examples", "Indices", "Inputs", "Labels", "load_synthetic", "partition"]

TEST_SHARE = 0.2


def load_digits(seed: int) -> DataSet:
    """The 1,797 real 8×8 scans in scikit-learn (Alpaydin and Kaynak, 1998), split by `seed`."""
    from sklearn.datasets import load_digits as load

    bunch = load()
    everything = Examples((bunch.images[:, None] / 16).astype(np.float32), bunch.target.astype(np.int64))
    order = np.random.default_rng(seed).permutation(len(everything))
    held_out = int(TEST_SHARE * len(everything))
    return DataSet(everything.take(order[held_out:]), everything.take(order[:held_out]))


def load_hub(name: str, image_key: str) -> DataSet:
    """A data set of the Hugging Face hub through flwr-datasets; needs a network and the extra `datasets`."""
    try:
        from flwr_datasets import FederatedDataset
    except ImportError:
        raise InputError(
            f"data set '{name}' needs flwr-datasets; install it with: pip install 'motley[datasets]'"
        ) from None
    federated = FederatedDataset(dataset=name, partitioners={})
    train, test = (from_rows(federated.load_split(split), image_key) for split in ("train", "test"))
    return DataSet(train, test)


def from_rows(rows: Any, image_key: str) -> Examples:
    """Rows of a `datasets.Dataset`, with pictures of 0–255 under `image_key`, to Examples."""
    images = np.stack([np.asarray(image) for image in rows[image_key]]).astype(np.float32) / 255
    channels_first = images[:, None] if images.ndim == 3 else np.moveaxis(images, -1, 1)
    return Examples(np.ascontiguousarray(channels_first), np.asarray(rows["label"], dtype=np.int64))


LOADERS: dict[str, Callable[[int, int], DataSet]] = {
    "digits": lambda seed, devices: load_digits(seed),
    "synthetic": load_synthetic,
    "cifar10": lambda seed, devices: load_hub("uoft-cs/cifar10", "img"),
    "fashion_mnist": lambda seed, devices: load_hub("zalando-datasets/fashion_mnist", "image"),
}
"""From a seed and a number of devices, which matters only to tasks with a division of their own."""


def load_task(task: str, seed: int, devices: int = DEVICES) -> DataSet:
    """The data of a built-in task, or what the user's `module:function` returns for `seed`.

    Raises InputError when the function can't be found or returns something else than a DataSet.
    """
    loaded = LOADERS[task](seed, devices) if task in LOADERS else resolve(task)(seed)
    if not isinstance(loaded, DataSet):
        raise InputError(f"task '{task}' returned {type(loaded).__name__}; return a motley.training.data.DataSet")
    return loaded


def resolve(reference: str) -> Callable[..., Any]:
    """The function that `module:function` names. Raises InputError when it is not there."""
    module_name, _, attribute = reference.partition(":")
    try:
        found: Callable[..., Any] = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise InputError(f"task '{reference}' can't be loaded: {error}; is its module on the PYTHONPATH?") from None
    return found


@dataclass(frozen=True)
class Shards(Sequence[Examples]):
    """Every device's training examples, taken from the whole when asked for."""

    train: Examples
    parts: list[Indices]

    @property
    def sizes(self) -> list[int]:
        return [len(part) for part in self.parts]

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, index: Any) -> Any:
        return self.train.take(self.parts[index])

    def __iter__(self) -> Iterator[Examples]:
        return (self.train.take(part) for part in self.parts)


def load_shards(fleet: Fleet) -> tuple[Shards, Examples]:
    """What each device of the fleet learns from, and the test set; equal to what `write_shards` writes."""
    return divide(fleet.training.task, fleet.shards, fleet.data, fleet.seed, fleet.slowness())


def divide(
    task: str, devices: int, data: Data, seed: int, slowness: Sequence[float] | None = None
) -> tuple[Shards, Examples]:
    """Load a task and divide it; see `partition`. Raises InputError where that can't be done."""
    loaded = load_task(task, seed, devices)
    parts = partition(loaded.train.labels, devices, data, seed, slowness, loaded.groups)
    return Shards(loaded.train, parts), loaded.test


def write_shards(
    directory: Path, task: str, devices: int, data: Data, seed: int, slowness: Sequence[float] | None = None
) -> list[int]:
    """Write a shard for each device, the test set and `meta.json`; return the shards' sizes."""
    shards, test = divide(task, devices, data, seed, slowness)
    directory.mkdir(parents=True, exist_ok=True)
    for index, examples in enumerate(shards):
        _write(_shard_path(directory, index), examples)
    _write(directory / "test.npz", test)
    how = data.model_dump(mode="json", exclude_none=True)
    meta = {"task": task, "devices": devices, "seed": seed, "data": how, "sizes": shards.sizes}
    (directory / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")
    return shards.sizes


def read_shard(directory: Path, index: int) -> Examples:
    """The training examples of one device. Raises InputError when there is no such shard."""
    return _read(_shard_path(directory, index))


def read_test_set(directory: Path) -> Examples:
    return _read(directory / "test.npz")


def _shard_path(directory: Path, index: int) -> Path:
    return directory / f"shard-{index:05d}.npz"


def _write(path: Path, examples: Examples) -> None:
    np.savez_compressed(path, inputs=examples.inputs, labels=examples.labels)


def _read(path: Path) -> Examples:
    if not path.exists():
        raise InputError(f"{path} is not there; write the shards with helpers/prepare_data.py")
    with np.load(path, allow_pickle=False) as stored:
        return Examples(stored["inputs"], stored["labels"])
