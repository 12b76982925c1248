"""Faults of data that a training would bear in silence: each is told in a sentence."""

from collections.abc import Iterator, Mapping

import numpy as np
from jaxtyping import Float

from fusion_bench.data.dataset import Modality, Split

FAR = 1000
"""Robust standard deviations from the median beyond which a value is told, if it also dominates its feature."""
DOMINANT = 0.5
"""Fraction of a feature's variance that such a value makes up, at least."""
FEW = 20
"""Validation examples, at least, to calibrate and to weigh modalities on."""
SAMPLE = 500
"""Training examples from which medians are taken, at most."""
BLOCK = 4_000_000
"""Numbers that are looked at together."""


def notes(modalities: Mapping[str, Modality], labels: np.ndarray, splits: Mapping[Split, np.ndarray]) -> list[str]:
    """Returns what a reader of results must know about the data, in sentences."""
    train, validation = splits["train"], labels[splits["validation"]]
    found = [note for name, modality in modalities.items() for note in _of_modality(name, modality, train)]
    absent = int((np.bincount(validation, minlength=int(labels.max()) + 1) == 0).sum())
    uses = "the choice of an epoch, and the temperatures and weights of late-posthoc and late-stacking"
    if len(validation) < FEW:
        found.append(f"The validation split has only {len(validation)} examples: {uses} are uncertain.")
    elif absent:
        found.append(f"The validation split has no example of {absent} of the classes: {uses} do not see them.")
    return found


def _of_modality(name: str, modality: Modality, train: np.ndarray) -> Iterator[str]:
    values, blocks = modality.values, _blocks(modality, train)
    if modality.alternatives is None and all((values[rows] == values[train[0]]).all() for rows in blocks):
        yield f"{name} is the same in every training example: it says nothing."
    elif modality.spec.is_image and all(values[rows].max() <= 1 for rows in blocks):
        yield f"{name} has no value above 1: as an image of 0..255 it is black (.astype(uint8) of values in 0..1?)."
    elif values.dtype == np.float32 and (found := _dominant(modality, train)) is not None:
        place, deviations = found
        where = f"example {place[0]}" + (f", at {list(place[1:])}" if len(place) > 1 else "")
        yield (
            f"{name} is {values[place]:g} in {where}, {deviations:.1e} robust standard deviations from the median, and "
            "makes up most of the variance by which this feature is standardised."
        )


def _blocks(modality: Modality, train: np.ndarray) -> list[np.ndarray]:
    """Returns the training examples in blocks that are small enough to look at."""
    size = max(1, BLOCK // max(1, modality.values[0].size))
    return [train[start : start + size] for start in range(0, len(train), size)]


def _dominant(modality: Modality, train: np.ndarray) -> tuple[tuple[int, ...], float] | None:
    """Returns the place of a value that is far from its feature's median and dominates its variance, if there is one.

    And its distance in robust standard deviations: 1.4826 times the median distance to the median; where half of the
    values are equal, the mean distance of the others but for the farthest.
    """
    sample = _numbers(modality, train[:: max(1, len(train) // SAMPLE)])
    centre = np.median(sample, axis=0)
    distance = np.abs(sample - centre)
    others = np.maximum(np.count_nonzero(distance, axis=0) - 1, 1)
    scale = 1.4826 * np.median(distance, axis=0)
    scale = np.where(scale > 0, scale, (distance.sum(0) - distance.max(0)) / others)
    farthest, total, squares, count = np.zeros_like(centre), np.zeros_like(centre), np.zeros_like(centre), 0
    for rows in _blocks(modality, train):
        block = _numbers(modality, rows) - centre
        farthest = np.maximum(farthest, np.abs(block).max(0))
        total, squares, count = total + block.sum(0), squares + (block**2).sum(0), count + len(block)
    variance = squares - total**2 / count
    is_far = (scale > 0) & (farthest > FAR * scale) & (farthest**2 > DOMINANT * variance)
    if not is_far.any():
        return None
    feature = int(np.argmax(np.where(is_far, farthest / np.where(scale > 0, scale, 1), 0)))
    for rows in _blocks(modality, train):
        off = np.abs(modality.values[rows][..., feature].astype(np.float64) - centre[feature])
        if modality.mask is not None:
            off = np.where(modality.mask[rows], off, 0)
        if off.max() == farthest[feature]:
            row, *at = map(int, np.unravel_index(int(off.argmax()), off.shape))
            return (int(rows[row]), *at, feature), float(farthest[feature] / scale[feature])
    return None


def _numbers(modality: Modality, rows: np.ndarray) -> Float[np.ndarray, "value feature"]:
    """Returns the values of some examples by feature, without a sequence's padding."""
    values = modality.values[rows] if modality.mask is None else modality.values[rows][modality.mask[rows]]
    return values.reshape(-1, modality.values.shape[-1]).astype(np.float64)
