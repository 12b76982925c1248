"""The contrastive loss against loops in NumPy float64."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fusion_bench.config import Choice
from fusion_bench.fusion.registry import StrategySpec
from fusion_bench.training.remedies.base import remedies
from fusion_bench.training.remedies.contrastive import alignment_loss, positives
from tests import oracles
from tests.tasks import THREE, TWO, make_inputs, make_task
from tests.training.remedies.steps import cross_entropy, make_modules, make_step, run_losses


def loop(shared, labels, temperature, by):
    """The mean over ordered pairs of modalities and over examples, term by term."""
    terms = []
    for first, second in itertools.permutations(shared, 2):
        for i, anchor in enumerate(shared[first]):
            similar = np.array([anchor @ other for other in shared[second]]) / temperature
            chosen = [j for j in range(len(labels)) if (j == i if by == "example" else labels[j] == labels[i])]
            terms.append(-np.mean([oracles.log_softmax(similar)[j] for j in chosen]))
    return np.mean(terms)


@pytest.mark.parametrize("by", ["class", "example"])
@pytest.mark.parametrize("names", [TWO, THREE], ids=len)
@pytest.mark.parametrize("label", ["concat", "cross-attention", "late-mean"])
def test_the_losses_are_the_joint_one_and_the_alignment_of_every_pair(label, names, by):
    remedy = remedies.make(Choice("contrastive", {"weight": 0.5, "temperature": 0.2, "width": 3, "positives": by}))
    module, parts = make_modules(label, remedy, names)
    step = make_step(module, parts, make_inputs(make_task(*names)))
    got, outputs = run_losses(remedy, step)
    shared = {}
    for name in names:
        features = module.features_of(outputs.encoded[name])
        projected = oracles.linear(parts.projections[name], np.asarray(features, np.float64))
        shared[name] = projected / np.linalg.norm(projected, axis=1, keepdims=True)
    expected = [cross_entropy(outputs.logits), 0.5 * loop(shared, np.asarray(step.labels), 0.2, by)]
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_features_of_one_class_are_no_negatives_of_each_other():
    """Where the features are the classes' own, only positives by class leave nothing to improve."""
    labels = jnp.asarray([0, 1, 0, 1])
    similarities = 50 * positives(labels, "class")
    assert alignment_loss(similarities, positives(labels, "class")) == pytest.approx(np.log(2), abs=1e-4)
    pull = jax.grad(alignment_loss)(similarities, positives(labels, "class"))
    apart = jax.grad(alignment_loss)(similarities, positives(labels, "example"))
    assert np.abs(pull).max() < 1e-6
    assert apart[0, 2] > 0.1  # the other example of the class is pushed away


def test_it_needs_an_encoder_of_each_modality():
    remedy = remedies.make(Choice("contrastive"))
    assert remedy.skip(StrategySpec("early-token"), make_task(*TWO)) is not None
    assert remedy.skip(StrategySpec("concat"), make_task(*TWO)) is None
