"""CIFAR-10: TFDS's `cifar10:3.0.2`, downloaded, prepared and read without TensorFlow.

TFDS needs TensorFlow only to unpack the archive and to encode PNG. Its own builder with these two steps replaced gives
the same dataset. A directory that is prepared already, by this module or by others, is opened as it is.
"""

import io
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fusion_bench.config import DataConfig
from fusion_bench.data.dataset import RawDataset
from fusion_bench.data.sources import preparation
from fusion_bench.data.sources.base import ClassWords, register_source
from fusion_bench.data.sources.tfds import AGAIN, data_root, load_prepared, versions_near
from fusion_bench.errors import UserError

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

NAME = "cifar10"
VERSION = "3.0.2"
WORDS = ClassWords(
    nouns={
        "airplane": ("airplane", "aeroplane", "plane", "jet", "airliner", "aircraft", "jetliner", "biplane"),
        "automobile": ("automobile", "car", "sedan", "hatchback", "coupe", "convertible", "motorcar", "taxi"),
        "bird": ("bird", "sparrow", "robin", "finch", "songbird", "starling", "wren", "ostrich"),
        "cat": ("cat", "kitten", "tabby", "tomcat", "kitty", "feline", "housecat", "moggy"),
        "deer": ("deer", "stag", "doe", "fawn", "buck", "elk", "reindeer", "moose"),
        "dog": ("dog", "puppy", "hound", "pooch", "terrier", "spaniel", "beagle", "canine"),
        "frog": ("frog", "toad", "bullfrog", "treefrog", "froglet", "amphibian"),
        "horse": ("horse", "pony", "stallion", "mare", "foal", "colt", "steed", "gelding"),
        "ship": ("ship", "boat", "vessel", "ferry", "freighter", "steamer", "yacht", "trawler"),
        "truck": ("truck", "lorry", "pickup", "tipper", "juggernaut", "semitrailer", "firetruck", "dumptruck"),
    },
    partitions={
        "coarse": {
            "animal": ("bird", "cat", "deer", "dog", "frog", "horse"),
            "vehicle": ("airplane", "automobile", "ship", "truck"),
        },
        "contrast": {
            "roamer": ("cat", "automobile", "deer", "airplane", "frog", "ship"),
            "helper": ("dog", "truck", "horse", "bird"),
        },
        "pairs": {
            "pet": ("cat", "dog"),
            "wheeler": ("automobile", "truck"),
            "grazer": ("deer", "horse"),
            "flyer": ("airplane", "bird"),
            "swimmer": ("frog", "ship"),
        },
    },
)
CLASS_NAMES = tuple(WORDS.nouns)

_RECORD = np.dtype([("label", np.uint8), ("image", np.uint8, (3, 32, 32))])  # the archive's own 3,073 bytes


@register_source(
    NAME,
    summary="CIFAR-10 from TFDS (cifar10:3.0.2), 50,000 + 10,000 images; needs the network once",
    class_names=CLASS_NAMES,
    words=WORDS,
)
def load(config: DataConfig) -> RawDataset:
    """Returns CIFAR-10, in the order of its ids: the training images, then the test images.

    `config.data_dir` holds cifar10/3.0.2, is near it, or is where it is prepared.

    Raises:
      UserError: the directory is missing, damaged or has another version alone, or the archive cannot be downloaded.
    """
    root = data_root(config.data_dir, f"{NAME}/{VERSION}, or an empty one,")
    directory = root / NAME / VERSION
    if not directory.exists():
        directory = _find_near(root) or prepare(root)
    return load_prepared(NAME, directory, config, _describe, augment=("flip", "translate"))


def _find_near(root: Path) -> Path | None:
    """Returns the prepared set near a directory, if there is one; raises UserError for another version alone."""
    found = {folder.name: folder for folder in versions_near(root, NAME)}
    if found and VERSION not in found:
        other = max(found)
        ways = f"tfds:{NAME}:{other} reads that one, and an empty directory is where {VERSION} is prepared"
        raise UserError(f"{found[other].parent} has version {other} and not {VERSION}; {ways}")
    return found.get(VERSION)


def _describe(directory: Path, info: "tfds.core.DatasetInfo") -> str:
    """Returns the description: the official set or its JPEG copy; raises UserError for another dataset."""
    features: Any = info.features
    image = features["image"] if {"id", "image", "label"} <= set(features) else None
    if image is None or (image.shape, image.np_dtype) != ((32, 32, 3), np.uint8):
        raise UserError(
            f"{directory} is not CIFAR-10: it needs the features id, image (uint8 32x32x3) and label (10 classes)"
        )
    if tuple(getattr(features["label"], "names", ())) != CLASS_NAMES:
        raise UserError(f"{directory} is damaged (label.labels.txt does not list the classes); {AGAIN}")
    return "CIFAR-10 (JPEG copy)" if "JPEG" in info.description else "CIFAR-10"


def prepare(data_dir: Path) -> Path:
    """Downloads the official archive, prepares `data_dir`/cifar10/3.0.2, and returns that.

    Raises:
      UserError: as `preparation.prepare`.
    """
    return preparation.prepare(_builder_class(), data_dir)


def _builder_class() -> Any:
    """Returns TFDS's own CIFAR-10 builder, with the two steps that need TensorFlow replaced."""
    import tensorflow_datasets as tfds
    from PIL import Image
    from tensorflow_datasets.core.registered import skip_registration

    official: Any = tfds.builder_cls(NAME)

    with skip_registration():  # the name stays the official builder's

        class Cifar10(official):
            url_infos = official.url_infos

            def _split_generators(self, dl_manager):
                layout = self._cifar_info
                with tarfile.open(dl_manager.download(layout.url)) as tar:
                    files = {member.name: file.read() for member in tar if (file := tar.extractfile(member))}
                names = files[layout.prefix + layout.label_files[0]].decode().split()
                self.info.features["label"].names = names
                return {
                    split: self._generate_examples(f"{split}_", [files[layout.prefix + name] for name in members])
                    for split, members in (("train", layout.train_files), ("test", layout.test_files))
                }

            def _generate_examples(self, split_prefix, filepaths):
                records = np.concatenate([np.frombuffer(content, _RECORD) for content in filepaths])
                for index, (label, planes) in enumerate(records):
                    png = io.BytesIO()
                    Image.fromarray(np.ascontiguousarray(planes.transpose(1, 2, 0))).save(png, format="PNG")
                    # The key is TFDS's: it decides the order in the shards.
                    example = {"id": f"{split_prefix}{index:05d}", "image": png.getvalue(), "label": int(label)}
                    yield index, example

    return Cifar10
