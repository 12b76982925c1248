"""Joins of tokens with one thing changed: what is changed, and that it trains."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fusion_bench.config import DataConfig, ModelConfig, TrainingConfig
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.fusion.registry import StrategySpec, resolve
from fusion_bench.training.step import make_functions
from tests.experiments.loading import load
from tests.studies import write_source
from tests.tasks import CONFIG, make_dataset


@pytest.mark.parametrize(
    "trial",
    ["cross-attention (neither normalised)", "early-token:stem=conv (one mean)", "early-token (informed start)"],
)
def test_token_joins(trial, tmp_path, capsys):
    experiment, plain = load("token_joins"), trial.partition(" ")[0]
    data = DataConfig(str(write_source(tmp_path / "x.npz")), captions="synergy")
    budget = {"model": ModelConfig(encoder="micro"), "training": TrainingConfig(epochs=1)}
    assert experiment.main(experiment.Config((plain, trial), 2, data, **budget)) == 0
    printed = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in printed.splitlines() if plain in line]
    assert [(row[0], row[1]) for row in rows] == [(plain, "–"), (plain, trial[trial.index("(") + 1 : -1])]
    assert "n = 2 seeds" in printed


def test_an_unknown_trial_is_one_line(capsys):
    experiment = load("token_joins")
    assert experiment.main(experiment.Config(("early-token", "early-tokn"))) == 2
    assert capsys.readouterr().err.startswith("unknown trial 'early-tokn'; did you mean early-token or ")


def test_a_change_of_a_join_reaches_what_it_names():
    experiment, task = load("token_joins"), make_dataset().task
    blueprint = Blueprint(task, CONFIG, jax.random.key(0))

    def norms(label, change):
        (spec,) = resolve([label], task)
        module = experiment.Changed(spec.name, spec.options, change).build(blueprint)
        return sorted(type(part).__name__ for _, part in nnx.iter_modules(module) if "Norm" in type(part).__name__)

    assert len(norms("cross-attention", experiment.raw_tokens)) + 2 == len(norms("cross-attention", lambda _: None))
    assert len(norms("cross-attention", experiment.raw_both)) + 3 == len(norms("cross-attention", lambda _: None))
    assert len(norms("early-token", experiment.raw_tokens)) + 2 == len(norms("early-token", lambda _: None))


def test_an_informed_start_has_the_image_part_of_another_training():
    experiment, dataset = load("token_joins"), make_dataset()
    functions = make_functions(StrategySpec("early-token"), dataset.task, CONFIG, TrainingConfig(epochs=1), 32)
    fresh, known = (functions.init(jnp.int32(seed)) for seed in (0, 1))
    mixed = experiment.with_image_part(fresh, known.variables).variables.params
    for part, source in (("head", fresh), ("transformer", known)):
        jax.tree.map(np.testing.assert_array_equal, mixed[part], source.variables.params[part])
    for name, source in (("text", fresh), ("image", known)):
        there = source.variables.params["embeddings"][name]
        jax.tree.map(np.testing.assert_array_equal, mixed["embeddings"][name], there)
