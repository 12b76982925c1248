"""Any prepared TFDS set of images with one label each, read without TensorFlow.

"tfds:NAME" is the highest version in the data directory, "tfds:NAME/CONFIG:VERSION" a certain one. The decoded images
are cached; after that TFDS is not imported any more.
"""

import contextlib
import io
import itertools
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fusion_bench import files
from fusion_bench.config import DataConfig
from fusion_bench.data import cache
from fusion_bench.data.dataset import SPLITS, Modality, RawDataset, Transform
from fusion_bench.data.sources.base import register_source
from fusion_bench.errors import UserError, cause

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

FILE_FORMAT = "array_record"
AGAIN = "remove it and prepare it again"

_NAME = re.compile(r"(?P<path>\w+(/[\w.+-]+)?)(:(?P<version>[\d.*]+))?")
_VERSION = re.compile(r"\d+\.\d+\.\d+")
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # Pillow's names for numbers of channels


@register_source(
    "tfds:NAME",
    summary="a prepared TFDS set of labelled images, NAME or NAME/CONFIG:VERSION; no TensorFlow, no network",
    options=("image_size",),
)
def load(config: DataConfig) -> RawDataset:
    """Returns a prepared image classification set, with its splits train, validation (if it has one) and test.

    Raises:
      UserError: it is not prepared as array_record, is damaged, has not one image and one label an example, lacks a
        split, or its images differ in size and `config.image_size` does not say which they should have.
    """
    name = config.source.removeprefix("tfds:")
    directory = _find(name, data_root(config.data_dir, name))
    full_name = f"tfds:{name.partition(':')[0]}"
    return load_prepared(full_name, directory, config, lambda _, info: f"TFDS {info.full_name}")


def data_root(data_dir: Path | None, wanted: str) -> Path:
    """Returns the directory of all prepared sets: as given, else $TFDS_DATA_DIR, else ~/tensorflow_datasets.

    Raises:
      UserError: the given one is not there; `wanted` says what it should hold.
    """
    if data_dir is not None and not data_dir.is_dir():
        raise UserError(f"no directory {data_dir}; one that holds {wanted} is right")
    root = data_dir or Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")
    return root.expanduser().resolve()


def versions_near(root: Path, name: str) -> list[Path]:
    """Returns the directories of the versions of a set in a directory of sets; where it has none, those near it.

    Near is up to two folders below it, or above it where it is a folder of the set itself.

    Raises:
      UserError: there are some in several places near it, or they cannot be read.
    """
    above = [base for base in root.parents[:3] if root.is_relative_to(base / name)]
    with files.explained(f"cannot read {root}"):
        found = {base: _versions(base / name) for base in (root, *above, *root.glob("*/"), *root.glob("*/*/"))}
    places = [root] if found[root] else [base for base, versions in found.items() if versions]
    if len(places) > 1:
        raise UserError(f"{root} has no {name}, but {' and '.join(map(str, sorted(places)))} have; name one of them")
    return found[places[0]] if places else []


def _versions(folder: Path) -> list[Path]:
    """Returns the folders of a set's versions, also of those of its configurations, that are not empty."""
    found = [version for pattern in ("*/", "*/*/") for version in folder.glob(pattern)]
    return sorted(version for version in found if _VERSION.fullmatch(version.name) and any(version.iterdir()))


def load_prepared(
    name: str,
    directory: Path,
    config: DataConfig,
    describe: Callable[[Path, "tfds.core.DatasetInfo"], str],
    augment: tuple[Transform, ...] = (),
) -> RawDataset:
    """Returns what is in a prepared directory: uint8 images, in the order of the feature `id` if there is one.

    The directory is that of one version. `describe` returns the description in one line, and raises UserError if the
    data are not as expected. Without `config.image_size`, in pixels, all images must have the size of the first.

    Raises:
      UserError: as `load`.
    """
    size = config.image_size
    key = files.digest_text(f"{size or ''}{directory}")[:16]
    entry = cache.cache_directory(config.cache_dir) / f"{re.sub('[:/]', '-', name)}-{key}"
    with files.explained(f"cannot read {directory}"):
        stamp = cache.files_stamp(directory)
    arrays = cache.cached_arrays(entry, stamp, lambda: _read(directory, describe, size))
    return RawDataset(
        name=name,
        modalities={"image": Modality("grid", arrays["image"], augment=augment)},
        labels=arrays["label"],
        class_names=tuple(arrays["class_names"].tolist()),
        split=arrays["split"],
        description=str(arrays["description"]),
    )


def _find(name: str, root: Path) -> Path:
    """Returns the directory of the highest version that a name allows for."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise UserError(f"tfds:{name} cannot be a TFDS name; tfds:NAME or tfds:NAME/CONFIG:VERSION is right")
    path, version = match["path"], match["version"] or "*"
    folder, _, config = path.partition("/")
    prepared = [there for there in versions_near(root, folder) if (there / "features.json").exists()]
    found = [there for there in prepared if there.match(version) and config in ("", there.parent.name)]
    if not found:
        others = f", but {' and '.join(map(str, prepared))}" if prepared else ""
        make = f"make it with `tfds build {path} --file_format={FILE_FORMAT}`, which needs TensorFlow"
        raise UserError(f"{root} has no prepared {name}{others}; {make}, or name another data directory")
    configs = sorted({folder.parent.name for folder in found})
    if len(configs) > 1:
        raise UserError(f"tfds:{path} is prepared as {', '.join(configs)}; say which: tfds:{path}/{configs[0]}")
    return max(found, key=lambda folder: [int(number) for number in folder.name.split(".")])


def _read(directory: Path, describe: Callable[[Path, Any], str], image_size: int | None) -> dict[str, np.ndarray]:
    """Returns image, uint8 [example, height, width, channel], label, split, class_names and the description."""
    import tensorflow_datasets as tfds

    with damage_of(directory):
        builder = tfds.builder_from_directory(directory)
    info: Any = builder.info
    description = describe(directory, info)
    image, label = _image_and_label(directory, info)
    if missing := [split for split in ("train", "test") if split not in info.splits]:
        raise UserError(f"{directory} has no split {missing[0]}; its splits are {', '.join(info.splits)}")
    if info.file_format is None or info.file_format.value != FILE_FORMAT:
        form = "an unknown format" if info.file_format is None else info.file_format.value
        again = f"prepare it as {FILE_FORMAT} in another directory"
        raise UserError(f"{directory} is in {form}, which needs TensorFlow; {again}")
    with damage_of(directory):
        arrays = _read_examples(directory, builder, image, label, image_size)
    if (unlabelled := arrays["label"] < 0).any():
        split = arrays["split"][unlabelled][0]
        raise UserError(f"{directory} has examples without a label in its split {split}")
    resized = f", {image_size}x{image_size}" if image_size else ""
    names = np.array(info.features[label].names)
    return {**arrays, "class_names": names, "description": np.array(description + resized)}


def _image_and_label(directory: Path, info: Any) -> tuple[str, str]:
    """Returns the names of the two features: those of supervised learning if TFDS says so, else the only ones."""
    import tensorflow_datasets as tfds

    features: Mapping[str, Any] = info.features
    supervised = {key for key in info.supervised_keys or () if isinstance(key, str)}

    def only(kind: type) -> list[str]:
        names = [name for name, feature in features.items() if isinstance(feature, kind)]
        return [name for name in names if name in supervised] or names

    images, labels = only(tfds.features.Image), only(tfds.features.ClassLabel)
    if (len(images), len(labels)) != (1, 1):
        has = ", ".join(f"{name} {type(feature).__name__}" for name, feature in sorted(features.items()))
        raise UserError(f"{directory} needs one Image and one ClassLabel, and its features are: {has}")
    (image,), (label,) = images, labels
    shape, dtype = features[image].shape, features[image].np_dtype
    if dtype != np.uint8 or len(shape) != 3 or shape[-1] not in _MODES:
        raise UserError(f"{directory}: {image} is {np.dtype(dtype)} {list(shape)}; uint8 [H, W, 1, 3 or 4] is right")
    return image, label


def _read_examples(
    directory: Path, builder: Any, image: str, label: str, image_size: int | None
) -> dict[str, np.ndarray]:
    import tensorflow_datasets as tfds

    features = builder.info.features
    mode, has_id = _MODES[features[image].shape[-1]], "id" in features and features["id"].shape == ()
    decoders = {image: tfds.decode.SkipDecoding()}
    splits = [split for split in SPLITS if split in builder.info.splits]
    sources = [builder.as_data_source(split=split, decoders=decoders) for split in splits]
    counts = [len(source) for source in sources]
    images, labels, ids = np.empty(0, np.uint8), np.empty(sum(counts), np.int32), []
    for row, example in enumerate(itertools.chain.from_iterable(sources)):
        picture = _decode(example[image], mode, image_size)
        if row == 0:
            images = np.empty((sum(counts), *picture.shape), np.uint8)
        if picture.shape != images.shape[1:]:
            sizes = " and ".join("x".join(map(str, shape[:2])) for shape in (images.shape[1:], picture.shape))
            raise UserError(f"{directory} has images of {sizes} pixels; choose one image size")
        images[row], labels[row] = picture, example[label]
        ids.append(example["id"] if has_id else row)
    # shards hold the examples of a split shuffled
    order = np.lexsort((np.array(ids), np.repeat(np.arange(len(splits)), counts)))
    return {"image": images[order], "label": labels[order], "split": np.repeat(splits, counts)}


def _decode(encoded: bytes, mode: str, size: int | None) -> np.ndarray:
    """Returns an image as uint8 [height, width, channel].

    Resized bilinearly by Pillow, whose filter widens as an image shrinks, so that no pixel is left out.
    """
    from PIL import Image

    with Image.open(io.BytesIO(encoded)) as file:
        picture = file.convert(mode)
    if size is not None:
        picture = picture.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(picture).reshape(picture.height, picture.width, -1)


@contextlib.contextmanager
def damage_of(directory: Path) -> Iterator[None]:
    """Turns what TFDS, array_record, protobuf and Pillow raise on damaged files into one line."""
    import google.protobuf.json_format
    import google.protobuf.message

    protobuf = google.protobuf.json_format.Error, google.protobuf.message.Error
    try:
        yield
    except (OSError, ValueError, RuntimeError, LookupError, *protobuf) as error:
        raise UserError(f"{directory} is damaged ({cause(error)}); {AGAIN}") from error
