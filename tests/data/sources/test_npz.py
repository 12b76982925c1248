import io
import re
import zipfile

import numpy as np
import pytest

from fusion_bench.config import DataConfig
from fusion_bench.data.sources import npz
from fusion_bench.errors import UserError

COUNT = 40


def load_npz(path, **fields):
    return npz.load(DataConfig(str(path), **fields))


LABEL = np.arange(COUNT) % 4


def arrays(**changes):
    """Returns the arrays of a right file, changed; None leaves one out."""
    rng = np.random.default_rng(0)
    right = {
        "image": rng.integers(0, 256, (COUNT, 4, 4, 3), np.uint8),
        "audio": rng.random((COUNT, 6, 5, 1)),
        "sensor": rng.random((COUNT, 7), np.float32),
        "text": np.where(np.arange(5) < rng.integers(1, 6, (COUNT, 1)), rng.integers(1, 9, (COUNT, 5)), 0),
        "label": LABEL,
    }
    return {name: array for name, array in (right | changes).items() if array is not None}


@pytest.fixture
def save(tmp_path):
    def save(**changes):
        path = tmp_path / "mine.npz"
        np.savez(path, **arrays(**changes))
        return path

    return save


def test_every_kind_of_modality(save):
    given = arrays()
    raw = load_npz(save())
    kinds = {name: modality.kind for name, modality in raw.modalities.items()}
    assert kinds == {"image": "grid", "audio": "grid", "sensor": "vector", "text": "tokens"}
    assert raw.notes == ()
    assert not any(modality.augment for modality in raw.modalities.values())
    dtypes = {name: modality.values.dtype for name, modality in raw.modalities.items()}
    assert dtypes == {"image": np.uint8, "audio": np.float32, "sensor": np.float32, "text": np.int32}
    for name, modality in raw.modalities.items():
        np.testing.assert_allclose(modality.values, given[name], rtol=1e-6)
    assert raw.modalities["text"].vocabulary_size == given["text"].max() + 1
    assert raw.name == "mine"
    assert raw.description == (
        "mine.npz, 40 examples; audio: grid 6×5×1, image: image 4×4×3, sensor: vector 7, text: tokens 5"
    )
    assert raw.labels.dtype == np.int32
    assert raw.labels.tolist() == LABEL.tolist()
    assert raw.class_names == ("class 0", "class 1", "class 2", "class 3")


def test_split_and_class_names_are_taken_from_the_file(save):
    split = np.array(["train", "validation", "test", "train"] * 10)
    raw = load_npz(save(split=split, class_names=np.array(["a", "b", "c", "d"])))
    assert raw.split.tolist() == split.tolist()
    assert raw.class_names == ("a", "b", "c", "d")


def test_without_split_a_fifth_of_each_class_is_tested_on_always_the_same(save):
    raw, again = load_npz(save()), load_npz(save())
    assert np.bincount(raw.labels[raw.split == "test"]).tolist() == [2, 2, 2, 2]
    assert np.bincount(raw.labels[raw.split == "train"]).tolist() == [8, 8, 8, 8]
    assert raw.split.tolist() == again.split.tolist()


def nan_at(shape, index):
    values = np.zeros(shape)
    values[index] = np.nan
    return values


# what is changed in a right file -> the name and the remedy that the error gives
FAULTS = {
    "no label": ({"label": None}, "no array label"),
    "no modality": (dict.fromkeys(("image", "audio", "sensor", "text")), "no modality"),
    "lengths differ": ({"sensor": np.zeros((COUNT - 1, 7))}, "sensor has shape (39, 7), but label has 40"),
    "split length": ({"split": np.array(["train", "test"])}, "split has shape (2,), but label has 40"),
    "scalar": ({"sensor": np.float32(1)}, "sensor has shape ()"),
    "negative label": ({"label": LABEL - 1}, "label has -1"),
    "float label": ({"label": LABEL + 0.5}, "label is float64 [40]; whole numbers"),
    "label rank": ({"label": np.zeros((COUNT, 2, 2))}, "label is float64 [40, 2, 2]; whole numbers"),
    "two labels": ({"label": np.eye(4)[LABEL] + np.eye(4)[0] * (LABEL == 1)[:, None]}, "2 classes in example 1"),
    "no label one-hot": ({"label": np.eye(4)[LABEL] * (LABEL != 2)[:, None]}, "label has 0 classes in example 2"),
    "unknown class": ({"label": np.array(list("abcd"))[LABEL], "class_names": np.array(list("abc"))}, "label has 'd'"),
    "gap in labels": ({"label": LABEL * 2}, "goes up to 6 but has no 1"),
    "one class": ({"label": LABEL * 0}, "one class only"),
    "huge label": ({"label": np.where(LABEL, LABEL, 2**62)}, "has no 0"),
    "empty": ({"label": LABEL[:0], **{name: array[:0] for name, array in arrays(label=None).items()}}, "empty"),
    "empty image": ({"image": np.zeros((COUNT, 0, 4, 3), np.uint8)}, "image has shape (40, 0, 4, 3)"),
    "float rank": ({"sensor": np.zeros((COUNT, 7, 2, 2, 1))}, "sensor is float64 [40, 7, 2, 2, 1], which is no"),
    "integers [N]": ({"sensor": np.arange(COUNT)}, "--kind sensor=vector; --modalities leaves it out"),
    "strings [N, K]": ({"sensor": np.full((COUNT, 2), "x")}, "sensor is <U1 [40, 2], which is no modality"),
    "complex": ({"sensor": np.zeros((COUNT, 2), complex)}, "sensor is complex128 [40, 2], which is no modality"),
    "dates": ({"sensor": np.zeros((COUNT, 2), "datetime64[s]")}, "sensor is datetime64[s] [40, 2], which is no"),
    "blank text": ({"text": np.where(LABEL, "word", " ")}, "text is empty in example 0"),
    "objects": ({"sensor": np.array([{}] * COUNT)}, "sensor holds Python objects"),
    "blank tokens": (
        {"text": np.tri(COUNT, 60, -1, int), "kinds": np.array(["text=tokens"])},
        "text has padding (0) alone in example 0",
    ),
    "nan": ({"sensor": nan_at((COUNT, 7), (3, 2))}, "sensor is nan in example 3, at [2], which is not a usable number"),
    "overflow": ({"audio": np.full((COUNT, 2, 2, 1), 1e300)}, "audio is 1e+300 in example 0, at [0, 0, 0]"),
    "unknown split": ({"split": np.full(COUNT, "dev2")}, "split has 'dev2'; train, validation, test are right"),
    "split numbers": ({"split": np.zeros(COUNT)}, "split is float64 [40]; strings"),
    "no test": ({"split": np.full(COUNT, "train")}, "split has no test example"),
    "no train": ({"split": np.full(COUNT, "test")}, "split has no train example"),
    "few class names": ({"class_names": np.array(["a", "b"])}, "class_names has 2 names, but label has 4 classes"),
    "class name twice": ({"class_names": np.array(list("abca"))}, "class_names has a name twice"),
    "class numbers": ({"class_names": np.arange(4)}, "class_names is int64 [4]; strings"),
    "unknown kind": ({"kinds": np.array(["sensor=tensor"])}, "kinds has 'sensor=tensor'; NAME=KIND is right"),
    "comma in a name": ({"a,b": np.zeros((COUNT, 2))}, "no modality can be called 'a,b'"),
    "colon in a name": ({"a:b": np.zeros((COUNT, 2))}, "no modality can be called 'a:b'"),
    "two masks": (
        {"sensor": np.zeros((COUNT, 3, 2)), "sensor_mask": np.ones((COUNT, 3)), "sensor_length": np.full(COUNT, 3)},
        "sensor_mask and sensor_length exclude each other",
    ),
    "mask without a step": (
        {"sensor": np.zeros((COUNT, 3, 2)), "sensor_mask": np.zeros((COUNT, 3), bool)},
        "sensor_mask: example 0 has no step",
    ),
    "length too long": (
        {"sensor": np.zeros((COUNT, 3, 2)), "sensor_length": np.full(COUNT, 4)},
        "sensor_length has 4, but sensor has 3 steps",
    ),
    "mask of another length": (
        {"sensor": np.zeros((COUNT, 3, 2)), "sensor_mask": np.ones((COUNT, 4), bool)},
        "sensor_mask is bool [40, 4]; bool [40, 3] is right",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_one_line_that_names_file_array_and_remedy(fault, save):
    changes, message = FAULTS[fault]
    path = save(**changes)
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        load_npz(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"no file .*nothing\.npz"):
        load_npz(tmp_path / "nothing.npz")


@pytest.mark.parametrize("kept", [0, 10, 1000, -1])
def test_a_truncated_file(kept, save):
    path = save()
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"mine\.npz is not an \.npz file, or only a part of one"):
        load_npz(path)


def test_a_file_with_one_wrong_byte(save):
    path = save()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"mine\.npz is damaged"):
        load_npz(path)


@pytest.mark.parametrize("header", [b"\x93NUMPY\x01\x00\x05\x00nope\n", b"\x93NUM", b"plain text"])
def test_a_member_that_is_not_an_array(header, tmp_path):
    path = tmp_path / "mine.npz"
    with zipfile.ZipFile(path, "w") as file:
        label = io.BytesIO()
        np.save(label, LABEL)
        file.writestr("label.npy", label.getvalue())
        file.writestr("sensor.npy", header)
    with pytest.raises(UserError, match="sensor"):
        load_npz(path)
