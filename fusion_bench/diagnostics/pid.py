"""Partial information decomposition: which bits the data hold, and which bits a model's predictions use."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from fusion_bench.data.captions.channel import Channel, write
from fusion_bench.data.dataset import Captions, Task
from fusion_bench.diagnostics.base import Diagnostic, Inapplicable, register_diagnostic, spaced, unimodal
from fusion_bench.diagnostics.model import Model, RunKey
from fusion_bench.diagnostics.texts import tokens_of
from fusion_bench.errors import UserError
from fusion_bench.fields import Count
from fusion_bench.fusion.registry import StrategySpec
from fusion_bench.metrics.information import NotConverged, decompose

TOLERANCE = 1e-3
"""Largest error of a decomposition, in bits."""
TABLE = 100_000
"""Combinations of an image, a type of caption and a class, at most, in the table of what a model uses."""


@register_diagnostic(
    "pid",
    reference="Bertschinger et al. 2014, Entropy 16(4); of multimodal data: Liang et al. 2023, arXiv:2302.12247",
    version=2,
)
class Pid(Diagnostic):
    """Redundant, unique and synergistic bits of image and caption, about the target and about a model's predictions.

    A caption is its type, the pair of what its word tells and its shift, which is all that a channel puts into it. Four
    parts each, in bits, by BROJA:

    `bits_data_redundant`, `bits_data_unique_image`, `bits_data_unique_text` and `bits_data_synergistic`: about the
    target, from an image that tells its class and the caption. Exact, from the channel's table.

    `bits_image_model_…`: about the target, from the class that the image model of the same seed predicts, and the
    caption; from its test confusion matrix and the channel's table, as if a caption was independent of the image given
    its class, which words of people are not. Left out where that model is not stored or cannot be read.

    `bits_used_…`: about the prediction of the model, from the image itself and the caption's type. The table
    P(i) P(type | y_i) P(prediction | i, type) has `images` test examples i at even distances, weighted to the channel's
    prior of classes, and for each type of caption the predictions on its words in `captions` sentences, the same for
    all types. They are bits that the prediction depends on, right or wrong, and no part of those about the target. A
    strategy that cannot encode images once has `costly_images` instead; where types and classes are many, there are
    fewer, so that the table has at most `TABLE` entries.
    """

    def __init__(self, *, images: Count = 400, captions: Count = 8, costly_images: Count = 100):
        self.images, self.captions, self.costly_images = images, captions, costly_images

    def is_detail(self, name: str) -> bool:
        return not name.startswith("bits_used")

    def skip(self, spec: StrategySpec, task: Task) -> str | None:
        kinds = [modality.kind for modality in task.modalities.values()]
        return None if len(kinds) == 2 and kinds.count("tokens") == 1 else "it is defined for captions and one modality"

    def companions(self, run: RunKey, others: Sequence[RunKey]) -> list[RunKey]:
        return unimodal(run, others)

    def __call__(self, model: Model, indices: Int[np.ndarray, " example"]) -> dict[str, float]:
        captions = model.dataset.captions
        if captions is None or captions.channel is None or captions.about is None:
            raise Inapplicable("the data have no captions of a channel")
        channel, about = captions.channel, captions.about
        if channel.decomposition is None:
            raise Inapplicable(f"the table of {channel.num_classes} classes is too large")
        tables = {"used": self._used(model, captions, channel, about, indices)}
        predicted = _predicted(model, about)
        if predicted is not None:
            classes = model.dataset.classes[indices]
            tables["image_model"] = of_image_model(channel, confusion(classes, predicted, channel.num_classes))
        found = {"data": channel.decomposition}
        for name, table in tables.items():
            key = "pid", table.tobytes()
            if key not in model.cache:
                try:
                    model.cache[key] = decompose(table, tolerance=TOLERANCE)
                except NotConverged as error:
                    raise Inapplicable(str(error)) from error
            found[name] = model.cache[key]
        parts = ("redundant", f"unique_{about}", f"unique_{captions.modality}", "synergistic")
        return {
            f"bits_{of}_{part}": bits
            for of, decomposition in found.items()
            for part, bits in zip(parts, decomposition, strict=True)
        }

    def _used(
        self, model: Model, captions: Captions, channel: Channel, about: str, indices: Int[np.ndarray, " example"]
    ) -> Float[np.ndarray, "image type class"]:
        """Returns P(image, type, prediction)."""
        words, shifts = types_of(channel)
        wanted = self.images if model.is_separable else self.costly_images
        fitting = max(1, TABLE // (len(words) * channel.num_classes))
        examples = indices[spaced(len(indices), min(wanted, fitting))]
        parts = {}
        if about in model.modalities:
            parts[about] = model.encode_one(about, examples)
        if captions.modality in model.modalities:
            key = "pid", "tokens", self.captions
            if key not in model.cache:
                texts: list[str] = []
                for of_type, shift in zip(words, shifts, strict=True):  # each in the same sentences
                    drawn = np.resize(of_type, self.captions)
                    texts += write(channel, drawn, np.full(self.captions, shift), seed=captions.seed or 0)
                model.cache[key] = tokens_of(model, captions, texts)
            parts[captions.modality] = model.encode_values(captions.modality, model.cache[key])
        predicted = model.grid(parts).argmax(-1)
        order = (about, captions.modality)
        axes = [sorted(parts).index(name) for name in order if name in parts]
        predicted = predicted.transpose(axes) if len(axes) == 2 else predicted
        rows = predicted[:, None] if captions.modality not in parts else predicted
        rows = rows[None] if about not in parts else rows
        shape = len(examples), len(words) * self.captions
        onehot = np.eye(channel.num_classes)[np.broadcast_to(rows, shape)]
        given = onehot.reshape(len(examples), len(words), self.captions, -1).mean(2)  # P(prediction | image, type)
        return weights(channel, model.dataset.classes[examples])[:, :, None] * given


def _predicted(model: Model, modality: str) -> Int[np.ndarray, " example"] | None:
    """Returns the class that the unimodal model of the seed predicts of each test example; None if it is not there."""
    alone = model.alone(modality)
    try:
        return None if alone is None else model.load(alone).stored["test_logits"].argmax(1)
    except UserError:  # a damaged run; the other bits do not need it
        return None


def types_of(channel: Channel) -> tuple[list[Int[np.ndarray, " word"]], Int[np.ndarray, " type"]]:
    """Returns the words and the shift of each type of caption: those pairs of a word's type and a shift that occur."""
    shifts = np.flatnonzero(channel.shift_probabilities)
    words = channel.word_types
    return [of_type for of_type in words for _ in shifts], np.tile(shifts, len(words))


def given_class(channel: Channel) -> Float[np.ndarray, "class type"]:
    """Returns P(type | y), in the order of `types_of`."""
    words, shifts = types_of(channel)
    of_words = np.stack([channel.word_probabilities[:, of_type].sum(1) for of_type in words], axis=1)
    return of_words * channel.shift_probabilities[shifts]


def weights(channel: Channel, classes: Int[np.ndarray, " example"]) -> Float[np.ndarray, "example type"]:
    """Returns P(example, type) for examples of these classes, where a class shares its prior among its examples."""
    counts = np.bincount(classes, minlength=channel.num_classes)
    of_examples = (channel.prior / np.maximum(counts, 1))[classes]
    return (of_examples / of_examples.sum())[:, None] * given_class(channel)[classes]


def confusion(
    classes: Int[np.ndarray, " example"], predicted: Int[np.ndarray, " example"], num_classes: int
) -> Float[np.ndarray, "class prediction"]:
    """Returns the fractions P(prediction | class); those of a class without examples are 0."""
    counts = np.zeros((num_classes, num_classes))
    np.add.at(counts, (classes, predicted), 1)
    return counts / np.maximum(counts.sum(1, keepdims=True), 1)


def of_image_model(
    channel: Channel, confused: Float[np.ndarray, "class prediction"]
) -> Float[np.ndarray, "prediction type target"]:
    """Returns P(prediction, type, target): the class is known through the predictions of an image model alone."""
    _, shifts = types_of(channel)
    y, kind = np.ogrid[: channel.num_classes, : len(shifts)]
    of_target = np.zeros((channel.num_classes, len(shifts), channel.num_classes))  # P(y, type, t)
    of_target[y, kind, (y + shifts) % channel.num_classes] = channel.prior[:, None] * given_class(channel)
    table = np.einsum("yp,ykt->pkt", confused, of_target)
    return table / table.sum()
