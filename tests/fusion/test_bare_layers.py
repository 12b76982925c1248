"""Operators in somebody else's Flax model, with nothing else of this package."""

import inspect
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from fusion_bench import fusion
from fusion_bench.fusion.registry import strategies
from tests.tasks import build

WIDTHS = {"lidar": 5, "pose": 3}
BATCH, TOKENS, CLASSES = 4, 2, 3
ON_TOKENS = {registration.make for registration in strategies().values() if registration.reads == "tokens"}
INSIDE = {fusion.FiLM, fusion.MultimodalTransfer}
"""Layers that act inside encoders, and return no joint features."""
OPERATORS = [value for value in vars(fusion).values() if isinstance(value, type) and value not in INSIDE]
SMALL = {"width": 4, "out_features": 4, "heads": 2, "layers": 1}
"""Options of the operators that have them."""


class Model(nnx.Module):
    """Linear encoders, an operator and a linear head."""

    def __init__(self, make_operator, rngs):
        known = inspect.signature(make_operator.__init__).parameters
        options = {name: value for name, value in SMALL.items() if name in known}
        self.on_tokens = make_operator in ON_TOKENS
        self.encoders = nnx.Dict({name: nnx.Linear(2, width, rngs=rngs) for name, width in WIDTHS.items()})
        self.operator = make_operator(WIDTHS, **options, rngs=rngs)
        self.head = nnx.Linear(self.operator.out_features, CLASSES, rngs=rngs)

    def __call__(self, inputs, masks):
        encoded = {name: encoder(inputs[name]) for name, encoder in self.encoders.items()}
        if self.on_tokens:
            return self.head(self.operator(encoded, masks))
        return self.head(self.operator({name: x[:, 0] for name, x in encoded.items()}))


@nnx.jit
def train_step(model, optimizer, inputs, masks, labels):
    def loss_fn(model):
        logits = model(inputs, masks)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    loss, gradients = nnx.value_and_grad(loss_fn)(model)
    optimizer.update(model, gradients)
    return loss


@nnx.jit
def predict(model, inputs, masks):
    return model(inputs, masks)


@pytest.mark.parametrize("make_operator", OPERATORS, ids=lambda layer: layer.__name__)
def test_an_operator_trains_and_its_state_is_stored_and_loaded(make_operator):
    rng = np.random.default_rng(0)
    inputs = {name: jnp.float32(rng.normal(size=(BATCH, TOKENS, 2))) for name in reversed(WIDTHS)}
    masks = {name: jnp.ones((BATCH, TOKENS), bool) for name in WIDTHS}
    model = build(lambda: Model(make_operator, nnx.Rngs(0)), training=True)
    optimizer = nnx.Optimizer(model, optax.sgd(0.01), wrt=nnx.Param)
    labels = jnp.arange(BATCH) % CLASSES
    first, second = (float(train_step(model, optimizer, inputs, masks, labels)) for _ in range(2))
    assert second < first
    stored = jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(model)))

    graph, state = nnx.split(nnx.eval_shape(lambda: Model(make_operator, nnx.Rngs(1))))
    nnx.replace_by_pure_dict(state, stored)
    loaded = nnx.merge(graph, state)
    np.testing.assert_array_equal(predict(loaded, inputs, masks), predict(model, inputs, masks))


@pytest.mark.parametrize("make_operator", OPERATORS, ids=lambda layer: layer.__name__)
def test_an_operator_computes_in_the_type_that_is_asked_for(make_operator):
    def build(dtype):
        return make_operator(WIDTHS, dtype=dtype, rngs=nnx.Rngs(0))

    def call(dtype):
        inputs = {name: jnp.ones((BATCH, TOKENS, width)) for name, width in WIDTHS.items()}
        if make_operator in ON_TOKENS:
            return build(dtype)(inputs, {name: jnp.ones((BATCH, TOKENS), bool) for name in WIDTHS})
        return build(dtype)({name: x[:, 0] for name, x in inputs.items()})

    assert jax.eval_shape(lambda: call(None)).dtype == jnp.float32
    expected = jnp.float32 if make_operator is fusion.CompactBilinear else jnp.bfloat16  # of a Fourier transform
    assert jax.eval_shape(lambda: call(jnp.bfloat16)).dtype == expected


def test_modulation_starts_as_none_and_has_the_widths_of_the_blocks():
    modulate = fusion.FiLM(WIDTHS, [2, 3], rngs=nnx.Rngs(0))
    modulations = modulate({name: jnp.ones((BATCH, width)) for name, width in WIDTHS.items()})
    assert [m.scale.shape for m in modulations] == [m.shift.shape for m in modulations] == [(BATCH, 2), (BATCH, 3)]
    assert all((m.scale == 1).all() and (m.shift == 0).all() for m in modulations)


def test_every_registered_operator_is_exported():
    registered = {r.make for r in strategies().values() if r.reads is not None}
    assert registered == set(OPERATORS)


def test_importing_the_operators_imports_no_data_library():
    heavy = ("pandas", "tensorflow_datasets", "sklearn", "scipy.stats", "matplotlib", "pyarrow", "orbax")
    code = f"import sys, fusion_bench.fusion; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
