"""One strategy as pure, uncompiled functions over trees: initialise, train for some steps, predict.

The dataset, the seed and the number of steps are arguments, so one compilation serves all seeds, epochs and lengths of
chunks.
"""

import functools
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import lax
from jaxtyping import Array, Float, Int, Key

from fusion_bench.config import ModelConfig, TrainingConfig
from fusion_bench.data.batches import DeviceData, Inputs, alternating_flip, augment, draw_texts, gather
from fusion_bench.data.dataset import Task
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.fusion.registry import StrategySpec
from fusion_bench.training import mesh
from fusion_bench.training.optimizer import make_optimizer
from fusion_bench.training.remedies.base import Remedy, remedies


class Variables(NamedTuple):
    """A model's arrays: trained parameters, and the rest (running statistics and the like)."""

    params: Any
    rest: Any


class TrainState(NamedTuple):
    """Everything that training changes."""

    variables: Variables
    optimizer: Any
    step: Int[Array, ""]


def run_key(seed: int | Int[Array, ""], purpose: str) -> Key[Array, ""]:
    """Returns the key of a seed for one purpose: "init", "augment", "flip", "text", "dropout" or "remedy"."""
    return jax.random.fold_in(jax.random.key(seed), zlib.crc32(purpose.encode()))


def epoch_order(indices: Int[np.ndarray, " example"], seed: int, epoch: int) -> Int[np.ndarray, " example"]:
    """Returns the training indices in the order in which an epoch, counted from 1, sees them."""
    return np.random.default_rng((seed, epoch)).permutation(indices)


def split_module(module: nnx.Module, *, training: bool = False) -> tuple[Any, Variables]:
    """Puts a module into evaluation or training mode, and returns its graph and its variables."""
    module.train() if training else module.eval()
    graph, params, rest = nnx.split(module, nnx.Param, ...)
    return graph, Variables(params, rest)


class Functions(NamedTuple):
    """Uncompiled `init` and `train` of one strategy, as in `compile.Program`, and its graph in evaluation mode."""

    init: Callable[..., TrainState]
    train: Callable[..., tuple[TrainState, Array]]
    graph: Any
    steps_per_epoch: int
    batch_size: int


def make_functions(
    spec: StrategySpec, task: Task, model: ModelConfig, training: TrainingConfig, num_train: int
) -> Functions:
    """Returns the functions that `compile.compile_program` compiles; its arguments are the same."""
    steps_per_epoch = max(1, num_train // training.batch_size)
    batch_size = min(training.batch_size, num_train)
    mesh.check_divisible(batch_size)
    remedy = remedies.make(training.remedy)

    def build(key: Key[Array, ""]):
        return spec.build(Blueprint(task, model, key))

    abstract = nnx.eval_shape(build, jax.random.key(0))
    train_graph, _ = split_module(abstract, training=True)
    eval_graph, _ = split_module(abstract)
    optimizer = make_optimizer(training, steps_per_epoch * training.epochs)
    optimizer = remedy.wrap(optimizer, abstract.modality_of)

    def init(seed: Int[Array, ""]) -> TrainState:
        _, variables = split_module(build(run_key(seed, "init")), training=True)
        return TrainState(variables, optimizer.init(variables.params), jnp.zeros((), jnp.int32))

    def update(state: TrainState, data: DeviceData, batch: Array, seed: Array) -> tuple[TrainState, Array]:
        """One step: gather, augment, differentiate, update."""
        (params, rest), optimizer_state, step = state
        key_augment, key_dropout, key_remedy = (
            jax.random.fold_in(run_key(seed, purpose), step) for purpose in ("augment", "dropout", "remedy")
        )
        inputs, labels = gather(data, mesh.divide(batch))
        epoch = step // steps_per_epoch
        if data.has_several_texts:
            inputs = draw_texts(inputs, data, mesh.divide(batch), jax.random.fold_in(run_key(seed, "text"), epoch))
        if task.augmented:
            alternates = {"alternating": True, "random": False}[training.flip]
            flip = alternating_flip(batch, run_key(seed, "flip"), epoch) if alternates else None
            inputs = augment(inputs, task.augmented, key_augment, flip)
        objective = functools.partial(_objective, train_graph, remedy, training.label_smoothing)
        grad_fn = jax.value_and_grad(objective, has_aux=True)
        (loss, (rest, alone)), gradients = grad_fn(params, rest, inputs, labels, key_dropout)
        extra = {"unimodal_logits": alone, "labels": labels, "epoch": epoch, "key": key_remedy}
        updates, optimizer_state = optimizer.update(gradients, optimizer_state, params, **extra)
        params = optax.apply_updates(params, updates)
        return TrainState(Variables(params, rest), optimizer_state, step + 1), loss

    def train(state: TrainState, data: DeviceData, order: Array, seed: Array, steps: Array):
        def body(_, carry):
            state, total = carry
            first = state.step % steps_per_epoch * batch_size
            batch = lax.dynamic_slice_in_dim(order, first, batch_size)
            state, loss = update(state, data, batch, seed)
            return state, total + loss

        # A loop of traced length, which XLA treats as it does a scan: one program for every length of chunk.
        state, total = lax.fori_loop(0, steps, body, (state, jnp.zeros(())))
        return state, total / steps

    return Functions(init, train, eval_graph, steps_per_epoch, batch_size)


def _objective(graph: Any, remedy: Remedy, label_smoothing: float, params, rest, inputs: Inputs, labels, key_dropout):
    """Returns the objective, the untrained variables, and the logits of each modality alone."""
    module: Any = nnx.merge(graph, params, rest, copy=True)
    outputs = module(inputs, rngs=nnx.Rngs(key_dropout))
    loss = module.loss(outputs, labels, label_smoothing=label_smoothing)
    # From a clone, so that no statistic of an operator is updated twice.
    alone = nnx.clone(module).unimodal_logits(outputs) if remedy.needs_unimodal_logits else {}
    return remedy.loss(loss, outputs, labels), (nnx.state(module, nnx.Not(nnx.Param)), alone)


def predict(
    graph: Any, variables: Variables, data: DeviceData, indices: Int[Array, " batch"]
) -> Float[Array, "batch class"]:
    """Returns the logits of the examples at `indices`, by a module in evaluation mode."""
    inputs, _ = gather(data, mesh.divide(indices))
    return nnx.merge(graph, *variables)(inputs).logits
