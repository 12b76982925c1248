"""A model that is read by eye: its logits are a table of the first word plus a map of the image's mean colour."""

import dataclasses
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from flax import nnx

from fusion_bench.data.batches import to_device
from fusion_bench.data.captions.channel import make_channel, sample
from fusion_bench.data.captions.tokenizer import encode, train_tokenizer
from fusion_bench.data.dataset import Captions, Dataset, Modality
from fusion_bench.diagnostics.model import Model
from fusion_bench.fusion.base import Outputs
from tests.tasks import make_dataset

CLASS_NAMES = ("cat", "dog", "ship", "truck")
LENGTH = 24


def make_captioned(channel_name="default", seed=5) -> Any:
    """Returns the images of `make_dataset` with captions of a channel, of words that its training captions have."""
    plain = make_dataset()
    channel = make_channel(channel_name, CLASS_NAMES)
    drawn = sample(channel, plain.classes, seed)
    tokenizer = train_tokenizer([drawn.texts[i] for i in plain.splits["train"]])
    text = Modality("tokens", encode(tokenizer, drawn.texts, LENGTH), tokenizer.get_vocab_size())
    return dataclasses.replace(
        plain,
        modalities={**plain.modalities, "text": text},
        labels=drawn.targets,
        class_names=CLASS_NAMES,
        captions=Captions(drawn.texts, "text", "image", channel, drawn.words, drawn.shifts, seed),
        tokenizers={"text": tokenizer},
    )


class MeanWordAndColour(nnx.Module):
    """Logits: the mean over words of a table, and a linear map of the image's mean colour."""

    def __init__(self, words, classes):
        rng = np.random.default_rng(0)
        self.table = nnx.Param(jnp.asarray(rng.normal(size=(words, classes))))
        self.colour = nnx.Param(jnp.asarray(rng.normal(size=(3, classes))))

    def __call__(self, inputs):
        mask = inputs["text"].mask[..., None]
        text = jnp.where(mask, self.table[...][inputs["text"].values], 0.0).sum(1) / mask.sum(1)
        return Outputs(3 * text + inputs["image"].values.mean((1, 2)) @ self.colour[...])


class Counting(Model):
    """Counts how often each modality is encoded."""

    counts: ClassVar[dict[str, int]] = {}

    def encode_values(self, modality, values, mask=None):
        self.counts[modality] = self.counts.get(modality, 0) + 1
        return super().encode_values(modality, values, mask)


def make_model(dataset: Dataset, **more: Any) -> Counting:
    """Returns the model, with stored logits of validation and test examples."""
    words, classes = dataset.modalities["text"].vocabulary_size, dataset.num_classes
    module = MeanWordAndColour(words, classes)
    model = Counting(module, dataset, to_device(dataset), **more)
    stored = {}
    for split in ("validation", "test"):
        indices = dataset.splits[split]
        stored |= {f"{split}_logits": model.logits(model.encode(indices)), f"{split}_labels": dataset.labels[indices]}
    model.stored = {**stored, **(more.get("stored") or {})}
    model.counts = {}  # type: ignore[misc]
    return model


def expected_logits(model: Model, images: np.ndarray, texts: list[list[int]]) -> np.ndarray:
    """Returns logits by a loop over examples, of images of 8 bits and of token ids without padding."""
    train = model.dataset.modalities["image"].values[model.dataset.splits["train"]].astype(np.float64).reshape(-1, 3)
    table, colour = (np.asarray(part[...], np.float64) for part in (model.module.table, model.module.colour))
    rows = []
    for image, text in zip(images.astype(np.float64), texts, strict=True):
        standard = (image.mean((0, 1)) - train.mean(0)) / train.std(0)
        rows.append(3 * table[text].mean(0) + standard @ colour)
    return np.array(rows)


def ids_of(tokens: np.ndarray) -> list[list[int]]:
    """Returns rows of token ids without padding."""
    return [[int(token) for token in row if token] for row in tokens]
