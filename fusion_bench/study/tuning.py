"""Random search with one budget for every strategy: its learning rate and weight decay, chosen on validation."""

import dataclasses

import numpy as np

from fusion_bench.config import TrainingConfig

SEED = 1_000_000
"""The seed of all trials, which is none of the reported ones."""
LEARNING_RATES = (1 / 8, 4.0)
"""Range of the random learning rates as factors of the usual one, uniform on a logarithmic scale."""
WEIGHT_DECAYS = (0.01, 0.5)
"""Range of the random weight decays, uniform on a logarithmic scale."""


def trials(count: int, base: TrainingConfig) -> tuple[TrainingConfig, ...]:
    """Returns the configurations to try, the same for every strategy: the usual one, then random ones.

    A longer list begins with the shorter one, so a larger budget continues a smaller one. `count` is 1 or more.
    """
    uniform = np.random.default_rng(0).random((count - 1, 2))
    learning_rates = base.learning_rate * _log_uniform(uniform[:, 0], *LEARNING_RATES)
    weight_decays = _log_uniform(uniform[:, 1], *WEIGHT_DECAYS)
    drawn = zip(learning_rates, weight_decays, strict=True)
    return (
        base,
        *(dataclasses.replace(base, learning_rate=float(f"{r:.3g}"), weight_decay=float(f"{w:.3g}")) for r, w in drawn),
    )


def _log_uniform(uniform: np.ndarray, low: float, high: float) -> np.ndarray:
    return low * (high / low) ** uniform
