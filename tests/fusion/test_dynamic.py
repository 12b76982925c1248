"""Late fusion that weighs modalities example by example: weights, uncertainty and losses, against NumPy float64."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.special import digamma
from scipy.stats import dirichlet

from fusion_bench.fusion.base import Outputs
from fusion_bench.fusion.late import dynmm, tmc
from tests import oracles
from tests.tasks import BATCH, CLASSES, THREE, TWO, call, count_params, make_inputs, make_strategy, make_task

LABELS = np.arange(BATCH) % CLASSES
SMOOTHING = 0.1
TARGETS = (1 - SMOOTHING) * np.eye(CLASSES)[LABELS] + SMOOTHING / CLASSES


def forward(label: str, names=TWO) -> tuple[Any, Outputs, dict[str, np.ndarray]]:
    """Returns a strategy, its outputs on a batch, and the logits of each modality alone in float64."""
    module, inputs = make_strategy(label, names), make_inputs(make_task(*names))
    outputs = call(module, inputs)
    alone = {name: np.asarray(z, np.float64) for name, z in module.unimodal_logits(outputs).items()}
    return module, outputs, alone


def loss(module, outputs, epoch=0):
    return float(module.loss(outputs, jnp.asarray(LABELS), label_smoothing=SMOOTHING, epoch=epoch))


def cross_entropy(logits):
    return -(TARGETS * oracles.log_softmax(np.asarray(logits, np.float64))).sum(1).mean()


# --- qmf


def ranking(logits):
    """mean_i max(0, sign(l_i - l_j) (w_i - w_j) + |l_i - l_j|), j the next example, l between 0 and 1."""
    weights = np.log(np.exp(logits).sum(1)) / 10
    losses = -oracles.log_softmax(logits)[np.arange(BATCH), LABELS]
    losses = (losses - losses.min()) / (losses.max() - losses.min())
    terms = []
    for i in range(BATCH):
        j = (i + 1) % BATCH
        margin = abs(losses[i] - losses[j])
        terms.append(max(0.0, np.sign(losses[i] - losses[j]) * (weights[i] - weights[j]) + margin))
    return np.mean(terms)


@pytest.mark.parametrize("strength", [0.0, 2.0])
def test_the_loss_of_qmf_ranks_energies_by_losses(strength):
    module, outputs, alone = forward(f"qmf:ranking={strength}")
    expected = cross_entropy(outputs.logits) + sum(cross_entropy(z) + strength * ranking(z) for z in alone.values())
    assert loss(module, outputs) == pytest.approx(expected, rel=1e-5)


def test_the_ranking_of_qmf_lowers_the_energy_of_the_example_with_the_larger_loss():
    module = make_strategy("qmf")
    logits, labels = jnp.zeros((2, CLASSES)).at[0, 0].set(3.0), jnp.asarray([0, 1])
    gradient = jax.grad(lambda shift: module._ranking_loss(logits + shift[:, None], labels))(jnp.zeros(2))
    assert gradient[0] < 0 < gradient[1]  # the first is right, the second has the larger loss


def test_no_gradient_flows_through_the_weights_of_qmf():
    module = make_strategy("qmf")
    logits = {name: jax.random.normal(jax.random.key(i), (BATCH, CLASSES)) for i, name in enumerate(TWO)}
    weights = module._energies(logits)
    for name, z in jax.grad(lambda logits: module.fuse(logits)[:, 0].sum())(logits).items():
        np.testing.assert_allclose(z[:, 0], weights[name], rtol=1e-5)
        assert np.abs(z[:, 1:]).max() == 0


# --- tmc


def evidential(alpha, epoch, annealing=10):
    """E[-log p_y] under Dir(α), and the divergence of the wrong classes' part from the uniform distribution."""
    fit = (TARGETS * (digamma(alpha.sum(1, keepdims=True)) - digamma(alpha))).sum(1)
    onehot = np.eye(CLASSES)[LABELS]
    wrong = onehot + (1 - onehot) * alpha
    # KL(p ‖ uniform) = -(entropy of p) - log(uniform density)
    log_density = dirichlet.logpdf(np.full(CLASSES, 1 / CLASSES), np.ones(CLASSES))
    divergence = np.array([-dirichlet.entropy(row) - log_density for row in wrong])
    return (fit + min(1, epoch / annealing) * divergence).mean()


@pytest.mark.parametrize("names", [TWO, THREE], ids=len)
@pytest.mark.parametrize("epoch", [0, 5, 30])
def test_the_loss_of_tmc_is_evidential_for_each_modality_and_for_all(names, epoch):
    module, outputs, alone = forward("tmc", names)
    alphas = [np.log1p(np.exp(z)) + 1 for z in alone.values()]
    expected = sum(evidential(a, epoch) for a in (*alphas, np.exp(np.asarray(outputs.logits, np.float64))))
    assert loss(module, outputs, epoch) == pytest.approx(expected, rel=1e-4)


def test_the_softmax_of_tmc_is_the_mean_of_its_dirichlet_and_u_its_uncertainty():
    module, outputs, _ = forward("tmc")
    alpha = np.exp(np.asarray(outputs.logits, np.float64))
    expected = np.stack([dirichlet.mean(row) for row in alpha])
    np.testing.assert_allclose(jax.nn.softmax(outputs.logits), expected, rtol=1e-5)
    np.testing.assert_allclose(module.uncertainty(outputs), CLASSES / alpha.sum(1), rtol=1e-5)


def opinions(seed, count=3):
    return [tmc.opinion(3 * jax.random.normal(jax.random.key(seed + i), (BATCH, CLASSES))) for i in range(count)]


def test_opinions_combine_in_any_order_and_one_that_knows_nothing_changes_nothing():
    first, second, third = opinions(0)
    one = tmc.combine(tmc.combine(first, second), third)
    other = tmc.combine(third, tmc.combine(second, first))
    nothing = tmc.Opinion(jnp.zeros((BATCH, CLASSES)), jnp.ones(BATCH))
    for a, b in ((one, other), (tmc.combine(first, nothing), first)):
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), a, b)
    np.testing.assert_allclose(one.belief.sum(1) + one.uncertainty, 1, rtol=1e-5)
    assert (one.uncertainty < jnp.minimum(first.uncertainty, second.uncertainty)).all()


# --- pdf


def pdf_weights(module, encoded, alone, training):
    """The weights, modality by modality and example by example."""
    confidence = {}
    for name, net in module.confidences.items():
        hidden = np.maximum(oracles.linear(net.hidden, np.asarray(encoded[name], np.float64)), 0)
        confidence[name] = 1 / (1 + np.exp(-oracles.linear(net.score, hidden)[:, 0]))
    spread = {name: np.abs(oracles.softmax(z) - 1 / CLASSES).mean(1) for name, z in alone.items()}
    belief = {}
    for name in alone:
        others = [n for n in alone if n != name]
        shared = sum(np.log(confidence[n]) for n in others) / sum(np.log(confidence[n]) for n in alone)
        calibration = np.minimum(1, spread[name] / np.mean([spread[n] for n in others], axis=0))
        belief[name] = (confidence[name] + shared) * (1 if training else calibration)
    weights = oracles.softmax(np.stack([*belief.values()], axis=1))
    return dict(zip(alone, weights.T, strict=True)), confidence


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize("names", [TWO, THREE], ids=len)
def test_pdf_weighs_logits_by_its_predicted_confidences(names, training):
    module, outputs, alone = forward("pdf", names)
    if training:  # the features are those of evaluation
        module.train()
        outputs = Outputs(module.join(outputs.encoded), outputs.encoded)
    weights, confidence = pdf_weights(module, outputs.encoded, alone, training)
    np.testing.assert_allclose(outputs.logits, sum(weights[n][:, None] * z for n, z in alone.items()), atol=1e-5)
    for name, found in module.modality_weights(outputs).items():
        np.testing.assert_allclose(found, weights[name], rtol=1e-5)
    of_class = {name: oracles.softmax(z)[np.arange(BATCH), LABELS] for name, z in alone.items()}
    expected = cross_entropy(outputs.logits) + sum(
        cross_entropy(z) + np.abs(confidence[name] - of_class[name]).mean() for name, z in alone.items()
    )
    assert loss(module, outputs) == pytest.approx(expected, rel=1e-5)


def test_no_gradient_flows_through_the_weights_of_pdf_nor_from_confidences_into_features():
    module = make_strategy("pdf")
    outputs = call(module, make_inputs(make_task(*TWO)))

    def joint(encoded):
        return module.join(encoded).sum()

    def fixed(encoded):
        weights = module._weights(module._alone(outputs.encoded), outputs.encoded)
        return sum((weights[name][:, None] * z).sum() for name, z in module._alone(encoded).items())

    through, without = (jax.grad(function)(outputs.encoded) for function in (joint, fixed))
    for name, gradient in through.items():
        assert np.abs(gradient).max() > 0
        np.testing.assert_allclose(gradient, without[name], atol=1e-6)
    from_confidences = jax.grad(lambda encoded: sum(p.sum() for p in module._confidences(encoded).values()))
    for gradient in from_confidences(outputs.encoded).values():
        np.testing.assert_array_equal(gradient, np.zeros_like(gradient))


def test_pdf_costs_its_confidence_nets():
    module = make_strategy("pdf")
    widths = [member.encoder.features for member in module.members.values()]
    expected = count_params(make_strategy("late-mean")) + sum(2 * d**2 + 4 * d + 1 for d in widths)
    assert count_params(module) == expected


# --- dynmm


def gate_scores(module, outputs):
    glances = sum(np.asarray(seen.glance, np.float64) for seen in outputs.encoded.values())
    return oracles.linear(module.choose, np.maximum(glances, 0))


@pytest.mark.parametrize("names", [TWO, THREE], ids=len)
def test_dynmm_takes_the_branch_that_its_gate_chooses(names):
    module, outputs, alone = forward("dynmm", names)
    features = np.concatenate([np.asarray(outputs.encoded[n].features, np.float64) for n in names], axis=1)
    branches = [*(alone[name] for name in names), oracles.head(module.joint, features)]
    chosen = gate_scores(module, outputs).argmax(1)
    expected = np.stack([branches[branch][example] for example, branch in enumerate(chosen)])
    np.testing.assert_allclose(outputs.logits, expected, atol=1e-5)
    for i, name in enumerate(names):
        np.testing.assert_array_equal(module.modality_weights(outputs)[name], (chosen == i) | (chosen == len(names)))
    probabilities = oracles.softmax(gate_scores(module, outputs))
    spent = (probabilities @ np.array([*module.needed, 1.0])).mean()
    total = sum(map(cross_entropy, (outputs.logits, *branches))) + 0.1 * spent
    assert loss(module, outputs) == pytest.approx(total, rel=1e-5)


def test_dynmm_computes_one_example_without_what_its_branch_skips():
    module, inputs = make_strategy("dynmm", seed=1), make_inputs(make_task(*TWO), batch=16)
    outputs = call(module, inputs)
    weights = np.stack([*module.modality_weights(outputs).values()])
    assert 0 < weights.mean() < 1, "all examples take one branch"
    for example in range(16):
        one = jax.tree.map(lambda array, i=example: array[i : i + 1], inputs)
        np.testing.assert_allclose(module.of_one(one), outputs.logits[example : example + 1], atol=1e-5)

    def products(function):
        """Counts the matrix products and convolutions outside of a branch."""
        names = [equation.primitive.name for equation in flat(jax.make_jaxpr(function)(one).jaxpr)]
        return sum(name in ("dot_general", "conv_general_dilated") for name in names)

    def gate(one):
        return module.choose(jax.nn.relu(sum(module.glances[name](one[name]) for name in module.heads)))

    assert products(lambda one: module.of_one(one)) == products(gate) > 0


def flat(jaxpr):
    """Yields the equations of a program and of the functions that it calls, but not those of its branches."""
    for equation in jaxpr.eqns:
        yield equation
        if equation.primitive.name != "cond":
            for value in equation.params.values():
                if inner := getattr(value, "jaxpr", None):
                    yield from flat(inner)


def test_dynmm_counts_the_flops_of_its_encoders():
    module = make_strategy("dynmm")
    assert sum(module.needed) == pytest.approx(1)
    linear = nnx.Linear(6, 5, use_bias=False, rngs=nnx.Rngs(0))

    class Encoder(nnx.Module):
        def __init__(self):
            self.linear = linear

        def __call__(self, batch):
            return self.linear(batch.values)

    spec = dataclasses.replace(make_task("sensor").modalities["sensor"], shape=(6,))
    assert dynmm.encoder_flops(Encoder(), spec) == 2 * 6 * 5


def test_the_gate_of_dynmm_draws_in_training_and_learns_through_the_draw():
    module, inputs = make_strategy("dynmm"), make_inputs(make_task(*TWO))
    logits = [np.asarray(module(inputs, rngs=nnx.Rngs(seed)).logits) for seed in range(8)]
    assert any((other != logits[0]).any() for other in logits[1:])
    module.cost = 0.0

    def objective(module):
        return module.loss(module(inputs, rngs=nnx.Rngs(0)), jnp.asarray(LABELS), label_smoothing=SMOOTHING)

    gradient = nnx.grad(objective)(module)
    assert np.abs(gradient["choose"]["kernel"][...]).max() > 0


# --- all


@pytest.mark.parametrize("label", ["concat", "late-mean", "tensor"])
def test_a_static_strategy_has_no_weights_and_the_uncertainty_of_its_probabilities(label):
    module, outputs, _ = forward(label)
    assert module.modality_weights(outputs) == {}
    expected = 1 - oracles.softmax(np.asarray(outputs.logits, np.float64)).max(1)
    np.testing.assert_allclose(module.uncertainty(outputs), expected, atol=1e-6)
