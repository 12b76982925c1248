"""The scripts of experiments/speed in their short form."""

import dataclasses
import os
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from fusion_bench.config import DataConfig, ModelConfig, TrainingConfig
from fusion_bench.data.batches import gather, to_device
from fusion_bench.data.load import load_dataset
from fusion_bench.fusion.registry import StrategySpec
from fusion_bench.models.convolution import xla_conv3x3
from fusion_bench.models.layers import space_to_depth
from fusion_bench.training.step import make_functions
from tests.experiments.loading import EXPERIMENTS, load
from tests.studies import make_quick


def test_scaling():
    command = [sys.executable, str(EXPERIMENTS / "speed" / "scaling.py"), "--quick", "--strategies", "text-only"]
    wide = {**os.environ, "COLUMNS": "160"}
    done = subprocess.run(command, env=wide, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    rows = [re.split(r"\s*│\s*", line)[1:-1] for line in done.stdout.splitlines() if line.startswith("│")]
    assert [row[1:4] for row in rows] == [
        ["strong", "1", "128"], ["strong", "2", "128"], ["weak", "1", "128"], ["weak", "2", "256"],
    ]  # fmt: skip
    for one, two in zip(rows[::2], rows[1::2], strict=True):
        speeds = [float(row[4].replace(",", "")) for row in (one, two)]
        assert float(two[6]) == pytest.approx(speeds[1] / speeds[0] / 2, abs=0.01)


@pytest.fixture
def quick(monkeypatch):
    make_quick(monkeypatch)


def test_ways_to_train_with_several_seeds(quick, capsys):
    experiment = load("seed_strategies")
    config = experiment.Config(strategies=("image-only",), encoder="micro", seeds=2, repetitions=1, quick=True)
    ways = experiment.make_ways("image-only", config)
    trained = {name: way.train() for name, way in ways.items()}
    assert list(trained) == list(experiment.WAYS)
    for name in experiment.WAYS[1:]:
        assert experiment.difference(trained["one by one"], trained[name]) < 1e-3
    first, second = (jax.tree.map(lambda leaf, s=seed: leaf[s], trained["one by one"]) for seed in range(2))
    assert experiment.difference(first, second) > 0.01  # seeds are not one
    assert experiment.main(dataclasses.replace(config, strategies=("text-only",))) == 0
    assert "text-only" in capsys.readouterr().out


def test_cost_growth(quick, tmp_path):
    experiment = load("cost_growth")
    assert experiment.exponent((1, 2, 4), (3.0, 12.0, 48.0)) == pytest.approx(2)
    assert experiment.main(experiment.Config(tmp_path, quick=True)) == 0
    frame = pd.read_csv(tmp_path / "table.csv")
    batch = frame.loc[frame["grows"] == "batch"].to_dict("records")
    assert [row["size"] for row in batch] == [32, 64, 128]
    assert 0.9 < batch[1]["flops"] / batch[0]["flops"] / 2 <= 1.0
    lines = [line.split(" | ") for line in (tmp_path / "table.md").read_text().splitlines()[2:] if line[0:1] == "|"]
    assert len(lines) == len(set(zip(frame["grows"], frame["strategy"], strict=True)))
    assert lines[0][0] == "| batch"


def test_growth_beyond_the_formula_is_marked():
    experiment = load("cost_growth")
    growth = experiment.Growth("width", "x", (1, 2, 4), lambda size: None, (1, 1, 1))
    rows = [{"flops": 100 + size**2, "memory_bytes": size, "seconds": size**3} for size in growth.sizes]
    cells, within = experiment.row_of(growth, rows)
    assert cells == ["width", "x", "1 to 4", "2.00 (1) !", "1.00 (1)", "3.00 (1)"]
    assert not within
    growth = experiment.Growth("modalities", "x", (2, 3, 4), lambda size: None, (5, 6, 1), exponential=True)
    rows = [{"flops": 7 + 5**size, "memory_bytes": 7**size, "seconds": 3**size} for size in growth.sizes]
    cells, within = experiment.row_of(growth, rows)
    assert cells[3:] == ["×5.00 (×5)", "×7.00 (×6) !", "×3.00 (×1)"]
    assert not within


def test_whitening_leaves_no_correlation():
    experiment = load("cifar10_in_seconds")
    rng = np.random.default_rng(0)
    patches = rng.normal(size=(5000, 6)) @ rng.normal(size=(6, 6)) + 3
    filters = experiment.whitening(patches, 12)
    assert filters.shape == (6, 12)
    np.testing.assert_allclose(filters[:, ::2], -filters[:, 1::2])
    covariance = np.cov((patches @ filters[:, ::2]).T)
    expected = np.diag(covariance)
    np.testing.assert_allclose(covariance, np.diag(expected), atol=1e-3)
    assert ((expected > 0.5) & (expected < 1.001)).all()
    largest = np.linalg.eigh(np.cov(patches.T))[1][:, -1]
    assert abs(filters[:, 0] @ largest) / np.linalg.norm(filters[:, 0]) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("encoder", ["tiny", "resnet9"])
def test_the_first_layer_whitens_the_images(encoder):
    """Of resnet9 all sixty-four 3×3 filters, of a patch stem as many as it has."""
    experiment = load("cifar10_in_seconds")
    dataset = load_dataset(DataConfig(captions="neutral", train_size=300, test_size=100))
    spec = StrategySpec("image-only")
    functions = make_functions(spec, dataset.task, ModelConfig(encoder=encoder), TrainingConfig(), 270)
    plain_init = jax.jit(functions.init)
    init = experiment.whiten_first_layer(plain_init, dataset)
    plain, whitened = plain_init(0).variables.params, init(0).variables.params
    pairs = zip(jax.tree.leaves(plain), jax.tree.leaves(whitened), strict=True)
    ((_, kernel),) = [(one, other) for one, other in pairs if not np.array_equal(one, other)]
    inputs, _ = gather(to_device(dataset), jnp.asarray(dataset.splits["train"]))
    image = inputs["image"].values
    if kernel.ndim == 2:
        responses = space_to_depth(image, round((len(kernel) / 3) ** 0.5)) @ kernel
    else:
        responses = xla_conv3x3(image, kernel)[:, 1:-1, 1:-1]  # the rest sees zeros beyond the edge
    count = min(kernel.shape[-1] // 2, 27)  # one of each pair, where there is one
    correlation = np.corrcoef(np.asarray(responses).reshape(-1, kernel.shape[-1])[:, : 2 * count : 2].T)
    np.testing.assert_allclose(correlation, np.eye(count), atol=0.02)


def test_fast_recipe(quick, tmp_path, capsys):
    experiment = load("cifar10_in_seconds")
    assert experiment.main(experiment.Config(quick=True, ablate=True, out=tmp_path)) == 0
    printed = capsys.readouterr().out
    lines = (tmp_path / "table.md").read_text().splitlines()
    rows = [line.split(" | ")[0][2:] for line in lines if line.startswith("| ")]
    variants = ["all ideas", *(f"without {idea}" for idea in experiment.IDEAS)]
    assert rows == ["epoch", "---", "1", "", "---", *variants]
    assert "n = 2 seeds" in " ".join(printed.split())


def test_every_idea_of_the_fast_recipe_changes_the_training():
    experiment = load("cifar10_in_seconds")
    config = experiment.Config()
    trainings = {name: config.training(name) for name in (None, *experiment.IDEAS)}
    changed = {name for name, training in trainings.items() if training != trainings[None]}
    assert changed == set(experiment.IDEAS) - {"whitening"}  # which is no option of the training
    assert len(set(trainings.values())) == len(experiment.IDEAS)


def test_seconds_to_a_target():
    experiment = load("cifar10_in_seconds")
    curves = np.array([[0.5, 0.95], [0.94, 0.9], [0.1, 0.2]])
    result = experiment.Result([10.0, 20.0, 30.0], curves, {}, 1.0, 1.0, 1.0)
    assert experiment.seconds_to(result, 0.94) == (
        "94 % on validation: 2 of 3 seeds, after 10.00 to 10.00 s of training."
    )
    assert experiment.seconds_to(result, 0.99) == "99 % on validation: 0 of 3 seeds."


def test_study_speed(capsys, monkeypatch):
    """Without PyTorch: the second of two equal studies compiles nothing."""
    experiment = load("study_speed")
    monkeypatch.setattr(experiment.importlib.util, "find_spec", lambda name: None)
    assert experiment.main(experiment.Config(quick=True)) == 0
    printed = capsys.readouterr().out
    assert "nothing compiled" in printed
    assert "compiled before" in printed
    assert "Runs of the second study that compiled something: 0." in " ".join(printed.split())
    assert experiment.main(experiment.Config()) == 2
    assert "pip install torch" in capsys.readouterr().err
