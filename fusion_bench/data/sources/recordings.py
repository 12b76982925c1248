"""The Free Spoken Digit Dataset: a folder of its recordings, or TFDS's `spoken_digit:1.0.9` without TensorFlow.

TFDS reads the recordings with pydub and describes them by a feature that imports TensorFlow. Its own builder with
these steps replaced stores the same numbers.

Reference: Jackson et al., Free Spoken Digit Dataset, 2018, doi:10.5281/zenodo.1342401; CC BY-SA 4.0.
"""

import dataclasses
import io
import os
import re
import tarfile
import wave
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Int16

from fusion_bench import files
from fusion_bench.data.sources import preparation
from fusion_bench.data.sources.tfds import AGAIN, FILE_FORMAT, damage_of, versions_near
from fusion_bench.errors import UserError, cause

SET, VERSION = "spoken_digit", "1.0.9"
PATTERN = "{digit}_{speaker}_{index}.wav"
RATE = 8000

_NAME = re.compile(r"(?P<digit>[0-9])_(?P<speaker>.+)_(?P<index>[0-9]+)\.(?i:wav)")
_FORM = f"1 channel of 16 bits at {RATE} Hz"


@dataclasses.dataclass(frozen=True, eq=False)
class Recording:
    """One spoken digit: what its name says, and its samples at `RATE`."""

    name: str
    digit: int
    speaker: str
    index: int
    samples: Int16[np.ndarray, " sample"]


def find(root: Path) -> Path:
    """Returns the folder of recordings, or of the prepared set, in or near a directory; prepares it if there is none.

    Raises:
      UserError: a folder `recordings` has none, the set is there in another version alone, or cannot be prepared.
    """
    folders = root, root / "recordings"
    with files.explained(f"cannot read {root}"):
        for folder in folders:
            if _wav_files(folder):
                return folder
    for folder in folders:
        if folder.name == "recordings" and folder.is_dir():
            raise UserError(f"{folder} has no recordings; files {PATTERN} are right")
    if (directory := root / SET / VERSION).exists():
        return directory
    found = {folder.name: folder for folder in versions_near(root, SET)}
    if found and VERSION not in found:
        ways = f"an empty directory is where {VERSION} is prepared"
        raise UserError(f"{max(found.values()).parent} has version {max(found)} and not {VERSION}; {ways}")
    return found.get(VERSION) or preparation.prepare(builder_class(), root, f", or recordings {PATTERN}")


def read(directory: Path) -> list[Recording]:
    """Returns the recordings of a folder that `find` returned, by digit, speaker and index.

    Raises:
      UserError: there are none, or one has another name, is damaged, or has another form.
    """
    with files.explained(f"cannot read {directory}"):
        found = [_named(path, samples(path, path.read_bytes())) for path in _wav_files(directory)]
    found = found or [_named(directory / name, values) for name, values in _prepared(directory)]
    if not found:
        raise UserError(f"{directory} has no recordings; files {PATTERN} are right")
    return sorted(found, key=lambda one: (one.digit, one.speaker, one.index, one.name))


def _wav_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.suffix.lower() == ".wav" and path.is_file())


def _named(path: Path, values: np.ndarray) -> Recording:
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise UserError(f"{path} has the wrong name; {PATTERN} is right, as in 7_jackson_32.wav")
    return Recording(path.name, int(match["digit"]), match["speaker"], int(match["index"]), values)


def samples(path: Path, content: bytes) -> Int16[np.ndarray, " sample"]:
    """Returns the samples of a wav file. Several channels are not mixed: the published recordings have one.

    Raises:
      UserError: it is damaged, or has not one channel of 16 bits at `RATE`.
    """
    try:
        with wave.open(io.BytesIO(content)) as file:
            channels, width, rate, count = file.getparams()[:4]
            frames = file.readframes(count)
    except (wave.Error, EOFError, RuntimeError) as error:
        if "unknown format" in str(error):
            raise UserError(f"{path} is not of integer samples (PCM); {_FORM} is right") from error
        why = "a chunk is longer than the file" if isinstance(error, RuntimeError) else cause(error)
        raise UserError(f"{path} is damaged ({why}); fetch it again") from error
    if (channels, width, rate) != (1, 2, RATE):
        form = f"{channels} channel{'s' * (channels > 1)} of {8 * width} bits at {rate} Hz"
        raise UserError(f"{path} has {form}; {_FORM} is right")
    if not count or len(frames) != 2 * count:
        raise UserError(f"{path} is damaged ({len(frames) // 2} of {count} samples are there); fetch it again")
    return np.frombuffer(frames, "<i2").astype(np.int16)


def _prepared(directory: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the name and the samples of every recording of the prepared set."""
    if not (directory / "dataset_info.json").exists():
        raise UserError(f"{directory} is damaged (dataset_info.json is missing); {AGAIN}")
    with damage_of(directory):
        builder = builder_class()(data_dir=os.fspath(directory.parents[1]))
        if (form := builder.info.file_format.value) != FILE_FORMAT:
            again = f"prepare it as {FILE_FORMAT} in another directory"
            raise UserError(f"{directory} is in {form}, which needs TensorFlow; {again}")
        for example in builder.as_data_source(split="train"):
            yield example["audio/filename"].decode(), example["audio"].astype(np.int16)


def builder_class() -> Any:
    """Returns TFDS's own builder of the set, with the steps replaced that need TensorFlow or pydub."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.registered import skip_registration

    official: Any = tfds.builder_cls(SET)

    with skip_registration():  # the name stays the official builder's

        class SpokenDigit(official):
            url_infos = official.url_infos

            def _info(self):
                features = {
                    "audio": tfds.features.Tensor(shape=(None,), dtype=np.int64),  # as the feature Audio stores it
                    "label": tfds.features.ClassLabel(num_classes=10),
                    "audio/filename": tfds.features.Text(),
                }
                described = tfds.features.FeaturesDict(features)
                return self.dataset_info_from_configs(features=described, supervised_keys=("audio", "label"))

            def _split_generators(self, dl_manager):
                (url,) = self.url_infos
                return {"train": self._generate_examples(dl_manager.download(url))}

            def _generate_examples(self, path):
                with tarfile.open(path) as tar:
                    for member in tar:
                        at = PurePosixPath(member.name)
                        file = (
                            tar.extractfile(member) if (at.parent.name, at.suffix) == ("recordings", ".wav") else None
                        )
                        if file is not None:
                            audio = samples(path / at, file.read()).astype(np.int64)
                            yield at.stem, {"audio": audio, "label": at.name[0], "audio/filename": at.name}

    return SpokenDigit
