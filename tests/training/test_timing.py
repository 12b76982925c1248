import types

import jax.numpy as jnp
import pytest

from fusion_bench.config import MeasurementConfig
from fusion_bench.data.batches import to_device
from fusion_bench.training import timing
from fusion_bench.training.compile import Program
from fusion_bench.training.step import TrainState, Variables
from tests.tasks import make_dataset

CONFIG = MeasurementConfig()
STEP = 0.003
"""Seconds."""
DATASET = make_dataset()


@pytest.fixture
def clock(monkeypatch):
    """Replaces the clock by one that stands still unless the test moves it."""
    clock = types.SimpleNamespace(now=0.0)
    clock.perf_counter = lambda: clock.now
    monkeypatch.setattr(timing, "time", clock)
    return clock


def rates_of(kind, median, low, high):
    names = (f"{kind}_examples_per_s", f"{kind}_examples_per_s_low", f"{kind}_examples_per_s_high")
    return pytest.approx(dict(zip(names, (median, low, high), strict=True)))


def test_train_rate(clock):
    calls = []

    def train(state, data, indices, seed, steps):
        assert int(state.step) == 0, "the schedule must not run out"
        calls.append(int(steps))
        clock.now += STEP * int(steps) * (1 if len(calls) > 2 else 5)
        return state._replace(step=state.step + steps), jnp.zeros(())

    program = Program(
        init=lambda seed: TrainState(Variables({}, {}), {}, jnp.zeros((), jnp.int32)),
        train=train,
        predict=lambda *arguments: jnp.zeros(()),
        graph=None,
        steps_per_epoch=4,
        batch_size=32,
        predict_batch=1,
        params=0,
        compile_seconds=0.0,
        train_flops=0.0,
        inference_flops=0.0,
    )
    loop = timing.train_loop(program, to_device(DATASET), DATASET.splits["train"], CONFIG)
    rates = timing.rates("train", loop)
    assert dict(rates) == rates_of("train", *[32 / STEP] * 3)
    # five times slower, the second step foretells fewer steps than would fit; they may pass the epoch's end
    assert calls == [1, 1, *[int(CONFIG.seconds / (5 * STEP))] * CONFIG.repetitions]


def test_inference_rate(clock):
    shapes, slow = [], iter([1.0, 1.0, 3.0, 1.0, 2.0, 1.0, 1.0])
    count = int(CONFIG.seconds / STEP)

    def predict(variables, data, batch):
        if len(shapes) < 2 or (len(shapes) - 2) % count == 0:
            predict.factor = next(slow)
        shapes.append(batch.shape)
        clock.now += STEP * predict.factor
        return jnp.zeros(())

    data, test = to_device(DATASET), DATASET.splits["test"]
    rates = timing.rates("inference", timing.inference_loop(predict, Variables({}, {}), data, test, 50, CONFIG))
    fast = 50 / STEP
    assert dict(rates) == rates_of("inference", fast, fast / 3, fast)
    assert shapes == [(50,)] * (2 + CONFIG.repetitions * count)


def test_latencies(clock):
    seconds = iter([9.0, STEP, *[0.01 * number for number in range(1000)]])

    def steps(count):
        assert count == 1
        clock.now += next(seconds)

    timed = timing.TimedLoop(steps, work=1, config=CONFIG)
    assert timed.count == int(CONFIG.seconds / STEP)
    assert timed.count < CONFIG.latencies  # of slow ones as many as a percentile needs
    assert timed.latencies() == pytest.approx([0.01 * number for number in range(CONFIG.latencies)])
