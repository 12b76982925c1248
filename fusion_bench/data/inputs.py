"""What a caller gives a trained model, as the arrays that its dataset had: with the checks of a file."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool

from fusion_bench.data.arrays import as_floats, as_pixels, describe
from fusion_bench.data.captions.tokenizer import encode
from fusion_bench.data.dataset import ModalitySpec
from fusion_bench.errors import UserError

if TYPE_CHECKING:
    import tokenizers


def as_stored(
    name: str,
    given: Any,
    spec: ModalitySpec,
    tokenizer: "tokenizers.Tokenizer | None",
    mask: Callable[[], Bool[np.ndarray, "example token"]] | None = None,
) -> np.ndarray:
    """Returns the values of a modality of some examples, of the type and the shape that a dataset has.

    Args:
      name: of the modality, for messages.
      given: an array, a list, a pandas Series, or an iterator of examples; texts or token ids for tokens.
      spec: what the model was built for.
      tokenizer: what turns texts into tokens.
      mask: returns where a sequence has a step; called once its shape is known to be right.

    Raises:
      UserError: it is of another kind, shape or range, or holds what is no number.
    """
    if isinstance(given, (str, bytes, Mapping)) or given is None:
        raise UserError(f"{name} is one {type(given).__name__}; give a list or an array with one entry per example")
    if not hasattr(given, "__len__"):
        given = list(given)
    entries = given.to_numpy() if hasattr(given, "to_numpy") else given  # a Series may begin at any index
    if spec.kind == "tokens" and len(entries) and isinstance(entries[0], str):
        return _text(name, list(entries), spec, tokenizer)
    try:
        array = np.asarray(entries)
    except ValueError as error:  # rows of different lengths
        raise UserError(f"{name} has examples of different shapes; one shape is right") from error
    if array.dtype.kind not in "fiub":
        raise UserError(f"{name} is {describe(array)}; numbers are right")
    array = _of_shape(name, array, spec)
    if mask is not None:
        array = np.where(mask()[..., None], array, 0)  # whatever fills the rest
    if array.size == 0:
        return array.astype(spec.dtype)
    if spec.kind == "tokens":
        return _ids(name, array, spec)
    return _pixels(name, array) if spec.dtype == "uint8" else as_floats(name, array)


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
    return array.astype(np.int32)


def _pixels(name: str, array: np.ndarray) -> np.ndarray:
    """Returns pixels of 8 bits, or floats on their scale, 0..255."""
    pixels = as_pixels(name, array)
    if pixels.dtype != np.uint8 and (pixels.max() <= 1 or pixels.min() < 0 or pixels.max() > 255):
        raise UserError(
            f"{name} has values {pixels.min():g} to {pixels.max():g}; the model was trained on pixels of 8 bits, "
            f"0..255: give uint8, for example numpy.uint8(255 * {name} + 0.5) of values in 0..1"
        )
    return pixels
