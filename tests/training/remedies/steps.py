"""A step of training as a remedy sees it, outside of a compiled training, and a strategy small enough to do by hand."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from fusion_bench.data.batches import ModalityBatch
from fusion_bench.fusion.base import Outputs, Separable
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.training.remedies.base import Step
from tests.oracles import log_softmax
from tests.tasks import BATCH, CLASSES, CONFIG, TWO, build, jit, make_inputs, make_strategy, make_task

SMOOTHING = 0.1
LABELS = np.arange(BATCH) % CLASSES


class Scaled(Separable):
    """logits = gain · Σ_u x_u W_u over vectors x_u, or gain · tanh(Σ_u x_u W_u), with W_u the encoder of u."""

    def __init__(self, names, width=3, squashes=False):
        rngs, self.squashes = nnx.Rngs(0), squashes
        self.encoders = nnx.Dict({name: nnx.Linear(width, CLASSES, use_bias=False, rngs=rngs) for name in names})
        self.gain = nnx.Param(jnp.linspace(0.5, 1.5, CLASSES))

    def encoder_of(self, modality):
        return self.encoders[modality]

    def encode(self, modality, batch):
        return self.encoders[modality](batch.values)

    def join(self, encoded):
        total = jnp.stack([*encoded.values()]).sum(0)
        return self.gain[...] * (jnp.tanh(total) if self.squashes else total)


def vectors(names, width=3, seed=0):
    rng = np.random.default_rng(seed)
    return {name: ModalityBatch(jnp.asarray(rng.normal(size=(BATCH, width)), jnp.float32)) for name in names}


def make_step(module: Any, parts: Any = None, inputs: Any = None, *, key: int = 0) -> Step:
    """Returns a step on a batch of random inputs of the two usual modalities, or on `inputs`."""
    module.train()
    return Step(
        module,
        nnx.Module() if parts is None else parts,
        make_inputs(make_task(*TWO)) if inputs is None else inputs,
        jnp.asarray(LABELS, jnp.int32),
        SMOOTHING,
        nnx.Rngs(0),
        jax.random.key(key),
        jnp.int32(0),
    )


def make_modules(label: str, remedy: Any, names: tuple[str, ...] = TWO) -> tuple[Any, Any]:
    """Returns a strategy and the remedy's own module, both in training mode, with random variables."""
    strategy = make_strategy(label, names)
    strategy.train()
    blueprint = Blueprint(make_task(*names), CONFIG, jax.random.key(0))
    return strategy, build(lambda: remedy.make_parts(strategy, blueprint), training=True, seed=1)


def run_losses(remedy: Any, step: Step) -> tuple[list[np.ndarray], Outputs]:
    """Returns the remedy's losses, and the strategy's outputs in the same step; compiled."""
    graphs, states = zip(*map(nnx.split, (step.module, step.parts)), strict=True)

    @jit
    def run(states):
        module, parts, twin, _ = (nnx.merge(*pair, copy=True) for pair in 2 * [*zip(graphs, states, strict=True)])
        own = step._replace(module=module, parts=parts, rngs=nnx.Rngs(0))
        return remedy.losses(own)[0], twin(step.inputs, rngs=nnx.Rngs(0))

    losses, outputs = run(states)
    return [np.asarray(loss, np.float64) for loss in losses], outputs


def cross_entropy(logits, labels=LABELS, smoothing=SMOOTHING):
    """Mean cross-entropy with smoothed labels, example by example."""
    scores = log_softmax(np.asarray(logits, np.float64))
    classes = scores.shape[1]
    total = 0.0
    for row, label in zip(scores, labels, strict=True):
        for c in range(classes):
            total -= ((1 - smoothing) * (c == label) + smoothing / classes) * row[c]
    return total / len(labels)
