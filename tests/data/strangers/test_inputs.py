"""What people give a trained model: the values that its dataset had, or one line."""

import re

import numpy as np
import pandas as pd
import pytest

from fusion_bench.data.captions.tokenizer import train_tokenizer
from fusion_bench.data.dataset import ModalitySpec
from fusion_bench.data.inputs import as_stored, by_name
from fusion_bench.errors import UserError

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (4, 6, 5, 3), np.uint8)
SENSOR = RNG.normal(size=(4, 3)).astype(np.float32)
STEPS = RNG.normal(size=(4, 7, 2)).astype(np.float32)
TEXTS = ["a cat", "a dog", "a red dog", "dog"]
TOKENIZER = train_tokenizer(TEXTS)
IDS = np.array([[2, 4, 0], [2, 3, 0], [2, 5, 3], [3, 0, 0]])
SPECS = {
    "image": ModalitySpec("grid", (6, 5, 3), dtype="uint8"),
    "grey": ModalitySpec("grid", (6, 5, 1), dtype="uint8"),
    "depth": ModalitySpec("grid", (6, 5, 1)),
    "sensor": ModalitySpec("vector", (3,)),
    "steps": ModalitySpec("sequence", (7, 2)),
    "text": ModalitySpec("tokens", (3,), 6, dtype="int32"),
}


GREY_LEVELS, UNIT = (np.full(3, 120.0), np.full(3, 60.0)), (np.full(1, 0.4), np.full(1, 0.2))
STATS = {"image": GREY_LEVELS, "grey": (np.full(1, 51.0), np.full(1, 102.0)), "depth": UNIT}
"""The grey images of training had pixels 0 and 255 alone."""


def stored(name, given, stats=None):
    tokenizer = TOKENIZER if name == "text" else None
    return as_stored(name, given, SPECS[name], tokenizer, stats=stats or STATS.get(name))


SAME = {
    "float k / 255": ("image", IMAGE / 255, IMAGE),
    "float32 k / 255": ("image", (IMAGE / 255).astype(np.float32), IMAGE),
    "int64": ("image", IMAGE.astype(int), IMAGE),
    "float 0..255": ("image", IMAGE.astype(float), IMAGE),
    "a list of images": ("image", list(IMAGE), IMAGE),
    "an iterator of images": ("image", iter(IMAGE), IMAGE),
    "grey without channels": ("grey", IMAGE[..., 0], IMAGE[..., :1]),
    "resized, in 0..255": ("image", IMAGE * np.float32(0.99), IMAGE * np.float32(0.99)),
    "a column": ("sensor", pd.DataFrame(SENSOR, index=[7, 5, 6, 4]), SENSOR),
    "float64": ("sensor", SENSOR.astype(float), SENSOR),
    "nested lists": ("sensor", SENSOR.tolist(), SENSOR),
    "a shorter sequence": ("steps", STEPS[:, :5], np.pad(STEPS[:, :5], ((0, 0), (0, 2), (0, 0)))),
    "texts": ("text", TEXTS, IDS),
    "texts in a tuple": ("text", tuple(TEXTS), IDS),
    "texts in an array": ("text", np.array(TEXTS), IDS),
    "texts in a Series": ("text", pd.Series(TEXTS, index=[9, 3, 5, 1]), IDS),
    "texts of a generator": ("text", (text for text in TEXTS), IDS),
    "token ids": ("text", IDS.tolist(), IDS),
    "a view without indices": ("sensor", dict(enumerate(SENSOR)).values(), SENSOR),
    "dark, in 0..255": (
        "image",
        np.where(np.arange(4)[:, None, None, None], IMAGE, 1).astype(float),
        np.where(np.arange(4)[:, None, None, None], IMAGE, 1).astype(np.uint8),
    ),
    "black": ("image", IMAGE * 0.0, IMAGE * 0),
    "0 and 1, as in training": ("grey", (IMAGE[..., :1] > 99).astype(float), np.uint8(255 * (IMAGE[..., :1] > 99))),
    "bool": ("image", IMAGE > 99, np.uint8(255 * (IMAGE > 99))),
    "no example": ("image", IMAGE[:0].astype(float), IMAGE[:0]),
    "no text": ("text", np.zeros((0, 3)), IDS[:0]),
}


@pytest.mark.parametrize("case", SAME)
def test_other_forms_of_the_same_inputs(case):
    name, given, expected = SAME[case]
    found = stored(name, given)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert found.dtype == (expected.dtype if name == "image" else SPECS[name].dtype)


REFUSED = {
    "float not k / 255": ("image", IMAGE / 255 * 0.97, "trained on pixels of 8 bits, 0..255: give uint8"),
    "standardised": ("image", (IMAGE - 120.0) / 60, "the model was trained on pixels of 8 bits"),
    "0 and 1 alone": ("image", (IMAGE > 99).astype(float), "image has values 0 and 1 alone, on a scale of 0..1 or"),
    "two scales": (
        "image",
        np.where(np.arange(4)[:, None, None, None] == 2, IMAGE / 255, IMAGE),
        "image has values in 0..1 in example 2, in others up to 249; give uint8",
    ),
    "pixels for floats": (
        "depth",
        IMAGE[..., :1],
        "trained on floats of mean 0.4 and standard deviation 0.2: give floats on that scale",
    ),
    "whole numbers for floats": ("depth", IMAGE[..., :1].astype(int), "depth is int64 [4, 6, 5, 1]; the model was"),
    "padding alone": (
        "text",
        IDS * [[1], [1], [0], [1]],
        "text has padding (0) alone in example 2; each example needs",
    ),
    "a number": ("sensor", 3, "sensor is one int; give a list or an array with one entry per example"),
    "None": ("sensor", None, "sensor is one NoneType"),
    "an array of no dimension": ("text", np.array("x"), "text is one ndarray; give a list or an array"),
    "a Series of arrays": (
        "image",
        pd.Series(list(IMAGE)),
        "image is object [4]; numbers are right; give numpy.stack(image)",
    ),
    "a Series of None": ("sensor", pd.Series([None] * 4), "sensor is object [4]; numbers are right"),
    "NaN": ("image", np.where(IMAGE > 3, IMAGE, np.nan), "image is nan in example"),
    "NaN in a vector": ("sensor", SENSOR * [1, np.nan, 1], "sensor is nan in example 0, at [1]"),
    "infinite": ("sensor", SENSOR * [1, np.inf, 1], "inf in example 0, at [1]"),
    "channels first": ("image", np.moveaxis(IMAGE, -1, 1), "give numpy.moveaxis(image, 1, -1)"),
    "one image": ("image", IMAGE[0], "give image[None] for one example"),
    "a longer sequence": ("steps", np.zeros((4, 8, 2)), "steps has shape (4, 8, 2); it must be (example, 7, 2)"),
    "one string": ("text", "a cat", "text is one str; give a list or an array with one entry per example"),
    "a missing text": ("text", pd.Series(["a cat", None]), "in example 1; a string is right"),
    "numbers among texts": ("text", ["a cat", 3], "text is 3 in example 1"),
    "fractions for tokens": ("text", IDS + 0.5, "text is float64 [4, 3]; token ids are whole numbers"),
    "unknown token": ("text", IDS + 9, "text has token ids outside 0..5"),
    "words for numbers": ("sensor", TEXTS, "sensor is <U9 [4]; numbers are right"),
    "a mapping": ("sensor", {"a": 1}, "sensor is one dict"),
    "different shapes": ("sensor", [[1, 2, 3], [1, 2]], "sensor has examples of different shapes"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_give_a_wrong_answer_is_refused(case):
    name, given, message = REFUSED[case]
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        stored(name, given)
    assert "\n" not in str(caught.value)


def test_texts_need_a_tokenizer():
    with pytest.raises(UserError, match="text is text, and the run has no tokenizer of it; give token ids"):
        as_stored("text", TEXTS, SPECS["text"], None)


@pytest.mark.parametrize("given", [(IMAGE / 255).astype(np.uint8), (IMAGE > 99).astype(int)])
def test_images_that_are_almost_black_are_told(given):
    with pytest.warns(UserWarning, match=r"^image has no value above 1 of 255: it is almost black"):
        np.testing.assert_array_equal(stored("image", given), given)


def test_a_dark_image_is_ordinary_where_the_training_images_were_dark():
    np.testing.assert_array_equal(stored("image", IMAGE // 200, (np.full(3, 0.3), np.full(3, 0.5))), IMAGE // 200)


def test_whole_numbers_are_right_for_floats_of_a_large_scale():
    depth = IMAGE[..., :1]
    np.testing.assert_array_equal(stored("depth", depth, (np.full(1, 90.0), np.full(1, 40.0))), depth)


@pytest.mark.parametrize("given", [[SENSOR], SENSOR, 3, "sensor", None])
def test_predictions_are_asked_for_by_name(given):
    with pytest.raises(UserError, match=r"^the inputs are one \w+; give the modalities by name, in a dictionary$"):
        by_name(given)


def test_inputs_may_be_the_columns_of_a_table():
    found = by_name(pd.DataFrame({"text": TEXTS}))
    np.testing.assert_array_equal(stored("text", found["text"]), IDS)
