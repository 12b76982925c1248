"""The dataset on the device, and a batch of it: gathered, augmented, normalised in the compiled program."""

import zlib
from collections.abc import Collection, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key, Num, UInt32

from fusion_bench.data.dataset import PAD, Alternatives, Dataset, Modality, Transform

MAX_SHIFT = 4
"""Largest translation of an image, in pixels per 32 of height: the usual augmentation of CIFAR-10."""


class ModalityBatch(NamedTuple):
    """One modality of a batch.

    Attributes:
      values: grid, float [batch, height, width, channel]; tokens, int [batch, token]; sequence, float
        [batch, token, feature]; vector, float [batch, feature]. Floats are standardised with the training data's mean
        and standard deviation; where a sequence is masked they are 0.
      mask: True where there is a token or a step, [batch, token]; None for grids and vectors.
    """

    values: Num[Array, "batch *shape"]
    mask: Bool[Array, "batch token"] | None = None


Inputs = Mapping[str, ModalityBatch]


class DeviceModality(NamedTuple):
    """All examples of one modality, as stored, with their mean and standard deviation (empty for tokens).

    `mask` is a sequence's; `alternatives` are the texts of examples that have several.
    """

    values: Num[Array, "example *shape"]
    mean: Float[Array, " channel"]
    std: Float[Array, " channel"]
    mask: Bool[Array, "example token"] | None = None
    alternatives: Alternatives | None = None


class DeviceData(NamedTuple):
    """A dataset in device memory: uint8 grids, int32 tokens. Passed to compiled programs, not closed over."""

    modalities: Mapping[str, DeviceModality]
    labels: Int[Array, " example"]

    @property
    def has_several_texts(self) -> bool:
        """Whether an example has several texts, of which training draws one."""
        return any(modality.alternatives is not None for modality in self.modalities.values())


def to_device(dataset: Dataset) -> DeviceData:
    """Puts a dataset on the default device; its training split gives the means and standard deviations."""
    train = dataset.splits["train"]
    modalities = {}
    for name, modality in dataset.modalities.items():
        arrays = [modality.values, *normalization_stats(modality, train)]
        if modality.kind == "sequence":
            arrays.append(np.ones(modality.values.shape[:2], bool) if modality.mask is None else modality.mask)
        # device_put: on a CPU it takes an array as it lies in memory, where several processes may share it
        modalities[name] = DeviceModality(
            *map(jax.device_put, arrays), alternatives=jax.device_put(modality.alternatives)
        )
    return DeviceData(modalities, jnp.asarray(dataset.labels, jnp.int32))


def normalization_stats(modality: Modality, train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and standard deviation by channel of the training examples, float32; empty for tokens.

    They are over the examples that have the modality; of a sequence, over the steps that are there.
    """
    if modality.kind == "tokens":
        return np.zeros(0, np.float32), np.ones(0, np.float32)
    if modality.missing is not None:
        train = train[~modality.missing[train]]
    mean = _mean_power(modality, train, np.zeros(modality.values.shape[-1]), 1)
    variance = _mean_power(modality, train, mean, 2)
    std = np.sqrt(np.where(variance > 0, variance, 1.0))
    return mean.astype(np.float32), std.astype(np.float32)


def _mean_power(modality: Modality, examples: np.ndarray, centre: np.ndarray, power: int) -> np.ndarray:
    """Returns the mean of (value - centre)^power by channel, over the examples and their pixels or steps.

    NumPy's own mean and standard deviation by channel are slow, as the last axis is short. Pixels of 8 bits are summed
    in float32, other numbers, which may be of any size, in float64.
    """
    values, mask = modality.values, modality.mask
    precision = np.float32 if values.dtype == np.uint8 else np.float64
    centres = np.broadcast_to(centre, values.shape[1 if mask is None else 2 :]).astype(precision).ravel()
    total, count = np.zeros(centres.shape), 0
    size = 1000 if mask is None else max(1, 1000 // mask.shape[1])
    for start in range(0, len(examples), size):  # small enough to stay in cache
        rows = examples[start : start + size]
        block = (values[rows] if mask is None else values[rows][mask[rows]]).reshape(-1, centres.size)
        total += ((block - centres) ** power).sum(0)
        count += len(block)
    return (total / count).reshape(-1, values.shape[-1]).mean(0)


def gather(data: DeviceData, indices: Int[Array, " batch"]) -> tuple[Inputs, Int[Array, " batch"]]:
    """Returns the inputs and labels of the examples at `indices`."""
    inputs = {name: _gather(modality, indices) for name, modality in data.modalities.items()}
    return inputs, data.labels[indices]


def _gather(modality: DeviceModality, indices: Int[Array, " batch"]) -> ModalityBatch:
    mask = None if modality.mask is None else modality.mask[indices]
    return standardise(modality._replace(values=modality.values[indices], mask=mask))


def standardise(modality: DeviceModality) -> ModalityBatch:
    """Returns stored values, with their mask, as a batch of a model's input."""
    if jnp.issubdtype(modality.values.dtype, jnp.signedinteger):
        return ModalityBatch(modality.values, modality.values != PAD)
    standardised = (modality.values.astype(jnp.float32) - modality.mean) / modality.std
    if modality.mask is None:
        return ModalityBatch(standardised)
    return ModalityBatch(
        jnp.where(modality.mask[:, :, None], standardised, jnp.zeros_like(standardised)), modality.mask
    )


def leave_out(batch: ModalityBatch, missing: Bool[Array, " batch"]) -> ModalityBatch:
    """Replaces a modality by zero where it is missing: the mean of a grid or vector, no token of a text or sequence."""
    gone = missing.reshape(-1, *[1] * (batch.values.ndim - 1))
    values = jnp.where(gone, jnp.zeros_like(batch.values), batch.values)  # PAD is 0
    return ModalityBatch(values, None if batch.mask is None else batch.mask & ~missing[:, None])


def draw_texts(inputs: Inputs, data: DeviceData, indices: Int[Array, " batch"], key: Key[Array, ""]) -> Inputs:
    """Replaces each text by one of its example's, drawn by the key and the example's index alone."""
    drawn = {}
    for name, modality in data.modalities.items():
        if modality.alternatives is not None:
            values, first, count = modality.alternatives
            chosen = _bits(key, indices) % count[indices].astype(jnp.uint32)
            texts = values[first[indices] + chosen.astype(jnp.int32)]
            drawn[name] = ModalityBatch(texts, texts != PAD)
    return {**inputs, **drawn}


def augment(
    inputs: Inputs,
    transforms: Mapping[str, Collection[Transform]],
    key: Key[Array, ""],
    flip: Bool[Array, " batch"] | None = None,
) -> Inputs:
    """Flips and translates grids at random; other modalities stay as they are.

    The draws depend on the key and the modality's name alone, so every strategy sees the same images.

    Args:
      inputs: standardised, by modality.
      transforms: of each modality that is augmented, `Task.augmented`.
      key: random key; the image has it as it is, others fold in their name, so that modalities move independently.
      flip: which examples are flipped; None draws it.
    """
    augmented = {}
    for name, chosen in transforms.items():
        own = key if name == "image" else jax.random.fold_in(key, zlib.crc32(name.encode()))
        augmented[name] = inputs[name]._replace(values=augment_images(inputs[name].values, own, chosen, flip))
    return {**inputs, **augmented}


def alternating_flip(
    indices: Int[Array, " batch"], key: Key[Array, ""], epoch: int | Int[Array, ""]
) -> Bool[Array, " batch"]:
    """Returns which images are flipped in an epoch: each in every other epoch; the first one is drawn for each image.

    So any two successive epochs see both orientations; with independent draws they repeat one half of the time.
    Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", 2024.
    """
    first = _bits(key, indices) % 2
    return first.astype(jnp.int32) == epoch % 2


def _bits(key: Key[Array, ""], indices: Int[Array, " batch"]) -> UInt32[Array, " batch"]:
    """Returns 32 random bits of each example."""
    return jax.vmap(lambda index: jax.random.bits(jax.random.fold_in(key, index)))(indices)


def augment_images(
    images: Float[Array, "batch height width channel"],
    key: Key[Array, ""],
    transforms: Collection[Transform] = ("flip", "translate"),
    flip: Bool[Array, " batch"] | None = None,
) -> Float[Array, "batch height width channel"]:
    """Flips half of the images left to right, or those of `flip`, and moves each by up to an eighth of its size."""
    batch, height = images.shape[:2]
    reach = max(1, MAX_SHIFT * height // 32)
    side = 2 * reach + 1
    move = jax.random.bits(key, (batch,)) % (2 * side**2)  # one draw an image: far cheaper than three
    drawn, down, right = jnp.unravel_index(move.astype(jnp.int32), (2, side, side))
    flip = drawn == 1 if flip is None else flip
    if "flip" not in transforms:
        flip = jnp.zeros_like(flip)
    if "translate" not in transforms:
        down = right = jnp.full_like(down, reach)
    return flip_and_shift(images, flip, down - reach, right - reach, reach)


def flip_and_shift(
    images: Float[Array, "batch height width channel"],
    flip: Bool[Array, " batch"],
    down: Int[Array, " batch"],
    right: Int[Array, " batch"],
    reach: int,
) -> Float[Array, "batch height width channel"]:
    """Flips each image left to right where `flip` is True, then moves the view on it by `down` and `right`.

    They are in pixels, at most `reach`. Outside an image stands its reflection, without the edge pixels themselves.
    """
    height, width = images.shape[1:3]
    images = jnp.where(flip[:, None, None, None], images[:, :, ::-1], images)
    padded = jnp.pad(images, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="reflect")
    crop = jax.vmap(
        lambda image, row, column: lax.dynamic_slice_in_dim(
            lax.dynamic_slice_in_dim(image, row, height, 0), column, width, 1
        )
    )
    return crop(padded, down + reach, right + reach)
