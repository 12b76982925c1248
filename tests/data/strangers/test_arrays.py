"""The same content in the forms in which people have it: the same dataset, or one line that says what to do."""

import re

import numpy as np
import pytest

from fusion_bench.config import DataConfig
from fusion_bench.data.load import load_dataset, resolved
from fusion_bench.errors import UserError

COUNT = 300
RNG = np.random.default_rng(0)
LABEL = np.arange(COUNT) % 3
NAMES = np.array(["cat", "dog", "eel"])
IMAGE = RNG.integers(0, 256, (COUNT, 6, 5, 3), np.uint8)
GREY = IMAGE[..., :1]
SENSOR = RNG.normal(size=(COUNT, 4)).astype(np.float32)
LENGTH = RNG.integers(1, 8, COUNT)
IS_STEP = np.arange(7) < LENGTH[:, None]
TOKENS = np.where(IS_STEP, RNG.integers(1, 50, (COUNT, 7)), 0)
STEPS = np.where(IS_STEP[..., None], RNG.normal(size=(COUNT, 7, 2)), 0).astype(np.float32)
PLAIN = {"image": IMAGE, "sensor": SENSOR, "label": LABEL}
SPLIT = np.array(["train", "train", "train", "validation", "test"] * (COUNT // 5))


def load(tmp_path, arrays, *, name="mine.npz", **fields):
    with (tmp_path / name).open("wb") as file:
        np.savez(file, **arrays)
    return load_dataset(DataConfig(str(tmp_path / name), **fields))


SAME = {
    "image as float k / 255": (PLAIN, {"image": IMAGE / 255}),
    "image as float32 k / 255": (PLAIN, {"image": (IMAGE / 255).astype(np.float32)}),
    "image as float 0..255": (PLAIN, {"image": IMAGE.astype(float)}),
    "image as int64": (PLAIN, {"image": IMAGE.astype(np.int64)}),
    "grey image without channels": ({**PLAIN, "image": GREY}, {"image": GREY[..., 0]}),
    "label as a column": (PLAIN, {"label": LABEL[:, None]}),
    "label as whole floats": (PLAIN, {"label": LABEL.astype(float)}),
    "label one-hot": (PLAIN, {"label": np.eye(3)[LABEL]}),
    "label one-hot bool": (PLAIN, {"label": np.eye(3, dtype=bool)[LABEL]}),
    "label called labels": (PLAIN, {"label": None, "labels": LABEL}),
    "label called y": (PLAIN, {"label": None, "y": LABEL.astype(np.uint8)}),
    "label as names": ({**PLAIN, "class_names": NAMES}, {"label": NAMES[LABEL]}),
    "label as bytes": ({**PLAIN, "class_names": NAMES}, {"label": NAMES[LABEL].astype("S")}),
    "names in another order": (
        {**PLAIN, "label": 2 - LABEL, "class_names": NAMES[::-1]},
        {"label": NAMES[LABEL], "class_names": NAMES[::-1]},
    ),
    "split in other words": (
        {**PLAIN, "split": SPLIT},
        {"split": np.array(["Train", "training", "train", "val", "Test"] * (COUNT // 5))},
    ),
    "split as bytes": ({**PLAIN, "split": SPLIT}, {"split": SPLIT.astype("S")}),
    "vector as float64": (PLAIN, {"sensor": SENSOR.astype(float)}),
    "vector as half": (
        {**PLAIN, "sensor": SENSOR.astype(np.float16)},
        {"sensor": SENSOR.astype(np.float16).astype(float)},
    ),
    "one number": ({**PLAIN, "sensor": SENSOR[:, :1]}, {"sensor": SENSOR[:, 0]}),
    "bool vector": ({**PLAIN, "sensor": (SENSOR > 0).astype(float)}, {"sensor": SENSOR > 0}),
    "counts that are said": (
        {**PLAIN, "sensor": np.rint(9 * SENSOR**2)},
        {"sensor": np.rint(9 * SENSOR**2).astype(int), "kinds": np.array(["sensor=vector"])},
    ),
    "flat pixels that are said": (
        {**PLAIN, "sensor": GREY.reshape(COUNT, -1).astype(float)},
        {"sensor": GREY.reshape(COUNT, -1), "kinds": np.array("sensor=vector")},
    ),
    "tokens as uint8": ({**PLAIN, "words": TOKENS}, {"words": TOKENS.astype(np.uint8)}),
    "tokens that are said": ({**PLAIN, "words": TOKENS}, {"words": TOKENS, "kinds": np.array(["words=tokens"])}),
    "sequence with lengths": (
        {**PLAIN, "steps": STEPS, "steps_mask": IS_STEP},
        {"steps": STEPS, "steps_mask": None, "steps_length": LENGTH},
    ),
    "sequence with rubbish behind its end": (
        {**PLAIN, "steps": STEPS, "steps_mask": IS_STEP},
        {"steps": np.where(IS_STEP[..., None], STEPS, np.nan), "steps_mask": IS_STEP.astype(int)},
    ),
    "bool column": ({**PLAIN, "sensor": (SENSOR[:, :1] > 0).astype(float)}, {"sensor": SENSOR[:, 0] > 0}),
    "tokens with a mask": ({**PLAIN, "words": TOKENS}, {"words": np.where(IS_STEP, TOKENS, 7), "words_mask": IS_STEP}),
    "tokens with lengths": (
        {**PLAIN, "words": TOKENS},
        {"words": np.where(IS_STEP, TOKENS, 1), "words_length": LENGTH},
    ),
    "token 0 that is a word": (
        {**PLAIN, "words": TOKENS},
        {"words": np.where(IS_STEP, TOKENS - 1, 0), "words_mask": IS_STEP},
    ),
    "a mask that is True everywhere": (
        {**PLAIN, "steps": STEPS + 1},
        {"steps": STEPS + 1, "steps_mask": np.ones_like(IS_STEP)},
    ),
    "the label again": (PLAIN, {"y": np.eye(3)[LABEL], "labels": NAMES[LABEL]}),
    "big-endian, in Fortran's order": (PLAIN, {"sensor": np.asfortranarray(SENSOR.astype(">f8"))}),
    "extra arrays": (PLAIN, {"filename": np.arange(COUNT).astype(str), "id": np.arange(COUNT)}),
}


@pytest.mark.parametrize("case", SAME)
def test_the_same_content_is_the_same_dataset(case, tmp_path):
    plain, changes = SAME[case]
    arrays = {name: array for name, array in (plain | changes).items() if array is not None}
    expected, found = load(tmp_path, plain, name="plain.npz"), load(tmp_path, arrays)
    assert {name: each.spec for name, each in found.modalities.items()} == {
        name: each.spec for name, each in expected.modalities.items()
    }
    for name, modality in expected.modalities.items():
        np.testing.assert_allclose(found.modalities[name].values, modality.values, rtol=1e-6)
        np.testing.assert_array_equal(found.modalities[name].mask, modality.mask)
    np.testing.assert_array_equal(found.labels, expected.labels)
    assert "class_names" not in plain or found.class_names == expected.class_names
    for name, indices in expected.splits.items():
        np.testing.assert_array_equal(found.splits[name], indices)


REFUSED = {
    "flat pixels": ({"sensor": GREY.reshape(COUNT, -1)}, "say which: --kind sensor=tokens or --kind sensor=vector"),
    "counts": ({"sensor": RNG.poisson(1.0, (COUNT, 12))}, "say which: --kind sensor=tokens or --kind sensor=vector"),
    "counts without zeros": ({"sensor": RNG.integers(1, 9, (COUNT, 12))}, "--kind sensor=vector"),
    "counts, the last often 0": (
        {"sensor": np.c_[RNG.integers(1, 9, (COUNT, 5)), LABEL > 0].astype(int)},
        "--kind sensor=vector",
    ),
    "negative whole numbers": ({"sensor": RNG.integers(-9, 9, (COUNT, 5))}, "--kind sensor=vector"),
    "channels first": ({"image": np.moveaxis(IMAGE, -1, 1)}, "save numpy.moveaxis(image, 1, -1)"),
    "channels first, float": ({"image": np.moveaxis(IMAGE / 255, -1, 1)}, "save numpy.moveaxis(image, 1, -1)"),
    "channels first, grey": ({"image": np.moveaxis(GREY, -1, 1)}, "looks like [N, C, H, W]"),
    "grey or sequence": ({"image": RNG.random((COUNT, 6, 6))}, "say which: --kind image=grid or --kind image=sequence"),
    "whole grey or sequence": ({"image": GREY[..., 0].astype(int)}, "--kind image=grid or --kind image=sequence"),
    "hashed words": ({"words": TOKENS * 10**9}, "ids below 1,000,000 are right: number the ones that occur"),
    "minus infinity made a number": (
        {"sensor": np.nan_to_num(np.where(np.arange(COUNT)[:, None] == 5, -np.inf, SENSOR))},
        "sensor is -3.40282e+38 in example 5, at [0], which is not a usable number",
    ),
    "sorted counts": ({"words": -np.sort(-RNG.poisson(1, (COUNT, 12)), 1)}, "--kind words=vector"),
    "flags": ({"words": (np.arange(8) < RNG.integers(1, 9, COUNT)[:, None]).astype(int)}, "--kind words=vector"),
    "tokens as floats": ({"words": TOKENS.astype(float)}, "tokens, saved as floats, or a vector; say which"),
    "a number of each example": ({"age": LABEL + 30}, "--kind age=vector; --modalities leaves it out"),
    "a mask of nothing": ({"attention_mask": IS_STEP}, "attention_mask is a mask of no array; call it NAME_mask"),
    "a vector with a mask": ({"sensor_mask": SENSOR > 0}, "sensor has a mask or lengths, which only a sequence or"),
    "an image with lengths": ({"image_length": LENGTH % 6 + 1}, "image has a mask or lengths"),
    "times in seconds": (
        {"sensor": 1.7e9 + 20 * LABEL[:, None] + RNG.normal(size=(COUNT, 2))},
        "sensor loses its differences in float32; save sensor - sensor.mean(0)",
    ),
    "label that is no number": ({"label": np.where(LABEL, LABEL, np.nan)}, "label is not finite in example 0"),
    "ids of another length": ({"id": np.arange(3)}, "id has shape (3,), but label has 300 examples"),
    "a kind of nothing": ({"kinds": np.array(["sonar=grid"])}, "kinds names sonar; the modalities are image, sensor"),
    "objects": ({"sensor": np.array([{1: 2}] * COUNT)}, "sensor holds Python objects"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_certain_is_refused_with_the_way_out(case, tmp_path):
    changes, message = REFUSED[case]
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        load(tmp_path, PLAIN | changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("array", "kind", "shape"),
    [
        (GREY.reshape(COUNT, -1), "vector", (30,)),
        (RNG.integers(1, 9, (COUNT, 12)), "tokens", (12,)),
        (RNG.random((COUNT, 6, 6)), "grid", (6, 6, 1)),
        (RNG.random((COUNT, 6, 6)), "sequence", (6, 6)),
        (RNG.random((COUNT, 9)), "sequence", (9, 1)),
        (np.moveaxis(IMAGE, -1, 1), "grid", (3, 6, 5)),
    ],
)
def test_a_kind_that_is_said(array, kind, shape, tmp_path):
    found = load(tmp_path, PLAIN | {"mine": array}, kinds={"mine": kind}).modalities["mine"]
    assert (found.kind, found.values.shape[1:]) == (kind, shape)


def test_a_kind_that_it_cannot_be(tmp_path):
    with pytest.raises(UserError, match=r"sensor is float32 \[300, 4\]; \[N, H, W, C\] is right for a grid"):
        load(tmp_path, PLAIN, kinds={"sensor": "grid"})
    with pytest.raises(UserError, match=r"kinds is sonar; the modalities are image, sensor"):
        load(tmp_path, PLAIN, kinds={"sonar": "grid"})


def test_modalities_that_are_chosen(tmp_path):
    arrays = PLAIN | {"broken": np.zeros(3), "words": TOKENS}
    dataset = load(tmp_path, arrays, modalities=("image", "words"))
    assert list(dataset.modalities) == ["image", "words"]
    assert dataset.notes == ("Arrays of mine.npz that are no modality here: broken, sensor.",)
    with pytest.raises(UserError, match=r"the file has no sonar, but broken, image, sensor, words"):
        load(tmp_path, arrays, modalities=("sonar",))


def test_an_ending_in_capitals(tmp_path):
    assert load(tmp_path, PLAIN, name="MINE.NPZ").name == "MINE"


# what a file brings, and --captions -> the modalities, what captions are about, and what `auto` has come to
CAPTIONED = {
    "one modality": ({"image": IMAGE}, "auto", ["image", "text"], "image", "default"),
    "two": ({"image": IMAGE, "sensor": SENSOR}, "auto", ["image", "sensor"], None, "none"),
    "two vectors": ({"left": SENSOR, "right": -SENSOR}, "auto", ["left", "right"], None, "none"),
    "two, asked": ({"image": IMAGE, "sensor": SENSOR}, "half", ["image", "sensor", "text"], "image", "half"),
    "two images, asked": ({"left": IMAGE, "right": IMAGE}, "half", ["left", "right", "text"], None, "half"),
    "an image of another name": (
        {"photos": IMAGE, "sensor": SENSOR},
        "half",
        ["photos", "sensor", "text"],
        "photos",
        "half",
    ),
    "one and a text": ({"image": IMAGE, "text": NAMES[LABEL]}, "auto", ["image", "text"], None, "none"),
    "a text of another name": ({"image": IMAGE, "title": NAMES[LABEL]}, "auto", ["image", "title"], None, "none"),
    "an image with a map": (
        {"image": IMAGE, "image_mask": IMAGE[..., 0]},
        "auto",
        ["image", "image_mask"],
        None,
        "none",
    ),
    "petals": ({"petal": SENSOR[:, 0], "petal_length": SENSOR[:, 1]}, "auto", ["petal", "petal_length"], None, "none"),
    "none, asked": ({"image": IMAGE}, "none", ["image"], None, "none"),
}


@pytest.mark.parametrize("case", CAPTIONED)
def test_captions_are_drawn_where_a_modality_is_missing_or_they_are_asked_for(case, tmp_path):
    arrays, captions, names, about, came_to = CAPTIONED[case]
    dataset = load(tmp_path, arrays | {"label": LABEL}, captions=captions)
    assert sorted(dataset.modalities) == names
    assert (None if dataset.captions is None else dataset.captions.about) == about
    assert resolved(DataConfig("mine.npz", captions=captions), dataset).captions == came_to


def test_captions_take_the_place_of_a_text_only_when_asked_and_say_so(tmp_path):
    arrays = {"image": IMAGE, "text": NAMES[LABEL], "label": LABEL}
    assert load(tmp_path, arrays).notes == ()
    dataset = load(tmp_path, arrays, captions="half")
    assert dataset.captions is not None
    assert dataset.notes == ("The captions, half, take the place of the text of mine.",)


# what a file brings, and --augment -> what is done to each modality in training
AUGMENTED = {
    "nobody knows": ({}, "auto", {}),
    "asked": ({}, ("flip",), {"image": ("flip",), "photo": ("flip",)}),
    "grey": ({"photo": GREY}, ("flip", "translate"), {"image": ("flip", "translate"), "photo": ("flip", "translate")}),
    "none": ({}, (), {}),
}


@pytest.mark.parametrize("case", AUGMENTED)
def test_images_are_transformed_only_as_asked(case, tmp_path):
    changes, augment, expected = AUGMENTED[case]
    dataset = load(tmp_path, PLAIN | {"photo": IMAGE} | changes, augment=augment)
    assert dataset.task.augmented == expected
    assert dataset.task.images == ("image", "photo")


def test_there_must_be_an_image_to_transform(tmp_path):
    with pytest.raises(UserError, match=r"augment is flip; mine has no images"):
        load(tmp_path, {"left": SENSOR, "right": SENSOR, "label": LABEL}, augment=("flip",))


def replaced(array, value, *place):
    array = array.copy()
    array[place] = value
    return array


# what is changed -> what is told
TOLD = {
    "far": ({"sensor": replaced(SENSOR, 1e6, 6, 2)}, "sensor is 1e+06 in example 6, at [2],"),
    "far where most are 0": (
        {"sensor": replaced(np.where(SENSOR > 1, SENSOR, 0), -1e6, 6, 2)},
        "sensor is -1e+06 in example 6, at [2],",
    ),
    "constant": ({"sensor": SENSOR * 0 + 3}, "sensor is the same in every training example"),
    "black": ({"image": IMAGE * 0}, "image is the same in every training example"),
    "almost black": ({"image": (IMAGE / 255).astype(np.uint8)}, "image has no value above 1: as an image"),
    "little validation": (
        {"split": np.where(LABEL == 0, SPLIT, np.char.replace(SPLIT, "validation", "train"))},
        "The validation split has no example of 2 of the classes",
    ),
}


@pytest.mark.parametrize("case", TOLD)
def test_what_a_training_would_bear_in_silence_is_told(case, tmp_path):
    changes, message = TOLD[case]
    assert [message in note for note in load(tmp_path, PLAIN | {"split": SPLIT} | changes).notes] == [True]


def test_ordinary_data_have_nothing_to_tell(tmp_path):
    rng = np.random.default_rng(1)
    arrays = {
        "image": rng.integers(0, 256, (600, 4, 4, 3), np.uint8),
        "heavy": rng.standard_t(2, (600, 5)),
        "rare": (np.arange(600)[:, None] == [1, 7, 9]).astype(float),
        "words": np.concatenate([TOKENS] * 2),
        "label": np.arange(600) % 3,
    }
    assert load(tmp_path, arrays).notes == ()
