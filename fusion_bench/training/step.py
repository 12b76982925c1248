"""One strategy as pure, uncompiled functions over trees: initialise, train for some steps, predict.

The dataset, the seed and the number of steps are arguments, so one compilation serves all seeds, epochs and lengths of
chunks.
"""

import functools
import operator
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
from fusion_bench.models.encoders import Encoded
from fusion_bench.training import mesh
from fusion_bench.training.optimizer import make_optimizer
from fusion_bench.training.remedies.base import Remedy, Step, remedies


class Variables(NamedTuple):
    """A model's arrays: trained parameters, and the rest (running statistics and the like)."""

    params: Any
    rest: Any


class TrainState(NamedTuple):
    """Everything that training changes; `parts` are the variables of the remedy's own module."""

    variables: Variables
    optimizer: Any
    step: Int[Array, ""]
    parts: Variables = Variables({}, {})


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
    """Uncompiled functions of one strategy, as in `compile.Program`.

    Attributes:
      init, train, encode: as there.
      graph: the strategy in evaluation mode.
      parts_graph: the remedy's own module.
    """

    init: Callable[..., TrainState]
    train: Callable[..., tuple[TrainState, Array]]
    graph: Any
    parts_graph: Any
    steps_per_epoch: int
    batch_size: int
    is_frozen: bool


def make_functions(
    spec: StrategySpec, task: Task, model: ModelConfig, training: TrainingConfig, num_train: int
) -> Functions:
    """Returns the functions that `compile.compile_program` compiles; its arguments are the same."""
    steps_per_epoch = max(1, num_train // training.batch_size)
    batch_size = min(training.batch_size, num_train)
    mesh.check_divisible(batch_size)
    remedy: Remedy = remedies.make(training.remedy)

    def build(key: Key[Array, ""]) -> tuple[Any, nnx.Module]:
        blueprint = Blueprint(task, model, key)
        strategy = spec.build(blueprint)
        return strategy, remedy.make_parts(strategy, blueprint)

    abstract: Any = nnx.eval_shape(build, jax.random.key(0))
    strategy, parts = abstract
    train_graphs = split_module(strategy, training=True)[0], split_module(parts, training=True)[0]
    eval_graph, _ = split_module(strategy)
    optimizer = make_optimizer(training, steps_per_epoch * training.epochs)
    optimizer = remedy.wrap(optimizer, strategy.modality_of)

    def init(seed: Int[Array, ""]) -> TrainState:
        variables, own = (split_module(each, training=True)[1] for each in build(run_key(seed, "init")))
        return TrainState(variables, optimizer.init((variables.params, own.params)), jnp.zeros((), jnp.int32), own)

    def update(state: TrainState, data: DeviceData, batch: Array, seed: Array) -> tuple[TrainState, Array]:
        """One step: gather, augment, differentiate, update."""
        (params, rest), optimizer_state, step, (own_params, own_rest) = state
        key_augment, key_dropout, key_remedy = (
            jax.random.fold_in(run_key(seed, purpose), step) for purpose in ("augment", "dropout", "remedy")
        )
        inputs, labels = gather(data, mesh.divide(batch))
        inputs = as_encoded(inputs) if remedy.is_frozen else inputs
        epoch = step // steps_per_epoch
        if data.has_several_texts and not remedy.is_frozen:
            inputs = draw_texts(inputs, data, mesh.divide(batch), jax.random.fold_in(run_key(seed, "text"), epoch))
        if task.augmented and not remedy.is_frozen:
            alternates = {"alternating": True, "random": False}[training.flip]
            flip = alternating_flip(batch, run_key(seed, "flip"), epoch) if alternates else None
            inputs = augment(inputs, task.augmented, key_augment, flip)

        def losses(trained: tuple[Any, Any]) -> tuple[list[Array], Any]:
            modules: Any = zip(train_graphs, trained, (rest, own_rest), strict=True)
            module, parts = (nnx.merge(*each, copy=True) for each in modules)
            found, told = remedy.losses(
                Step(module, parts, inputs, labels, training.label_smoothing, nnx.Rngs(key_dropout), key_remedy, epoch)
            )
            changed = [nnx.state(each, nnx.Not(nnx.Param)) for each in (module, parts)]
            return [*found], (*changed, told)

        loss, gradients, (rest, own_rest, told) = _differentiate(losses, (params, own_params), remedy, strategy)
        extra = {"labels": labels, "epoch": epoch, "key": key_remedy, **told}
        updates, optimizer_state = optimizer.update(gradients, optimizer_state, (params, own_params), **extra)
        updated: Any = optax.apply_updates((params, own_params), updates)
        params, own_params = updated
        return TrainState(Variables(params, rest), optimizer_state, step + 1, Variables(own_params, own_rest)), loss

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

    parts_graph, _ = split_module(parts)
    return Functions(init, train, eval_graph, parts_graph, steps_per_epoch, batch_size, remedy.is_frozen)


def _differentiate(losses: Callable[..., Any], trained: Any, remedy: Remedy, strategy: Any) -> tuple[Array, Any, Any]:
    """Returns the sum of the losses, one gradient, and what `losses` returns beside them."""
    if type(remedy).combine is Remedy.combine:

        def total(trained: Any) -> tuple[Array, Any]:
            found, rest = losses(trained)
            return functools.reduce(operator.add, found), rest

        (loss, rest), gradients = jax.value_and_grad(total, has_aux=True)(trained)
        return loss, gradients, rest
    found, pull, rest = jax.vjp(losses, trained, has_aux=True)
    units = np.eye(len(found), dtype=np.float32)
    gradients = [pull([*map(jnp.asarray, unit)])[0] for unit in units]
    return functools.reduce(operator.add, found), remedy.combine(gradients, strategy.modality_of), rest


def predict(
    graph: Any, variables: Variables, data: DeviceData, indices: Int[Array, " batch"]
) -> Float[Array, "batch class"]:
    """Returns the logits of the examples at `indices`, by a module in evaluation mode."""
    inputs, _ = gather(data, mesh.divide(indices))
    return nnx.merge(graph, *variables)(inputs).logits


def encode(graph: Any, variables: Variables, data: DeviceData, indices: Int[Array, " batch"]) -> dict[str, Any]:
    """Returns each encoded modality of the examples at `indices`, by a separable module in evaluation mode."""
    inputs, _ = gather(data, mesh.divide(indices))
    module: Any = nnx.merge(graph, *variables)
    return {name: module.encode(name, batch) for name, batch in inputs.items()}


def predict_encoded(
    graph: Any, variables: Variables, encoded: DeviceData, indices: Int[Array, " batch"]
) -> Float[Array, "batch class"]:
    """Returns the logits of examples whose modalities are encoded, as `encode` returns them."""
    inputs, _ = gather(encoded, mesh.divide(indices))
    module: Any = nnx.merge(graph, *variables)
    return module.join(as_encoded(inputs))


def as_encoded(inputs: Inputs) -> dict[str, Any]:
    """Returns gathered features, or tokens with their mask, as arguments of `Strategy.join`."""
    return {name: values if mask is None else Encoded(values, mask) for name, (values, mask) in inputs.items()}
