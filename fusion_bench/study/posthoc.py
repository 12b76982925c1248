"""Post-hoc strategies: unimodal runs of one seed, joined from their stored logits."""

import math
from collections.abc import Iterable, Sequence

import jax.numpy as jnp
import numpy as np

from fusion_bench.data.dataset import Dataset, Split, Task
from fusion_bench.fusion.base import PosthocFusion
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.store import Run, Store
from fusion_bench.store.loaded import restore
from fusion_bench.study.job import Job
from fusion_bench.training.compile import Predictor
from fusion_bench.training.step import run_key


def build_posthoc(job: Job, task: Task) -> PosthocFusion:
    """Returns the module of a job's post-hoc strategy, with initial values."""
    assert job.strategy is not None
    module = job.strategy.build(Blueprint(task, job.model, run_key(job.seed, "init")))
    assert isinstance(module, PosthocFusion)
    return module


def join_members(
    job: Job, members: Sequence[Run], store: Store, dataset: Dataset
) -> tuple[PosthocFusion, dict[Split, np.ndarray]]:
    """Returns the fitted module, and its logits [example, class] on validation and test.

    The logits come from the members' stored ones, to the last digit; the module has their weights.

    Args:
      job: of a post-hoc strategy.
      members: the complete unimodal run of each modality.
      store: where the members are.
      dataset: what they were trained on.
    """
    module = build_posthoc(job, dataset.task)
    stored = {}
    for run in members:
        assert run.modality is not None
        restore(store, run, module.members[run.modality])
        stored[run.modality] = store.predictions(run.id)
    train_labels = dataset.labels[dataset.splits["train"]]
    # A class that is in no training example counts once: log 0 would decide every example for it.
    counts = np.maximum(np.bincount(train_labels, minlength=dataset.num_classes), 1)
    validation = {name: arrays["validation_logits"] for name, arrays in stored.items()}
    module.fit(validation, dataset.labels[dataset.splits["validation"]], counts / counts.sum())
    splits: tuple[Split, ...] = ("validation", "test")
    logits = {
        split: {name: jnp.asarray(arrays[f"{split}_logits"]) for name, arrays in stored.items()} for split in splits
    }
    return module, {split: np.asarray(module.fuse(logits[split])) for split in splits}


def joint_cost(members: Iterable[Run]) -> dict[str, int | float]:
    """Returns the parameters and the training operations of a join: those of its members together."""
    members = list(members)
    return {name: _total(members, name) for name in ("params", "train_flops")}


def measured_cost(predictor: Predictor, members: Iterable[Run]) -> dict[str, int | float]:
    """Returns the costs of a post-hoc strategy whose members are trained and compiled one after another.

    Args:
      predictor: the compiled join.
      members: the runs that measured the unimodal strategies.
    """
    members = list(members)
    return {
        "compile_s": predictor.compile_seconds + _total(members, "compile_s"),
        "train_examples_per_s": 1 / sum(1 / run.cost["train_examples_per_s"] for run in members),
        "inference_flops": predictor.inference_flops,
    }


def _total(members: Iterable[Run], name: str) -> int | float:
    return sum(math.nan if (cost := run.cost[name]) is None else cost for run in members)
