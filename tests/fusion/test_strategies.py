"""What every registered strategy must do, on two and on three modalities; a new one is tested by being there.

The checks of one case share its two compilations: prediction, and the gradient of the training loss.
"""

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fusion_bench.data.batches import ModalityBatch
from fusion_bench.fusion.base import PosthocFusion, Strategy
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.fusion.registry import StrategySpec, strategies
from tests.tasks import BATCH, CLASSES, CONFIG, build, call, jit, make_inputs, make_task

TWO, THREE = ("image", "text"), ("image", "text", "motion")
LABELS = jnp.arange(BATCH) % CLASSES
SEEDS = {"late-cosine": 1}
"""Of random variables; at 0 one hidden unit is active, and a cosine does not see its length."""


def is_ineffective(name, path):
    """Returns whether a parameter changes nothing: what it adds is taken away again.

    The bias of a key adds the same to all scores of a query, before a softmax; the last bias of a transformer adds the
    same to all examples, before a batch normalisation.
    """
    return path[-3:] == ("attention", "key", "bias") or (
        name in ("cross-attention", "bottleneck") and path[-2:] == ("contract", "bias")
    )


CASES = [
    pytest.param((names, name), id=f"{name}-of-{len(names)}")
    for names in (TWO, THREE)
    for name, registration in strategies(names).items()
    if registration.skip(make_task(*names)) is None and (names is TWO or registration.modality in (None, "motion"))
]
"""Every strategy on two modalities; on three, those that are not the same module again."""


def make(names, name, config=CONFIG):
    spec = StrategySpec(name)
    return lambda: spec.build(Blueprint(make_task(*names), config, jax.random.key(0)))


@dataclasses.dataclass
class Case:
    """A strategy with random variables; its compiled functions, and how often they were traced."""

    name: str
    module: Strategy
    inputs: Mapping[str, ModalityBatch]
    reads: tuple[str, ...]
    predict: Callable[..., jax.Array]
    gradient: Callable[..., Any]
    traces: dict[str, int]

    @functools.cached_property
    def variables(self):
        _, params, rest = nnx.split(self.module, nnx.Param, ...)
        return params, rest

    @functools.cached_property
    def logits(self):
        return np.asarray(self.predict(*self.variables, self.inputs))


@pytest.fixture(scope="module", params=CASES)
def case(request):
    names, name = request.param
    module = build(make(names, name), seed=SEEDS.get(name, 0))
    eval_graph, _ = nnx.split(module)
    train_graph, _ = nnx.split(build(make(names, name), training=True))
    traces = {"predict": 0, "gradient": 0}

    def predict(params, rest, inputs):
        traces["predict"] += 1
        return nnx.merge(eval_graph, params, rest, copy=True)(inputs).logits

    def loss(params, rest, inputs):
        traces["gradient"] += 1
        module = nnx.merge(train_graph, params, rest, copy=True)
        return module.loss(module(inputs, rngs=nnx.Rngs(1)), LABELS, label_smoothing=0.1)

    modality = strategies(names)[name].modality
    return Case(
        name=name,
        module=module,
        inputs=make_inputs(make_task(*names)),
        reads=names if modality is None else (modality,),
        predict=jit(predict),
        gradient=jit(jax.grad(loss)),
        traces=traces,
    )


def test_scores_are_finite_float32_one_row_an_example(case):
    assert case.logits.shape == (BATCH, CLASSES)
    assert case.logits.dtype == np.float32
    assert np.isfinite(case.logits).all()


def test_jit_equals_eager(case):
    np.testing.assert_allclose(case.module(case.inputs).logits, case.logits, atol=1e-5)


def test_modalities_that_are_encoded_separately_are_joined_to_the_same_logits(case):
    module = case.module
    assert module.is_separable == bool(module(case.inputs).encoded)
    if module.is_separable:
        encoded = {name: module.encode(name, case.inputs[name]) for name in case.reads}
        assert all(len(leaf) == BATCH for leaf in jax.tree.leaves(encoded))
        np.testing.assert_allclose(module.join(encoded), case.logits, atol=1e-5)


def test_order_of_the_modalities_changes_nothing(case):
    backwards = dict(reversed(case.inputs.items()))
    module = case.module
    if len(case.reads) == 2:  # as it is built, before a split and merge sorts what it holds by name
        module = make(tuple(backwards), case.name)()
        module.eval()
        nnx.update(module, nnx.state(case.module))
    np.testing.assert_allclose(module(backwards).logits, case.logits, atol=1e-5)


def test_every_parameter_has_a_finite_gradient(case):
    gradients = nnx.to_flat_state(case.gradient(*case.variables, case.inputs))
    assert len(gradients) > 0
    for path, gradient in gradients:
        values = np.asarray(gradient[...])
        assert np.isfinite(values).all(), path
        assert (np.abs(values).max() > 1e-7) or is_ineffective(case.name, path), path


def test_every_parameter_learns_from_the_first_step(case):
    """As it is initialised, not at random values: a product of two zeros would never start."""
    names = tuple(case.inputs)
    _, params, rest = nnx.split(make(names, case.name)(), nnx.Param, ...)
    for path, gradient in nnx.to_flat_state(case.gradient(params, rest, case.inputs)):
        behind_a_zero = case.name == "film" and path[:2] in {("encoders", name) for name in names if name != "image"}
        still = np.abs(np.asarray(gradient[...])).max() == 0
        assert still == behind_a_zero or is_ineffective(case.name, path), path


def test_rows_are_independent_in_evaluation(case):
    other = make_inputs_like(case, seed=7)
    mixed = jax.tree.map(lambda old, new: old.at[-1].set(new[-1]), case.inputs, other)
    logits = np.asarray(case.predict(*case.variables, mixed))
    np.testing.assert_allclose(logits[:-1], case.logits[:-1], atol=1e-6)
    assert np.abs(logits[-1] - case.logits[-1]).max() > 1e-4


def test_reads_every_modality_and_an_only_strategy_just_one(case):
    for name in case.inputs:
        change = 0.0
        for seed in (7, 8, 9):  # the maximum of scores may leave a modality out for a batch
            other = make_inputs_like(case, seed)[name]
            logits = case.predict(*case.variables, {**case.inputs, name: other})
            change = max(change, np.abs(np.asarray(logits) - case.logits).max())
        assert change > 1e-4 if name in case.reads else change == 0, name


def test_masked_padding_changes_nothing(case):
    masked = {name: batch for name, batch in case.inputs.items() if batch.mask is not None}
    garbage = {}
    for name, (values, mask) in masked.items():
        other = 1 + (values + 3) % 5
        garbage[name] = ModalityBatch(jnp.where(mask if name == "text" else mask[:, :, None], values, other), mask)
    np.testing.assert_allclose(case.predict(*case.variables, {**case.inputs, **garbage}), case.logits, atol=1e-6)

    if not set(masked) & set(case.reads):
        return
    trimmed = jax.tree.map(lambda array: array[:, :3], masked)
    short = {name: batch._replace(mask=batch.mask & (jnp.arange(5) < 3)) for name, batch in masked.items()}
    expected = case.predict(*case.variables, {**case.inputs, **short})
    logits = call(case.module, {**case.inputs, **trimmed}).logits
    np.testing.assert_allclose(logits, expected, atol=1e-5)


def test_second_call_does_not_recompile(case):
    params, rest = case.variables
    gradients = case.gradient(params, rest, case.inputs)
    params = jax.tree.map(lambda p, g: p - 0.1 * g, params, gradients)
    module = nnx.merge(nnx.graphdef(case.module), params, rest, copy=True)
    if isinstance(module, PosthocFusion):
        scores = {name: np.asarray(member(case.inputs).logits) for name, member in module.members.items()}
        module.fit(scores, np.asarray(LABELS), np.full(CLASSES, 1 / CLASSES))
    _, params, rest = nnx.split(module, nnx.Param, ...)
    logits = case.predict(params, rest, make_inputs_like(case, seed=9))
    case.gradient(params, rest, case.inputs)
    assert np.isfinite(logits).all()
    assert case.traces["predict"] == case.traces["gradient"] == 1


def test_lowers_for_every_platform(case):
    for function in (case.predict, case.gradient):
        exported = jax.export.export(function, platforms=("cpu", "cuda", "tpu"))(*case.variables, case.inputs)
        assert exported.platforms == ("cpu", "cuda", "tpu")


def make_inputs_like(case, seed):
    return make_inputs(make_task(*case.inputs), seed=seed)


@pytest.mark.parametrize("which", CASES)
def test_bfloat16_computes_in_it_and_keeps_float32(which):
    """Abstract: nothing is compiled."""
    names, name = which
    build = make(names, name, dataclasses.replace(CONFIG, dtype="bfloat16"))
    abstract = nnx.eval_shape(build)
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(abstract, nnx.Param))} == {jnp.dtype("float32")}
    inputs = make_inputs(make_task(*names))
    jaxpr, outputs = jax.make_jaxpr(lambda inputs: build()(inputs), return_shape=True)(inputs)
    assert outputs.logits.dtype == jnp.float32
    if name != "late-stacking":  # which weighs class scores, always float32
        dtypes = Counter(product_dtypes(jaxpr.jaxpr))
        router = 2 if name == "moe" else 0  # the factors of its product
        assert dtypes.pop(jnp.dtype("float32"), 0) == router
        assert set(dtypes) == {jnp.dtype("bfloat16")}


def product_dtypes(jaxpr):
    """Yields the dtypes of the factors of every matrix product and convolution."""
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("dot_general", "conv_general_dilated"):
            yield from (variable.aval.dtype for variable in equation.invars)
        for parameter in jax.tree.leaves(equation.params):
            inner = getattr(parameter, "jaxpr", parameter)  # a closed one has it within
            if hasattr(inner, "eqns"):
                yield from product_dtypes(inner)


@pytest.mark.parametrize(
    "name", [name for name, r in strategies(TWO).items() if r.modality is None and r.skip(make_task(*THREE)) is None]
)
def test_a_vector_and_a_second_grid_can_be_modalities(name):
    names = ("image", "audio", "sensor")
    inputs = make_inputs(make_task(*names), seed=1)
    alike = jax.tree.map(lambda array: jnp.broadcast_to(array[-1], array.shape), inputs)
    seed = 1 if name == "dynmm" else 0  # whose gate does not skip the sensor then
    logits = call(build(make(names, name), seed=seed), {**alike, "sensor": inputs["sensor"]}).logits
    assert logits.shape == (BATCH, CLASSES)
    assert np.abs(logits[1:] - logits[0]).max(1).min() > 1e-5
