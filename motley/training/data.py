"""Data sets, how they are divided among devices, and the shard files that devices read.

A shard directory holds `shard-00000.npz` for each device, `test.npz` for the server and `meta.json`.
Images are float32 of shape (examples, channels, height, width) within 0–1; labels are int64.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from motley.errors import InputError
from motley.spec import Data

Images = NDArray[np.float32]
Labels = NDArray[np.int64]
Indices = NDArray[np.int64]
TEST_SHARE = 0.2


@dataclass(frozen=True)
class Examples:
    """Images of shape (n, channels, height, width) and labels of shape (n,)."""

    images: Images
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Indices) -> Examples:
        return Examples(self.images[indices], self.labels[indices])


@dataclass(frozen=True)
class DataSet:
    """What a task's data function returns."""

    train: Examples
    test: Examples


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
    return DataSet(*(from_rows(federated.load_split(split), image_key) for split in ("train", "test")))


def from_rows(rows: Any, image_key: str) -> Examples:
    """Rows of a `datasets.Dataset`, with pictures of 0–255 under `image_key`, to Examples."""
    images = np.stack([np.asarray(image) for image in rows[image_key]]).astype(np.float32) / 255
    channels_first = images[:, None] if images.ndim == 3 else np.moveaxis(images, -1, 1)
    return Examples(np.ascontiguousarray(channels_first), np.asarray(rows["label"], dtype=np.int64))


LOADERS: dict[str, Callable[[int], DataSet]] = {
    "digits": load_digits,
    "cifar10": lambda seed: load_hub("uoft-cs/cifar10", "img"),
    "fashion_mnist": lambda seed: load_hub("zalando-datasets/fashion_mnist", "image"),
}


def load_task(task: str, seed: int) -> DataSet:
    """The data of a built-in task, or what the user's `module:function` returns for `seed`.

    Raises InputError when the function can't be found or returns something else than a DataSet.
    """
    loaded = (LOADERS.get(task) or resolve(task))(seed)
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


def partition(labels: Labels, devices: int, data: Data, seed: int) -> list[Indices]:
    """Indices of the examples of each device; together they are `data.share` of all, each used once.

    `dirichlet` draws each class's shares from Dir(alpha) (Hsu, Qi and Brown, arXiv:1909.06335) and
    `shards` deals slices of the sorted labels (McMahan et al., AISTATS 2017). Every device gets at
    least one example. Raises InputError when there are fewer examples than devices.
    """
    rng = np.random.default_rng([seed, devices])
    pool = rng.permutation(len(labels))[: max(1, round(data.share * len(labels)))]
    if len(pool) < devices:
        raise InputError(f"{len(pool)} training examples can't be divided among {devices} devices; use fewer devices")
    parts = _DIVIDERS[data.partition](labels, pool, devices, data, rng)
    return [np.sort(part) for part in _fill_empty(parts)]


def _iid(labels: Labels, pool: Indices, devices: int, data: Data, rng: np.random.Generator) -> list[Indices]:
    return list(np.array_split(pool, devices))


def _dirichlet(labels: Labels, pool: Indices, devices: int, data: Data, rng: np.random.Generator) -> list[Indices]:
    parts: list[list[Indices]] = [[] for _ in range(devices)]
    for label in np.unique(labels[pool]):
        own = pool[labels[pool] == label]
        shares = rng.dirichlet(np.full(devices, data.alpha))
        cuts = np.round(np.cumsum(shares)[:-1] * len(own)).astype(int)
        for part, piece in zip(parts, np.split(own, cuts), strict=True):
            part.append(piece)
    return [np.concatenate(part) for part in parts]


def _shards(labels: Labels, pool: Indices, devices: int, data: Data, rng: np.random.Generator) -> list[Indices]:
    by_label = pool[np.argsort(labels[pool], kind="stable")]
    pieces = np.array_split(by_label, devices * data.shards_per_device)
    dealt = rng.permutation(len(pieces)).reshape(devices, data.shards_per_device)
    return [np.concatenate([pieces[index] for index in row]) for row in dealt]


_DIVIDERS: dict[str, Callable[..., list[Indices]]] = {"iid": _iid, "dirichlet": _dirichlet, "shards": _shards}


def _fill_empty(parts: list[Indices]) -> list[Indices]:
    """Give each device without examples one of whoever has most."""
    for index, part in enumerate(parts):
        if not len(part):
            richest = max(range(len(parts)), key=lambda each: len(parts[each]))
            parts[index], parts[richest] = parts[richest][-1:], parts[richest][:-1]
    return parts


def write_shards(directory: Path, task: str, devices: int, data: Data, seed: int) -> list[int]:
    """Write a shard for each device, the test set and `meta.json`; return the shards' sizes."""
    loaded = load_task(task, seed)
    directory.mkdir(parents=True, exist_ok=True)
    sizes = []
    for index, indices in enumerate(partition(loaded.train.labels, devices, data, seed)):
        _write(_shard_path(directory, index), loaded.train.take(indices))
        sizes.append(len(indices))
    _write(directory / "test.npz", loaded.test)
    meta = {"task": task, "devices": devices, "seed": seed, "data": data.model_dump(mode="json"), "sizes": sizes}
    (directory / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")
    return sizes


def read_shard(directory: Path, index: int) -> Examples:
    """The training examples of one device. Raises InputError when there is no such shard."""
    return _read(_shard_path(directory, index))


def read_test_set(directory: Path) -> Examples:
    return _read(directory / "test.npz")


def _shard_path(directory: Path, index: int) -> Path:
    return directory / f"shard-{index:05d}.npz"


def _write(path: Path, examples: Examples) -> None:
    np.savez_compressed(path, images=examples.images, labels=examples.labels)


def _read(path: Path) -> Examples:
    if not path.exists():
        raise InputError(f"{path} is not there; write the shards with helpers/prepare_data.py")
    with np.load(path, allow_pickle=False) as stored:
        return Examples(stored["images"], stored["labels"])
