"""A dataset in one `.npz` file: an array for each modality, and `label`.

    image        uint8 [example, height, width, channel]
    other names  float [example, height, width, channel] (a grid) or [example, feature] (a vector),
                 uint8 grids, or whole numbers [example, token], 0 = padding
    label        whole numbers 0..C-1 [example]
    split        optional, strings [example]: train, validation, test
    class_names  optional, strings [class]

Without `split`, a fifth of each class is the test split: a stratified 80/20 cut that never changes.
"""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from fusion_bench.config import DataConfig
from fusion_bench.data.dataset import SPLITS, Kind, Modality, RawDataset
from fusion_bench.data.sources.base import register_source
from fusion_bench.data.splits import stratified_choice
from fusion_bench.errors import UserError

TEST_FRACTION = 0.2
RESERVED = ("label", "split", "class_names")

_CUT_SEED = 0  # fixed, so that the test split is the same whatever the seed of a study


@register_source(
    "FILE.npz", summary="your own arrays: image, label, any other modality, optional split and class_names"
)
def load(config: DataConfig) -> RawDataset:
    """Returns the dataset of the file that the configuration names.

    Raises:
      UserError: the file cannot be read, or an array is not as this module's docstring says.
    """
    path = Path(config.source)
    arrays = _read(path)
    names = sorted(set(arrays) - set(RESERVED))
    if not names:
        raise UserError(f"{path}: no modality; add an array such as image, uint8 [N, H, W, C]")
    if "label" not in arrays:
        raise UserError(f"{path}: no array label; add whole numbers 0..C-1, one for each example")
    count = len(np.atleast_1d(arrays["label"]))
    for name in ("label", *names, *(["split"] if "split" in arrays else [])):
        if np.ndim(arrays[name]) == 0 or len(arrays[name]) != count:
            raise UserError(f"{path}: {name} has shape {np.shape(arrays[name])}, but label has {count} examples")
    labels = _labels(path, arrays["label"])
    return RawDataset(
        name=path.stem,
        modalities={name: _modality(path, name, arrays[name]) for name in names},
        labels=labels,
        class_names=_class_names(path, arrays.get("class_names"), int(labels.max()) + 1),
        split=_split(path, arrays.get("split"), labels),
        description=f"{path.name}, {count} examples",
    )


def _read(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise UserError(f"no file {path}; give an .npz file with label and an array for each modality")
    try:
        if not zipfile.is_zipfile(path):
            raise UserError(f"{path} is not an .npz file, or only a part of one; write it again with numpy.savez")
        with np.load(path, allow_pickle=False) as file:
            return {name: _member(path, name, file) for name in file.files}
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        raise UserError(f"{path} is damaged ({error}); write it again with numpy.savez") from error


def _member(path: Path, name: str, file: np.lib.npyio.NpzFile) -> np.ndarray:
    try:
        array = file[name]
    except ValueError as error:  # what NumPy raises for Python objects, and for a header that it cannot parse
        if "Object arrays" in str(error):
            raise UserError(f"{path}: {name} holds Python objects; save numbers or strings") from error
        raise UserError(f"{path} is damaged ({name}: {error}); write it again with numpy.savez") from error
    if not isinstance(array, np.ndarray):
        raise UserError(f"{path}: {name} is not an array; write the file with numpy.savez")
    return array


def _labels(path: Path, labels: np.ndarray) -> np.ndarray:
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise UserError(f"{path}: label is {_type(labels)}; whole numbers [N] are right")
    if len(labels) == 0:
        raise UserError(f"{path}: label is empty; at least two classes are needed")
    if labels.min() < 0:
        raise UserError(f"{path}: label has {labels.min()}; classes are numbered from 0")
    present = np.unique(labels)
    if len(present) != present[-1] + 1:
        missing = next(index for index, label in enumerate(present) if index != label)
        raise UserError(f"{path}: label goes up to {present[-1]} but has no {missing}; number classes without gaps")
    if len(present) < 2:
        raise UserError(f"{path}: label has one class only; at least two are needed")
    return labels.astype(np.int32)


def _class_names(path: Path, names: np.ndarray | None, num_classes: int) -> tuple[str, ...]:
    if names is None:
        return tuple(f"class {label}" for label in range(num_classes))
    if names.dtype.kind != "U" or names.ndim != 1:
        raise UserError(f"{path}: class_names is {_type(names)}; one string for each class is right")
    if len(names) != num_classes:
        raise UserError(f"{path}: class_names has {len(names)} names, but label has {num_classes} classes")
    if len(set(names.tolist())) != num_classes:
        raise UserError(f"{path}: class_names has a name twice; names must differ")
    return tuple(names.tolist())


def _split(path: Path, split: np.ndarray | None, labels: np.ndarray) -> np.ndarray:
    if split is None:
        test = stratified_choice(np.arange(len(labels)), labels, max(1, round(TEST_FRACTION * len(labels))), _CUT_SEED)
        return np.where(np.isin(np.arange(len(labels)), test), "test", "train")
    if split.dtype.kind != "U" or split.ndim != 1:
        raise UserError(f"{path}: split is {_type(split)}; strings [N] of {', '.join(SPLITS)} are right")
    unknown = sorted(set(split.tolist()) - set(SPLITS))
    if unknown:
        raise UserError(f"{path}: split has {unknown[0]!r}; {', '.join(SPLITS)} are right")
    for name in ("train", "test"):
        if not (split == name).any():
            raise UserError(f"{path}: split has no {name} example; mark some, or leave split out for an 80/20 cut")
    return split


def _modality(path: Path, name: str, array: np.ndarray) -> Modality:
    if array.size == 0:
        raise UserError(f"{path}: {name} has shape {array.shape}, which is empty")
    if name == "image" and (array.dtype != np.uint8 or array.ndim != 4):
        raise UserError(f"{path}: image is {_type(array)}; uint8 [N, H, W, C] is right")
    kinds: dict[tuple[str, int], Kind] = {("f", 4): "grid", ("f", 2): "vector", ("i", 2): "tokens", ("u", 2): "tokens"}
    if array.dtype == np.uint8 and array.ndim == 4:
        return Modality("grid", array, augment=name == "image")
    kind = kinds.get((array.dtype.kind, array.ndim))
    if kind is None:
        raise UserError(
            f"{path}: {name} is {_type(array)}; a float grid [N, H, W, C], a float vector [N, D] or integer "
            "tokens [N, T] is right"
        )
    if kind == "tokens":
        if array.min() < 0 or array.max() > np.iinfo(np.int32).max:
            raise UserError(f"{path}: {name} has token {array.min()} .. {array.max()}; 0 (padding) or more is right")
        return Modality(kind, array.astype(np.int32), vocabulary_size=int(array.max()) + 1)
    with np.errstate(over="ignore"):
        values = array.astype(np.float32)
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(1))[0])
        raise UserError(f"{path}: {name} is not finite in example {row}; finite float32 numbers are right")
    return Modality(kind, values)


def _type(array: np.ndarray) -> str:
    return f"{array.dtype} {list(array.shape)}"
