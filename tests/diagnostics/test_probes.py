"""Probes of features that are known, and of stored runs."""

import types
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from fusion_bench.config import Choice, DataConfig
from fusion_bench.data.batches import ModalityBatch
from fusion_bench.data.load import load_dataset
from fusion_bench.diagnostics.model import RunKey
from fusion_bench.diagnostics.probes import Probes
from fusion_bench.fusion.registry import StrategySpec
from fusion_bench.metrics.representations import Labelled, probe_accuracy
from fusion_bench.store import Store
from fusion_bench.store.diagnosed import read_values
from fusion_bench.store.loaded import load_model
from fusion_bench.study.diagnose import diagnose
from tests.diagnostics.known import CLASSES, COUNT, LABELS, SPLITS, Known, Loads, telling
from tests.tasks import call, make_task

CLEAR, NOISE = telling(LABELS, noise=0.05), telling(LABELS, noise=1e6)
TEST = SPLITS["test"]


def test_an_encoder_that_holds_the_class_is_read_without_error_and_noise_is_at_chance():
    found = Probes()(Known({"image": CLEAR, "text": NOISE}), TEST)
    assert found == {"probe_image": 1.0, "probe_text": pytest.approx(1 / CLASSES, abs=0.08)}


def test_a_starved_encoder_has_a_gap_to_the_same_one_trained_alone():
    starved = telling(LABELS, noise=1.0)
    alone = {RunKey("i", "image-only", 0): Known({"image": CLEAR}), RunKey("t", "text-only", 0): Known({"text": NOISE})}
    found = Probes()(Known({"image": starved, "text": CLEAR}, companions=Loads(alone)), TEST)
    assert found["probe_gap_image"] == pytest.approx(1.0 - found["probe_image"])
    assert found["probe_gap_image"] > 0.2
    assert found["probe_gap_text"] == pytest.approx(1 / CLASSES - 1.0, abs=0.08)  # better than alone


def test_the_gap_is_to_the_same_seed_and_left_out_without_it():
    other = {RunKey("i", "image-only", 1): Known({"image": CLEAR}), RunKey("c", "sum", 0): Known({"image": CLEAR})}
    assert set(Probes()(Known({"image": NOISE}, companions=Loads(other)), TEST)) == {"probe_image"}
    alone = Known({"image": CLEAR}, RunKey("i", "image-only", 0), companions=Loads({}))
    assert Probes()(alone, TEST) == {"probe_image": 1.0}  # nor has it a gap to itself


def test_a_companion_is_probed_once_for_all_models_of_its_seed():
    cache, key = {}, RunKey("i", "image-only", 0)
    loads = Loads({key: Known({"image": CLEAR}, key, cache=cache)})
    for name in ("concat", "sum"):
        model = Known({"image": NOISE, "text": NOISE}, RunKey(name, name, 0), companions=loads, cache=cache)
        assert "probe_gap_image" in Probes()(model, TEST)
    assert loads.count[key] == 1


def test_what_an_encoder_shows_is_probed_where_captions_shift_the_label():
    classes, channel = (LABELS + 1) % CLASSES, types.SimpleNamespace(spec=types.SimpleNamespace(shift=1.0))
    classes = np.where(np.random.default_rng(1).random(COUNT) < 0.5, classes, LABELS)
    shift = {"classes": classes, "captions": types.SimpleNamespace(channel=channel, modality="text")}
    of_label = RunKey("l", "image-only", 0), Known({"image": NOISE}, **shift)
    of_class = RunKey("c", "image-only", 0, "class"), Known({"image": telling(classes, noise=0.05)}, **shift)
    table = {"image": telling(classes, noise=0.05), "text": CLEAR}
    found = Probes()(Known(table, companions=Loads(dict([of_label, of_class])), **shift), TEST)
    assert found == {"probe_image": 1.0, "probe_gap_image": 0.0, "probe_text": 1.0}
    channel.spec.shift = 0.0
    assert Probes()(Known(table, **shift), TEST)["probe_image"] < 0.8  # the class, read as the label


def test_training_examples_at_even_distances_are_fitted():
    """Those hold the class, the other two thirds of the training examples the next one."""
    train = SPLITS["train"]
    misled = np.setdiff1d(train, train[np.linspace(0, len(train) - 1, 100).astype(int)])
    shown = LABELS.copy()
    shown[misled] = (LABELS[misled] + 1) % CLASSES
    model = Known({"image": telling(shown, noise=0.05)})
    assert Probes(examples=100)(model, TEST)["probe_image"] == 1.0
    model.cache.clear()
    assert Probes()(model, TEST)["probe_image"] < 0.5


def test_a_modality_without_an_encoder_of_its_own_has_no_probe():
    companions = Loads({RunKey("i", "image-only", 0): Known({"image": CLEAR})})
    model = Known({"image": NOISE, "text": CLEAR}, without=("image",), companions=companions)
    assert Probes()(model, TEST) == {"probe_text": 1.0}


def test_what_has_no_encoder_at_all_is_skipped():
    task = make_task("image", "text")
    reason = "early-token has no encoder of one modality that is separate from the fusion"
    assert Probes().skip(StrategySpec("early-token"), task) == reason
    for name in ("early-channel", "image-token-only"):
        assert Probes().skip(StrategySpec(name), task)
    for name in ("image-only", "concat", "bottleneck", "late-posthoc", "film"):
        assert Probes().skip(StrategySpec(name), task) is None


def values(store, strategy):
    (run,) = [run for run in store.runs() if (run.strategy, run.identity["target"]) == (strategy, "label")]
    return read_values(store.directory, run.id)


@pytest.mark.parametrize("study", ["plain", "shifted"])
def test_stored_runs(study, request, tmp_path):
    """The members of post-hoc fusion are the unimodal runs: no gap, but to the model of the class."""
    done = request.getfixturevalue(study)
    (tmp_path / "runs").symlink_to(done.config.out / "runs")
    store = Store(tmp_path, read_only=True)
    diagnose(store, [Choice("probes")], places=DataConfig(source=done.config.data.source))
    found, image, text = (values(store, name) for name in ("late-posthoc", "image-only", "text-only"))
    assert found["probe_image"] == image["probe_image"]
    assert found["probe_text"] == text["probe_text"]
    assert found["probe_gap_text"] == 0.0
    target = {"plain": "label", "shifted": "class"}[study]
    assert found["probe_image"] + found["probe_gap_image"] == pytest.approx(expected(done, target), abs=1e-9)
    assert (found["probe_gap_image"] == 0.0) == (study == "plain")


def expected(done, target):
    """Returns the accuracy of a probe of the image's model of the target, from the encoder's own tokens."""
    dataset = load_dataset(done.config.data)
    module: Any = load_model(done.store, done.stored("image-only", target=target))
    encoder = module.encoder.encoder
    images = dataset.modalities["image"].values.astype(np.float32)
    of_train = images[dataset.splits["train"]].reshape(-1, 3)
    tokens = call(encoder, ModalityBatch(jnp.asarray((images - of_train.mean(0)) / of_train.std(0)))).tokens
    pooled = np.asarray(tokens).mean(1)
    labels = dataset.classes if target == "class" else dataset.labels
    splits = [dataset.splits[name] for name in ("train", "validation", "test")]
    return probe_accuracy(*(Labelled(pooled[rows], labels[rows]) for rows in splits))
