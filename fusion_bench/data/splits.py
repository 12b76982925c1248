"""Splits into train, validation and test: stratified by class, and the same for the same seed."""

from collections.abc import Mapping

import numpy as np

from fusion_bench.config import DataConfig
from fusion_bench.data.dataset import SPLITS, RawDataset, Split
from fusion_bench.errors import ConfigError, UserError

MIN_PER_CLASS = 2


def split(raw: RawDataset, config: DataConfig) -> Mapping[Split, np.ndarray]:
    """Returns the indices of the examples of each split, int32, ascending, disjoint.

    Validation is cut from train where `raw.split` has none. So is test, before, if `config.test_from` says so; the test
    examples of `raw.split` are unused then. Every subset keeps the proportions of the classes, to within one example of
    each. The seed decides which examples are kept and held out.

    Raises:
      UserError: a size cannot be met, or a class would be missing from train.
    """
    train_size, seed = config.train_size, config.data_seed
    train, validation, test = (np.flatnonzero(raw.split == name) for name in SPLITS)
    if config.test_from == "train":
        if config.test_size is None:
            raise ConfigError("test_from", "train", "it needs test_size, the number of test examples")
        test = _keep(train, raw, config.test_size, "test_size", [seed, 3])
        train = np.setdiff1d(train, test, assume_unique=True)
    else:
        test = _keep(test, raw, config.test_size, "test_size", [seed, 2])
    if len(validation) == 0:
        pool = _keep(train, raw, train_size, "train_size", [seed, 0])
        held_out = max(1, round(config.validation_fraction * len(pool)))
        validation = stratified_choice(pool, raw.labels, held_out, [seed, 1])
        train = np.setdiff1d(pool, validation, assume_unique=True)
    elif train_size is not None:
        _check_size(train_size, len(train) + len(validation), len(raw.class_names), "train_size")
        held_out = max(1, round(train_size * len(validation) / (len(train) + len(validation))))
        train = stratified_choice(train, raw.labels, train_size - held_out, [seed, 0])
        validation = stratified_choice(validation, raw.labels, held_out, [seed, 1])
    missing = set(range(len(raw.class_names))) - set(raw.labels[train].tolist())
    if missing:
        name = raw.class_names[min(missing)]
        raise UserError(f"no example of class {name!r} is left to train on; keep more for training")
    return {name: part.astype(np.int32) for name, part in zip(SPLITS, (train, validation, test), strict=True)}


def stratified_choice(pool: np.ndarray, labels: np.ndarray, size: int, seed: int | list[int]) -> np.ndarray:
    """Returns `size` of the indices in `pool`, ascending, each class within one example of its share of the pool.

    With one seed, a smaller choice is part of a larger one, up to one example per class. `labels` has every example.
    """
    classes, counts = np.unique(labels[pool], return_counts=True)
    chosen = []
    for label, count in zip(classes, _quotas(counts, size), strict=True):
        of_class = pool[labels[pool] == label]
        rng = np.random.default_rng([*np.atleast_1d(seed).tolist(), int(label)])
        chosen.append(rng.permutation(of_class)[:count])
    return np.sort(np.concatenate(chosen)) if chosen else pool[:0]


def _quotas(counts: np.ndarray, size: int) -> np.ndarray:
    """Divides `size` in proportion to `counts`; the largest remainders are rounded up."""
    products = counts * size
    quotas, remainders = products // counts.sum(), products % counts.sum()
    quotas[np.argsort(-remainders, kind="stable")[: size - quotas.sum()]] += 1
    return quotas


def _keep(pool: np.ndarray, raw: RawDataset, size: int | None, name: str, seed: list[int]) -> np.ndarray:
    if size is None:
        return pool
    _check_size(size, len(pool), len(raw.class_names), name)
    return stratified_choice(pool, raw.labels, size, seed)


def _check_size(size: int, available: int, num_classes: int, name: str) -> None:
    smallest = MIN_PER_CLASS * num_classes
    if size > available:
        raise ConfigError(name, size, f"there are only {available} examples")
    if size < smallest:
        raise ConfigError(name, size, f"{num_classes} classes need at least {smallest} examples")
