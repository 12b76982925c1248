"""The published files of CIFAR-10-C, paired with the test images that they were made from.

A directory with labels.npy and a file for each corruption, such as fog.npy: uint8 [5 n, 32, 32, 3], in which the rows
(severity - 1) n to severity n - 1 are the n = 10,000 test images of CIFAR-10 in their original order. Hendrycks and
Dietterich 2019, arXiv:1903.12261.
"""

import dataclasses
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8

from fusion_bench.data.corruptions import SEVERITIES
from fusion_bench.data.dataset import Dataset
from fusion_bench.errors import UserError, cause

LABELS = "labels"


@dataclasses.dataclass(frozen=True, eq=False)
class Cifar10C:
    """An open directory of CIFAR-10-C; images are read when they are asked for.

    Attributes:
      directory: its path.
      labels: the class of each row of a file.
      names: of the corruptions, in alphabetical order.
    """

    directory: Path
    labels: Int[np.ndarray, " row"]
    names: tuple[str, ...]

    @property
    def count(self) -> int:
        """Number of test images at each severity."""
        return len(self.labels) // len(SEVERITIES)

    def rows(self, dataset: Dataset, indices: Int[np.ndarray, " example"]) -> Int[np.ndarray, " example"]:
        """Returns the rows of examples among the test images, which a source has last and in their original order.

        Raises:
          UserError: the labels of the dataset's test images are others, at some severity.
        """

        def among(examples: np.ndarray) -> np.ndarray:
            return examples.astype(np.int64) - (len(dataset.labels) - self.count)

        test = dataset.splits["test"]
        rows = among(test)
        blocks = self.labels.reshape(len(SEVERITIES), -1)
        if rows.min() < 0 or (blocks[:, rows] != dataset.classes[test]).any():
            raise UserError(
                f"{self.directory / LABELS}.npy has other labels than the test images of {dataset.name}; CIFAR-10-C "
                "goes with CIFAR-10 in its original order"
            )
        return among(indices)

    def images(
        self, name: str, severity: int, rows: Int[np.ndarray, " example"]
    ) -> UInt8[np.ndarray, "example height width channel"]:
        """Returns the images of some rows under a corruption.

        Raises:
          UserError: the file cannot be read or is of another form.
        """
        array = _load(self.directory, name)
        if array.dtype != np.uint8 or array.ndim != 4 or len(array) != len(self.labels):
            raise UserError(
                f"{self.directory / name}.npy is {array.dtype} {list(array.shape)}; uint8 [{len(self.labels)}, height, "
                "width, channel] is right"
            )
        return np.asarray(array[(severity - 1) * self.count + rows])


def open_cifar10_c(directory: Path) -> Cifar10C:
    """Opens a directory of CIFAR-10-C.

    Raises:
      UserError: its labels are missing, cannot be read or are of another number, or it has no corruption.
    """
    labels = _load(directory, LABELS)
    names = tuple(sorted(path.stem for path in directory.glob("*.npy") if path.stem != LABELS))
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or not len(labels) or len(labels) % len(SEVERITIES):
        raise UserError(
            f"{directory / LABELS}.npy is {labels.dtype} {list(labels.shape)}; a label for each image is right"
        )
    if not names:
        raise UserError(f"{directory} has no file of a corruption, such as fog.npy")
    return Cifar10C(directory, labels.astype(np.int64), names)


def _load(directory: Path, name: str) -> np.ndarray:
    """Maps a file into memory."""
    path = directory / f"{name}.npy"
    if not path.is_file():
        raise UserError(f"no file {path}; a directory of CIFAR-10-C has {LABELS}.npy and a file for each corruption")
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path} cannot be read: {cause(error)}") from error
