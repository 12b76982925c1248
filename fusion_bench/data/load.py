"""From a configuration to a dataset: images, splits, captions, tokens."""

from pathlib import Path
from typing import Any

import numpy as np

from fusion_bench.config import DataConfig
from fusion_bench.data import splits
from fusion_bench.data.captions import channel as channels
from fusion_bench.data.captions import files, tokenizer
from fusion_bench.data.dataset import Captions, Dataset, Modality, RawDataset
from fusion_bench.data.sources.base import load_raw
from fusion_bench.errors import ConfigError

TEXT = "text"
"""The name of the modality that captions become."""


def load_dataset(config: DataConfig) -> Dataset:
    """Loads images, cuts the splits, lays captions over them and turns these into tokens.

    Determined by `config` and the files it names alone. A source that brings a modality `text` of its own keeps it.

    Raises:
      UserError: the source, its files, the split sizes or the captions are not as they should be, or captions are
        asked for where there is a text already.
    """
    raw = load_raw(config)
    indices = splits.split(raw, config)
    modalities, labels, text = dict(raw.modalities), raw.labels, None
    if TEXT in raw.modalities and config.captions != DataConfig.captions:
        rule = f"{raw.name} brings a text of its own, which captions cannot replace"
        raise ConfigError("captions", config.captions, rule)
    if TEXT not in raw.modalities:
        text, labels = _captions(config, raw, indices["train"])
        modalities[TEXT] = _tokens(text, indices["train"])
    return Dataset(
        name=raw.name,
        modalities=modalities,
        labels=labels,
        classes=raw.labels,
        class_names=raw.class_names,
        splits=indices,
        captions=text,
        description=raw.description,
        notes=raw.notes,
    )


def _captions(config: DataConfig, raw: RawDataset, train: np.ndarray) -> tuple[Captions, np.ndarray]:
    """Returns the captions and the target of each example."""
    drawn_from: dict[str, Any]
    about = _class_modality(raw)
    if files.is_caption_file(config.captions):
        texts = files.read_captions(Path(config.captions), len(raw.labels))
        labels, drawn_from = raw.labels, {}
    else:
        prior = np.bincount(raw.labels, minlength=len(raw.class_names)) / len(raw.labels)
        channel = channels.make_channel(config.captions, raw.class_names, prior)
        drawn = channels.sample(channel, raw.labels, config.data_seed)
        texts, labels = drawn.texts, drawn.targets
        drawn_from = {"channel": channel, "words": drawn.words, "shifts": drawn.shifts}
    known = tokenizer.train_tokenizer(texts[i] for i in train)
    return Captions(texts, TEXT, about, known, **drawn_from), labels


def _class_modality(raw: RawDataset) -> str | None:
    """Returns the modality that shows the class: the image, or the only one there is."""
    (first, *others) = sorted(raw.modalities, key=lambda name: name != "image")
    return first if first == "image" or not others else None


def _tokens(text: Captions, train: np.ndarray) -> Modality:
    """Tokenises every caption; the longest training caption sets the length."""
    encoded = tokenizer.encode(text.tokenizer, text.texts)
    length = int(np.count_nonzero(encoded[train], axis=1).max())
    return Modality("tokens", encoded[:, :length], text.tokenizer.get_vocab_size())
