"""Batches divided among devices: the numbers of one device, whatever the strategy, in one process and in two."""

import os
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

from fusion_bench.errors import UserError
from fusion_bench.store import Store
from fusion_bench.training import mesh

STABLE = ("image-only", "early-channel")
"""Strategies whose whole training stays near: no parameter of theirs has a gradient of rounding errors alone."""
STRATEGIES = (*STABLE, "early-token", "tensor", "late-mean")
TOLERANCE = 1e-5  # of a first step's gradients, relative to the largest
TRAINED_TOLERANCE = 1e-3  # of the logits after training


def start(*arguments, devices):
    flags = f"--xla_force_host_platform_device_count={devices}"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "tests.training.several_devices", *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def finish(*processes):
    for process in processes:
        _, errors = process.communicate(timeout=500)
        assert process.returncode == 0, errors


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    out = tmp_path_factory.mktemp("devices") / "out.npz"
    finish(start(out, "1,4", ",".join(STRATEGIES), devices=4))
    return dict(np.load(out))


def of(found, strategy, devices):
    start = f"{strategy}/{devices}/"
    return {key.removeprefix(start): value for key, value in found.items() if key.startswith(start)}


def assert_near(one, other, tolerance):
    np.testing.assert_allclose(other, one, rtol=0, atol=tolerance * np.abs(one).max())


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_four_devices_make_the_step_of_one(found, strategy):
    one, four = of(found, strategy, 1), of(found, strategy, 4)
    assert one.keys() == four.keys()
    largest = max(np.abs(value).max() for name, value in one.items() if name.startswith("moment"))
    assert largest > 0
    for name, value in one.items():
        if name.startswith("moment"):
            np.testing.assert_allclose(four[name], value, rtol=0, atol=TOLERANCE * largest)
        elif name.startswith("rest"):
            np.testing.assert_allclose(four[name], value, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(four["loss"], one["loss"], rtol=1e-5)


@pytest.mark.parametrize("strategy", STABLE)
def test_four_devices_train_as_one(found, strategy):
    assert_near(of(found, strategy, 1)["logits"], of(found, strategy, 4)["logits"], TRAINED_TOLERANCE)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_work_is_divided(found, strategy):
    """Were each device to do all of it, four would do four times as much."""
    assert of(found, strategy, 4)["train_flops"] < 2.5 * of(found, strategy, 1)["train_flops"]


def test_two_processes_train_as_one(tmp_path, found):
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        coordinator = f"localhost:{listener.getsockname()[1]}"
    outs = [tmp_path / f"{process}.npz" for process in range(2)]
    finish(
        *(start(out, "2", "image-only,tensor", coordinator, process, 2, devices=1) for process, out in enumerate(outs))
    )
    first, second = (dict(np.load(out)) for out in outs)
    for strategy in ("image-only", "tensor"):
        here, there, one = of(first, strategy, 2), of(second, strategy, 2), of(found, strategy, 1)
        for name, value in here.items():
            np.testing.assert_array_equal(there[name], value)
        for name in (name for name in one if name.startswith("moment")):
            largest = max(np.abs(value).max() for key, value in one.items() if key.startswith("moment"))
            np.testing.assert_allclose(here[name], one[name], rtol=0, atol=TOLERANCE * largest)
    assert_near(of(found, "image-only", 1)["logits"], first["image-only/2/logits"], TRAINED_TOLERANCE)


def test_a_study_on_two_devices(tmp_path):
    """Its runs have an identity of their own; all that a study does beside training works."""
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    command = [sys.executable, "-m", "fusion_bench", "run", "--devices", "all", "--strategies", "late-posthoc"]
    command += ["--encoder", "micro"]
    command += ["--train-size", "200", "--test-size", "50", "--epochs", "1", "--seeds", "1", "--out", str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    runs = Store(tmp_path, read_only=True).runs()
    assert {run.strategy for run in runs} == {"image-only", "text-only", "late-posthoc", "bayes-reference"}
    assert all(run.identity["devices"] == 2 for run in runs)
    assert "divided into 2 devices" in done.stdout


def test_more_devices_than_there_are():
    present = len(jax.devices())
    with pytest.raises(UserError, match=f"devices is {present + 1}; there"):
        mesh.use_devices(present + 1)


def test_uneven_batches_are_refused(monkeypatch):
    monkeypatch.setattr(mesh, "device_count", lambda: 4)
    mesh.check_divisible(64)
    with pytest.raises(UserError, match="a batch of 66 examples cannot be divided evenly among 4 devices"):
        mesh.check_divisible(66)
