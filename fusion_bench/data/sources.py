"""Where images and labels come from: a name, or a file."""

from collections.abc import Mapping
from pathlib import Path

from fusion_bench.config import DataConfig
from fusion_bench.data import cifar10, npz, shapes
from fusion_bench.data.dataset import RawDataset
from fusion_bench.errors import UserError, unknown_name

FILE_SUFFIX = ".npz"

SOURCES: Mapping[str, str] = {
    "shapes": "ten geometric figures, 32x32, drawn from a seed in a second; nothing is downloaded",
    "cifar10": "CIFAR-10 from TFDS (cifar10:3.0.2), 50,000 + 10,000 images; needs the network once",
    f"FILE{FILE_SUFFIX}": "your own arrays: image, label, any other modality, optional split and class_names",
}


def load_raw(config: DataConfig) -> RawDataset:
    """Returns the images, other modalities and labels of `config.source`, before captions and splits.

    Raises:
      UserError: no such source, or its data are missing or damaged.
    """
    source = config.source
    if config.audio and source != shapes.NAME:
        raise UserError(f"audio is a modality of {shapes.NAME} alone; {source} has none to add")
    if source == shapes.NAME:
        return shapes.load_shapes(audio=config.audio)
    if source == cifar10.NAME:
        return cifar10.load_cifar10(config.data_dir, config.cache_dir)
    if source.endswith(FILE_SUFFIX):
        return npz.load_npz(Path(source).expanduser())
    raise unknown_name("data source", source, SOURCES)
