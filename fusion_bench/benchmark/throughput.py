"""How fast a compiled strategy trains and predicts: a short timed pass of its own, apart from any run."""

import statistics
import time
from collections.abc import Callable

import jax
import numpy as np

from fusion_bench.data.batches import DeviceData
from fusion_bench.training.program import PREDICT_BATCH, Program, Variables

REPETITIONS = 5
SECONDS = 0.1
"""Length that a repetition aims at; an epoch is the longest."""


def train_rate(program: Program, data: DeviceData, indices: np.ndarray) -> dict[str, float]:
    """Returns training examples per second: median, lowest and highest of the repetitions."""
    on_device, seed = jax.device_put(indices), np.int32(0)
    state = program.init(seed)

    def steps(count: int) -> None:
        nonlocal state
        # Each call begins an epoch anew, so any number of steps up to its length may follow.
        state = state._replace(step=jax.numpy.zeros_like(state.step))
        state, loss = program.train(state, data, on_device, seed, np.int32(count))
        jax.block_until_ready(loss)

    return _rates("train", steps, program.batch_size, program.steps_per_epoch)


def inference_rate(
    predict: Callable, variables: Variables, data: DeviceData, indices: np.ndarray
) -> dict[str, float]:
    """Returns predicted examples per second, in batches of `PREDICT_BATCH`: median, lowest and highest."""
    batch = jax.device_put(np.resize(indices, PREDICT_BATCH))

    def steps(count: int) -> None:
        for _ in range(count):
            logits = predict(variables, data, batch)
        jax.block_until_ready(logits)

    return _rates("inference", steps, PREDICT_BATCH, 1000)


def _rates(kind: str, steps: Callable[[int], None], batch: int, most: int) -> dict[str, float]:
    steps(1)  # warm-up
    start = time.perf_counter()
    steps(1)
    count = int(np.clip(SECONDS / (time.perf_counter() - start), 1, most))
    rates = []
    for _ in range(REPETITIONS):
        start = time.perf_counter()
        steps(count)
        rates.append(count * batch / (time.perf_counter() - start))
    key = f"{kind}_examples_per_s"
    return {key: statistics.median(rates), f"{key}_low": min(rates), f"{key}_high": max(rates)}
