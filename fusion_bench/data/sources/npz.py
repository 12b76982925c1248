"""A dataset in one `.npz` file: an array for each modality, and the labels.

    label           whole numbers 0..C-1 [N] or [N, 1], class names [N], or one-hot [N, C]; also `labels` or `y`
    split           optional, strings [N]: train, validation (val, valid, dev), test
    class_names     optional, strings [C]
    kinds           optional, strings such as "counts=vector": what an array is, where it could be several things
    id, filename    optional, [N]: names of the examples, for captions
    NAME_mask       optional, bool [N, T]: the steps of the sequence NAME; or NAME_length, whole numbers [N]
    any other name  a modality; see `fusion_bench.data.arrays`

Without `split`, a fifth of each class is the test split: a stratified 80/20 cut that never changes.
"""

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import numpy as np

from fusion_bench.config import DataConfig
from fusion_bench.data.arrays import ArrayKind, as_modality, as_strings, as_texts, describe, kind_of
from fusion_bench.data.dataset import SPLITS, Kind, Modality, RawDataset
from fusion_bench.data.sequences import step_mask
from fusion_bench.data.sources.base import register_source
from fusion_bench.data.splits import stratified_choice
from fusion_bench.errors import ConfigError, UserError

TEST_FRACTION = 0.2
LABELS, IDS = ("label", "labels", "y"), ("filename", "filenames", "id", "ids")
"""Names of the arrays of labels and of the examples' names; the first one that is there counts."""
SPLIT_NAMES: Mapping[str, str] = {
    **{name: name for name in SPLITS},
    **dict.fromkeys(("val", "valid", "dev"), "validation"),
    "training": "train",
    "testing": "test",
}

_CUT_SEED = 0  # fixed, so that the test split is the same whatever the seed of a study


@register_source(
    "FILE.npz",
    summary="your own arrays: label, any number of modalities, optional split and class_names",
    options=("modalities", "kinds"),
)
def load(config: DataConfig) -> RawDataset:
    """Returns the dataset of the file that the configuration names.

    Raises:
      UserError: the file cannot be read, or an array is not as this module's docstring says.
    """
    path = Path(config.source)
    arrays = _read(path)
    try:
        return _dataset(path, arrays, config)
    except ConfigError:
        raise
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _dataset(path: Path, arrays: dict[str, np.ndarray], config: DataConfig) -> RawDataset:
    label = next((name for name in LABELS if name in arrays), None)
    if label is None:
        raise UserError("no array label; add whole numbers 0..C-1, or class names, one for each example")
    names, ignored = _modality_names(arrays, label, config)
    count = len(np.atleast_1d(arrays[label]))
    ids = next((name for name in IDS if name in arrays), None)
    for name in (*names, *({"split", ids} & set(arrays))):
        if np.ndim(arrays[name]) == 0 or len(arrays[name]) != count:
            raise UserError(f"{name} has shape {np.shape(arrays[name])}, but {label} has {count} examples")
    labels, class_names = _labels(label, arrays[label], arrays.get("class_names"))
    kinds = _kinds(arrays.get("kinds"), config, names)
    texts, modalities = {}, {}
    for name in names:
        has_mask = _mask_name(name, arrays) is not None
        kind = kinds.get(name) or kind_of(name, arrays[name], has_mask)
        mask = _mask(name, kind, arrays) if has_mask else None
        if kind == "text":
            texts[name] = as_texts(name, arrays[name])
        else:
            modalities[name] = as_modality(name, arrays[name], kind, mask)
    return RawDataset(
        name=path.stem,
        modalities=modalities,
        labels=labels,
        class_names=class_names,
        split=_split(arrays.get("split"), labels),
        description=f"{path.name}, {count} examples; {', '.join(_describe(modalities, texts))}",
        texts=texts,
        notes=(f"Arrays of {path.name} that are no modality here: {', '.join(ignored)}.",) if ignored else (),
        ids=() if ids is None else _ids(ids, arrays[ids]),
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


def _modality_names(arrays: Mapping[str, np.ndarray], label: str, config: DataConfig) -> tuple[list[str], list[str]]:
    """Returns the names of the modalities, as chosen or as far as they are none of the known others, and the rest."""
    masks = {mask for name in arrays if (mask := _mask_name(name, arrays)) is not None}
    rest = sorted(set(arrays) - masks - {label, "split", "class_names", "kinds"})
    if config.modalities:
        for name in config.modalities:
            if name not in rest:
                raise ConfigError("modalities", config.modalities, f"the file has no {name}, but {', '.join(rest)}")
        return sorted(config.modalities), [name for name in rest if name not in config.modalities]
    names = [name for name in rest if name not in (*LABELS, *IDS)]
    if not names:
        raise UserError("no modality; add an array such as image, uint8 [N, H, W, C]")
    return names, [name for name in rest if name not in names]


def _kinds(stored: np.ndarray | None, config: DataConfig, names: list[str]) -> dict[str, ArrayKind]:
    """Returns the kinds that the file's array `kinds` says, and the configuration in its place."""
    known = (*get_args(Kind), "text")
    said = {}
    for entry in [] if stored is None else as_strings("kinds", np.atleast_1d(stored)).tolist():
        name, _, kind = map(str.strip, entry.partition("="))
        if kind not in known:
            raise UserError(f"kinds has {entry!r}; NAME=KIND is right, with {', '.join(known)}")
        said[name] = kind
    for name in config.kinds:
        if name not in names:
            raise ConfigError("kinds", name, f"the modalities are {', '.join(names)}")
    if unknown := [] if config.modalities else sorted(set(said) - set(names)):
        raise UserError(f"kinds names {unknown[0]}; the modalities are {', '.join(names)}")
    return said | dict(config.kinds)


def _mask_name(name: str, arrays: Mapping[str, np.ndarray]) -> str | None:
    """Returns the name of the array that says where another one is padded, if there is one."""
    if arrays[name].ndim < 2:
        return None
    mask, length = arrays.get(f"{name}_mask"), arrays.get(f"{name}_length")
    if mask is not None and mask.ndim == 2 and np.isin(mask, (0, 1)).all():
        return f"{name}_mask"
    return f"{name}_length" if length is not None and length.ndim == 1 and length.dtype.kind in "iu" else None


def _mask(name: str, kind: ArrayKind, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    if kind not in ("sequence", "tokens"):
        raise UserError(
            f"{name} has a mask or lengths, which only a sequence or tokens can have; say --kind {name}=sequence if "
            "its second axis is time, or rename them"
        )
    return step_mask(name, arrays, (len(arrays[name]), arrays[name].shape[1]))


def _labels(name: str, labels: np.ndarray, names: np.ndarray | None) -> tuple[np.ndarray, tuple[str, ...]]:
    """Returns labels, int32, and the names of the classes."""
    if labels.size == 0:
        raise UserError(f"{name} is empty; at least two classes are needed")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    given = None if names is None else as_strings("class_names", names)
    if labels.dtype.kind in "US":
        return _named_labels(name, as_strings(name, labels), given)
    if labels.ndim == 2 and labels.dtype.kind in "biuf" and np.isin(labels, (0, 1)).all():
        if not (labels.sum(1) == 1).all():
            row = int(np.flatnonzero(labels.sum(1) != 1)[0])
            raise UserError(f"{name} has {int(labels[row].sum())} classes in example {row}; one class each is right")
        labels = labels.argmax(1)
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        raise UserError(f"{name} is not finite in example {int(np.argwhere(~np.isfinite(labels))[0][0])}; drop it")
    if labels.ndim != 1 or labels.dtype.kind not in "biuf" or not (labels == np.rint(labels)).all():
        raise UserError(f"{name} is {describe(labels)}; whole numbers [N], class names [N] or one-hot [N, C] are right")
    if labels.min() < 0:
        raise UserError(f"{name} has {labels.min():g}; classes are numbered from 0")
    present = np.unique(labels)
    if len(present) != present[-1] + 1:
        missing = next(index for index, label in enumerate(present) if index != label)
        raise UserError(f"{name} goes up to {present[-1]:g} but has no {missing}; number classes without gaps")
    if len(present) < 2:
        raise UserError(f"{name} has one class only; at least two are needed")
    class_names = tuple(f"class {label}" for label in range(len(present))) if given is None else tuple(given.tolist())
    if len(class_names) != len(present):
        raise UserError(f"class_names has {len(class_names)} names, but {name} has {len(present)} classes")
    if len(set(class_names)) != len(class_names):
        raise UserError("class_names has a name twice; names must differ")
    return labels.astype(np.int32), class_names


def _named_labels(name: str, labels: np.ndarray, given: np.ndarray | None) -> tuple[np.ndarray, tuple[str, ...]]:
    """Returns class names as numbers: in alphabetical order, or in that of `class_names`."""
    names = sorted(set(labels.tolist())) if given is None else given.tolist()
    unknown = sorted(set(labels.tolist()) - set(names))
    if unknown:
        raise UserError(f"{name} has {unknown[0]!r}, which is not in class_names")
    position = {each: index for index, each in enumerate(names)}
    return _labels(name, np.array([position[label] for label in labels.tolist()]), np.array(names))


def _split(split: np.ndarray | None, labels: np.ndarray) -> np.ndarray:
    if split is None:
        test = stratified_choice(np.arange(len(labels)), labels, max(1, round(TEST_FRACTION * len(labels))), _CUT_SEED)
        return np.where(np.isin(np.arange(len(labels)), test), "test", "train")
    given = [name.strip().lower() for name in as_strings("split", split).tolist()]
    unknown = sorted(set(given) - set(SPLIT_NAMES))
    if unknown:
        raise UserError(f"split has {unknown[0]!r}; {', '.join(SPLITS)} are right")
    parts = np.array([SPLIT_NAMES[name] for name in given])
    for name in ("train", "test"):
        if not (parts == name).any():
            raise UserError(f"split has no {name} example; mark some, or leave split out for an 80/20 cut")
    return parts


def _ids(name: str, array: np.ndarray) -> tuple[str, ...]:
    if array.ndim != 1 or array.dtype.kind not in "iuUS":
        raise UserError(f"{name} is {describe(array)}; strings or whole numbers [N] are right")
    return tuple(map(str, (as_strings(name, array) if array.dtype.kind == "S" else array).tolist()))


def _describe(modalities: Mapping[str, Modality], texts: Mapping[str, object]) -> list[str]:
    """Returns what each modality was read as, in a few words."""
    shapes = {name: "×".join(map(str, modality.values.shape[1:])) for name, modality in modalities.items()}
    images = {name: "image" if modality.spec.is_image else modality.kind for name, modality in modalities.items()}
    return [*(f"{name}: {images[name]} {shapes[name]}" for name in modalities), *(f"{name}: text" for name in texts)]
