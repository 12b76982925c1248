import io
import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusion_bench.config import DataConfig
from fusion_bench.data import cache
from fusion_bench.data.sources import cifar10
from fusion_bench.errors import UserError
from tests.data.sources.preparing import prepare

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
PER_FILE = 12
JPEG_COPY = Path(__file__).parents[4] / "shared" / "cifar10" / "prepare.py"


def load_cifar10(data_dir=None, cache_dir=None):
    return cifar10.load(DataConfig("cifar10", data_dir=data_dir, cache_dir=cache_dir))


def official_images():
    """Returns {archive member: (labels, images [row, height, width, channel])}, random."""
    rng = np.random.default_rng(0)
    members = [f"data_batch_{part}.bin" for part in range(1, 6)] + ["test_batch.bin"]
    return {
        name: (rng.integers(0, 10, PER_FILE, np.uint8), rng.integers(0, 256, (PER_FILE, 32, 32, 3), np.uint8))
        for name in members
    }


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """A small archive in the official layout: each record a label, then the red, green and blue planes."""
    path = tmp_path_factory.mktemp("archive") / "cifar-10-binary.tar.gz"
    files = {"batches.meta.txt": "\n".join(CLASSES).encode() + b"\n\n"}
    for name, (labels, images) in official_images().items():
        records = [
            bytes([label]) + b"".join(image[:, :, channel].tobytes() for channel in range(3))
            for label, image in zip(labels, images, strict=True)
        ]
        files[name] = b"".join(records)
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture(scope="module")
def prepared(archive, tmp_path_factory):
    """A directory that `prepare` made of the small archive, in a process of its own."""
    data_dir = tmp_path_factory.mktemp("tfds")
    told = prepare("cifar10.prepare(data_dir)", archive, data_dir)
    assert told == "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz False"
    return data_dir


@pytest.fixture
def own(prepared, tmp_path):
    """A copy of the prepared directory that a test may damage."""
    return shutil.copytree(prepared, tmp_path / "tfds")


def test_preparing_loses_nothing_and_needs_no_tensorflow(prepared, tmp_path):
    raw = load_cifar10(prepared, tmp_path)
    labels, images = (np.concatenate(arrays) for arrays in zip(*official_images().values(), strict=True))
    assert np.array_equal(raw.modalities["image"].values, images)  # in the archive's order: by id
    assert raw.labels.tolist() == labels.tolist()
    assert raw.split.tolist() == ["train"] * (5 * PER_FILE) + ["test"] * PER_FILE
    assert (raw.name, raw.description, raw.class_names) == ("cifar10", "CIFAR-10", CLASSES)


def test_what_is_prepared_is_what_tfds_itself_opens(prepared):
    import tensorflow_datasets as tfds

    official = tfds.builder_cls("cifar10")
    assert official.__module__.startswith("tensorflow_datasets.")  # ours did not take its name
    source: Any = tfds.data_source("cifar10", split="train", data_dir=os.fspath(prepared))
    example: Any = source[0]
    images = np.concatenate([images for _, images in official_images().values()])
    assert np.array_equal(example["image"], images[int(example["id"].decode().removeprefix("train_"))])


def test_the_second_load_reads_the_cache_and_not_tfds(prepared, tmp_path):
    first = load_cifar10(prepared, tmp_path / "cache")
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700
    code = f"""
        import pathlib, sys
        from fusion_bench.config import DataConfig
        from fusion_bench.data.sources.base import load_raw
        data_dir, cache_dir = map(pathlib.Path, ({str(prepared)!r}, {str(tmp_path / "cache")!r}))
        raw = load_raw(DataConfig("cifar10", data_dir, cache_dir=cache_dir))
        print("tensorflow_datasets" in sys.modules, raw.modalities["image"].values.sum(), raw.class_names[3])
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", str(first.modalities["image"].values.sum()), "cat"]
    assert done.stderr == ""


def test_the_directory_may_come_from_the_environment(prepared, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared))
    assert len(load_cifar10().labels) == 6 * PER_FILE


def test_reading_prints_nothing(prepared, tmp_path):
    code = f"""
        import pathlib
        from fusion_bench.config import DataConfig
        from fusion_bench.data.sources.base import load_raw
        data_dir, cache_dir = map(pathlib.Path, ({str(prepared)!r}, {str(tmp_path)!r}))
        load_raw(DataConfig("cifar10", data_dir, cache_dir=cache_dir))
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def entry_of(cache_dir):
    (entry,) = cache_dir.iterdir()
    return entry


def flip_last_byte(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "cut": lambda entry: os.truncate(entry / "image.npy", 5000),
    "empty": lambda entry: os.truncate(entry / "label.npy", 0),
    "one bit": lambda entry: flip_last_byte(entry / "image.npy"),
    "pickle": lambda entry: np.save(entry / "label.npy", np.array([{}]), allow_pickle=True),
    "missing": lambda entry: (entry / "split.npy").unlink(),
    "manifest": lambda entry: (entry / "manifest.json").write_text("{"),
    "manifest type": lambda entry: (entry / "manifest.json").write_text("[]"),
    "a file": lambda entry: (shutil.rmtree(entry), entry.write_text("")),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_cache_is_made_again(damage, prepared, tmp_path):
    first = load_cifar10(prepared, tmp_path)
    DAMAGE[damage](entry_of(tmp_path))
    again = load_cifar10(prepared, tmp_path)
    assert np.array_equal(first.modalities["image"].values, again.modalities["image"].values)
    assert first.labels.tolist() == again.labels.tolist()
    assert cache._read(entry_of(tmp_path), cache.files_stamp(prepared / "cifar10" / "3.0.2")) is not None


def test_a_directory_that_changed_is_read_again(own, tmp_path):
    load_cifar10(own, tmp_path / "cache")
    info = own / "cifar10" / "3.0.2" / "dataset_info.json"
    info.write_text(json.dumps(json.loads(info.read_text()) | {"description": "transcoded from a JPEG copy"}))
    assert load_cifar10(own, tmp_path / "cache").description == "CIFAR-10 (JPEG copy)"
    assert entry_of(tmp_path / "cache").is_dir()  # the stale entry is gone, nothing else is left


def test_a_cache_that_cannot_be_written_costs_time_alone(prepared, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.warns(UserWarning, match="cannot be cached"):
        raw = load_cifar10(prepared, tmp_path / "file" / "cache")
    assert len(raw.labels) == 6 * PER_FILE


def change(path, edit):
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def set_image_size(content):
    content["featuresDict"]["features"]["image"]["image"]["shape"]["dimensions"] = ["28", "28", "1"]


def drop_label(content):
    del content["featuresDict"]["features"]["label"]


TRAIN = "cifar10-train.array_record-00000-of-00001"
FAULTS = {
    "no shard": (lambda at: (at / TRAIN).unlink(), "is damaged"),
    "cut shard": (lambda at: os.truncate(at / TRAIN, 70_000), "is damaged"),
    "empty shard": (lambda at: os.truncate(at / TRAIN, 0), "is damaged"),
    "zeroed shard": (lambda at: (at / TRAIN).write_bytes(bytes((at / TRAIN).stat().st_size)), "is damaged"),
    "info json": (lambda at: (at / "dataset_info.json").write_text("{"), "is damaged"),
    "no info": (lambda at: (at / "dataset_info.json").unlink(), "is damaged"),
    "features json": (lambda at: (at / "features.json").write_text("{}"), "is damaged"),
    "no features": (lambda at: (at / "features.json").unlink(), "is damaged"),
    "no class names": (lambda at: (at / "label.labels.txt").unlink(), "label.labels.txt"),
    "no split": (lambda at: change(at / "dataset_info.json", lambda info: info["splits"].pop()), "no split"),
    "image size": (lambda at: change(at / "features.json", set_image_size), "is not CIFAR-10"),
    "no label": (lambda at: change(at / "features.json", drop_label), "is not CIFAR-10"),
    "tfrecord": (
        lambda at: change(at / "dataset_info.json", lambda info: info.update(fileFormat="tfrecord")),
        "is in tfrecord, which needs TensorFlow",
    ),
    "a file": (lambda at: (shutil.rmtree(at), at.write_text("")), "cannot read"),
    "empty": (lambda at: (shutil.rmtree(at), at.mkdir()), "is damaged"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_directory_is_one_line(fault, own, tmp_path):
    damage, message = FAULTS[fault]
    damage(own / "cifar10" / "3.0.2")
    with pytest.raises(UserError, match=message) as caught:
        load_cifar10(own, tmp_path / "cache")
    assert str(own) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "cache").exists()


def test_a_directory_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"no directory .*/nowhere; one that holds cifar10/3\.0\.2"):
        load_cifar10(tmp_path / "nowhere")


@pytest.fixture
def offline(monkeypatch):
    """Makes every attempt to prepare the set fail."""

    def prepare(data_dir):
        raise AssertionError(f"a download into {data_dir} begins")

    monkeypatch.setattr(cifar10, "prepare", prepare)


@pytest.mark.parametrize(
    ("at", "given"),
    [
        ("", ""),
        ("", "cifar10"),
        ("", "cifar10/3.0.2"),
        ("sets", ""),
        ("a/sets", ""),
        ("a/sets", "a"),
        ("sets", "sets/cifar10/3.0.2/"),
    ],
)
def test_the_set_is_found_near_the_directory_that_is_given(offline, prepared, tmp_path, at, given):
    shutil.copytree(prepared, tmp_path / "root" / at)
    raw = load_cifar10(tmp_path / "root" / given, tmp_path / "cache")
    assert len(raw.labels) == 6 * PER_FILE


@pytest.mark.parametrize("given", ["", "cifar10", "cifar10/3.0.1", ".."])
def test_another_version_is_said(offline, tmp_path, given):
    (tmp_path / "root" / "cifar10" / "3.0.1").mkdir(parents=True)
    (tmp_path / "root" / "cifar10" / "3.0.1" / "features.json").write_text("{}")
    with pytest.raises(UserError) as caught:
        load_cifar10(tmp_path / "root" / given)
    assert str(caught.value) == (
        f"{tmp_path}/root/cifar10 has version 3.0.1 and not 3.0.2; tfds:cifar10:3.0.1 reads that one, "
        "and an empty directory is where 3.0.2 is prepared"
    )


def test_of_two_sets_near_none_is_chosen(offline, prepared, tmp_path):
    for name in ("a", "b"):
        shutil.copytree(prepared, tmp_path / "root" / name)
    with pytest.raises(UserError, match=r"root has no cifar10, but \S+/root/a and \S+/root/b have; name one of them$"):
        load_cifar10(tmp_path / "root")


@pytest.mark.parametrize("name", ["elsewhere", "cifar100", "cifar10-old"])
def test_where_there_is_none_it_is_prepared_and_said(tmp_path, monkeypatch, capfd, name):
    (tmp_path / name / "3.0.2").mkdir(parents=True)
    (tmp_path / name / "3.0.2" / "features.json").write_text("{}")

    def unreachable(*args, **kwargs):
        raise OSError("Network is unreachable")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    with pytest.raises(UserError, match="cannot download"):
        load_cifar10(tmp_path)
    printed = capfd.readouterr()
    assert printed.out == ""
    assert f"cifar10 is not in {tmp_path}; it is downloaded from https://" in printed.err


def test_without_a_network_it_says_what_to_do(tmp_path, monkeypatch):
    def unreachable(*args, **kwargs):
        raise OSError("Network is unreachable")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    with pytest.raises(UserError, match=r"cannot download https.*Network is unreachable.*data directory") as caught:
        load_cifar10(tmp_path)
    assert "\n" not in str(caught.value)


def test_an_archive_with_a_wrong_checksum_is_refused(archive, tmp_path):
    manual = tmp_path / "downloads" / "manual"  # where TFDS looks for what a user fetched by hand
    manual.mkdir(parents=True)
    shutil.copy(archive, manual)
    with pytest.raises(UserError, match="wrong checksum; remove it and start again"):
        load_cifar10(tmp_path)
    assert not (tmp_path / "cifar10" / "3.0.2").exists()


@pytest.mark.skipif(not JPEG_COPY.is_file(), reason=f"no real images: {JPEG_COPY} is not there")
def test_the_jpeg_copy_says_so(tmp_path):
    command = [sys.executable, os.fspath(JPEG_COPY), os.fspath(tmp_path / "tfds"), "--train", "200", "--test", "100"]
    subprocess.run(command, check=True, capture_output=True)
    raw = load_cifar10(tmp_path / "tfds", tmp_path / "cache")
    assert raw.description == "CIFAR-10 (JPEG copy)"
    assert raw.class_names == CLASSES
    assert np.bincount(raw.labels[raw.split == "train"]).tolist() == [20] * 10
    assert np.bincount(raw.labels[raw.split == "test"]).tolist() == [10] * 10
    assert 90 < raw.modalities["image"].values.mean() < 150
