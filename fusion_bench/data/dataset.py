"""Datasets: named modalities, labels, splits, and a fingerprint of all of it."""

import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from fusion_bench.errors import UserError

if TYPE_CHECKING:
    import tokenizers

    from fusion_bench.data.captions.channel import Channel

Kind = Literal["grid", "tokens", "sequence", "vector"]
Transform = Literal["flip", "translate"]
Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

IMAGE_CHANNELS = (1, 3, 4)
"""Numbers of channels of an image: grey, RGB, RGBA."""

PAD = 0
"""The token id that stands for no token: a token's mask is `values != PAD`."""


@dataclasses.dataclass(frozen=True)
class ModalitySpec:
    """One modality without its values; the attributes are those of `Modality`, `shape` is that of one example."""

    kind: Kind
    shape: tuple[int, ...]
    vocabulary_size: int | None = None
    augment: tuple[Transform, ...] = ()
    dtype: str = "float32"

    @property
    def is_image(self) -> bool:
        """Whether it is a grid of 8-bit pixels that are grey, in colour, or in colour and transparent."""
        return self.kind == "grid" and self.dtype == "uint8" and self.shape[-1] in IMAGE_CHANNELS


@dataclasses.dataclass(frozen=True)
class Task:
    """The facts that a model is built from: the modalities by name, and the number of classes."""

    modalities: Mapping[str, ModalitySpec]
    num_classes: int

    @property
    def augmented(self) -> Mapping[str, tuple[Transform, ...]]:
        """The transformations of training examples, by the name of the modality, where there are any."""
        return {name: spec.augment for name, spec in self.modalities.items() if spec.augment}

    @property
    def images(self) -> tuple[str, ...]:
        """The names of the modalities that are images."""
        return tuple(name for name, spec in self.modalities.items() if spec.is_image)


class Alternatives(NamedTuple):
    """All texts of each example, where some have several: training draws one of them, evaluation reads the first.

    Attributes:
      values: int32 [text, token]; those of an example lie one after another.
      first: index of the first text of each example, int32 [example].
      count: number of its texts, 1 or more, int32 [example].
    """

    values: Any
    first: Any
    count: Any


@dataclasses.dataclass(frozen=True)
class Modality:
    """One modality of every example.

    Attributes:
      kind: "grid" (an image or a spectrogram), "tokens" (words), "sequence" (features at each of several times) or
        "vector" (features).
      values: grid, uint8 in 0..255 or float32, [example, height, width, channel];
        tokens, int32, [example, token], padded with `PAD`; sequence, float32, [example, token, feature], a token a
        step; vector, float32, [example, feature].
      vocabulary_size: number of token ids, for tokens only.
      augment: random transformations in training: "flip", left to right, and "translate", by an eighth of its size at
        most; those after which an example keeps its class, grids only.
      mask: True where there is a step, bool [example, token], somewhere in each example but those of `missing`;
        sequences only, None for all steps. What the values are where it is False changes nothing.
      alternatives: of tokens, where some examples have several texts.
      missing: True for the training examples that lack the modality, bool [example]; None if none does. Their values
        are the mean of the other training examples; a text has no token then, a sequence no step.
    """

    kind: Kind
    values: np.ndarray
    vocabulary_size: int | None = None
    augment: tuple[Transform, ...] = ()
    mask: np.ndarray | None = None
    alternatives: Alternatives | None = None
    missing: np.ndarray | None = None

    @property
    def spec(self) -> ModalitySpec:
        return ModalitySpec(
            self.kind, self.values.shape[1:], self.vocabulary_size, self.augment, str(self.values.dtype)
        )


@dataclasses.dataclass(frozen=True)
class RawDataset:
    """Data of a source, before captions are drawn and validation is cut from training data.

    Attributes:
      name: as in the tables, for example "cifar10".
      modalities: by name; those that the source itself has.
      labels: the class y of each example, int32 [example].
      class_names: by label.
      split: "train", "validation" or "test" for each example, a string array [example].
      description: where the data come from, one line; shown beside every number.
      texts: modalities that are text and no tokens yet, by name, one string an example.
      is_captioned: whether captions are drawn by default though the source brings several modalities.
      ids: names of the examples, for captions; empty where they have none.
      notes: sentences that a reader of a result must know, such as what was ignored in a file.
    """

    name: str
    modalities: Mapping[str, Modality]
    labels: np.ndarray
    class_names: tuple[str, ...]
    split: np.ndarray
    description: str = ""
    texts: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    is_captioned: bool = False
    ids: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in (*self.modalities, *self.texts):
            if not re.fullmatch(r"\w+", name):  # "NAME-only" is a strategy
                raise UserError(f"{self.name}: no modality can be called {name!r}; use letters, digits and _")


@dataclasses.dataclass(frozen=True)
class Captions:
    """The captions of a dataset, as text.

    Attributes:
      texts: one caption an example, the first where a file has several; empty where it has none, or lacks it.
      modality: the name of the modality that they became.
      about: the name of the modality that shows the class y, which captions are about; None if several could.
      channel: what the captions were drawn from; None if they came from a file.
      words: index of the informative word w in `channel.words`, int32 [example]; None without a channel, -1 where a
        speaker said nothing, which is outside the splits.
      shifts: the shift k, int32 [example]; None without a channel. That of a misaligned training example is its text's,
        not the one that its label follows from.
      seed: of the draws; None without a channel.
    """

    texts: tuple[str, ...]
    modality: str
    about: str | None
    channel: "Channel | None" = None
    words: np.ndarray | None = None
    shifts: np.ndarray | None = None
    seed: int | None = None


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Everything a study trains and tests on, in host memory; what is not said here is as in `RawDataset`.

    Attributes:
      labels: what is predicted, the target t, int32 [example].
      classes: the class y, int32 [example]; differs from `labels` only where a caption channel shifts it.
      splits: indices of the examples of "train", "validation" and "test", int32 each.
      captions: None where the dataset brought its own tokens or texts.
      tokenizers: what turned each text into tokens, by modality; trained on the training texts.
    """

    name: str
    modalities: Mapping[str, Modality]
    labels: np.ndarray
    classes: np.ndarray
    class_names: tuple[str, ...]
    splits: Mapping[Split, np.ndarray]
    captions: Captions | None = None
    description: str = ""
    notes: tuple[str, ...] = ()
    tokenizers: "Mapping[str, tokenizers.Tokenizer]" = dataclasses.field(default_factory=dict)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def task(self) -> Task:
        specs = {name: modality.spec for name, modality in self.modalities.items()}
        return Task(specs, self.num_classes)

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 over all that a result can depend on, and over what token ids and labels mean."""
        digest = hashlib.sha256()
        arrays = {
            **{f"modality/{name}": modality.values for name, modality in self.modalities.items()},
            **{f"mask/{name}": m.mask for name, m in self.modalities.items() if m.mask is not None},
            **{f"missing/{name}": m.missing for name, m in self.modalities.items() if m.missing is not None},
            **{f"split/{name}": indices for name, indices in self.splits.items()},
            "labels": self.labels,
            "classes": self.classes,
        }
        for name, modality in self.modalities.items():
            if modality.alternatives is not None:
                arrays |= {f"{part} of modality/{name}": a for part, a in modality.alternatives._asdict().items()}
        for name in sorted(arrays):
            array = np.ascontiguousarray(arrays[name])
            digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
            digest.update(array.data)
        meaning = {
            "augmented": sorted(self.task.augmented.items()),
            "class names": self.class_names,
            "vocabularies": {name: tokenizer.get_vocab() for name, tokenizer in self.tokenizers.items()},
        }
        digest.update(json.dumps(meaning, sort_keys=True).encode())
        return digest.hexdigest()
