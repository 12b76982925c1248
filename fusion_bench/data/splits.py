"""Which examples train, validate and test: stratified by class, and the same for the same seed."""

from collections.abc import Mapping

import numpy as np

from fusion_bench.data.dataset import SPLITS, RawDataset, Split
from fusion_bench.errors import ConfigError, UserError

MIN_PER_CLASS = 2


def split(
    raw: RawDataset,
    *,
    validation_fraction: float = 0.1,
    train_size: int | None = None,
    test_size: int | None = None,
    seed: int = 0,
) -> Mapping[Split, np.ndarray]:
    """Returns the indices of the examples of each split, int32, ascending, disjoint.

    Validation is cut from train where the source brings none. Every subset keeps the proportions of the
    classes, to within one example of each: what is balanced stays balanced.

    Args:
      raw: says in `raw.split` what the source itself calls train, validation and test.
      validation_fraction: of the training examples, in (0, 1); unused if there is a validation split.
      train_size: how many examples to keep for train and validation together; None keeps all.
      test_size: how many test examples to keep; None keeps all.
      seed: decides which examples are kept and which are held out.

    Raises:
      UserError: a size or the fraction cannot be met, or a class would be missing from train.
    """
    train, validation, test = (np.flatnonzero(raw.split == name) for name in SPLITS)
    test = _keep(test, raw, test_size, "test_size", [seed, 2])
    if len(validation) == 0:
        if not 0 < validation_fraction < 1:
            raise ConfigError("validation_fraction", validation_fraction, "it must be between 0 and 1")
        pool = _keep(train, raw, train_size, "train_size", [seed, 0])
        held_out = max(1, round(validation_fraction * len(pool)))
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
    indices = (train, validation, test)
    return {name: part.astype(np.int32) for name, part in zip(SPLITS, indices, strict=True)}


def stratified_choice(pool: np.ndarray, labels: np.ndarray, size: int, seed: int | list[int]) -> np.ndarray:
    """Returns `size` of the indices in `pool`, ascending, each class within one of its part of the pool.

    Args:
      pool: indices into `labels`.
      labels: the class of every example, int [example].
      size: at most len(pool).
      seed: decides which; with one seed, a smaller choice is part of a larger one, give or take one a class.
    """
    classes, counts = np.unique(labels[pool], return_counts=True)
    chosen = []
    for label, count in zip(classes, _quotas(counts, size), strict=True):
        members = pool[labels[pool] == label]
        rng = np.random.default_rng([*np.atleast_1d(seed).tolist(), int(label)])
        chosen.append(rng.permutation(members)[:count])
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
