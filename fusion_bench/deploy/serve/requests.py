"""Requests of predictions as arrays of the model: read, decoded and checked."""

import base64
import dataclasses
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from fusion_bench.data.dataset import ModalitySpec
from fusion_bench.deploy.card import MAX_CHARACTERS
from fusion_bench.deploy.examples import is_picture
from fusion_bench.deploy.images import FORMATS, decode
from fusion_bench.deploy.model import Classifier
from fusion_bench.deploy.serve.fields import check_names, read_fields
from fusion_bench.deploy.serve.limits import Limits
from fusion_bench.errors import UserError

EXAMPLES, MISSING, ALONE = "examples", "missing", "alone"
OPTIONS = (EXAMPLES, MISSING, ALONE)
"""Fields that are not modalities."""


@dataclasses.dataclass(frozen=True)
class Question:
    """A request of predictions, as arrays.

    Attributes:
      arrays: as the model takes them, one row for each prediction: of the examples, then of single modalities.
      count: number of examples.
      is_many: whether the answer is a list.
      alone: by example and modality, the row of the prediction from that modality alone, None if there is none; empty
        if it was not asked.
    """

    arrays: list[np.ndarray]
    count: int
    is_many: bool
    alone: list[dict[str, int | None]]


def read_question(classifier: Classifier, limits: Limits, content_type: str, body: bytes) -> Question:
    """Returns the predictions that a request asks for.

    A form has one example: of an image the file, of a text the text. JSON has an image's file in base64, numbers as
    nested lists, and possibly several examples, in `examples`. `missing` and `alone` are fields of both.

    Raises:
      UserError: a field is wrong.
      HTTPException: 415, it is neither a form nor JSON.
    """
    fields = read_fields(content_type, body, (*classifier.modalities, *OPTIONS))
    missing, alone = (_option(fields.pop(name, None), name) for name in (MISSING, ALONE))
    given = _examples(fields, classifier, limits) if EXAMPLES in fields else [fields]
    pixels = _Pixels(limits.pixels, EXAMPLES in fields)
    examples = []
    for index, values in enumerate(given):
        try:
            read = {name: _read(name, classifier.modalities[name], value, pixels) for name, value in values.items()}
            read = {name: value for name, value in read.items() if value is not None}
            examples.append((read, classifier.fill(read) if missing else read))
        except UserError as error:
            raise _named(error, index, EXAMPLES in fields) from error
    rows = [filled for _, filled in examples]
    places = [_alone(classifier, read, rows) for read, _ in examples] if alone else []
    try:
        arrays = classifier.arrays(rows)
    except UserError:
        for index, row in enumerate(rows[: len(examples)]):  # which one is it?
            try:
                classifier.arrays([row])
            except UserError as error:
                raise _named(error, index, EXAMPLES in fields) from error
        raise
    return Question(arrays, len(examples), EXAMPLES in fields, places)


class _Pixels:
    """Counts the pixels of several images before they are decoded; of one image `decode` looks at the size itself."""

    def __init__(self, limit: int, is_needed: bool):
        self.left = self.limit = limit
        self.is_needed = is_needed

    def count(self, content: bytes) -> None:
        if not self.is_needed:
            return
        try:
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                self.left -= image.width * image.height
        except Exception:  # a decoder raises errors of any type; `decode` says what is wrong
            return
        if self.left < 0:
            raise UserError(f"the images have more than {self.limit:,} pixels in all")


def _examples(fields: Mapping[str, Any], classifier: Classifier, limits: Limits) -> list[dict[str, Any]]:
    given = fields[EXAMPLES]
    if len(fields) > 1:
        raise UserError(f"{EXAMPLES} has all modalities; none is right beside it")
    if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
        raise UserError(f"{EXAMPLES} must be a list of JSON objects")
    if not 1 <= len(given) <= limits.examples:
        raise UserError(f"there are {len(given):,} examples; 1 to {limits.examples} are right")
    for index, one in enumerate(given):
        try:
            check_names(one, [*classifier.modalities])
        except UserError as error:
            raise _named(error, index, True) from error
    return given


def _option(value: Any, name: str) -> bool:
    """Returns whether an option is given, as JSON or as the text of a form."""
    right = {MISSING: {"neutral": True, "error": False}, ALONE: {"true": True, "false": False}}[name]
    if value is None or (name == ALONE and isinstance(value, bool)):
        return bool(value)
    word = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    if not isinstance(word, str) or word not in right:
        raise UserError(f"{name} must be {' or '.join(right)}")
    return right[word]


def _named(error: UserError, index: int, is_many: bool) -> UserError:
    return UserError(f"example {index}: {error}") if is_many else error


def _alone(classifier: Classifier, given: Mapping[str, Any], rows: list[dict[str, Any]]) -> dict[str, int | None]:
    """Adds a row for each modality alone, the others neutral; returns their places, None where that cannot be."""
    places: dict[str, int | None] = {}
    for name in classifier.modalities:
        others = {other: classifier.neutral.get(other) for other in classifier.modalities if other != name}
        is_possible = name in given and all(value is not None for value in others.values())
        places[name] = len(rows) if is_possible else None
        if is_possible:
            rows.append({name: given[name], **others})
    return places


def _read(name: str, spec: ModalitySpec, value: Any, pixels: _Pixels) -> Any:
    """Returns a modality's value as `Classifier.arrays` takes it, None if it is empty."""
    if value in (b"", ""):
        return None
    if spec.kind == "tokens" and isinstance(value, (bytes, str)):
        return _text(name, value)
    if is_picture(spec):
        return _picture(name, spec, value, pixels)
    if isinstance(value, bytes):
        raise UserError(f"{name} is a {spec.kind}; give it in JSON, as nested lists of numbers")
    if spec.kind == "tokens" and not isinstance(value, list):
        raise UserError(f"{name} must be a string")
    return _numbers(name, spec, value)


def _text(name: str, value: bytes | str) -> str:
    try:
        text = value if isinstance(value, str) else value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{name} is not UTF-8") from error
    if len(text) > MAX_CHARACTERS:
        raise UserError(f"{name} has {len(text):,} characters; at most {MAX_CHARACTERS:,} are right")
    return text


def _picture(name: str, spec: ModalitySpec, value: Any, pixels: _Pixels) -> np.ndarray:
    if isinstance(value, str):
        try:
            value = base64.b64decode(value, validate=True)
        except ValueError as error:
            raise UserError(f"{name} is not base64") from error
    if not isinstance(value, bytes):
        raise UserError(f"{name} must be an image file, in base64")
    pixels.count(value)
    try:
        return decode(value, spec.shape)
    except UserError as error:
        raise UserError(f"{name}: {error}") from error


def _are_numbers(value: Any, shape: tuple[int, ...]) -> bool:
    """Returns whether a value is nested lists of numbers, none longer than `shape` says.

    NumPy would make room for the longest string times the number of entries.
    """
    if not shape:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    is_list = isinstance(value, list) and len(value) <= shape[0]
    return is_list and all(_are_numbers(one, shape[1:]) for one in value)


def _numbers(name: str, spec: ModalitySpec, value: Any) -> np.ndarray:
    """Returns nested lists as an array of the model's shape and type; a sequence may have fewer steps."""
    try:
        array = np.asarray(value if _are_numbers(value, spec.shape) else None)
    except (ValueError, OverflowError):  # rows of different lengths, or an integer of more than 64 bits
        array = np.asarray(None)
    fits = array.shape == spec.shape
    if spec.kind == "sequence":
        fits = array.ndim == 2 and 1 <= len(array) <= spec.shape[0] and array.shape[1] == spec.shape[1]
    if not fits or array.dtype.kind not in "iuf":
        steps = " or fewer steps" if spec.kind == "sequence" else ""
        raise UserError(f"{name} must be nested lists of numbers, of shape {list(spec.shape)}{steps}")
    if spec.dtype == "float32":
        with np.errstate(over="ignore"):
            array = array.astype(np.float32)
        if not np.isfinite(array).all():
            raise UserError(f"{name} has a number that is too large for float32")
    elif spec.dtype == "uint8":
        if array.dtype.kind == "f" or array.min() < 0 or array.max() > 255:
            raise UserError(f"{name} must have whole numbers of 0 to 255")
        array = array.astype(np.uint8)
    return array
