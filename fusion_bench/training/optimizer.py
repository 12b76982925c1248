"""The optimiser: a direction, decoupled weight decay and a schedule, the same for every strategy."""

from typing import Any, assert_never

import jax
import optax
from optax.contrib import MuonDimensionNumbers

from fusion_bench.config import TrainingConfig

WARMUP_FRACTION = 0.25
START_DIVISOR, END_DIVISOR = 10.0, 100.0
"""A one-cycle schedule starts at its peak / START_DIVISOR and ends at its start / END_DIVISOR."""
MOMENTUM = 0.9
ADAM_B2 = 0.99
MUON_RMS = 0.2
"""Root mean square of Muon's updates before the learning rate: about that of Adam's (Liu et al. 2025)."""


def make_optimizer(config: TrainingConfig, total_steps: int) -> optax.GradientTransformationExtraArgs:
    """Returns p ← p - rate · (direction + decay · p), with decay on tensors of two or more axes only.

    The direction is Adam's (with the decay: AdamW, Loshchilov & Hutter 2019), that of Nesterov's momentum (Sutskever
    et al. 2013), or Muon's for kernels (Jordan et al. 2024) with Nadam's for all other parameters (Dozat 2016). The
    rate of tensors with one axis, biases and scales, is `config.bias_rate` times the schedule's.
    """
    parts = [
        _direction(config),
        optax.add_decayed_weights(config.weight_decay, lambda tree: jax.tree.map(lambda leaf: leaf.ndim > 1, tree)),
        optax.scale_by_learning_rate(make_schedule(config, total_steps)),
    ]
    if config.bias_rate != 1:
        scale = optax.scale(config.bias_rate)
        parts.append(optax.masked(scale, lambda tree: jax.tree.map(lambda leaf: leaf.ndim <= 1, tree)))
    return optax.with_extra_args_support(optax.chain(*parts))


def _direction(config: TrainingConfig) -> optax.GradientTransformation:
    match config.optimizer:
        case "adamw":  # one long vector compiles faster than many small tensors
            return optax.flatten(optax.scale_by_adam(b2=ADAM_B2))
        case "nesterov":
            return optax.flatten(optax.trace(MOMENTUM, nesterov=True))
        case "muon":  # Its own schedule and decay are not used: a rate of -1 gives the direction itself.
            return optax.contrib.muon(
                -1.0, adam_b2=ADAM_B2, consistent_rms=MUON_RMS, muon_weight_dimension_numbers=_dimensions_of_kernels
            )
        case other:
            assert_never(other)


def _dimensions_of_kernels(params: Any) -> Any:
    """Returns the input axes and output axes of each kernel; None for other parameters."""

    def dimensions(path: tuple[Any, ...], leaf: Any) -> MuonDimensionNumbers | None:
        names = [entry.key for entry in path if isinstance(entry, jax.tree_util.DictKey)]
        if names[-1] != "kernel" or leaf.ndim < 2:
            return None
        # An attention's projections divide their outputs among heads; all others have one axis of outputs.
        inputs = 1 if names[-2:-1] in (["query"], ["key"], ["value"]) else leaf.ndim - 1
        return MuonDimensionNumbers(tuple(range(inputs)), tuple(range(inputs, leaf.ndim)))

    return jax.tree_util.tree_map_with_path(dimensions, params)


def make_schedule(config: TrainingConfig, total_steps: int) -> optax.Schedule:
    """Returns the learning rate by step: one-cycle (Smith & Topin 2018) or a cosine down to zero."""
    match config.schedule:
        case "cosine":
            return optax.cosine_decay_schedule(config.learning_rate, total_steps)
        case "one-cycle":
            return optax.cosine_onecycle_schedule(
                total_steps, config.learning_rate, WARMUP_FRACTION, START_DIVISOR, END_DIVISOR
            )
        case other:
            assert_never(other)
