"""Post-hoc strategies: unimodal runs of one seed, joined from what was stored of them."""

import math
from collections.abc import Iterable, Mapping

import jax.numpy as jnp
import numpy as np

from fusion_bench.benchmark.records import restore
from fusion_bench.config import ModelConfig
from fusion_bench.data.dataset import Dataset
from fusion_bench.fusion.base import PosthocFusion
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.fusion.registry import StrategySpec
from fusion_bench.store import Run, Store
from fusion_bench.training.program import Predictor
from fusion_bench.training.step import run_key


def join_members(
    spec: StrategySpec,
    seed: int,
    members: Mapping[str, Run],
    store: Store,
    dataset: Dataset,
    config: ModelConfig,
) -> tuple[PosthocFusion, dict[str, np.ndarray]]:
    """Returns the fitted module and its predictions, as a run stores them.

    The predictions come from the members' stored scores, to the last digit; the module has their weights.

    Args:
      spec: a post-hoc strategy.
      seed: of the members.
      members: the complete unimodal run of each modality.
      store: where the members are.
      dataset: what they were trained on.
      config: of their encoders.
    """
    module = spec.build(Blueprint(dataset.task, config, run_key(seed, "init")))
    assert isinstance(module, PosthocFusion)
    scores = {}
    for name, run in members.items():
        restore(store, run, module.members[name])
        scores[name] = store.predictions(run.id)
    train_labels = dataset.labels[dataset.splits["train"]]
    # A class that is in no training example counts once: log 0 would decide every example for it.
    counts = np.maximum(np.bincount(train_labels, minlength=dataset.num_classes), 1)
    prior = counts / counts.sum()
    validation = {name: stored["validation_logits"] for name, stored in scores.items()}
    module.fit(validation, dataset.labels[dataset.splits["validation"]], prior)
    predictions = {}
    for split in ("validation", "test"):
        logits = {name: jnp.asarray(stored[f"{split}_logits"]) for name, stored in scores.items()}
        predictions[f"{split}_logits"] = np.asarray(module.fuse(logits))
        predictions[f"{split}_labels"] = dataset.labels[dataset.splits[split]]
    return module, predictions


def posthoc_cost(predictor: Predictor, members: Iterable[Run]) -> dict[str, int | float]:
    """Returns what a post-hoc strategy costs: its members, trained and compiled one after another, and the join."""
    members = list(members)

    def total(name: str) -> float:
        return sum(math.nan if (cost := run.cost[name]) is None else cost for run in members)

    return {
        "params": predictor.params,
        "compile_s": predictor.compile_seconds + total("compile_s"),
        "train_examples_per_s": 1 / sum(1 / run.cost["train_examples_per_s"] for run in members),
        "train_flops": total("train_flops"),
        "inference_flops": predictor.inference_flops,
    }
