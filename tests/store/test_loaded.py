"""Stored runs as models again."""

import shutil

import numpy as np
import pytest
from flax import nnx

import fusion_bench
from fusion_bench.data.load import load_dataset
from fusion_bench.errors import UserError
from fusion_bench.fusion.registry import StrategySpec
from fusion_bench.store import loaded as loading
from tests.studies import make_config, make_quick, run_recorded

SUM = StrategySpec("sum", {"out_features": 8})
STRATEGIES = ("image-only", "text-only", "concat", SUM.label, "late-posthoc", "late-stacking")


@pytest.fixture(scope="module")
def done(plain, tmp_path_factory):
    out = tmp_path_factory.mktemp("loaded") / "out"
    shutil.copytree(plain.config.out, out)
    asked = (*(name for name in STRATEGIES if name != SUM.label), SUM)
    return run_recorded(make_config(plain.config.data.source, out, strategies=asked))


@pytest.fixture(scope="module", autouse=True)
def quick():
    with pytest.MonkeyPatch.context() as patch:
        make_quick(patch)
        yield


@pytest.fixture(scope="module")
def dataset(done):
    return load_dataset(done.config.data)


def test_another_version_of_the_engine_is_told(done, monkeypatch):
    monkeypatch.setattr(loading, "ENGINE_VERSION", loading.ENGINE_VERSION + 1)
    with pytest.warns(UserWarning, match="so the model may predict otherwise"):
        load(done, "concat")


def load(done, strategy):
    return fusion_bench.load_run(done.config.out, done.stored(strategy).id)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_predictions_are_those_that_are_stored(done, dataset, strategy, monkeypatch):
    loaded = load(done, strategy)
    stored = done.store.predictions(loaded.run.id)["test_logits"]
    test = dataset.splits["test"]
    arrays = {name: modality.values[test] for name, modality in dataset.modalities.items()}
    logits = loaded.predict({name: arrays[name] for name in loaded.modalities})
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, stored, rtol=1e-5, atol=1e-5)
    if "text" in arrays:
        texts = [dataset.captions.texts[i] for i in test]
        np.testing.assert_array_equal(loaded.predict({**arrays, "text": texts}), logits)
    monkeypatch.setattr(loading, "default_predict_batch", lambda: 25)  # 60 examples: two whole batches and a part
    np.testing.assert_allclose(loaded.predict(arrays), stored, rtol=1e-5, atol=1e-5)
    assert loaded.predict({name: array[:0] for name, array in arrays.items()}).shape == (0, 10)


def test_what_comes_with_a_model(done, dataset):
    loaded = load(done, "concat")
    assert isinstance(loaded.model, nnx.Module)
    assert loaded.run == done.stored("concat")
    assert loaded.class_names == dataset.class_names
    assert loaded.modalities == dataset.task.modalities
    assert loaded.tokenizers.keys() == dataset.tokenizers.keys() == {"text"}
    assert loaded.tokenizers["text"].to_str() == dataset.tokenizers["text"].to_str()
    assert load(done, "text-only").modalities.keys() == {"text"}


def test_a_beginning_that_is_of_one_run_is_enough(done):
    assert fusion_bench.load_run(str(done.config.out), "concat-s0").run.strategy == "concat"


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_name_of_a_row_is_enough(done, strategy):
    assert fusion_bench.load_run(done.config.out, strategy).run.strategy == strategy


@pytest.mark.parametrize(
    ("identifier", "message"),
    [
        ("late", r"^'late' could be late-posthoc-s0-\w+ or late-stacking-s0-\w+$"),
        ("concta-s0-0123456789", r"^unknown run 'concta-s0-0123456789'; did you mean concat-s0-\w+"),
        ("bayes", "^bayes-reference-s0-.* has no model: the Bayes reference is computed"),
    ],
)
def test_runs_that_cannot_be_loaded(done, identifier, message):
    with pytest.raises(UserError, match=message):
        fusion_bench.load_run(done.config.out, identifier)


def test_runs_that_are_damaged(done, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(done.config.out, out)
    path = out / "runs" / done.stored("concat").id / "run.json"
    path.write_text("{")
    with pytest.raises(UserError, match=r"^concat-s0-\w+ is damaged: run.json"):
        fusion_bench.load_run(out, "concat")


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"text": ["a"]}, "^image is missing; the model reads image, text$"),
        (
            {"image": np.zeros((8, 8, 3)), "text": ["a"]},
            r"^image has shape \(8, 8, 3\); it must be \(example, 8, 8, 3\); give image\[None\] for one example$",
        ),
        ({"image": np.zeros((2, 8, 8, 3)), "text": ["a"]}, "different numbers of examples: .*image.: 2"),
        ({"image": np.zeros((1, 8, 8, 3)), "text": [[99_999] * 3]}, "text has shape"),
    ],
    ids=["missing", "shape", "count", "tokens"],
)
def test_inputs_that_do_not_fit(done, inputs, message):
    with pytest.raises(UserError, match=message):
        load(done, "concat").predict(inputs)


def test_token_ids_are_of_the_vocabulary(done):
    loaded = load(done, "text-only")
    with pytest.raises(UserError, match=r"^text has token ids outside 0\.\.\d+$"):
        loaded.predict({"text": np.full((1, *loaded.modalities["text"].shape), 99_999)})


def test_what_serves_other_runs_is_not_in_the_way(shifted):
    targets = {run.identity["target"] for run in shifted.store.runs() if run.strategy == "image-only"}
    assert targets == {"label", "class", "cost"}
    assert fusion_bench.load_run(shifted.config.out, "image-only-s0").run.identity["target"] == "label"
