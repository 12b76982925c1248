"""Handwritten and spoken digits, on made-up recordings."""

import contextlib
import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion_bench.config import DataConfig
from fusion_bench.data.load import load_dataset
from fusion_bench.data.sources import digits, preparation, recordings
from fusion_bench.errors import UserError
from tests.data.sources.preparing import prepare
from tests.recordings import SPEAKERS, encoded, made_up, samples, write_archive, write_recordings
from tests.studies import make_config, run_recorded


def load(data_dir=None, seed=0, **options):
    return digits.load(DataConfig("digits", data_dir=data_dir, data_seed=seed, **options))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_recordings(tmp_path_factory.mktemp("published") / "recordings", made_up())


@pytest.fixture(scope="module")
def raw(folder):
    return load(folder)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A directory that `load` prepared from a small archive, in a process of its own."""
    data_dir = tmp_path_factory.mktemp("tfds")
    archive = write_archive(tmp_path_factory.mktemp("archive") / "v1.0.9.tar.gz", made_up())
    told = prepare('digits.load(DataConfig("digits", data_dir=data_dir))', archive, data_dir)
    assert told == "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/v1.0.9.tar.gz False"
    return data_dir


@pytest.fixture
def own(prepared, tmp_path):
    """A copy of the prepared directory that a test may damage."""
    return shutil.copytree(prepared, tmp_path / "tfds")


def assert_same(one, other):
    for name in ("image", "audio"):
        assert np.array_equal(one.modalities[name].values, other.modalities[name].values)
    assert np.array_equal(one.modalities["audio"].mask, other.modalities["audio"].mask)
    assert np.array_equal(one.labels, other.labels)
    assert np.array_equal(one.split, other.split)
    assert (one.ids, one.notes, one.description) == (other.ids, other.notes, other.description)


def test_the_folder_and_the_prepared_set_are_the_same(raw, prepared):
    assert_same(raw, load(prepared))


@pytest.mark.parametrize("given", ["..", "."])
def test_the_folder_may_be_the_one_above(raw, folder, given):
    assert_same(raw, load(folder / given))


def test_the_directory_may_come_from_the_environment(raw, folder, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(folder))
    assert_same(raw, load())


@pytest.mark.parametrize("given", ["", "spoken_digit", "spoken_digit/1.0.9"])
def test_the_prepared_set_is_found_near_the_directory(raw, prepared, given):
    assert_same(raw, load(prepared / given))


def test_what_is_prepared_is_official(prepared):
    official = json.loads((prepared / "spoken_digit" / "1.0.9" / "dataset_info.json").read_text())
    assert (official["name"], official["version"], official["fileFormat"]) == ("spoken_digit", "1.0.9", "array_record")
    ((url, archive),) = recordings.builder_class().url_infos.items()
    assert url.endswith("/v1.0.9.tar.gz")
    assert archive.checksum == "8bc44cde129d505cbbb6b365c09f80c663f2aa77578afc634e6141a2f87100c0"


def test_a_set_that_tfds_prepared_with_tensorflow_is_read(raw, own):
    """Its features differ in the description of the audio alone, which only TensorFlow can read."""
    path = own / "spoken_digit" / "1.0.9" / "features.json"
    content = json.loads(path.read_text())
    content["featuresDict"]["features"]["audio"] = {
        "pythonClassName": "tensorflow_datasets.core.features.audio_feature.Audio",
        "audio": {"fileFormat": "wav", "shape": {"dimensions": ["-1"]}, "dtype": "int64", "sampleRate": "8000"},
    }
    path.write_text(json.dumps(content))
    assert_same(raw, load(own))


def test_an_example_is_a_recording_and_an_image(raw):
    assert len(raw.labels) == 10 * len(SPEAKERS) * 2
    assert raw.ids[:3] == ("0_ann_0.wav", "0_ann_1.wav", "0_ben_0.wav")
    assert raw.labels.tolist() == [int(name[0]) for name in raw.ids]
    image, audio = raw.modalities["image"], raw.modalities["audio"]
    assert (image.kind, image.values.shape[1:], image.values.dtype) == ("grid", (8, 8, 1), np.uint8)
    assert (audio.kind, audio.values.shape[1:], audio.values.dtype) == ("sequence", (98, 40), np.float32)
    assert image.augment == ()
    values = samples(7, 3, 1)
    row = raw.ids.index("7_dia_1.wav")
    expected = digits.LOG_MEL(values / 2**15)
    assert np.array_equal(audio.values[row, : len(expected)], expected)
    assert audio.mask[row].tolist() == [True] * len(expected) + [False] * (98 - len(expected))


def test_levels_are_scaled_and_none_is_lost():
    from sklearn.datasets import load_digits

    images, labels = digits.handwritten()
    found: Any = load_digits()
    levels = found.images
    assert np.array_equal(images[..., 0], np.floor(levels * 255 / 16 + 0.5))
    assert (images.min(), images.max(), len(np.unique(images))) == (0, 255, 17)
    assert np.array_equal(labels, found.target)


def speakers_of(raw, split):
    return {name.split("_")[1] for name, of in zip(raw.ids, raw.split, strict=True) if of == split}


@pytest.mark.parametrize(
    ("count", "sizes"), [(3, (1, 1, 1)), (4, (2, 1, 1)), (5, (3, 1, 1)), (6, (3, 1, 2)), (12, (6, 2, 4))]
)
def test_a_third_of_the_speakers_tests_and_a_sixth_validates(count, sizes):
    names = np.array([f"s{number}" for number in range(count)])
    groups = digits.split_speakers(np.repeat(names, 3), seed=4)
    assert tuple(map(len, groups.values())) == sizes
    assert sorted(np.concatenate([*groups.values()])) == sorted(names)


def test_splits_share_no_speaker_and_no_image(raw):
    splits = ("train", "validation", "test")
    speakers = [speakers_of(raw, split) for split in splits]
    assert [len(group) for group in speakers] == [3, 1, 2]
    assert set.union(*speakers) == set(SPEAKERS)
    images, image_labels = digits.handwritten()
    drawn = digits.pair(raw.labels, raw.split, image_labels, 0)
    assert np.array_equal(raw.modalities["image"].values, images[drawn])
    used = [set(drawn[raw.split == split].tolist()) for split in splits]
    assert sum(map(len, used)) == len(set.union(*used))
    assert all(
        f"{split}: {', '.join(sorted(group))} (" in raw.notes[1] for split, group in zip(splits, speakers, strict=True)
    )


def test_images_are_of_the_class_and_used_up_before_one_is_repeated():
    _, image_labels = digits.handwritten()
    labels = np.repeat(np.arange(10), 600)
    split = np.tile(np.repeat(["train", "validation", "test"], [300, 100, 200]), 10)
    drawn = digits.pair(labels, split, image_labels, 3)
    assert np.array_equal(image_labels[drawn], labels)
    for label, available in enumerate(np.bincount(image_labels)):
        used = [drawn[(labels == label) & (split == name)] for name in ("train", "validation", "test")]
        counts = [np.unique(images, return_counts=True)[1] for images in used]
        assert all(of_split.max() - of_split.min() <= 1 for of_split in counts)
        assert sum(map(len, counts)) == available
        assert [len(of_split) / available for of_split in counts] == pytest.approx([1 / 2, 1 / 6, 1 / 3], abs=0.02)


def test_a_split_of_few_recordings_has_an_image_of_each_class():
    _, image_labels = digits.handwritten()
    labels = np.tile(np.arange(10), 302)
    split = np.repeat(["train", "validation", "test"], [10, 10, 3000])
    assert np.array_equal(image_labels[digits.pair(labels, split, image_labels, 0)], labels)


def test_the_data_seed_decides(raw, folder):
    assert_same(raw, load(folder))
    others = [load(folder, seed) for seed in range(1, 6)]
    assert len({tuple(sorted(speakers_of(other, "test"))) for other in [raw, *others]}) > 1
    assert any((other.modalities["image"].values != raw.modalities["image"].values).any() for other in others)
    assert all(np.array_equal(other.modalities["audio"].values, raw.modalities["audio"].values) for other in others)


def test_the_notes_say_what_a_reader_must_know(raw, tmp_path):
    assert "late-posthoc is the Bayes-optimal use" in raw.notes[0]
    assert "20 images, each at most 1×" in raw.notes[1]
    assert len(raw.notes) == 2
    longer = made_up(SPEAKERS[:3], 1)
    longer["4_ann_0.wav"] = encoded(np.tile(samples(4, 0, 0), 6))
    cut = load(write_recordings(tmp_path / "recordings", longer))
    assert cut.notes[2] == "1 of 30 recordings are longer than 1 s and cut there."
    (row,) = np.flatnonzero(np.array(cut.ids) == "4_ann_0.wav")
    assert cut.modalities["audio"].mask is not None
    assert cut.modalities["audio"].mask[row].all()


def test_the_second_load_reads_the_cache(folder, tmp_path, monkeypatch):
    first = load(folder, cache_dir=tmp_path)
    monkeypatch.setattr(recordings, "read", lambda directory: pytest.fail("recordings are read again"))
    assert_same(first, load(folder, cache_dir=tmp_path))


def test_captions_are_a_third_modality_about_the_image(folder):
    plain = load_dataset(DataConfig("digits", data_dir=folder))
    assert (set(plain.modalities), plain.captions) == ({"image", "audio"}, None)
    dataset = load_dataset(DataConfig("digits", data_dir=folder, captions="default"))
    assert set(dataset.modalities) == {"image", "audio", "text"}
    assert dataset.captions is not None
    assert dataset.captions.about == "image"
    assert dataset.captions.channel is not None
    assert dataset.captions.channel.bits == pytest.approx(1.216, abs=0.001)
    assert {len(part) for part in dataset.splits.values()} == {60, 20, 40}


FORMS = {
    "stereo": (encoded(samples(1, 0, 0), channels=2), "has 2 channels of 16 bits at 8000 Hz; 1 channel of 16 bits"),
    "rate": (encoded(samples(1, 0, 0), rate=16000), "has 1 channel of 16 bits at 16000 Hz; .* at 8000 Hz is right"),
    "bits": (encoded(samples(1, 0, 0), width=1), "has 1 channel of 8 bits"),
    "float": (
        encoded(samples(1, 0, 0))[:20] + b"\x03\x00" + encoded(samples(1, 0, 0))[22:],
        r"is not of integer samples \(PCM\); 1 channel of 16 bits at 8000 Hz is right",
    ),
    "silent": (encoded(np.zeros(0, np.int16)), r"is damaged \(0 of 0 samples"),
    "cut": (encoded(samples(1, 0, 0))[:-100], r"is damaged \(.* samples are there\); fetch it again"),
    "cut in the head": (encoded(samples(1, 0, 0))[:30], "is damaged"),
    "empty": (b"", "is damaged"),
    "text": (b"not a wav file, but some text of a page", "is damaged"),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_wrong_recording_is_one_line(form, tmp_path):
    content, message = FORMS[form]
    write_recordings(tmp_path, {**made_up(SPEAKERS[:3], 1), "1_ann_0.wav": content})
    with pytest.raises(UserError, match=message) as caught:
        load(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}/1_ann_0.wav ")
    assert "\n" not in str(caught.value)


@given(st.integers(0, 43), st.integers(0, 255))
def test_any_damaged_head_is_refused_or_read(place, value):
    content = bytearray(encoded(samples(1, 0, 0)))
    content[place] = value
    with contextlib.suppress(UserError):
        found = recordings.samples(Path("1_ann_0.wav"), bytes(content))
        assert found.dtype == np.int16


@pytest.mark.parametrize("name", ["seven_ann_0.wav", "7-ann-0.wav", "7_ann.wav", "11_ann_0.wav"])
def test_a_wrong_name_is_one_line(name, tmp_path):
    write_recordings(tmp_path, {**made_up(SPEAKERS[:3], 1), name: encoded(samples(1, 0, 0))})
    with pytest.raises(UserError, match=rf"{name} has the wrong name; {{digit}}_{{speaker}}_{{index}}\.wav is right"):
        load(tmp_path)


def test_the_ending_of_a_recording_may_be_of_capitals_and_a_folder_is_none(tmp_path):
    write_recordings(
        tmp_path, {name.replace(".wav", ".WAV"): content for name, content in made_up(SPEAKERS, 1).items()}
    )
    (tmp_path / "0_ann_7.wav").mkdir()
    assert len(load(tmp_path).labels) == len(made_up(SPEAKERS, 1))


def test_the_split_by_speaker_cannot_be_undone(folder):
    with pytest.raises(UserError, match="digits are split by speaker, which it would undo"):
        load_dataset(DataConfig("digits", data_dir=folder, test_from="train", test_size=20))


def test_two_speakers_are_too_few(tmp_path):
    write_recordings(tmp_path, made_up(SPEAKERS[:2], 1))
    with pytest.raises(UserError, match=r"recordings of 2 speakers \(ann, ben\); 3 or more are needed"):
        load(tmp_path)


def test_a_digit_that_a_speaker_lacks_is_named(tmp_path):
    files = made_up(SPEAKERS[:3], 1)
    del files["6_ben_0.wav"]
    write_recordings(tmp_path, files)
    with pytest.raises(UserError, match="has no recording of 6 by ben; every speaker needs a recording of each digit"):
        load(tmp_path)


@pytest.mark.parametrize("given", [".", "recordings"])
def test_an_empty_folder_of_recordings_is_refused(given, tmp_path):
    (tmp_path / "recordings").mkdir()
    with pytest.raises(
        UserError, match=r"/recordings has no recordings; files {digit}_{speaker}_{index}\.wav are right"
    ):
        load(tmp_path / given)


def test_a_directory_that_is_not_there(tmp_path):
    with pytest.raises(
        UserError, match=r"no directory .*/nowhere; one that holds recordings .*, or spoken_digit/1\.0\.9"
    ):
        load(tmp_path / "nowhere")


def test_another_version_is_said(tmp_path):
    (tmp_path / "spoken_digit" / "1.0.8").mkdir(parents=True)
    (tmp_path / "spoken_digit" / "1.0.8" / "features.json").write_text("{}")
    with pytest.raises(UserError, match=r"spoken_digit has version 1\.0\.8 and not 1\.0\.9; an empty directory"):
        load(tmp_path)


def test_without_a_network_it_says_what_to_do(tmp_path, monkeypatch, capfd):
    def unreachable(*args, **kwargs):
        raise OSError("Network is unreachable")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    with pytest.raises(
        UserError, match=r"cannot download https.*Network is unreachable.*, or recordings {digit}"
    ) as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)
    printed = capfd.readouterr()
    assert printed.out == ""
    assert f"spoken_digit is not in {tmp_path}; it is downloaded from https://" in printed.err


def test_an_archive_with_a_wrong_checksum_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(preparation, "_check_reachable", lambda url: pytest.fail("the archive is there"))
    manual = tmp_path / "downloads" / "manual"  # where TFDS looks for what a user fetched by hand
    manual.mkdir(parents=True)
    write_archive(manual / "free-spoken-digit-dataset-1.0.9.tar.gz", made_up(SPEAKERS[:3], 1))
    with pytest.raises(UserError, match="wrong checksum; remove it and start again"):
        load(tmp_path)
    assert not (tmp_path / "spoken_digit" / "1.0.9").exists()


def change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


SHARD = "spoken_digit-train.array_record-00000-of-00001"
FAULTS = {
    "no shard": (lambda at: (at / SHARD).unlink(), "is damaged"),
    "cut shard": (lambda at: os.truncate(at / SHARD, 70_000), "is damaged"),
    "info json": (lambda at: (at / "dataset_info.json").write_text("{"), "is damaged"),
    "no info": (lambda at: (at / "dataset_info.json").unlink(), "is damaged"),
    "no split": (lambda at: change(at / "dataset_info.json", splits=[]), "is damaged"),
    "tfrecord": (lambda at: change(at / "dataset_info.json", fileFormat="tfrecord"), "is in tfrecord, which needs"),
    "empty": (lambda at: (shutil.rmtree(at), at.mkdir()), "is damaged"),
    "a file": (lambda at: (shutil.rmtree(at), at.write_text("")), "cannot read"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_directory_is_one_line(fault, own):
    damage, message = FAULTS[fault]
    damage(own / "spoken_digit" / "1.0.9")
    with pytest.raises(UserError, match=message) as caught:
        load(own)
    assert str(own) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("captions", ["none", "default"])
def test_a_study_learns(captions, tmp_path):
    folder = write_recordings(tmp_path / "recordings", made_up(count=8))
    config = make_config(folder, tmp_path / "out", strategies=("concat", "tensor", "late-posthoc"))
    data = DataConfig("digits", data_dir=folder, captions=captions)
    training = dataclasses.replace(config.training, batch_size=8, learning_rate=0.02)
    done = run_recorded(dataclasses.replace(config, data=data, training=training))
    accuracies = dict(zip(done.frame["strategy"], done.frame["test_accuracy_mean"], strict=True))
    assert min(accuracies[name] for name in ("concat", "tensor", "late-posthoc")) > 0.2
    assert ("bayes-reference" in accuracies) == (captions == "default")
