"""The optimiser: AdamW under a schedule, the same for every strategy."""

import jax
import optax

from fusion_bench.config import TrainingConfig

WARMUP_FRACTION = 0.25


def make_optimizer(config: TrainingConfig, total_steps: int) -> optax.GradientTransformation:
    """Returns AdamW (Loshchilov & Hutter 2019) with decay on tensors of two or more axes only.

    Args:
      config: names the schedule, its peak and the decay.
      total_steps: length of the schedule, in updates.
    """
    return optax.chain(
        optax.flatten(
            optax.scale_by_adam(b2=0.99)
        ),  # one long vector compiles faster than many small tensors
        optax.add_decayed_weights(config.weight_decay, lambda tree: jax.tree.map(lambda p: p.ndim > 1, tree)),
        optax.scale_by_learning_rate(make_schedule(config, total_steps)),
    )


def make_schedule(config: TrainingConfig, total_steps: int) -> optax.Schedule:
    """Returns the learning rate by step: one-cycle (Smith & Topin 2018) or a cosine down to zero."""
    if config.schedule == "cosine":
        return optax.cosine_decay_schedule(config.learning_rate, total_steps)
    return optax.cosine_onecycle_schedule(
        total_steps, config.learning_rate, pct_start=WARMUP_FRACTION, div_factor=10.0, final_div_factor=100.0
    )
