"""A study with words that people said: what is recorded, loaded again, merged and diagnosed."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import log_softmax

from fusion_bench.config import DataConfig
from fusion_bench.data.load import load_dataset
from fusion_bench.data.sources.base import load_raw
from fusion_bench.deploy.card import describe
from fusion_bench.deploy.model import load_classifier
from fusion_bench.errors import UserError
from fusion_bench.metrics.calibration import fit_temperature
from fusion_bench.store.loaded import load_data
from tests.studies import make_config, make_quick, run_arguments, run_recorded

SIZES = {"train_size": 200, "test_size": 100}


def write_people(path: Path, seed: int) -> Path:
    """Writes what someone said of the images of `shapes`: one in four is called as the next class."""
    raw, rng = load_raw(DataConfig()), np.random.default_rng(seed)
    named = (raw.labels + (rng.random(len(raw.labels)) < 0.25)) % len(raw.class_names)
    names = np.array(raw.class_names)
    table = {"id": np.arange(len(named)), "split": raw.split, "label": names[raw.labels], "named": names[named]}
    path.parent.mkdir(exist_ok=True)
    pd.DataFrame(table).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    return write_people(tmp_path_factory.mktemp("people") / "people.csv", 0)


@pytest.fixture(scope="module")
def done(people, tmp_path_factory):
    config = make_config(Path("shapes"), tmp_path_factory.mktemp("human"), captions=f"human:{people}")
    return run_recorded(dataclasses.replace(config, data=dataclasses.replace(config.data, **SIZES)))


def test_a_run_says_what_it_learned_from(done, people):
    assert all(run.status == "complete" for run in done.store.runs())
    dataset = load_dataset(done.config.data)
    assert dataset.captions is not None
    assert dataset.captions.channel is not None
    for run in done.store.runs():
        text = json.dumps([run.identity, run.data])
        assert str(people.parent) not in text
        assert run.identity["data"]["captions"] == run.data["captions"] == "human:people.csv"
        assert any(note.startswith("People name another class in 2") for note in run.data["notes"])
        assert run.data["bits"] == dataset.captions.channel.bits
    ceiling = done.frame.loc[done.frame["strategy"] == "ceiling: text only", "test_accuracy_mean"].item()
    assert ceiling == dataset.captions.channel.text_only_ceiling


def test_the_reference_decides_with_the_counted_table(done):
    dataset = load_dataset(done.config.data)
    captions = dataset.captions
    assert captions is not None
    assert captions.channel is not None
    assert captions.words is not None
    image = done.store.predictions(done.stored("image-only").id)
    temperature = fit_temperature(image["validation_logits"], image["validation_labels"])
    beliefs = log_softmax(image["test_logits"].astype(np.float64) / temperature, axis=1)
    told = np.log(captions.channel.word_probabilities[:, captions.words[dataset.splits["test"]]].T)
    stored = done.store.predictions(done.stored("bayes-reference").id)["test_logits"]
    np.testing.assert_allclose(stored, beliefs + told, atol=1e-4)


def test_data_are_loaded_again_from_the_files_place(done, people, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # no people.csv is here
    run = done.stored("concat")
    for place in (people, f"human:{people}"):
        assert load_data(run, DataConfig(captions=str(place))).fingerprint == run.identity["fingerprint"]
    with pytest.raises(UserError, match=r"people\.csv: no such file"):
        load_data(run, DataConfig(captions=""))
    other = write_people(tmp_path / "elsewhere" / "people.csv", 1)
    with pytest.raises(UserError, match="was trained on other data"):
        load_data(run, DataConfig(captions=str(other)))


def test_the_folder_of_the_file_is_no_part_of_an_identity(done, people, tmp_path):
    moved = write_people(tmp_path / "people.csv", 0)
    here, there = (load_dataset(dataclasses.replace(done.config.data, captions=f"human:{p}")) for p in (people, moved))
    assert here.fingerprint == there.fingerprint


@pytest.mark.parametrize("strategy", ["concat"])
def test_stores_of_two_folders_are_merged_tabulated_and_diagnosed(strategy, done, call, people, tmp_path, monkeypatch):
    make_quick(monkeypatch)
    moved, out = write_people(tmp_path / "moved" / "people.csv", 0), tmp_path / "out"
    words = [f"human:{moved}", "--train-size", 200, "--test-size", 100, "--validation-fraction", 0.2]
    assert call(*run_arguments("shapes", out, "--captions", *words, strategies=strategy, seeds=1))[0] == 0
    assert call("merge", done.config.out, out, "--out", tmp_path / "both")[0] == 0
    status, printed, _ = call("table", tmp_path / "both", "--format", "md")
    assert status == 0
    assert printed.count("human:people.csv captions (") == 1  # one setting, in one block
    assert "independent given the class, which words of people need not be." in printed
    assert str(moved.parent) not in printed
    names = "pid,dropped-words,channel-shift,missing-modality"
    status, _, error = call("diagnose", tmp_path / "both", "--captions", people, "--with", names)
    assert (status, "failed" in error) == (0, False), error
    values = [json.loads(path.read_text()) for path in (tmp_path / "both" / "diagnostics").rglob("*.json")]
    assert any("accuracy_on_half" in json.dumps(each) for each in values)
    assert any("bits_used_redundant" in json.dumps(each) for each in values)


def test_a_deployed_model_has_captions_that_say_nothing_and_examples(done):
    classifier = load_classifier(done.config.out, done.stored("concat").id)
    assert isinstance(classifier.neutral["text"], str)
    card = describe(classifier)
    assert card["provenance"]["captions"] == "human:people.csv"
    (text,) = [each for each in card["inputs"] if each["name"] == "text"]
    assert len(set(text["examples"])) > 1


def test_captions_shows_what_is_counted(call, people):
    status, printed, error = call("captions", f"human:{people}", "-n", "3")
    assert (status, error) == (0, "")
    words = " ".join(printed.split())
    dataset = load_dataset(DataConfig(captions=f"human:{people}"))
    assert dataset.captions is not None
    channel = dataset.captions.channel
    assert channel is not None
    assert f"text-only ceiling {channel.text_only_ceiling:.4f}" in words
    assert f"bits about the target {channel.bits:.3f}" in words
    for y, name in enumerate(dataset.class_names):
        right, following = channel.naming_probabilities[y, y], (y + 1) % len(dataset.class_names)
        other = channel.naming_probabilities[y, following]
        assert f"{name} {100 * right:.1f} % {dataset.class_names[following]} {100 * other:.1f} %," in words
    assert "People name another class in 2" in words


def test_the_command_needs_no_rows_of_the_test_split_if_test_examples_are_of_training(call, people, tmp_path):
    rows = pd.read_csv(people)
    rows[rows["split"] != "test"].to_csv(tmp_path / "training.csv", index=False)
    status, _, error = call("captions", f"human:{tmp_path / 'training.csv'}")
    assert status == 2
    assert "each example of the splits needs a row" in error
    found = call("captions", f"human:{tmp_path / 'training.csv'}", "--test-from", "train", "--test-size", 500)
    assert (found[0], "named so" in found[1]) == (0, True), found[2]


def test_a_file_of_people_is_not_read_as_captions(refuse, tmp_path):
    line = refuse("--captions", f"human:{tmp_path / 'none.csv'}")
    assert "none.csv: no such file; it has id, label, named" in line
    assert "needs a file of what people said" in refuse("--captions", "human")
    assert "wrong is 0.1 beside a speaker" in refuse("--captions", "human:a.csv:wrong=0.1")
