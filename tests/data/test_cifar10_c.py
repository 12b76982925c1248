"""Small files in the form of CIFAR-10-C, and a dataset whose test images they were made from."""

import dataclasses

import numpy as np
import pytest

from fusion_bench.config import DataConfig
from fusion_bench.data import splits
from fusion_bench.data.cifar10_c import open_cifar10_c
from fusion_bench.data.dataset import Dataset, Modality, RawDataset
from fusion_bench.errors import UserError

TRAIN, TEST, CLASSES = 60, 40, 4
RNG = np.random.default_rng(0)
LABELS = (np.arange(TRAIN + TEST) * 7 % CLASSES).astype(np.int32)


def make_dataset(test_size=None):
    """Returns training images, then test images; the first pixel tells the place in the source."""
    images = np.zeros((TRAIN + TEST, 4, 4, 3), np.uint8)
    images[:, 0, 0, 0] = np.arange(TRAIN + TEST)
    raw = RawDataset(
        "cifar10", {"image": Modality("grid", images)}, LABELS, tuple("abcd"),
        np.repeat(["train", "test"], [TRAIN, TEST]),
    )  # fmt: skip
    parts = splits.split(raw, DataConfig(test_size=test_size))
    return Dataset(raw.name, raw.modalities, LABELS, LABELS, raw.class_names, parts)


@pytest.fixture
def published(tmp_path):
    """The second pixel tells the severity."""
    fog = np.zeros((5, TEST, 4, 4, 3), np.uint8)
    fog[:, :, 0, 0, 0] = np.arange(TRAIN, TRAIN + TEST)
    fog[:, :, 0, 0, 1] = np.arange(1, 6)[:, None]
    for name in ("fog", "elastic_transform"):
        np.save(tmp_path / f"{name}.npy", fog.reshape(-1, 4, 4, 3))
    np.save(tmp_path / "labels.npy", np.tile(LABELS[TRAIN:], 5).astype(np.uint8))
    return tmp_path


@pytest.mark.parametrize("test_size", [None, 12])
def test_images_are_those_of_the_same_examples_at_each_severity(published, test_size):
    dataset, files = make_dataset(test_size), open_cifar10_c(published)
    test = dataset.splits["test"]
    assert len(test) == (test_size or TEST)
    assert files.names == ("elastic_transform", "fog")
    for chosen in (test, test[::3]):
        rows = files.rows(dataset, chosen)
        for severity in range(1, 6):
            found = files.images("fog", severity, rows)
            np.testing.assert_array_equal(found[:, 0, 0, 0], dataset.modalities["image"].values[chosen, 0, 0, 0])
            assert (found[:, 0, 0, 1] == severity).all()


@pytest.mark.parametrize("severity", [1, 5])
def test_other_labels_are_refused(published, severity):
    labels = np.load(published / "labels.npy")
    labels[(severity - 1) * TEST + 3] += 1
    np.save(published / "labels.npy", labels)
    dataset = make_dataset()
    with pytest.raises(UserError, match=r"labels\.npy has other labels than the test images of cifar10; CIFAR-10-C"):
        open_cifar10_c(published).rows(dataset, dataset.splits["test"][:1])


def test_a_source_whose_test_images_are_not_the_last_is_refused(published):
    dataset = make_dataset()
    others = dataclasses.replace(dataset, splits={**dataset.splits, "test": dataset.splits["train"]})
    with pytest.raises(UserError, match="other labels"):
        open_cifar10_c(published).rows(others, others.splits["test"])


def test_files_of_another_form_are_refused(published, tmp_path):
    files = open_cifar10_c(published)
    with pytest.raises(UserError, match=r"no file .*snow\.npy"):
        files.images("snow", 1, np.arange(3))
    np.save(published / "fog.npy", np.zeros((7, 4, 4, 3), np.uint8))
    with pytest.raises(UserError, match=r"fog\.npy is uint8 \[7, 4, 4, 3\]; uint8 \[200, height"):
        files.images("fog", 1, np.arange(3))
    (published / "fog.npy").write_bytes(b"no array")
    with pytest.raises(UserError, match=r"fog\.npy cannot be read"):
        files.images("fog", 1, np.arange(3))
    for path in published.glob("*.npy"):
        if path.stem != "labels":
            path.unlink()
    with pytest.raises(UserError, match="has no file of a corruption"):
        open_cifar10_c(published)
    np.save(published / "labels.npy", np.zeros(7, np.uint8))
    with pytest.raises(UserError, match=r"labels\.npy is uint8 \[7\]; a label for each image is right"):
        open_cifar10_c(published)
    with pytest.raises(UserError, match=r"no file .*labels\.npy; a directory of CIFAR-10-C has"):
        open_cifar10_c(tmp_path / "nowhere")
