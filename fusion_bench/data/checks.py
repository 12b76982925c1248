"""Faults of data that a training would bear in silence: each is told in a sentence."""

from collections.abc import Iterator, Mapping

import numpy as np

from fusion_bench.data.dataset import Modality, Split

FAR = 1000
"""Robust standard deviations from the median beyond which a value is told."""
FEW = 20
"""Validation examples, at least, to calibrate and to weigh modalities on; and each class needs one."""
SAMPLE = 2000
"""Training examples from which medians are taken, at most."""


def notes(modalities: Mapping[str, Modality], labels: np.ndarray, splits: Mapping[Split, np.ndarray]) -> list[str]:
    """Returns what a reader of results must know about the data, in sentences."""
    train = splits["train"]
    found = [note for name, modality in modalities.items() for note in _of_modality(name, modality, train)]
    counts = np.bincount(labels[splits["validation"]], minlength=int(labels.max()) + 1)
    if counts.sum() < FEW or counts.min() == 0:
        found.append(
            f"The validation split has {counts.sum()} examples, {counts.min()} of one class: too few to choose an "
            "epoch on, or the temperatures and weights of late-posthoc and late-stacking."
        )
    return found


def _of_modality(name: str, modality: Modality, train: np.ndarray) -> Iterator[str]:
    values = modality.values
    first = values[train[0]]
    if all((values[examples] == first).all() for examples in np.array_split(train, max(1, len(train) // SAMPLE))):
        yield f"{name} is the same in every training example: it says nothing."
    elif modality.spec.is_image and values[train].max() <= 1:
        yield f"{name} has no value above 1 of 255: it is almost black, as after .astype(uint8) on values in 0..1."
    if values.dtype == np.float32:
        place, deviations = _farthest(modality, train)
        if deviations > FAR:
            where = f"example {place[0]}" + (f", at {list(place[1:])}" if len(place) > 1 else "")
            yield (
                f"{name} is {values[place]:g} in {where}, {deviations:.1e} robust standard deviations from the median: "
                "the mean and the deviation that standardise this feature are of little use."
            )


def _farthest(modality: Modality, train: np.ndarray) -> tuple[tuple[int, ...], float]:
    """Returns the place of the value farthest from its feature's median, and that distance in robust deviations.

    A robust deviation is 1.4826 times the median distance to the median; where half of the values are equal, the mean
    distance of the others but for the farthest.
    """
    values = modality.values
    features = values.shape[-1]
    step = max(1, len(train) // SAMPLE)
    sample = values[train[::step]].reshape(-1, features).astype(np.float64)
    if modality.mask is not None:
        sample = sample[modality.mask[train[::step]].reshape(-1)]
    centre = np.median(sample, axis=0)
    distance = np.abs(sample - centre)
    others = np.maximum(np.count_nonzero(distance, axis=0) - 1, 1)
    scale = 1.4826 * np.median(distance, axis=0)
    scale = np.where(scale > 0, scale, (distance.sum(0) - distance.max(0)) / others)
    ratio, place = np.zeros(len(train)), np.zeros(len(train), np.int64)
    for start in range(0, len(train), SAMPLE):
        block = values[train[start : start + SAMPLE]].reshape(-1, features).astype(np.float64)
        far = np.where(scale > 0, np.abs(block - centre) / np.where(scale > 0, scale, 1), 0)
        far = far.reshape(min(SAMPLE, len(train) - start), -1)
        ratio[start : start + SAMPLE], place[start : start + SAMPLE] = far.max(1), far.argmax(1)
    row = int(ratio.argmax())
    at = np.unravel_index(int(place[row]), values.shape[1:])
    return (int(train[row]), *map(int, at)), float(ratio[row])
