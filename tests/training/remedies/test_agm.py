"""AGM against the authors' formulas for two and three modalities, and against the faults of public implementations."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fusion_bench.config import Choice, TrainingConfig
from fusion_bench.data.batches import leave_out
from fusion_bench.training.optimizer import make_optimizer
from fusion_bench.training.remedies import agm
from fusion_bench.training.remedies.agm import modulation_coefficients
from fusion_bench.training.remedies.base import remedies
from tests.oracles import softmax
from tests.tasks import BATCH, THREE, TWO, jit, make_inputs, make_task
from tests.training.remedies.steps import LABELS, SMOOTHING, Scaled, make_modules, make_step, vectors

ALPHA, STRONG = 0.7, 4.0


def responses_of_two(f, a, v):
    """The authors' definitions: `f` is given the modalities that are present."""
    return {a: 0.5 * (f(a, v) - f(v) + f(a)), v: 0.5 * (f(a, v) - f(a) + f(v))}


def responses_of_three(f, a, v, t):
    return {
        x: (f(x, y, z) - f(y, z) + f(x)) / 3 + (f(x, y) - f(y) + f(x, z) - f(z)) / 6
        for x, y, z in ((a, v, t), (v, a, t), (t, a, v))
    }


RESPONSES = {TWO: responses_of_two, THREE: responses_of_three}


def expected_coefficients(scores, means, alpha):
    """Modality by modality: the mean over the others of the difference of scores, now and usually."""
    found = {}
    for name in scores:
        others = [other for other in scores if other != name]
        ratio, usual = (np.exp(np.mean([of[other] - of[name] for other in others])) for of in (scores, means))
        found[name] = np.exp(alpha * min(usual - ratio, 10))
    return found


@pytest.mark.parametrize("names", [TWO, THREE], ids=len)
def test_coefficients_are_those_of_the_authors(names):
    rng = np.random.default_rng(len(names))
    scores, means = ({name: rng.uniform(0, 3) for name in names} for _ in "ab")
    now, usual = ({name: jnp.float32(value) for name, value in of.items()} for of in (scores, means))
    got = modulation_coefficients(now, usual, ALPHA)
    for name, factor in expected_coefficients(scores, means, ALPHA).items():
        np.testing.assert_allclose(got[name], factor, rtol=1e-4)


@pytest.mark.parametrize("names", [TWO, THREE], ids=len)
def test_the_modality_that_answers_best_is_slowed(names):
    """A public implementation has the sign reversed. In the first step nothing is usual yet: τ = 1."""
    scores = {name: jnp.float32(1.0 + number) for number, name in enumerate(names)}  # losses: the first is best
    got = modulation_coefficients(scores, {name: jnp.float32(0) for name in names}, ALPHA)
    assert got[names[0]] < 1 < got[names[-1]]
    same = modulation_coefficients(scores, scores, ALPHA)  # a lead that is usual is let alone
    np.testing.assert_allclose([*same.values()], 1.0)


def test_a_coefficient_has_a_limit():
    got = modulation_coefficients(
        {"image": jnp.float32(9), "text": jnp.float32(0)}, {"image": jnp.float32(0), "text": jnp.float32(9)}, ALPHA
    )
    assert float(got["image"]) == pytest.approx(np.exp(10 * ALPHA), rel=1e-5)
    assert float(got["text"]) == 0  # and no NaN


class Twin:
    """A strategy as a function of its parameters: in training with all modalities, else in evaluation.

    Evaluation comes second in a step, with the running statistics that training has updated.
    """

    def __init__(self, module, inputs):
        self.inputs, self.everyone = inputs, jnp.ones(BATCH, bool)
        module.eval()
        self.evaluated = nnx.graphdef(module)
        module.train()
        self.trained, self.params, self.rest = nnx.split(module, nnx.Param, ...)
        own = nnx.merge(self.trained, self.params, self.rest, copy=True)
        call_in_training(own, inputs)
        self.updated = nnx.state(own, nnx.Not(nnx.Param))

    def __call__(self, params, *present):
        inputs = {n: b if n in present else leave_out(b, self.everyone) for n, b in self.inputs.items()}
        if len(present) == len(inputs):
            return nnx.merge(self.trained, params, self.rest, copy=True)(inputs).logits
        return nnx.merge(self.evaluated, params, self.updated, copy=True)(inputs).logits


def call_in_training(module, inputs):
    """Calls a module, compiled, and keeps the statistics that it updates."""
    graph, state = nnx.split(module)

    @jit
    def run(state):
        own = nnx.merge(graph, state, copy=True)
        own(inputs)
        return nnx.state(own)

    nnx.update(module, run(state))


def gradients_of(remedy, step):
    """Returns loss and gradient of the strategy's parameters, what is returned beside, and the new running means."""
    graph, params, rest = nnx.split(step.module, nnx.Param, ...)

    def loss(params):
        parts = nnx.clone(step.parts)
        (found,), told = remedy.losses(step._replace(module=nnx.merge(graph, params, rest, copy=True), parts=parts))
        return found, (told, {name: mean[...] for name, mean in getattr(parts, "means", {}).items()})

    (value, (told, means)), gradients = jax.value_and_grad(loss, has_aux=True)(params)
    return value, gradients, told, means


def flat(tree):
    return {path: np.asarray(leaf[...]) for path, leaf in nnx.to_flat_state(tree)}


REMEDIES = {
    "none": Choice("none"),
    "weak": Choice("agm", {"alpha": 0.0}),
    "update": Choice("agm", {"alpha": STRONG}),
    "gradient": Choice("agm", {"alpha": STRONG, "stage": "gradient"}),
}


@pytest.fixture(scope="module", params=[("concat", TWO), ("early-token", TWO), ("squashed", THREE)], ids=str)
def steps(request) -> Any:
    """A step by each remedy, and modality by modality from the authors' formulas."""
    label, names = request.param
    if label == "squashed":
        module, inputs = Scaled(names, squashes=True), vectors(names)
    else:
        (module, _), inputs = make_modules(label, remedies.make(Choice("none")), names), make_inputs(make_task(*names))
    twin = Twin(module, inputs)

    @jit
    def run(params):
        def responses(params):
            return RESPONSES[names](lambda *present: twin(params, *present), *names)

        logits = twin(params, *names)
        targets = (1 - SMOOTHING) * np.eye(logits.shape[1])[LABELS] + SMOOTHING / logits.shape[1]
        slope = (jax.nn.softmax(logits) - targets) / BATCH  # of the loss, by logit
        phi, pull = jax.vjp(responses, params)
        zero = {name: jnp.zeros_like(slope) for name in names}
        flows = {name: pull({**zero, name: slope})[0] for name in names}
        done = {}
        for name, choice in REMEDIES.items():
            own = nnx.merge(twin.trained, params, twin.rest, copy=True)
            done[name] = gradients_of(remedies.make(choice), make_step(own, agm.Scores(names), inputs))
        return logits, phi, flows, done

    logits, phi, flows, done = run(twin.params)
    done = {name: (float(value), flat(gradient), *rest) for name, (value, gradient, *rest) in done.items()}
    flows = {name: flat(flow) for name, flow in flows.items()}
    return {"module": module, "logits": logits, "phi": phi, "flows": flows, "names": names, **done}


def test_responses_add_up_to_the_logits(steps):
    np.testing.assert_allclose(sum(steps["phi"].values()), steps["logits"], atol=1e-4)


def test_scores_coefficients_and_running_means(steps):
    scores = {}
    for name, phi in steps["phi"].items():
        probabilities = softmax(np.asarray(phi, np.float64))[np.arange(BATCH), LABELS]
        scores[name] = -np.log(np.maximum(probabilities, 1e-8)).mean()
    expected = expected_coefficients(scores, dict.fromkeys(scores, 0.0), STRONG)
    for stage in ("update", "gradient"):
        value, _, told, means = steps[stage]
        assert value == pytest.approx(steps["none"][0], rel=1e-5)  # the loss itself is the strategy's
        for name, factor in expected.items():
            np.testing.assert_allclose(told["coefficients"][name], factor, rtol=1e-3)
            np.testing.assert_allclose(means[name], scores[name], rtol=1e-4)


def test_the_gradient_through_each_response_has_its_coefficient(steps):
    """Of what a modality owns, in the stage `update`, the gradient is that without a remedy."""
    factors = {name: float(factor) for name, factor in steps["gradient"][2]["coefficients"].items()}
    assert max(factors.values()) > 1.2 * min(factors.values())
    plain = steps["none"][1]
    for stage in ("update", "gradient"):
        for path, got in steps[stage][1].items():
            expected = sum(factors[name] * flow[path] for name, flow in steps["flows"].items())
            if stage == "update" and steps["module"].modality_of(path) is not None:
                expected = plain[path]
            scale = np.abs(expected).max() + 1e-4
            np.testing.assert_allclose(got / scale, expected / scale, atol=1e-3, err_msg=f"{stage} {path}")


def test_without_strength_it_is_no_remedy(steps):
    assert steps["weak"][0] == pytest.approx(steps["none"][0], rel=1e-6)
    for path, got in steps["weak"][1].items():
        np.testing.assert_allclose(got, steps["none"][1][path], atol=1e-6)


def test_batch_statistics_are_those_without_a_remedy():
    inputs, after = make_inputs(make_task(*TWO)), []
    for name in ("none", "agm"):
        module, _ = make_modules("concat", remedies.make(Choice("none")))
        graph, state = nnx.split(module)

        @jit
        def statistics(state, graph=graph, name=name):
            own = nnx.merge(graph, state, copy=True)
            remedies.make(Choice(name)).losses(make_step(own, agm.Scores(TWO), inputs))
            return nnx.state(own, nnx.BatchStat)

        after.append(flat(statistics(state)))
    assert after[0]
    for path, statistic in after[0].items():
        np.testing.assert_allclose(after[1][path], statistic, rtol=1e-6)


def test_running_means_are_over_all_steps():
    parts = agm.Scores(TWO)
    scores = np.random.default_rng(0).uniform(0, 3, (5, 2))
    for count, row in enumerate(scores, 1):
        parts.update(dict(zip(TWO, jnp.asarray(row, jnp.float32), strict=True)))
        means = [float(parts.means[name][...]) for name in TWO]
        np.testing.assert_allclose(means, scores[:count].mean(0), rtol=1e-5)


ADAMW, NESTEROV = TrainingConfig(weight_decay=0.0), TrainingConfig(optimizer="nesterov", weight_decay=0.0)


@pytest.mark.parametrize(
    ("training", "stage", "factor"),
    [
        (ADAMW, "update", 0.5),
        (ADAMW, "gradient", 1.0),  # Adam divides by the gradient's scale: no remedy for what one modality owns
        (NESTEROV, "update", 0.5),
        (NESTEROV, "gradient", 0.5),
    ],
    ids=["adamw-update", "adamw-gradient", "nesterov-update", "nesterov-gradient"],
)
def test_a_constant_coefficient(training, stage, factor, monkeypatch):
    """Of sums of the modalities, φ_u depends on the encoder of u alone; the joint gain depends on all φ_u."""
    constant = {"image": jnp.float32(0.5), "text": jnp.float32(1.0)}
    monkeypatch.setattr(agm, "modulation_coefficients", lambda scores, means, alpha: constant)

    def updates(remedy):
        module = Scaled(TWO)
        params = nnx.state(module, nnx.Param)
        optimizer = remedy.wrap(make_optimizer(training, 100), module.modality_of)
        state, found = optimizer.init(params), params
        for seed in range(3):
            step = make_step(module, agm.Scores(TWO), vectors(TWO, seed=seed))
            _, gradients, told, _ = gradients_of(remedy, step)
            found, state = optimizer.update(gradients, state, params, **told)
        return flat(found)

    plain, modulated = updates(remedies.make(Choice("none"))), updates(remedies.make(Choice("agm", {"stage": stage})))
    image, text, gain = ("encoders", "image", "kernel"), ("encoders", "text", "kernel"), ("gain",)
    np.testing.assert_allclose(modulated[image], factor * plain[image], rtol=1e-4)
    np.testing.assert_allclose(modulated[text], plain[text], rtol=1e-4)
    ratios = modulated[gain] / plain[gain]
    assert np.ptp(ratios) > 0.02  # another direction, with every optimizer


class Counted(Scaled):
    """Notes the modalities that are not zero in each call."""

    def __init__(self, names, calls):
        super().__init__(names)
        self.note = calls.append

    def __call__(self, inputs, *, rngs=None):
        self.note(frozenset(name for name, batch in inputs.items() if np.asarray(batch.values).any()))
        return super().__call__(inputs, rngs=rngs)


@pytest.mark.parametrize("names", [TWO, THREE], ids=len)
def test_a_step_has_a_forward_pass_for_every_set_of_modalities(names):
    calls = []
    remedy = remedies.make(Choice("agm", {"stage": "gradient"}))
    remedy.losses(make_step(Counted(names, calls), agm.Scores(names), vectors(names)))
    every = {frozenset(s) for size in range(1, len(names) + 1) for s in itertools.combinations(names, size)}
    assert set(calls) == every
    assert len(calls) == 2 ** len(names) - 1
