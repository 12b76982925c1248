"""Damage of the training data: pairs that do not belong together, and modalities that are missing.

Validation and test examples are never damaged. Each training example has uniform numbers of its own, which depend on
the data seed and its index in the source alone, and is chosen where its number is below the probability. So a higher
probability, or a larger training split, chooses the same examples and more.
"""

import dataclasses
from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool, Int

from fusion_bench.config import DataConfig
from fusion_bench.data.batches import normalization_stats
from fusion_bench.data.dataset import PAD, Alternatives, Captions, Dataset, Modality
from fusion_bench.errors import ConfigError

_MISALIGN, _MISSING = 0xA116, 0x3155
"""Random streams of their own, as splits and captions are drawn with the same seed."""


def damage(dataset: Dataset, config: DataConfig) -> Dataset:
    """Returns the dataset with its training split misaligned, then with modalities missing; itself if neither is asked.

    Raises:
      ConfigError: there is one modality, or the damage would change nothing, or leave a modality to no example.
    """
    for field in ("misalign", "missing"):
        if getattr(config, field) and len(dataset.modalities) < 2:
            has = f"{dataset.name} has one, {next(iter(dataset.modalities))}"
            raise ConfigError(field, getattr(config, field), f"it needs two modalities, and {has}")
    if config.misalign:
        dataset = _misalign(dataset, config.misalign, config.data_seed)
    if config.missing:
        dataset = _remove(dataset, config.missing, config.data_seed)
    return dataset


def moved_modalities(dataset: Dataset) -> tuple[str, ...]:
    """Returns the modalities that a misaligned example has from another one: the captions, if there are any.

    Otherwise all but the one that the label stays with, the first image in alphabetical order, or the first modality if
    there is no image. They come from the same other example.
    """
    if dataset.captions is not None:
        return (dataset.captions.modality,)
    names = sorted(dataset.modalities)
    stays = min(dataset.task.images, default=names[0])
    return tuple(name for name in names if name != stays)


def misaligned_rows(
    count: int, train: Int[np.ndarray, " train"], probability: float, seed: int
) -> Int[np.ndarray, " example"]:
    """Returns the index of the example that the text of each example comes from.

    Each training example is chosen with the probability, independently. The chosen ones exchange their texts along one
    random cycle, so that none keeps its own, if there are two or more; whether the other has the same class is chance.

    Args:
      count: number of examples, of all splits.
      train: the training examples.
      probability: of being chosen.
      seed: of the draws.
    """
    chance, order = np.random.Generator(np.random.PCG64([seed, _MISALIGN])).random((2, count))
    chosen = train[chance[train] < probability]
    cycle = chosen[np.argsort(order[chosen], kind="stable")]
    rows = np.arange(count)
    rows[cycle] = np.roll(cycle, 1)
    return rows


def missing_modalities(
    names: Iterable[str], count: int, train: Int[np.ndarray, " train"], probability: float, seed: int
) -> dict[str, Bool[np.ndarray, " example"]]:
    """Returns which examples lack each modality.

    A modality of a training example is missing with the probability, independently of all others. Where all would be,
    one of them is kept, each with the same probability: the one whose uniform number is the largest.

    Args:
      names: of the modalities; each has a random stream of its own.
      count: number of examples, of all splits.
      train: the training examples.
      probability: of a modality to be missing.
      seed: of the draws.
    """
    names = sorted(names)
    streams = [np.random.PCG64([seed, _MISSING, *name.encode()]) for name in names]
    uniform = np.stack([np.random.Generator(stream).random(count)[train] for stream in streams])
    is_missing = uniform < probability
    is_missing[uniform.argmax(0), np.arange(len(train))] &= ~is_missing.all(0)
    found = {name: np.zeros(count, bool) for name in names}
    for name, of_train in zip(names, is_missing, strict=True):
        found[name][train] = of_train
    return found


def _misalign(dataset: Dataset, probability: float, seed: int) -> Dataset:
    train = dataset.splits["train"]
    rows = misaligned_rows(len(dataset.labels), train, probability, seed)
    if (rows[train] == train).all():
        raise ConfigError("misalign", probability, f"of {len(train):,} training examples it misaligns none")
    moved = {name: _taken(dataset.modalities[name], rows) for name in moved_modalities(dataset)}
    captions = dataset.captions
    if captions is not None:
        captions = dataclasses.replace(
            captions,
            texts=tuple(captions.texts[row] for row in rows.tolist()),
            words=None if captions.words is None else captions.words[rows],
            shifts=None if captions.shifts is None else captions.shifts[rows],
        )
    return dataclasses.replace(dataset, modalities={**dataset.modalities, **moved}, captions=captions)


def _taken(modality: Modality, rows: Int[np.ndarray, " example"]) -> Modality:
    """Returns a modality with the values of other examples."""
    texts = modality.alternatives
    return dataclasses.replace(
        modality,
        values=modality.values[rows],
        mask=None if modality.mask is None else modality.mask[rows],
        alternatives=None if texts is None else texts._replace(first=texts.first[rows], count=texts.count[rows]),
    )


def _remove(dataset: Dataset, probability: float, seed: int) -> Dataset:
    train = dataset.splits["train"]
    missing = missing_modalities(dataset.modalities, len(dataset.labels), train, probability, seed)
    if not any(rows.any() for rows in missing.values()):
        raise ConfigError("missing", probability, f"of {len(train):,} training examples none lacks a modality")
    modalities = dict(dataset.modalities)
    for name, rows in missing.items():
        if rows[train].all():
            raise ConfigError("missing", probability, f"{name} is missing from all {len(train):,} training examples")
        if rows.any():
            modalities[name] = _without(modalities[name], rows, train)
    captions = dataset.captions
    if captions is not None:
        captions = _untold(captions, missing[captions.modality])
    return dataclasses.replace(dataset, modalities=modalities, captions=captions)


def _without(modality: Modality, rows: Bool[np.ndarray, " example"], train: Int[np.ndarray, " train"]) -> Modality:
    """Returns a modality that some training examples lack: the mean of the others stands there, or no token."""
    values, mask, texts = np.array(modality.values), modality.mask, modality.alternatives
    modality = dataclasses.replace(modality, missing=rows)
    if modality.kind == "tokens":
        values[rows] = PAD
        texts = None if texts is None else _without_texts(texts, rows)
    else:
        mean, _ = normalization_stats(modality, train)
        values[rows] = np.rint(mean) if values.dtype == np.uint8 else mean
    if modality.kind == "sequence":
        mask = np.ones(values.shape[:2], bool) if mask is None else mask.copy()
        mask[rows] = False
    return dataclasses.replace(modality, values=values, mask=mask, alternatives=texts)


def _without_texts(texts: Alternatives, rows: Bool[np.ndarray, " example"]) -> Alternatives:
    """Returns the texts of examples, with one text of no token for some of them."""
    empty = np.full_like(texts.values[:1], PAD)
    first, count = np.where(rows, len(texts.values), texts.first), np.where(rows, 1, texts.count)
    return Alternatives(np.concatenate([texts.values, empty]), first.astype(np.int32), count.astype(np.int32))


def _untold(captions: Captions, rows: Bool[np.ndarray, " example"]) -> Captions:
    texts = ("" if is_missing else text for text, is_missing in zip(captions.texts, rows.tolist(), strict=True))
    return dataclasses.replace(captions, texts=tuple(texts))
