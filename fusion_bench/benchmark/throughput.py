"""How fast a compiled strategy trains and predicts: short timed passes of their own, apart from any run."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from fusion_bench.data.batches import DeviceData
from fusion_bench.training.compile import Program, compile_fixed
from fusion_bench.training.mesh import device_count
from fusion_bench.training.step import Variables

REPETITIONS = 5
SECONDS = 0.1
"""Length that a pass aims at."""
LATENCIES = 100
"""How many at least are taken of one example, for a percentile."""
_MOST_STEPS = 1000


class Pass:
    """Some steps of compiled work, warm, to be timed as often as is wanted.

    Args:
      steps: takes so many steps, and returns when the last is done. It is called twice at once: to warm up, and to
        choose how many steps a pass has.
      work: of one step, in any unit: examples, bytes, operations.
    """

    def __init__(self, steps: Callable[[int], None], work: int | float):
        self.steps = steps
        self.work = work
        steps(1)
        self.count = int(np.clip(SECONDS / self._seconds(1), 1, _MOST_STEPS))

    def rate(self) -> float:
        """Returns the work done a second in one pass."""
        return self.count * self.work / self._seconds(self.count)

    def latencies(self) -> list[float]:
        """Returns the seconds of each step, taken and waited for one by one: a pass's, and enough for a percentile."""
        return [self._seconds(1) for _ in range(max(self.count, LATENCIES))]

    def _seconds(self, count: int) -> float:
        start = time.perf_counter()
        self.steps(count)
        return time.perf_counter() - start


def train_pass(program: Program, data: DeviceData, indices: np.ndarray) -> Pass:
    """Returns training steps from initialisation; their work is in examples."""
    on_device, seed = jax.device_put(indices), np.int32(0)
    state = program.init(seed)

    def steps(count: int) -> None:
        nonlocal state
        # Each pass begins an epoch anew; past its end the same order is seen again, at the same cost.
        state = state._replace(step=jax.numpy.zeros_like(state.step))
        state, loss = program.train(state, data, on_device, seed, np.int32(count))
        jax.block_until_ready(loss)

    return Pass(steps, program.batch_size)


def inference_pass(
    predict: Callable, variables: Variables, data: DeviceData, indices: np.ndarray, batch_size: int
) -> Pass:
    """Returns predictions in batches of one size, of which one is dispatched before the last is done."""
    batch = jax.device_put(np.resize(indices, batch_size))

    def steps(count: int) -> None:
        for _ in range(count):
            logits = predict(variables, data, batch)
        jax.block_until_ready(logits)

    return Pass(steps, batch_size)


def single_pass(graph: Any, variables: Variables, data: DeviceData, indices: np.ndarray) -> Pass:
    """Returns requests for one example's logits, each waited for, by a program with its weights built in."""
    predict = compile_fixed(graph, variables, data, 1)

    def steps(count: int) -> None:
        for number in range(count):
            np.asarray(predict(data, indices[number % len(indices), None]))

    return Pass(steps, 1)


def latency(graph: Any, variables: Variables, data: DeviceData, indices: np.ndarray) -> dict[str, float]:
    """Returns the median seconds from asking for one example's logits to having them; nothing on several devices."""
    if device_count() > 1:  # one example cannot be divided
        return {}
    return {"latency_s": statistics.median(single_pass(graph, variables, data, indices).latencies())}


def train_rate(program: Program, data: DeviceData, indices: np.ndarray) -> dict[str, float]:
    """Returns training examples per second: median, lowest and highest of the repetitions."""
    return _rates("train", train_pass(program, data, indices))


def inference_rate(
    predict: Callable, variables: Variables, data: DeviceData, indices: np.ndarray, batch_size: int
) -> dict[str, float]:
    """Returns predicted examples per second, in batches of one size: median, lowest and highest."""
    return _rates("inference", inference_pass(predict, variables, data, indices, batch_size))


def _rates(kind: str, timed: Pass) -> dict[str, float]:
    rates = [timed.rate() for _ in range(REPETITIONS)]
    key = f"{kind}_examples_per_s"
    return {key: statistics.median(rates), f"{key}_low": min(rates), f"{key}_high": max(rates)}
