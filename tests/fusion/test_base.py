"""The bases of strategies: encoders, operator and head; what belongs to one modality; the loss."""

import collections

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fusion_bench.fusion.base import LateFusion, Outputs
from fusion_bench.fusion.registry import strategies
from tests import oracles
from tests.tasks import BATCH, CLASSES, THREE, TWO, WORDS, call, count_params, make_inputs, make_strategy, make_task

UNDEFINED = ("early-channel", "mid-channel", "early-token", "film", "mmtm")
"""Fusion strategies in which no modality has an encoder that reads nothing else."""


def owned(module):
    """Returns the number of parameters of each modality, and of the joint parts by the name None."""
    counts = collections.Counter()
    for path, variable in nnx.to_flat_state(nnx.state(module, nnx.Param)):
        counts[module.modality_of(path)] += variable[...].size
    return counts


def expected_of(name, modality):
    """Returns the number of parameters that belong to a modality, counted in modules that hold nothing else."""
    alone = make_strategy(f"{modality}-only")
    if name in ("early-channel", "mid-channel"):
        return 16 * WORDS if modality == "text" else 0
    if name == "early-token":
        return count_params(make_strategy(f"{modality}-token-only").embeddings)
    if issubclass(strategies()[name].make, LateFusion):
        return count_params(alone) - CLASSES * (name == "late-cosine")  # without the biases of the scores
    return count_params(alone.encoder.encoder if strategies()[name].reads == "tokens" else alone.encoder)


@pytest.mark.parametrize("name", [name for name, r in strategies().items() if r.modality is None])
def test_a_modality_owns_its_encoder_and_none_the_joint_parts(name):
    module = make_strategy(name)
    counts = owned(module)
    expected = {modality: expected_of(name, modality) for modality in TWO}
    assert {modality: counts[modality] for modality in TWO} == expected


@pytest.mark.parametrize("name", [name for name, r in strategies().items() if r.modality is not None])
def test_all_of_a_baseline_is_of_its_modality(name):
    assert set(owned(make_strategy(name))) == {strategies()[name].modality}


@pytest.mark.parametrize("name", [name for name, r in strategies().items() if r.modality is None])
def test_an_encoder_of_one_modality_is_there_where_it_reads_nothing_else(name):
    module = make_strategy(name)
    encoders = {modality: module.encoder_of(modality) for modality in TWO}
    if name in UNDEFINED:
        assert encoders["image"] is None
        assert (encoders["text"] is None) == (name != "film")
    for modality, encoder in encoders.items():
        if encoder is not None:
            pooled = make_strategy(f"{modality}-only").encoder
            expected = pooled.encoder if strategies()[name].reads == "tokens" else pooled
            assert count_params(encoder) == count_params(expected)


def scores(module, inputs):
    """Returns the scores of each modality alone, compiled."""

    class Alone(nnx.Module):
        def __init__(self):
            self.module = module

        def __call__(self, inputs):
            return self.module.unimodal_logits(self.module(inputs))

    return call(Alone(), inputs)


@pytest.mark.parametrize("name", [name for name, r in strategies().items() if r.modality is None])
def test_each_modality_answers_from_its_own_inputs_alone(name):
    module, inputs = make_strategy(name), make_inputs(make_task(*TWO))
    if name in UNDEFINED:
        assert scores(module, inputs) == {}
        return
    other = make_inputs(make_task(*TWO), seed=7)["text"]._replace(mask=inputs["text"].mask)
    before, after = scores(module, inputs), scores(module, {**inputs, "text": other})
    assert set(before) == set(TWO)
    assert {(s.shape, s.dtype) for s in before.values()} == {((BATCH, CLASSES), jnp.dtype("float32"))}
    np.testing.assert_array_equal(before["image"], after["image"])
    assert np.abs(before["text"] - after["text"]).max() > 1e-4


def test_a_baseline_has_no_other_answer():
    assert scores(make_strategy("image-only"), make_inputs(make_task(*TWO))) == {}


def test_alone_in_late_fusion_a_modality_is_its_member():
    module, inputs = make_strategy("late-mean", THREE), make_inputs(make_task(*THREE))
    alone = scores(module, inputs)
    for name, member in module.members.items():
        np.testing.assert_allclose(alone[name], call(member, inputs).logits, atol=1e-6)


# of `tensor`, the head's first layer is applied through the product at width 3, factor by factor at 9
@pytest.mark.parametrize("label", ["concat", "tensor:width=3", "tensor:width=9"])
def test_features_go_through_the_operator_and_the_head_and_alone_the_others_are_zero(label):
    module, inputs = make_strategy(label, THREE), make_inputs(make_task(*THREE))
    features = {name: call(encoder, inputs[name]) for name, encoder in module.encoders.items()}
    joint = module.operator(features)
    np.testing.assert_allclose(call(module, inputs).logits, oracles.head(module.head, joint), atol=1e-5)
    for kept, logits in scores(module, inputs).items():
        joint = module.operator({name: h if name == kept else 0 * h for name, h in features.items()})
        np.testing.assert_allclose(logits, oracles.head(module.head, joint), atol=1e-5)


def test_tokens_go_through_the_operator_and_the_head_and_alone_the_others_are_zero():
    module, inputs = make_strategy("bottleneck", THREE), make_inputs(make_task(*THREE))
    encoded = {name: call(encoder, inputs[name]) for name, encoder in module.encoders.items()}
    tokens = {name: oracles.batch_norm(module.norms[name], np.asarray(e.tokens)) for name, e in encoded.items()}
    tokens = {name: jnp.float32(x) for name, x in tokens.items()}
    masks = {name: jnp.ones(tokens[name].shape[:2], bool) for name in THREE} | {"text": inputs["text"].mask}

    def decided(tokens):
        joint = oracles.batch_norm(module.norm, np.asarray(module.operator(tokens, masks), np.float64))
        return oracles.head(module.head, joint)

    np.testing.assert_allclose(call(module, inputs).logits, decided(tokens), atol=1e-5)
    for kept, logits in scores(module, inputs).items():
        alone = {name: x if name == kept else 0 * x for name, x in tokens.items()}
        np.testing.assert_allclose(logits, decided(alone), atol=1e-5)


def test_tokens_are_normalised_over_those_that_are_there():
    """In training: padding and what it holds change neither the mean nor the variance."""
    module, inputs = make_strategy("cross-attention"), make_inputs(make_task(*TWO))
    module.train()
    encoded = {name: module.encode(name, batch) for name, batch in inputs.items()}
    tokens, _ = module.arguments(encoded)
    there = np.asarray(encoded["text"].tokens, np.float64)[np.asarray(inputs["text"].mask)]
    norm = module.norms["text"]
    scale, shift = oracles.array(norm.scale), oracles.array(norm.bias)
    expected = (there - there.mean(0)) / np.sqrt(there.var(0) + 1e-5) * scale + shift
    np.testing.assert_allclose(tokens["text"][inputs["text"].mask], expected, atol=1e-4)


def test_smoothed_cross_entropy():
    rng = np.random.default_rng(0)
    logits, labels, smoothing = rng.normal(size=(BATCH, CLASSES)), rng.integers(0, CLASSES, BATCH), 0.2
    expected = 0.0
    for scores, label in zip(logits, labels, strict=True):
        q = np.full(CLASSES, smoothing / CLASSES)
        q[label] += 1 - smoothing
        expected -= q @ oracles.log_softmax(scores) / BATCH
    outputs = Outputs(jnp.float32(logits))
    got = make_strategy("concat").loss(outputs, jnp.asarray(labels), label_smoothing=smoothing)
    assert float(got) == pytest.approx(expected, abs=1e-5)
