"""CIFAR-10: TFDS's `cifar10:3.0.2`, downloaded, prepared and read without TensorFlow.

TFDS needs TensorFlow only to unpack the archive and to encode PNG. Its own builder with these two steps
replaced gives the same dataset. A directory that is prepared already, by this module or by others, is opened
as it is. The decoded images are cached; from then on TFDS is not imported at all.
"""

import contextlib
import hashlib
import io
import logging
import os
import sys
import tarfile
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fusion_bench.data import cache
from fusion_bench.data.dataset import Modality, RawDataset
from fusion_bench.errors import UserError

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

NAME = "cifar10"
VERSION = "3.0.2"
IMAGE_SHAPE = (32, 32, 3)
CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FILE_FORMAT = "array_record"
SPLITS = ("train", "test")

_RECORD = np.dtype([("label", np.uint8), ("image", np.uint8, (3, 32, 32))])  # the archive's own 3,073 bytes
_AGAIN = "remove it and prepare it again"
_ARCHIVE_TIMEOUT = 20  # seconds until a server that does not answer counts as out of reach


def load_cifar10(data_dir: Path | None = None, cache_dir: Path | None = None) -> RawDataset:
    """Returns CIFAR-10, in the order of its ids: the training images, then the test images.

    Args:
      data_dir: holds cifar10/3.0.2, or is where it is prepared; default $TFDS_DATA_DIR, else
        ~/tensorflow_datasets.
      cache_dir: as in `cache.cache_directory`.

    Raises:
      UserError: the directory is missing or damaged, or the archive cannot be downloaded.
    """
    directory = _prepared_directory(data_dir)
    if not directory.exists():
        prepare(directory.parent.parent)
    key = hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]
    entry = cache.cache_directory(cache_dir) / f"{NAME}-{key}"
    try:
        stamp = cache.files_stamp(directory)
    except OSError as error:
        raise UserError(f"cannot read {directory}: {error.strerror}") from error
    arrays = cache.cached_arrays(entry, stamp, lambda: read(directory))
    return RawDataset(
        name=NAME,
        modalities={"image": Modality("grid", arrays["image"])},
        labels=arrays["label"],
        class_names=CLASS_NAMES,
        split=arrays["split"],
        description=str(arrays["description"]),
    )


def _prepared_directory(data_dir: Path | None) -> Path:
    if data_dir is not None and not data_dir.is_dir():
        raise UserError(
            f"no directory {data_dir}; one that holds {NAME}/{VERSION}, or an empty one, is right"
        )
    root = data_dir or Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")
    return root.expanduser().resolve() / NAME / VERSION


def read(directory: Path) -> dict[str, np.ndarray]:
    """Returns everything in a prepared directory, in the order of ids.

    Returns:
      image, uint8 [example, 32, 32, 3]; label, int32 [example]; split, strings [example];
      description, one string.

    Raises:
      UserError: the directory is damaged, holds another dataset, or is in a format that needs TensorFlow.
    """
    import google.protobuf.json_format
    import google.protobuf.message
    import tensorflow_datasets as tfds

    unreadable = (  # what TFDS, array_record, protobuf and Pillow raise on damaged files
        OSError,
        ValueError,
        RuntimeError,
        LookupError,
        google.protobuf.json_format.Error,
        google.protobuf.message.Error,
    )
    with _quiet():
        try:
            builder = tfds.builder_from_directory(directory)
        except unreadable as error:
            raise _damaged(directory, error) from error
        if fault := _fault(builder.info):
            raise UserError(f"{directory} {fault}")
        try:
            parts = [_read_split(builder, split) for split in SPLITS]
        except unreadable as error:
            raise _damaged(directory, error) from error
    return {
        **{name: np.concatenate([part[name] for part in parts]) for name in ("image", "label", "split")},
        "description": np.array("CIFAR-10 (JPEG copy)" if "JPEG" in builder.info.description else "CIFAR-10"),
    }


def _damaged(directory: Path, error: Exception) -> UserError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return UserError(f"{directory} is damaged ({reason}); {_AGAIN}")


def _fault(info: "tfds.core.DatasetInfo") -> str | None:
    """Returns what keeps a prepared directory from being CIFAR-10 that is read without TensorFlow."""
    features: Any = info.features
    image = features["image"] if {"id", "image", "label"} <= set(features) else None
    if image is None or (image.shape, image.np_dtype) != (IMAGE_SHAPE, np.uint8):
        return "is not CIFAR-10: it needs the features id, image (uint8 32x32x3) and label (10 classes)"
    if tuple(getattr(features["label"], "names", ())) != CLASS_NAMES:
        return f"is damaged (label.labels.txt does not list the classes); {_AGAIN}"
    if missing := [split for split in SPLITS if split not in info.splits]:
        return f"is damaged (no split {missing[0]}); {_AGAIN}"
    if info.file_format is None or info.file_format.value != FILE_FORMAT:
        form = "an unknown format" if info.file_format is None else info.file_format.value
        return f"is in {form}, which needs TensorFlow; give another directory to prepare it as {FILE_FORMAT}"
    return None


def _read_split(builder: Any, split: str) -> dict[str, np.ndarray]:
    source = builder.as_data_source(split=split)
    images = np.empty((len(source), *IMAGE_SHAPE), np.uint8)
    labels = np.empty(len(source), np.int32)
    ids = []
    for row in range(len(source)):
        example = source[row]
        images[row], labels[row] = example["image"], example["label"]
        ids.append(example["id"])
    order = np.argsort(np.array(ids))  # shards hold the examples shuffled
    return {"image": images[order], "label": labels[order], "split": np.full(len(source), split)}


def prepare(data_dir: Path) -> None:
    """Downloads the official archive, checks its sum, and prepares `data_dir`/cifar10/3.0.2.

    Raises:
      UserError: the archive cannot be had or is not the one TFDS knows, or `data_dir` cannot be written.
    """
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

    config = tfds.download.DownloadConfig(try_download_gcs=False, force_checksums_validation=True)
    # TFDS reports its progress on stdout, which belongs to results.
    with _quiet(), contextlib.redirect_stdout(sys.stderr):
        try:
            builder = _builder_class()(data_dir=os.fspath(data_dir), file_format=FILE_FORMAT)
            url = builder._cifar_info.url
            fetched = any((data_dir / "downloads").rglob("*cifar-10-binary*.gz"))
            if not fetched:
                _check_reachable(url)
            builder.download_and_prepare(download_config=config)
        except tfds.download.DownloadError as error:
            raise _no_archive(url, error) from error
        except NonMatchingChecksumError as error:
            raise UserError(
                f"{url}, in {data_dir / 'downloads'}, has a wrong checksum; remove it and start again"
            ) from error
        except OSError as error:
            raise UserError(f"cannot prepare {NAME} in {data_dir}: {error}") from error


def _check_reachable(url: str) -> None:
    """Asks the server for the archive's header: TFDS itself would try again for minutes."""
    request = urllib.request.Request(url, method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=_ARCHIVE_TIMEOUT).close()
    except OSError as error:  # which URLError and TimeoutError are
        raise _no_archive(url, getattr(error, "reason", error)) from error


def _no_archive(url: str, reason: object) -> UserError:
    return UserError(
        f"cannot download {url} ({reason}); without a network, the data directory (or $TFDS_DATA_DIR) "
        f"must hold {NAME}/{VERSION}, prepared as {FILE_FORMAT}"
    )


def _builder_class() -> Any:
    """Returns TFDS's own CIFAR-10 builder, with the two steps that need TensorFlow replaced."""
    import tensorflow_datasets as tfds
    from PIL import Image
    from tensorflow_datasets.core.registered import skip_registration

    official: Any = tfds.builder_cls(NAME)

    with skip_registration():  # the name stays the official builder's

        class Cifar10(official):
            def _split_generators(self, dl_manager):
                layout = self._cifar_info
                files = _unpack(dl_manager.download(layout.url))
                names = files[layout.prefix + layout.label_files[0]].decode().split()
                self.info.features["label"].names = names
                return {
                    split: self._generate_examples(
                        f"{split}_", [files[layout.prefix + name] for name in members]
                    )
                    for split, members in (("train", layout.train_files), ("test", layout.test_files))
                }

            def _generate_examples(self, split_prefix, filepaths):
                records = np.concatenate([np.frombuffer(content, _RECORD) for content in filepaths])
                for index, (label, planes) in enumerate(records):
                    png = io.BytesIO()
                    Image.fromarray(np.ascontiguousarray(planes.transpose(1, 2, 0))).save(png, format="PNG")
                    # The key is TFDS's: it decides the order in the shards.
                    example = {
                        "id": f"{split_prefix}{index:05d}",
                        "image": png.getvalue(),
                        "label": int(label),
                    }
                    yield index, example

    return Cifar10


def _unpack(archive: os.PathLike) -> Mapping[str, bytes]:
    """Returns the contents of the files of a tar archive, by name."""
    with tarfile.open(archive) as tar:
        return {member.name: file.read() for member in tar if (file := tar.extractfile(member))}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Drops TFDS's advice to install OpenCV; every other message passes."""
    logger = logging.getLogger("absl")

    def passes(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("OpenCV is not installed")

    logger.addFilter(passes)
    try:
        yield
    finally:
        logger.removeFilter(passes)
