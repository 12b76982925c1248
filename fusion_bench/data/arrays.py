"""Arrays of a file as modalities. An array of ambiguous kind is refused unless its kind is stated.

    float [N], [N, D]           vector
    float [N, T, D]             sequence; ambiguous if square with the values of pixels, as a grey image is
    float, uint8 [N, H, W, C]   grid; the values k / 255 and 0..255 become uint8, which is the same image
    uint8 [N, H, W]             grid, grey
    bool [N], [N, D]            vector
    bool [N, H, W]              grid
    strings [N]                 text
    whole numbers [N, T]        tokens, if 0 stands only where rows of different lengths end (see `_ends_in_padding`);
                                else ambiguous, as counts and pixels are

All else is refused in one line.
"""

from collections.abc import Callable, Mapping
from typing import Literal, get_args

import numpy as np

from fusion_bench.data.dataset import IMAGE_CHANNELS, PAD, Kind, Modality
from fusion_bench.errors import UserError

ArrayKind = Kind | Literal["text"]
MAX_VOCABULARY = 1_000_000
"""Token ids above it ask for an embedding that no machine holds."""
NO_NUMBER = 1e37
"""Float32 numbers beyond it in size are what stands for infinity, such as `numpy.nan_to_num` puts there."""
MAX_ROUNDING = 0.01
"""Error of rounding to float32, in standard deviations of a feature, at most."""
MASKS = ("mask", "attention_mask", "padding_mask")
"""Names of arrays that are masks, and do not say of what."""
MIN_PADDED, MIN_LENGTHS = 0.1, 3
"""Evidence of tokens: the part of rows that end in padding, and the number of different lengths, at least."""


def kind_of(name: str, array: np.ndarray, has_mask: bool = False) -> ArrayKind:
    """Returns the kind of an array, as in this module's docstring.

    Raises:
      UserError: it could be of several kinds, or is of none.
    """
    letter, ndim = array.dtype.kind, array.ndim
    if has_mask and ndim == 3:
        return "sequence"
    if has_mask and ndim == 2 and letter in "iu":
        return "tokens"
    if name in MASKS:
        raise UserError(f"{name} is a mask of no array; call it NAME_mask, or leave it out with --modalities")
    if letter in "US" and ndim == 1:
        return "text"
    if letter == "f" and ndim == 2 and _are_whole(array) and _ends_in_padding(array):
        raise _unsure(name, array, "tokens, saved as floats, or a vector", ("tokens", "vector"))
    if letter in "fb" and ndim in (1, 2):
        return "vector"
    if letter in "iu" and ndim == 1:
        raise _unsure(name, array, "a number of each example, or its name", ("vector",))
    if letter == "f" and ndim == 3:
        if array.shape[1] == array.shape[2] and _are_pixels(array):
            raise _unsure(name, array, "a grey image or a sequence", ("grid", "sequence"))
        return "sequence"
    if letter in "fiu" and ndim == 4 and array.shape[1] in IMAGE_CHANNELS and array.shape[3] not in IMAGE_CHANNELS:
        raise UserError(
            f"{name} is {describe(array)}, which looks like [N, C, H, W]; save numpy.moveaxis({name}, 1, -1), or say "
            f"--kind {name}=grid if its height is {array.shape[1]}"
        )
    if (array.dtype in (np.uint8, bool) and ndim == 3) or (letter in "fiub" and ndim == 4):
        return "grid"
    if letter in "iu" and ndim == 3:
        raise _unsure(name, array, "a grey image or a sequence", ("grid", "sequence"))
    if letter in "iu" and ndim == 2:
        if not _ends_in_padding(array):
            raise _unsure(name, array, "tokens, or numbers such as counts and pixels", ("tokens", "vector"))
        return "tokens"
    right = "numbers [N, D], [N, T, D] or [N, H, W, C], or strings [N]"
    raise UserError(f"{name} is {describe(array)}, which is no modality; {right} are; --modalities leaves it out")


def as_modality(name: str, array: np.ndarray, kind: Kind, mask: np.ndarray | None = None) -> Modality:
    """Returns an array as a modality of a kind, of the type in which a dataset stores it.

    Args:
      name: of the modality, for messages.
      array: numbers, [N, ...].
      kind: what it is.
      mask: of a sequence or tokens, bool [N, T], False where it is padded; None where it is not.

    Raises:
      UserError: it cannot be of this kind, or holds what is no number.
    """
    if array.size == 0:
        raise UserError(f"{name} has shape {array.shape}, which is empty")
    if array.dtype.kind not in "fiub":
        raise UserError(f"{name} is {describe(array)}; for the kind {kind} numbers are right")
    return _MAKE[kind](name, array, mask)


def as_texts(name: str, array: np.ndarray) -> tuple[str, ...]:
    """Returns strings [N], decoded from UTF-8 where they are bytes.

    Raises:
      UserError: it is something else, or a text is empty or not UTF-8.
    """
    texts = as_strings(name, array).tolist()
    for index, text in enumerate(texts):
        if not text.strip():
            raise UserError(f"{name} is empty in example {index}; each example needs a text")
    return tuple(texts)


def as_strings(name: str, array: np.ndarray) -> np.ndarray:
    """Returns an array of strings [N]; raises UserError if it is something else or not UTF-8."""
    if array.dtype.kind not in "US" or array.ndim != 1:
        raise UserError(f"{name} is {describe(array)}; strings [N] are right")
    try:
        return np.char.decode(array, "utf-8") if array.dtype.kind == "S" else array
    except UnicodeDecodeError as error:
        raise UserError(f"{name} is bytes that are not UTF-8 ({error.reason}); save strings") from error


def describe(array: np.ndarray) -> str:
    """Returns the type and shape of an array for a message."""
    return f"{array.dtype} {list(array.shape)}"


def _grid(name: str, array: np.ndarray, _: np.ndarray | None) -> Modality:
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4:
        raise UserError(f"{name} is {describe(array)}; [N, H, W, C] is right for a grid, or [N, H, W]")
    return Modality("grid", as_pixels(name, array))


def as_pixels(name: str, array: np.ndarray) -> np.ndarray:
    """Returns a grid as uint8 where that is the same image: whole numbers 0..255 or k / 255; else as float32.

    Floats that are all 0 or 1 stay, as they have no scale.
    """
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind in "iu" and 0 <= array.min() <= array.max() <= 255:
        return array.astype(np.uint8)
    values = as_floats(name, array)
    if array.shape[-1] in IMAGE_CHANNELS and values.min() >= 0 and not np.isin(values, (0, 1)).all():
        for scale in (255, 1):
            pixels = np.rint(values * scale)
            is_same = pixels.max() <= 255 and np.abs(values * scale - pixels).max() < 1e-3
            if is_same and not (pixels[values > 0] == 0).any():
                return pixels.astype(np.uint8)
    return values


def as_floats(name: str, array: np.ndarray) -> np.ndarray:
    """Returns numbers as float32.

    Raises:
      UserError: one is not finite there, or stands for infinity; or float32 cannot tell the numbers apart.
    """
    with np.errstate(over="ignore"):
        values = array.astype(np.float32)
    if not np.abs(values).max() < NO_NUMBER:  # true for NaN
        place = tuple(np.argwhere(~(np.abs(values) < NO_NUMBER))[0].tolist())
        where = f"in example {place[0]}" + (f", at {list(place[1:])}" if values.ndim > 1 else "")
        right = "drop the example, or put a value of the usual size there"
        raise UserError(f"{name} is {array[place]:g} {where}, which is not a usable number; {right}")
    if array.dtype.itemsize > 4:
        by_feature = array.reshape(-1, array.shape[-1]) if array.ndim > 1 else array[:, None]
        error = np.abs(array - values).reshape(by_feature.shape).max(0)
        if (error > MAX_ROUNDING * by_feature.std(0)).any():
            raise UserError(f"{name} loses its differences in float32; save {name} - {name}.mean(0), in another unit")
    return values


def _vector(name: str, array: np.ndarray, _: np.ndarray | None) -> Modality:
    if array.ndim not in (1, 2):
        raise UserError(f"{name} is {describe(array)}; [N, D] is right for a vector")
    return Modality("vector", as_floats(name, array.reshape(len(array), -1)))


def _sequence(name: str, array: np.ndarray, mask: np.ndarray | None) -> Modality:
    if array.ndim not in (2, 3):
        raise UserError(f"{name} is {describe(array)}; [N, T, D] is right for a sequence, or [N, T]")
    values = array.reshape(*array.shape[:2], -1)
    if mask is None or mask.all():
        return Modality("sequence", as_floats(name, values))
    return Modality("sequence", as_floats(name, np.where(mask[..., None], values, 0)), mask=mask)


def _tokens(name: str, array: np.ndarray, mask: np.ndarray | None) -> Modality:
    if array.ndim != 2 or not _are_whole(array):
        raise UserError(f"{name} is {describe(array)}; whole numbers [N, T] are right for tokens")
    array = array.astype(np.int64)
    if mask is not None:
        is_used = (array[mask] == PAD).any()  # by a token, which gets another id
        array = np.where(mask, array + is_used, PAD)
    low, high = int(array.min()), int(array.max())
    if low < 0:
        raise UserError(f"{name} has token {low}; 0 (padding) or more is right")
    if high >= MAX_VOCABULARY:
        raise UserError(
            f"{name} has token {high:,}; ids below {MAX_VOCABULARY:,} are right: number the ones that occur, as "
            f"numpy.unique(..., return_inverse=True) does, with 0 for padding; or say --kind {name}=vector"
        )
    blank = np.flatnonzero((array == PAD).all(1))
    if len(blank):
        raise UserError(f"{name} has padding (0) alone in example {blank[0]}; each example needs a token")
    return Modality("tokens", array.astype(np.int32), vocabulary_size=high + 1)


_MAKE: Mapping[Kind, Callable[[str, np.ndarray, np.ndarray | None], Modality]] = {
    "grid": _grid,
    "vector": _vector,
    "sequence": _sequence,
    "tokens": _tokens,
}
assert set(_MAKE) == set(get_args(Kind))


def _are_pixels(array: np.ndarray) -> bool:
    """Returns whether floats are all in 0..1, or whole and in 0..255."""
    if not np.isfinite(array).all() or array.min() < 0 or array.max() > 255:
        return False
    return bool(array.max() <= 1 or (array == np.rint(array)).all())


def _are_whole(array: np.ndarray) -> bool:
    return array.dtype.kind in "iu" or bool(np.isfinite(array).all() and (array == np.rint(array)).all())


def _ends_in_padding(array: np.ndarray) -> bool:
    """Returns whether zeros stand only at one end of rows, a tenth of them at least, of three lengths or more.

    Rows that all rise or all fall are sorted counts or times, and numbers up to 1 are flags.
    """
    if array.min() < 0 or array.max() < 2:
        return False
    if array.max() >= MAX_VOCABULARY:
        return array.dtype.kind in "iu"  # no counts are so large: refused as tokens, with the reason
    present = array != PAD
    lengths = present.sum(1)
    steps = np.arange(array.shape[1])
    ends = (present == (steps < lengths[:, None])).all()
    begins = (present == (steps >= array.shape[1] - lengths[:, None])).all()
    padded = (lengths < array.shape[1]).mean() >= MIN_PADDED
    change = np.diff(array.astype(np.int64))[:, :, None] * [1, -1]
    inside = (present[:, 1:] & present[:, :-1])[:, :, None]
    is_sorted = ((change >= 0) | ~inside).all((0, 1)).any()
    return bool((ends or begins) and padded and len(np.unique(lengths)) >= MIN_LENGTHS and not is_sorted)


def _unsure(name: str, array: np.ndarray, what: str, kinds: tuple[Kind, ...]) -> UserError:
    ways = " or ".join(f"--kind {name}={kind}" for kind in kinds)
    return UserError(
        f"{name} is {describe(array)}, which could be {what}; say which: {ways}; --modalities leaves it out"
    )
