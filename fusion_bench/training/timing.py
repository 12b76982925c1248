"""Speed of a compiled strategy in training and prediction, in short timed passes."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from fusion_bench.config import MeasurementConfig
from fusion_bench.data.batches import DeviceData
from fusion_bench.training.compile import Program, compile_fixed
from fusion_bench.training.mesh import device_count
from fusion_bench.training.step import Variables

_MOST_STEPS = 1000


class TimedLoop:
    """A loop of compiled steps, warmed up, to be timed repeatedly.

    Args:
      steps: runs `count` steps and blocks until the last has finished. Called twice on construction: to warm up, and
        to choose the number of steps in a pass.
      work: amount of work in one step, in any unit: examples, bytes, operations.
      config: the length of a pass, and the number of latencies.
    """

    def __init__(
        self, steps: Callable[[int], None], work: int | float, config: MeasurementConfig = MeasurementConfig()
    ):
        self.steps = steps
        self.work = work
        self.config = config
        steps(1)
        self.count = int(np.clip(config.seconds / self._seconds(1), 1, _MOST_STEPS))

    def rate(self) -> float:
        """Returns the work per second in one pass."""
        return self.count * self.work / self._seconds(self.count)

    def latencies(self) -> list[float]:
        """Returns the seconds of single steps, each awaited: as many as in a pass, and enough for percentiles."""
        return [self._seconds(1) for _ in range(max(self.count, self.config.latencies))]

    def _seconds(self, count: int) -> float:
        start = time.perf_counter()
        self.steps(count)
        return time.perf_counter() - start


def train_loop(
    program: Program, data: DeviceData, indices: np.ndarray, config: MeasurementConfig = MeasurementConfig()
) -> TimedLoop:
    """Returns training steps from initialisation; their work is in examples."""
    on_device, seed = jax.device_put(indices), np.int32(0)
    state = program.init(seed)
    data, program = program.training_data(state.variables, data, indices)

    def steps(count: int) -> None:
        nonlocal state
        # Each pass begins an epoch anew; past its end the same order is seen again, at the same cost.
        state = state._replace(step=jax.numpy.zeros_like(state.step))
        state, loss = program.train(state, data, on_device, seed, np.int32(count))
        jax.block_until_ready(loss)

    return TimedLoop(steps, program.batch_size, config)


def inference_loop(
    predict: Callable,
    variables: Variables,
    data: DeviceData,
    indices: np.ndarray,
    batch_size: int,
    config: MeasurementConfig = MeasurementConfig(),
) -> TimedLoop:
    """Returns predictions in batches of one size, each dispatched before the previous one has finished."""
    batch = jax.device_put(np.resize(indices, batch_size))

    def steps(count: int) -> None:
        for _ in range(count):
            logits = predict(variables, data, batch)
        jax.block_until_ready(logits)

    return TimedLoop(steps, batch_size, config)


def single_loop(
    graph: Any,
    variables: Variables,
    data: DeviceData,
    indices: np.ndarray,
    config: MeasurementConfig = MeasurementConfig(),
) -> TimedLoop:
    """Returns predictions of one example at a time, each awaited, by a program with constant weights."""
    predict = compile_fixed(graph, variables, data, 1)

    def steps(count: int) -> None:
        for number in range(count):
            np.asarray(predict(data, indices[number % len(indices), None]))

    return TimedLoop(steps, 1, config)


def latency(
    graph: Any, variables: Variables, data: DeviceData, indices: np.ndarray, config: MeasurementConfig
) -> dict[str, float]:
    """Returns the median latency of predicting one example, in seconds; nothing on several devices."""
    if device_count() > 1:  # one example cannot be divided
        return {}
    return {"latency_s": statistics.median(single_loop(graph, variables, data, indices, config).latencies())}


def rates(kind: str, loop: TimedLoop) -> dict[str, float]:
    """Returns examples per second of "train" or "inference" over the repetitions: median, lowest and highest."""
    found = [loop.rate() for _ in range(loop.config.repetitions)]
    name = f"{kind}_examples_per_s"
    return {name: statistics.median(found), f"{name}_low": min(found), f"{name}_high": max(found)}
