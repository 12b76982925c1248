"""What a caller gives a trained model, as the arrays that its dataset had: with the checks of a file."""

import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool

from fusion_bench.data.arrays import as_floats, as_pixels, describe
from fusion_bench.data.captions.tokenizer import encode
from fusion_bench.data.dataset import PAD, ModalitySpec
from fusion_bench.errors import UserError

if TYPE_CHECKING:
    import tokenizers

Stats = tuple[np.ndarray, np.ndarray]
"""Mean and standard deviation of a modality by channel, over the training examples."""
MIN_SPREAD = 16
"""Mean plus three standard deviations of a grid of floats, at least, where whole numbers such as pixels may fit it."""


def by_name(inputs: Any) -> dict[str, Any]:
    """Returns the modalities by name, such as can be read twice; raises UserError if they have no names."""
    if not hasattr(inputs, "items"):
        raise UserError(f"the inputs are one {type(inputs).__name__}; give the modalities by name, in a dictionary")
    return {name: _listed(given) for name, given in inputs.items()}


def as_stored(
    name: str,
    given: Any,
    spec: ModalitySpec,
    tokenizer: "tokenizers.Tokenizer | None",
    mask: Callable[[], Bool[np.ndarray, "example token"]] | None = None,
    stats: Stats | None = None,
) -> np.ndarray:
    """Returns the values of a modality of some examples, of the type and the shape that a dataset has.

    Args:
      name: of the modality, for messages.
      given: an array, a list, a pandas Series, or an iterator of examples; texts or token ids for tokens.
      spec: what the model was built for.
      tokenizer: what turns texts into tokens.
      mask: returns where a sequence has a step; called once its shape is known to be right.
      stats: of the training examples, which tell the scale of a grid; None if unknown.

    Raises:
      UserError: it is of another kind, shape, scale or range, or holds what is no number.

    Warns:
      UserWarning: images are almost black.
    """
    is_one = isinstance(given, (str, bytes, Mapping)) or not hasattr(given, "__iter__")
    if is_one or getattr(given, "ndim", 1) == 0:
        raise UserError(f"{name} is one {type(given).__name__}; give a list or an array with one entry per example")
    given = _listed(given)
    entries = given.to_numpy() if hasattr(given, "to_numpy") else given  # a Series may begin at any index
    if spec.kind == "tokens" and len(entries) and isinstance(entries[0], str):
        return _text(name, list(entries), spec, tokenizer)
    try:
        array = np.asarray(entries)
    except ValueError as error:  # rows of different lengths
        raise UserError(f"{name} has examples of different shapes; one shape is right") from error
    if array.dtype.kind not in "fiub":
        are_arrays = array.dtype == object and array.size and isinstance(array.flat[0], (np.ndarray, list, tuple))
        way = f"; give numpy.stack({name})" if are_arrays else ""
        raise UserError(f"{name} is {describe(array)}; numbers are right{way}")
    array = _of_shape(name, array, spec)
    if mask is not None:
        array = np.where(mask()[..., None], array, 0)  # whatever fills the rest
    if array.size == 0:
        return array.astype(spec.dtype)
    if spec.kind == "tokens":
        return _ids(name, array, spec)
    if spec.dtype == "uint8":
        return _pixels(name, array, stats)
    if spec.kind == "grid" and array.dtype.kind in "iu" and stats is not None:
        _refuse_whole_numbers(name, array, stats)
    return as_floats(name, array)


def _listed(given: Any) -> Any:
    """Returns an iterator, or another collection without indices, as a list; all else as it is."""
    return list(given) if hasattr(given, "__iter__") and not hasattr(given, "__getitem__") else given


def _text(name: str, texts: list[Any], spec: ModalitySpec, tokenizer: "tokenizers.Tokenizer | None") -> np.ndarray:
    if tokenizer is None:
        raise UserError(f"{name} is text, and the run has no tokenizer of it; give token ids")
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise UserError(f"{name} is {text!r} in example {index}; a string is right")
    return encode(tokenizer, texts, spec.shape[0])


def _of_shape(name: str, array: np.ndarray, spec: ModalitySpec) -> np.ndarray:
    """Returns examples of the model's shape; a shorter sequence is padded, a grey image may lack its channel."""
    given = array.shape
    if spec.kind == "sequence" and array.ndim == 3 and array.shape[1] < spec.shape[0]:
        array = np.pad(array, ((0, 0), (0, spec.shape[0] - array.shape[1]), (0, 0)))
    if spec.shape[-1] == 1 and array.shape[1:] == spec.shape[:-1]:
        array = array[..., None]
    if array.shape[1:] == spec.shape and array.ndim == len(spec.shape) + 1:
        return array
    wanted = ", ".join(map(str, ("example", *spec.shape)))
    way = ""
    if array.ndim == 4 and (*array.shape[2:], array.shape[1]) == spec.shape:
        way = f"; give numpy.moveaxis({name}, 1, -1)"
    elif array.shape == spec.shape:
        way = f"; give {name}[None] for one example"
    raise UserError(f"{name} has shape {given}; it must be ({wanted}){way}")


def _ids(name: str, array: np.ndarray, spec: ModalitySpec) -> np.ndarray:
    assert spec.vocabulary_size is not None
    if array.dtype.kind not in "iu":
        raise UserError(f"{name} is {describe(array)}; token ids are whole numbers")
    if not 0 <= array.min() <= array.max() < spec.vocabulary_size:
        raise UserError(f"{name} has token ids outside 0..{spec.vocabulary_size - 1}")
    blank = np.flatnonzero((array == PAD).all(1))
    if len(blank):
        raise UserError(f"{name} has padding ({PAD}) alone in example {blank[0]}; each example needs a token")
    return array.astype(np.int32)


def _pixels(name: str, array: np.ndarray, stats: Stats | None) -> np.ndarray:
    """Returns pixels of 8 bits, or floats on their scale, 0..255, whichever other images there are.

    Floats of 0 and 1 alone could be k / 255 or pixels: they are k / 255 where the training pixels were 0 and 255 alone.
    """
    way = f"give uint8, for example numpy.uint8(255 * {name} + 0.5) of values in 0..1"
    if array.dtype.kind in "fb" and np.isin(array, (0, 1)).all():
        if array.dtype.kind == "f" and array.any() and not _are_binary(stats):
            raise UserError(f"{name} has values 0 and 1 alone, on a scale of 0..1 or of 0..255; {way}")
        return np.where(array, 255, 0).astype(np.uint8)
    pixels, high = as_pixels(name, array), array.max()
    if array.dtype.kind == "f":
        if pixels.dtype != np.uint8 and (high <= 1 or pixels.min() < 0 or high > 255):
            raise UserError(
                f"{name} has values {pixels.min():g} to {pixels.max():g}; the model was trained on pixels of 8 bits, "
                f"0..255: {way}"
            )
        if high > 1:
            rows = array.reshape(len(array), -1)
            small = (rows.max(1) <= 1) & (rows != np.rint(rows)).any(1)
            if small.any():
                raise UserError(
                    f"{name} has values in 0..1 in example {small.argmax()}, in others up to {high:g}; {way}"
                )
    elif array.dtype.kind in "iu" and high <= 1 and stats is not None and stats[0].max() > 1:
        warnings.warn(
            f"{name} has no value above 1 of 255: it is almost black, as after .astype(uint8) on values in 0..1",
            stacklevel=2,
        )
    return pixels


def _are_binary(stats: Stats | None) -> bool:
    """Returns whether the training pixels were 0 and 255 alone: only then is the variance mean (255 - mean)."""
    if stats is None:
        return False
    mean, std = stats
    return np.allclose(std**2, mean * (255 - mean), rtol=1e-3)


def _refuse_whole_numbers(name: str, array: np.ndarray, stats: Stats) -> None:
    """Raises UserError for whole numbers, such as pixels, where a grid was trained on floats of a small scale."""
    mean, std = stats
    if (np.abs(mean) + 3 * std).max() < MIN_SPREAD:
        raise UserError(
            f"{name} is {describe(array)}; the model was trained on floats of mean {mean.mean():.3g} and standard "
            f"deviation {std.mean():.3g}: give floats on that scale"
        )
