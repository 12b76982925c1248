"""Random search with one budget for every strategy: its learning rate and weight decay, chosen on validation."""

import dataclasses
from typing import Any

import numpy as np

from fusion_bench.config import Choice, TrainingConfig
from fusion_bench.training.remedies.base import remedies

SEED = 1_000_000
"""The seed of all trials, which is none of the reported ones."""
LEARNING_RATES = (1 / 8, 4.0)
"""Range of the random learning rates as factors of the usual one, uniform on a logarithmic scale."""
WEIGHT_DECAYS = (0.01, 0.5)
"""Range of the random weight decays, uniform on a logarithmic scale."""


def trials(count: int, base: TrainingConfig) -> tuple[TrainingConfig, ...]:
    """Returns the configurations to try, the same for every strategy: the usual one, then random ones.

    Options of the remedy that it declares `tuned` are drawn too, within the same number of trials. A longer list begins
    with the shorter one, so a larger budget continues a smaller one. `count` is 1 or more.
    """
    uniform = np.random.default_rng(0).random((count - 1, 2))
    learning_rates = base.learning_rate * _log_uniform(uniform[:, 0], *LEARNING_RATES)
    weight_decays = _log_uniform(uniform[:, 1], *WEIGHT_DECAYS)
    found = [base]
    for rate, decay, remedy in zip(learning_rates, weight_decays, _remedies(count, base.remedy), strict=True):
        changes = {"learning_rate": _rounded(rate), "weight_decay": _rounded(decay), "remedy": remedy}
        found.append(dataclasses.replace(base, **changes))
    return tuple(found)


def _remedies(count: int, usual: Choice) -> list[Choice]:
    """Returns the remedy of each random trial."""
    ranges = sorted(remedies.find(usual.name).make.tuned.items())
    uniform = np.random.default_rng(1).random((count - 1, len(ranges)))
    found = []
    for row in uniform:
        drawn = {name: _rounded(_log_uniform(u, *ends)) for (name, ends), u in zip(ranges, row, strict=True)}
        found.append(Choice(usual.name, {**usual.options, **drawn}))
    return found


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")


def _log_uniform(uniform: Any, low: float, high: float) -> Any:
    return low * (high / low) ** uniform
