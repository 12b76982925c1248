"""Handwritten and spoken digits: an image and a recording of the same digit, split by speaker.

Images are scikit-learn's (1,797, 8x8), speech is the Free Spoken Digit Dataset (see `recordings`). Every recording is
one example. Nobody wrote and spoke at once: a recording gets an image of its class at random, so that image and speech
are independent given the class.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from fusion_bench import files
from fusion_bench.config import DataConfig
from fusion_bench.data import cache
from fusion_bench.data.dataset import SPLITS, Modality, RawDataset, Split
from fusion_bench.data.sources import recordings
from fusion_bench.data.sources.base import ClassWords, register_source
from fusion_bench.data.sources.tfds import data_root
from fusion_bench.data.spectrograms import LogMel
from fusion_bench.errors import ConfigError, UserError

WORDS = ClassWords(
    nouns={
        "zero": ("zero", "nought", "naught", "nil", "null", "zilch", "cipher"),
        "one": ("one", "ace", "unit", "single", "singleton", "monad", "solo"),
        "two": ("two", "pair", "couple", "duo", "deuce", "twosome", "brace"),
        "three": ("three", "trio", "triple", "triad", "threesome", "troika", "trey"),
        "four": ("four", "quartet", "foursome", "quad", "tetrad", "quadruple"),
        "five": ("five", "quintet", "fivesome", "pentad", "quintuple", "fiver"),
        "six": ("six", "sextet", "sixsome", "hexad", "sextuple", "sixer"),
        "seven": ("seven", "septet", "sevensome", "heptad", "septuple", "hebdomad"),
        "eight": ("eight", "octet", "eightsome", "octad", "octuple", "ogdoad"),
        "nine": ("nine", "nonet", "ninesome", "ennead", "nonuple", "niner"),
    },
    partitions={
        "coarse": {
            "curve": ("zero", "two", "three", "six", "eight", "nine"),
            "angle": ("one", "four", "five", "seven"),
        },
        "contrast": {
            "handful": ("zero", "one", "two", "three", "four", "five"),
            "armful": ("six", "seven", "eight", "nine"),
        },
        "pairs": {
            "stick": ("one", "seven"),
            "waist": ("three", "eight"),
            "stem": ("four", "nine"),
            "hook": ("five", "six"),
            "bow": ("zero", "two"),
        },
    },
)
CLASS_NAMES = tuple(WORDS.nouns)

LOG_MEL = LogMel(rate=recordings.RATE)
SECONDS = 1
"""Recordings are cut after this time."""
MIN_SPEAKERS = len(SPLITS)

_SPEAKERS, _IMAGES = 0, 1  # streams of random numbers


@register_source(
    "digits",
    summary="handwritten digits, 8x8, and spoken ones, split by speaker; needs recordings, or the network once",
    class_names=CLASS_NAMES,
    words=WORDS,
)
def load(config: DataConfig) -> RawDataset:
    """Returns the pairs by digit, speaker and index: image, uint8 [example, 8, 8, 1], and audio, a log-mel spectrogram.

    `config.data_dir` holds recordings, also in a folder `recordings`, or is, holds or gets TFDS's spoken_digit/1.0.9.
    Of the speakers, permuted by the data seed, a third is the test split and a sixth the validation split, rounded
    down, at least one each. Images are divided in proportion to the splits, by class, and drawn for the recordings of
    their class and split; none is drawn again before all were.

    Raises:
      UserError: as `recordings.find` and `recordings.read`; there are fewer than three speakers, or one lacks a digit;
        the test split is asked for from the training examples.
    """
    if config.test_from == "train":
        raise ConfigError("test_from", "train", "digits are split by speaker, which it would undo")
    root = data_root(config.data_dir, f"recordings {recordings.PATTERN}, or {recordings.SET}/{recordings.VERSION},")
    directory = recordings.find(root)
    with files.explained(f"cannot read {directory}"):
        stamp = f"{cache.files_stamp(directory)} {LOG_MEL} {SECONDS}"
    entry = cache.cache_directory(config.cache_dir) / f"digits-{files.digest_text(str(directory))[:16]}"
    spoken = cache.cached_arrays(entry, stamp, lambda: _decode(directory))
    labels, speakers = spoken["digit"], spoken["speaker"]
    _check(directory, labels, speakers)

    groups = split_speakers(speakers, config.data_seed)
    split = np.select([np.isin(speakers, group) for group in groups.values()], list(groups), default="")
    images, image_labels = handwritten()
    drawn = pair(labels, split, image_labels, config.data_seed)
    return RawDataset(
        name="digits",
        modalities={
            "image": Modality("grid", images[drawn]),
            "audio": Modality("sequence", spoken["audio"], mask=spoken["mask"]),
        },
        labels=labels,
        class_names=CLASS_NAMES,
        split=split,
        description=f"scikit-learn's digits and {len(labels):,} recordings of {len(np.unique(speakers))} speakers",
        ids=tuple(spoken["name"].tolist()),
        notes=(*_pairing_notes(groups, split, drawn), *_length_notes(spoken["samples"])),
    )


def handwritten() -> tuple[UInt8[np.ndarray, "image 8 8 1"], Int[np.ndarray, " image"]]:
    """Returns scikit-learn's images and their labels; its levels v = 0..16 become 255 v / 16, halves rounded up."""
    from sklearn.datasets import load_digits

    found: Any = load_digits()
    levels = found.images.astype(np.int64)[..., None]
    return ((255 * levels + 8) // 16).astype(np.uint8), found.target


def split_speakers(speakers: np.ndarray, seed: int) -> Mapping[Split, np.ndarray]:
    """Returns the names of the speakers of each split; `speakers` has that of every recording."""
    names = np.random.default_rng([seed, _SPEAKERS]).permutation(np.unique(speakers))
    test, validation = max(1, len(names) // 3), max(1, len(names) // 6)
    parts = np.split(names, [test, test + validation])
    return {"train": np.sort(parts[2]), "validation": np.sort(parts[1]), "test": np.sort(parts[0])}


def pair(
    labels: Int[np.ndarray, " example"], split: np.ndarray, image_labels: Int[np.ndarray, " image"], seed: int
) -> Int[np.ndarray, " example"]:
    """Returns the index of an image for each example, of its class and of none but its split.

    Of a class, each split gets one image, and its share of the others.
    """
    drawn = np.zeros(len(labels), np.int64)
    shares = [(split == name).mean() for name in SPLITS[:-1]]
    for label in np.unique(labels):
        rng = np.random.default_rng([seed, _IMAGES, label])
        pool = rng.permutation(np.flatnonzero(image_labels == label))
        sizes = [1 + int((len(pool) - len(SPLITS)) * share) for share in shares]
        for name, images in zip(SPLITS, np.split(pool, np.cumsum(sizes)), strict=True):
            rows = np.flatnonzero((labels == label) & (split == name))
            rounds = [rng.permutation(images) for _ in range(0, len(rows), len(images))]
            drawn[rows] = np.concatenate(rounds)[: len(rows)]
    return drawn


def _decode(directory: Path) -> dict[str, np.ndarray]:
    """Returns the spectrogram of every recording, with its mask, label, speaker, name and number of samples."""
    found = recordings.read(directory)
    limit = SECONDS * LOG_MEL.rate
    audio = np.zeros((len(found), LOG_MEL.frames(limit), LOG_MEL.bands), np.float32)
    mask = np.zeros(audio.shape[:2], bool)
    for row, one in enumerate(found):
        spectrogram = LOG_MEL(one.samples[:limit] / 2.0**15)
        audio[row, : len(spectrogram)], mask[row, : len(spectrogram)] = spectrogram, True
    return {
        "audio": audio,
        "mask": mask,
        "digit": np.array([one.digit for one in found], np.int32),
        "speaker": np.array([one.speaker for one in found]),
        "name": np.array([one.name for one in found]),
        "samples": np.array([len(one.samples) for one in found]),
    }


def _check(directory: Path, labels: np.ndarray, speakers: np.ndarray) -> None:
    names = np.unique(speakers)
    if len(names) < MIN_SPEAKERS:
        wanted = f"{MIN_SPEAKERS} or more are needed, one for each split"
        raise UserError(f"{directory} has recordings of {len(names)} speakers ({', '.join(names)}); {wanted}")
    for name in names:
        missing = set(range(len(CLASS_NAMES))) - set(labels[speakers == name].tolist())
        if missing:
            wanted = "every speaker needs a recording of each digit"
            raise UserError(f"{directory} has no recording of {min(missing)} by {name}; {wanted}")


def _pairing_notes(groups: Mapping[Split, np.ndarray], split: np.ndarray, drawn: np.ndarray) -> tuple[str, str]:
    parts = []
    for name, speakers in groups.items():
        counts = np.unique(drawn[split == name], return_counts=True)[1]
        parts.append(f"{name}: {', '.join(speakers)} ({counts.sum():,} recordings; {len(counts):,} images, ")
        parts[-1] += f"each at most {counts.max()}×)"
    return (
        "Every recording has an image of its class at random: given the class, image and speech are independent, so "
        "late-posthoc is the Bayes-optimal use of its unimodal models, up to their calibration.",
        f"Speakers of {'; '.join(parts)}.",
    )


def _length_notes(samples: np.ndarray) -> tuple[str, ...]:
    cut = int((samples > SECONDS * LOG_MEL.rate).sum())
    return (f"{cut} of {len(samples):,} recordings are longer than {SECONDS} s and cut there.",) if cut else ()
