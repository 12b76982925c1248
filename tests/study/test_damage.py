"""A study on damaged training data beside one on the same data undamaged."""

import dataclasses
import shutil

import numpy as np
import pytest

import fusion_bench
from fusion_bench.config import Choice, DataConfig
from fusion_bench.data.captions.ceilings import misaligned_ceilings, missing_ceiling
from fusion_bench.data.load import load_dataset
from fusion_bench.study.diagnose import diagnose
from tests.studies import make_quick, run_recorded


@pytest.fixture(scope="module")
def done(plain, tmp_path_factory):
    out = tmp_path_factory.mktemp("damaged") / "out"
    shutil.copytree(plain.config.out, out)
    data = dataclasses.replace(plain.config.data, misalign=0.3, missing=0.2)
    with pytest.MonkeyPatch.context() as patch:
        make_quick(patch)
        return run_recorded(dataclasses.replace(plain.config, data=data, out=out, strategies=("concat",)))


@pytest.fixture(scope="module")
def stored(done):
    (run,) = [run for run in done.runs if run.strategy == "concat" and run.identity["target"] == "label"]
    return run


def test_it_is_another_run_on_other_data(plain, done, stored):
    undamaged = plain.stored("concat")
    assert {run.id for run in plain.store.runs()} < {run.id for run in done.store.runs()}
    assert stored.identity["data"] == {**undamaged.identity["data"], "misalign": 0.3, "missing": 0.2}
    assert stored.identity["fingerprint"] != undamaged.identity["fingerprint"]
    assert stored.data["reading"] == undamaged.data["reading"]


def test_the_record_has_the_exact_ceilings(plain, done, stored):
    captions = load_dataset(done.config.data).captions
    assert captions is not None
    assert captions.channel is not None
    assert stored.data["misaligned_modalities"] == ["text"]
    assert stored.data["misaligned_ceilings"] == misaligned_ceilings(captions.channel, 0.3)._asdict()
    assert stored.data["missing_ceiling"] == missing_ceiling(captions.channel, 0.2)
    assert stored.data.keys() - plain.stored("concat").data.keys() == {
        *("misaligned_modalities", "misaligned_ceilings", "missing_ceiling")
    }


def test_the_table_tells_both_apart(done):
    first, second = (done.config.out / "table.md").read_text().split("### ")[1:]
    assert "misaligned" not in first
    assert "misaligned with probability 0.3; modalities missing in training with probability 0.2" in second
    assert "the best possible accuracy is" in second


def test_the_model_predicts_on_undamaged_examples(done, stored):
    dataset = load_dataset(done.config.data)
    test = dataset.splits["test"]
    logits = fusion_bench.load_run(done.config.out, stored.id).predict(
        {name: modality.values[test] for name, modality in dataset.modalities.items()}
    )
    np.testing.assert_allclose(logits, done.store.predictions(stored.id)["test_logits"], rtol=1e-5, atol=1e-5)


def test_a_diagnostic_finds_the_damaged_data_again(done):
    places = DataConfig(source=done.config.data.source)
    found = diagnose(done.store, [Choice("missing-modality", {"permutations": 1})], places=places)
    assert (found.computed, found.failed) == (3, [])  # both of concat, and late-posthoc
