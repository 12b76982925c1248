"""What people give a trained model: the values that its dataset had, or one line."""

import re

import numpy as np
import pandas as pd
import pytest

from fusion_bench.data.captions.tokenizer import train_tokenizer
from fusion_bench.data.dataset import ModalitySpec
from fusion_bench.data.inputs import as_stored
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


def stored(name, given):
    return as_stored(name, given, SPECS[name], TOKENIZER if name == "text" else None)


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
