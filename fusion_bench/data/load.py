"""From a configuration to a dataset: images, splits, captions, tokens, damage."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fusion_bench.config import DataConfig
from fusion_bench.data import checks, splits
from fusion_bench.data.captions import channel as channels
from fusion_bench.data.captions import files, speaker, spec
from fusion_bench.data.captions.texts import tokenize
from fusion_bench.data.damage import damage
from fusion_bench.data.dataset import Captions, Dataset, Modality, RawDataset, Split
from fusion_bench.data.sources.base import load_raw
from fusion_bench.errors import ConfigError

TEXT = "text"
"""The name of the modality that captions become."""


NO_CAPTIONS, DEFAULT_CAPTIONS = "none", "default"


def load_dataset(config: DataConfig) -> Dataset:
    """Loads a source, cuts the splits, lays captions over it, turns texts into tokens and damages the training split.

    Determined by `config` and the files it names alone.

    Raises:
      UserError: the source, its files, the split sizes, the captions or the damage are not as they should be.
    """
    raw = load_raw(config)
    indices = splits.split(raw, config)
    wanted, notes, labels, captions = _wanted_captions(config, raw), list(raw.notes), raw.labels, None
    if config.test_from == "train":
        notes.append(f"The test examples are drawn from the training examples of {raw.name}; its own are unused.")
    modalities = dict(raw.modalities)
    texts: dict[str, Sequence[tuple[str, ...]]] = {name: [(text,) for text in of] for name, of in raw.texts.items()}
    if wanted != NO_CAPTIONS:
        if TEXT in {*modalities, *texts}:
            notes.append(f"The captions, {spec.recorded_name(wanted)}, take the place of the {TEXT} of {raw.name}.")
            modalities.pop(TEXT, None)
        captions, labels, texts[TEXT], more = _captions(wanted, config, raw, indices)
        notes += more
    if not texts and config.tokenizer != "auto":
        raise ConfigError("tokenizer", config.tokenizer, f"it does nothing, as {raw.name} has no strings to read")
    read = {name: tokenize(name, of, indices, config) for name, of in texts.items()}
    modalities |= {name: text.modality for name, text in read.items()}
    modalities = _augmented(config, raw.name, modalities)
    notes += [note for text in read.values() for note in text.notes]
    dataset = Dataset(
        name=raw.name,
        modalities=modalities,
        labels=labels,
        classes=raw.labels,
        class_names=raw.class_names,
        splits=indices,
        captions=captions,
        description=raw.description,
        notes=(*notes, *checks.notes(modalities, labels, indices)),
        tokenizers={name: text.tokenizer for name, text in read.items()},
    )
    return damage(dataset, config)


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

    By default data with several modalities, with a text, or whose modalities are chosen, get none: captions are drawn
    from the labels, and would be one modality more that tells them.
    """
    if config.captions != "auto":
        return config.captions
    is_whole = len(raw.modalities) > 1 or bool(raw.texts or config.modalities) or TEXT in raw.modalities
    return NO_CAPTIONS if is_whole and not raw.is_captioned else DEFAULT_CAPTIONS


def _augmented(config: DataConfig, name: str, modalities: Mapping[str, Modality]) -> dict[str, Modality]:
    """Returns the modalities with the transformations that are asked for, on every image; "auto" keeps the source's."""
    if config.augment == "auto":
        return dict(modalities)
    images = [name for name, modality in modalities.items() if modality.spec.is_image]
    if config.augment and not images:
        raise ConfigError("augment", config.augment, f"{name} has no images of 8 bits to transform")
    augment = tuple(sorted(set(config.augment)))
    chosen = {image: dataclasses.replace(modalities[image], augment=augment) for image in images}
    return {**modalities, **chosen}


class _Captioned(NamedTuple):
    """The captions, the target of each example, its texts, and sentences that a reader of a result must know."""

    captions: Captions
    labels: np.ndarray
    texts: Sequence[tuple[str, ...]]
    notes: tuple[str, ...] = ()


def _captions(name: str, config: DataConfig, raw: RawDataset, splits: Mapping[Split, np.ndarray]) -> _Captioned:
    """Returns the captions of a dataset; from a file, be it of captions or of a speaker, of its splits only."""
    about, needed = _class_modality(raw), np.sort(np.concatenate([*splits.values()]))
    if spec.is_caption_file(name):
        texts = files.read_captions(Path(name), len(raw.labels), needed, raw.ids)
        firsts = tuple(each[0] if each else "" for each in texts)
        return _Captioned(Captions(firsts, TEXT, about), raw.labels, texts)
    num_classes, said_by = len(raw.class_names), spec.parse_spec(name).speaker
    prior, is_told = np.bincount(raw.labels, minlength=num_classes) / len(raw.labels), np.ones(len(raw.labels), bool)
    named, confusion, notes = None, None, ()
    if said_by is not None:
        named, train = speaker.read_named(Path(said_by), raw, needed), splits["train"]
        confusion = speaker.count_confusion(named[train], raw.labels[train], num_classes)
        notes, is_told = speaker.notes(named, raw.labels, splits), named != speaker.UNKNOWN
    channel = channels.make_channel(name, raw.class_names, prior, confusion)
    drawn = channels.sample(channel, raw.labels, config.data_seed, named)
    firsts = tuple(text if told else "" for text, told in zip(drawn.texts, is_told.tolist(), strict=True))
    captions = Captions(firsts, TEXT, about, channel, drawn.words, drawn.shifts, config.data_seed)
    return _Captioned(captions, drawn.targets, [(text,) if text else () for text in firsts], notes)


def _class_modality(raw: RawDataset) -> str | None:
    """Returns the modality that shows the class: the only image, or the only modality there is."""
    images = [name for name, modality in raw.modalities.items() if modality.spec.is_image]
    found = images or [*raw.modalities, *raw.texts]
    return found[0] if len(found) == 1 else None
