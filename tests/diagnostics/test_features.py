"""The pooled features of one modality, against the encoders of the strategies; and the runs beside a model."""

import dataclasses
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fusion_bench.data.batches import gather, to_device
from fusion_bench.data.dataset import Modality
from fusion_bench.diagnostics import model as models
from fusion_bench.diagnostics.model import Model, RunKey
from tests.tasks import STEPS, call, make_dataset, make_strategy

ROWS = np.arange(7, 137)  # more than one batch


def with_motion(dataset):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(len(dataset.labels), STEPS, 3)).astype(np.float32)
    mask = np.arange(STEPS) <= rng.integers(0, STEPS, len(dataset.labels))[:, None]
    return dataclasses.replace(dataset, modalities={"motion": Modality("sequence", values, mask=mask)})


DATASETS = {("image", "text"): make_dataset(), ("motion",): with_motion(make_dataset())}


def features(module, dataset, modality) -> Any:
    return Model(module, dataset, to_device(dataset)).features(modality, ROWS)


def batch(dataset, modality):
    return gather(to_device(dataset), jnp.asarray(ROWS))[0][modality]


@pytest.mark.parametrize(
    ("name", "names", "modality"),
    [
        ("concat", ("image", "text"), "image"),
        ("late-mean", ("image", "text"), "text"),
        ("film", ("image", "text"), "text"),
        ("image-only", ("image", "text"), "image"),
        ("motion-only", ("motion",), "motion"),
    ],
)
def test_normalised_they_are_what_the_strategy_reads(name, names, modality):
    module, dataset = make_strategy(name, names), DATASETS[names]
    encoder = module.encoder_of(modality)
    found = features(module, dataset, modality)
    assert (found.shape, found.dtype) == ((len(ROWS), encoder.features), np.float32)
    expected = call(encoder, batch(dataset, modality))
    np.testing.assert_allclose(encoder.norm(found), expected, atol=1e-5)
    assert np.abs(found - expected).max() > 0.1


def test_tokens_are_averaged_without_padding():
    module, dataset = make_strategy("bottleneck"), make_dataset()
    dataset.modalities["text"].values[::2, 2:] = 0
    tokens, mask = call(module.encoders["text"], batch(dataset, "text"))
    expected = [np.asarray(row)[np.asarray(there)].mean(0) for row, there in zip(tokens, mask, strict=True)]
    np.testing.assert_allclose(features(module, dataset, "text"), expected, atol=1e-5)


def test_where_the_encoder_pools_by_the_maximum_so_do_the_features_of_tokens():
    module, dataset = make_strategy("bottleneck"), DATASETS["image", "text"]
    module.encoders["image"].pool = "max"
    tokens = call(module.encoders["image"], batch(dataset, "image")).tokens
    np.testing.assert_allclose(features(module, dataset, "image"), np.asarray(tokens).max(1), atol=1e-5)


@pytest.mark.parametrize(("name", "modality"), [("early-token", "text"), ("film", "image"), ("mid-channel", "image")])
def test_there_are_none_where_an_encoder_reads_other_modalities(name, modality):
    assert features(make_strategy(name), DATASETS["image", "text"], modality) is None


def test_all_strategies_share_one_compilation(monkeypatch):
    traced, function = [], cast(Any, models._features)

    def count(graph, *arguments):
        traced.append(graph)
        return function.__wrapped__(graph, *arguments)

    monkeypatch.setattr(models, "_features", jax.jit(count, static_argnums=0))
    for name in ("image-only", "concat", "bottleneck", "late-mean"):
        features(make_strategy(name), DATASETS["image", "text"], "image")
    assert len(traced) == 1


def test_a_companion_is_found_by_strategy_target_and_seed():
    dataset = DATASETS["image", "text"]
    keys = [RunKey("a", "sum", 1), RunKey("b", "sum", 0, "class"), RunKey("c", "sum", 0), RunKey("d", "gmu", 0)]
    companions = {key: lambda key=key: Model(module, dataset, data, run=key) for key in keys}
    module, data = make_strategy("image-only"), to_device(dataset)
    model = Model(module, dataset, data, run=RunKey("e", "concat", 0), companions=companions)

    def identifier(*wanted):
        found = model.companion(*wanted)
        return found and found.run.id

    assert identifier("sum") == "c"
    assert identifier("sum", "class") == "b"
    assert identifier("sum", "label", 1) == "a"
    assert identifier("gmu", "label", 1) is None
    assert model.load(model.run) is model
