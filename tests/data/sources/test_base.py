import dataclasses
import functools
import importlib
import json
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from fusion_bench.cli import main
from fusion_bench.config import DataConfig
from fusion_bench.data.sources import base, shapes
from fusion_bench.data.sources.base import load_raw, recorded_name, register_source, sources
from fusion_bench.errors import UserError
from tests.studies import make_config, run_recorded

HEAVY = ["jax", "tensorflow_datasets", "pandas", "tokenizers", "sklearn", "PIL"]


def test_the_default_is_shapes():
    raw = load_raw(DataConfig())
    assert raw.name == "shapes"
    assert list(raw.modalities) == ["image"]
    assert np.unique(raw.split, return_counts=True)[1].tolist() == [shapes.NUM_TEST, shapes.NUM_TRAIN]


def test_audio_is_asked_for(monkeypatch):
    monkeypatch.setattr(shapes, "load_shapes", functools.partial(shapes.load_shapes, 20, 10))
    assert list(load_raw(DataConfig(audio=True)).modalities) == ["image", "audio"]


def test_audio_belongs_to_shapes(tmp_path):
    with pytest.raises(UserError, match="audio is True; it is an option of shapes only"):
        load_raw(DataConfig(source="cifar10", audio=True, data_dir=tmp_path))


def test_a_file_is_a_source(tmp_path):
    np.savez(tmp_path / "mine.npz", sensor=np.zeros((10, 2)), label=np.arange(10) % 2)
    raw = load_raw(DataConfig(source=str(tmp_path / "mine.npz")))
    assert list(raw.modalities) == ["sensor"]


def test_cifar10_is_given_its_directory(tmp_path):
    with pytest.raises(UserError, match=r"no directory .*nowhere"):
        load_raw(DataConfig(source="cifar10", data_dir=tmp_path / "nowhere"))


def test_a_wrong_name_is_answered_with_the_nearest():
    with pytest.raises(UserError, match=r"unknown data source 'cifar'; did you mean cifar10\?"):
        load_raw(DataConfig(source="cifar"))


def test_every_source_has_a_line_and_words_for_its_classes():
    for source in sources().values():
        assert source.summary
        assert "\n" not in source.summary
        assert source.words is None or source.class_names == tuple(source.words.nouns)


def test_sources_are_listed_without_a_heavy_import():
    code = f"""
        import sys
        from fusion_bench.data.sources.base import sources
        print(len(sources()), [name for name in {HEAVY} if name in sys.modules])
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(len(sources())), "[]"]


BEEPS = """
import numpy as np

from fusion_bench.data.dataset import Modality, RawDataset
from fusion_bench.data.sources.base import ClassWords, register_source

NOUNS = {name: tuple(f"{name}{i}" for i in range(6)) for name in ("low", "high")}
HALVES = {"coarse": {"bass": ("low",), "treble": ("high",)}}


@register_source("beeps", summary="tones of two pitches", class_names=tuple(NOUNS), words=ClassWords(NOUNS, HALVES))
def load(config):
    labels = np.arange(100, dtype=np.int32) % 2
    noise = np.random.default_rng(config.data_seed).normal(size=(100, 6, 5, 1))
    audio = Modality("grid", (noise + 4 * labels[:, None, None, None]).astype(np.float32))
    return RawDataset("beeps", {"audio": audio}, labels, tuple(NOUNS), np.repeat(["train", "test"], [70, 30]))
"""


@pytest.fixture
def beeps(tmp_path, monkeypatch):
    """A source that a file of somebody else registers, for one test."""
    monkeypatch.setattr(base.REGISTRY, "known", dict(sources()))
    (tmp_path / "beeps_of_a_user.py").write_text(BEEPS)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("beeps_of_a_user")
    yield
    del sys.modules["beeps_of_a_user"]


@pytest.mark.usefixtures("beeps")
def test_a_new_source_is_one_file(capsys, tmp_path):
    """It is listed, named in errors, has captions, and is trained on; its one modality shows the class."""

    def call(*arguments):
        with pytest.raises(SystemExit):
            main([*arguments])
        return capsys.readouterr()

    listed = {entry["name"]: entry for entry in json.loads(call("list", "--json").out)["datasets"]}
    assert listed["beeps"]["summary"] == "tones of two pitches"
    assert "unknown data source 'beep'; did you mean beeps?" in call("run", "--data", "beep").err
    assert "choose from shapes, beeps, cifar10, digits, FILE.npz, tfds:NAME" in call("run", "--data", "??").err
    assert "low0" in call("captions", "clean", "--data", "beeps", "-n", "50").out

    config = make_config(tmp_path, tmp_path / "out", strategies=("audio-only",))
    training = dataclasses.replace(config.training, epochs=10)
    data = DataConfig("beeps", captions="half")
    frame = run_recorded(dataclasses.replace(config, data=data, training=training)).frame
    assert set(frame["dataset"]) == {"beeps"}
    accuracies = dict(zip(frame["strategy"], frame["test_accuracy_mean"], strict=True))
    assert min(accuracies["audio-only"], accuracies["bayes-reference"]) > 0.8
    assert accuracies["ceiling: text only"] == pytest.approx(0.75)
    assert accuracies["ceiling: audio only"] == 1


def test_a_run_records_the_name_of_a_file_without_its_folder_and_others_whole():
    names = {"shapes": "shapes", "of/mine.npz": "mine.npz", "tfds:a/b:1.0.0": "tfds:a/b:1.0.0"}
    assert {name: recorded_name(name) for name in names} == names


def test_two_sources_cannot_have_one_name():
    with pytest.raises(ValueError, match="source 'shapes' is registered twice"):
        register_source("shapes", summary="others")(lambda config: load_raw(DataConfig()))
    with pytest.raises(ValueError, match="source 'mine' reads colour, which is no field of DataConfig"):
        register_source("mine", summary="others", options=("colour",))
