"""From a configuration to a dataset: images, splits, captions, tokens."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fusion_bench.config import DataConfig
from fusion_bench.data import splits
from fusion_bench.data.captions import channel as channels
from fusion_bench.data.captions import files
from fusion_bench.data.captions.texts import tokenize
from fusion_bench.data.dataset import Captions, Dataset, RawDataset
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
    labels, captions = raw.labels, None
    texts: dict[str, Sequence[tuple[str, ...]]] = {name: [(text,) for text in of] for name, of in raw.texts.items()}
    has_text = TEXT in raw.modalities or TEXT in texts
    if has_text and config.captions != DataConfig.captions:
        rule = f"{raw.name} brings a text of its own, which captions cannot replace"
        raise ConfigError("captions", config.captions, rule)
    if not has_text:
        captions, labels, texts[TEXT] = _captions(config, raw, np.concatenate([*indices.values()]))
    if not texts and config.tokenizer != "auto":
        raise ConfigError("tokenizer", config.tokenizer, f"it does nothing, as {raw.name} has no strings to read")
    read = {name: tokenize(name, of, indices, config) for name, of in texts.items()}
    return Dataset(
        name=raw.name,
        modalities={**raw.modalities, **{name: text.modality for name, text in read.items()}},
        labels=labels,
        classes=raw.labels,
        class_names=raw.class_names,
        splits=indices,
        captions=captions,
        description=raw.description,
        notes=(*raw.notes, *(note for text in read.values() for note in text.notes)),
        tokenizers={name: text.tokenizer for name, text in read.items()},
    )


def _captions(
    config: DataConfig, raw: RawDataset, needed: np.ndarray
) -> tuple[Captions, np.ndarray, Sequence[tuple[str, ...]]]:
    """Returns the captions, the target of each example, and its texts; of a file, of the examples needed only."""
    drawn_from: dict[str, Any]
    about = _class_modality(raw)
    if files.is_caption_file(config.captions):
        path = Path(config.captions).expanduser()
        texts = files.read_captions(path, len(raw.labels), np.sort(needed), raw.ids)
        labels, drawn_from = raw.labels, {}
    else:
        prior = np.bincount(raw.labels, minlength=len(raw.class_names)) / len(raw.labels)
        channel = channels.make_channel(config.captions, raw.class_names, prior)
        drawn = channels.sample(channel, raw.labels, config.data_seed)
        texts, labels = [(text,) for text in drawn.texts], drawn.targets
        drawn_from = {"channel": channel, "words": drawn.words, "shifts": drawn.shifts}
    firsts = tuple(each[0] if each else "" for each in texts)
    return Captions(firsts, TEXT, about, **drawn_from), labels, texts


def _class_modality(raw: RawDataset) -> str | None:
    """Returns the modality that shows the class: the image, or the only one there is."""
    (first, *others) = sorted([*raw.modalities, *raw.texts], key=lambda name: name != "image")
    return first if first == "image" or not others else None
