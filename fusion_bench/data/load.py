"""From a configuration to a dataset: images, splits, captions, tokens."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fusion_bench.config import DataConfig
from fusion_bench.data import checks, splits
from fusion_bench.data.captions import channel as channels
from fusion_bench.data.captions import files, tokenizer
from fusion_bench.data.dataset import Captions, Dataset, Modality, RawDataset
from fusion_bench.data.sources.base import load_raw
from fusion_bench.errors import ConfigError

if TYPE_CHECKING:
    import tokenizers

TEXT = "text"
"""The name of the modality that captions become."""


NO_CAPTIONS, DEFAULT_CAPTIONS = "none", "default"


def load_dataset(config: DataConfig) -> Dataset:
    """Loads a source, cuts the splits, lays captions over it and turns texts into tokens.

    Determined by `config` and the files it names alone.

    Raises:
      UserError: the source, its files, the split sizes or the captions are not as they should be.
    """
    raw = load_raw(config)
    indices = splits.split(raw, config)
    wanted, notes = _wanted_captions(config, raw), list(raw.notes)
    modalities, texts = dict(raw.modalities), dict(raw.texts)
    if wanted != NO_CAPTIONS and TEXT in {*modalities, *texts}:
        notes.append(f"The captions, {Path(wanted).name}, take the place of the {TEXT} of {raw.name}.")
        modalities.pop(TEXT, None)
        texts.pop(TEXT, None)
    for name, values in texts.items():
        known = tokenizer.train_tokenizer(values[i] for i in indices["train"])
        modalities[name] = _tokens(known, values, indices["train"])
    captions, labels = None, raw.labels
    if wanted != NO_CAPTIONS:
        captions, labels = _captions(wanted, config, raw, indices["train"])
        modalities[TEXT] = _tokens(captions.tokenizer, captions.texts, indices["train"])
    modalities = _augmented(config, raw.name, modalities)
    return Dataset(
        name=raw.name,
        modalities=modalities,
        labels=labels,
        classes=raw.labels,
        class_names=raw.class_names,
        splits=indices,
        captions=captions,
        description=raw.description,
        notes=(*notes, *checks.notes(modalities, labels, indices)),
    )


def resolved(config: DataConfig, dataset: Dataset) -> DataConfig:
    """Returns a configuration with what "auto" has come to for its dataset, as a run records it."""
    captions, augment = config.captions, config.augment
    if captions == "auto":
        captions = NO_CAPTIONS if dataset.captions is None else DEFAULT_CAPTIONS
    if augment == "auto":
        found = {dataset.modalities[name].augment for name in dataset.task.images} or {()}
        augment = found.pop() if len(found) == 1 else augment
    return dataclasses.replace(config, captions=captions, augment=augment)


def _wanted_captions(config: DataConfig, raw: RawDataset) -> str:
    """Returns the channel or the file of captions, or "none".

    By default a file that brings several modalities, or a text, is taken as it is: captions are drawn from the labels,
    and would be one modality more that tells them.
    """
    if config.captions != "auto":
        return config.captions
    is_whole = raw.is_whole and (len(raw.modalities) + len(raw.texts) > 1 or bool(raw.texts))
    return NO_CAPTIONS if is_whole else DEFAULT_CAPTIONS


def _augmented(config: DataConfig, name: str, modalities: Mapping[str, Modality]) -> dict[str, Modality]:
    """Returns the modalities with the transformations that are asked for, on every image; "auto" keeps the source's."""
    if config.augment == "auto":
        return dict(modalities)
    images = [name for name, modality in modalities.items() if modality.spec.is_image]
    if config.augment and not images:
        raise ConfigError("augment", config.augment, f"{name} has no images of 8 bits to transform")
    chosen = {image: dataclasses.replace(modalities[image], augment=config.augment) for image in images}
    return {**modalities, **chosen}


def _captions(name: str, config: DataConfig, raw: RawDataset, train: np.ndarray) -> tuple[Captions, np.ndarray]:
    """Returns the captions and the target of each example."""
    drawn_from: dict[str, Any]
    about = _class_modality(raw)
    if files.is_caption_file(name):
        texts = files.read_captions(Path(name).expanduser(), len(raw.labels))
        labels, drawn_from = raw.labels, {}
    else:
        prior = np.bincount(raw.labels, minlength=len(raw.class_names)) / len(raw.labels)
        channel = channels.make_channel(name, raw.class_names, prior)
        drawn = channels.sample(channel, raw.labels, config.data_seed)
        texts, labels = drawn.texts, drawn.targets
        drawn_from = {"channel": channel, "words": drawn.words, "shifts": drawn.shifts}
    known = tokenizer.train_tokenizer(texts[i] for i in train)
    return Captions(texts, TEXT, about, known, **drawn_from), labels


def _class_modality(raw: RawDataset) -> str | None:
    """Returns the modality that shows the class: the only image, or the only modality there is."""
    images = [name for name, modality in raw.modalities.items() if modality.spec.is_image]
    found = images or [*raw.modalities, *raw.texts]
    return found[0] if len(found) == 1 else None


def _tokens(known: "tokenizers.Tokenizer", texts: Sequence[str], train: np.ndarray) -> Modality:
    """Tokenises texts; the longest one for training sets the length."""
    encoded = tokenizer.encode(known, texts)
    length = int(np.count_nonzero(encoded[train], axis=1).max())
    return Modality("tokens", encoded[:, :length], known.get_vocab_size())
