"""Post-hoc strategies: unimodal runs of one seed, fused from their stored logits."""

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

    The logits are computed from the stored logits of the members, the unimodal runs; the module has their weights.
    """
    module = build_posthoc(job, dataset.task)
    stored = {}
    for run in members:
        assert run.modality is not None
        restore(store, run, module.members[run.modality])
        stored[run.modality] = store.predictions(run.id)
    train_labels = dataset.labels[dataset.splits["train"]]
    # A class without training examples counts once: log 0 would make it win for every example.
    counts = np.maximum(np.bincount(train_labels, minlength=dataset.num_classes), 1)
    validation = {name: arrays["validation_logits"] for name, arrays in stored.items()}
    module.fit(validation, dataset.labels[dataset.splits["validation"]], counts / counts.sum())

    def join(split: Split) -> np.ndarray:
        logits = {name: jnp.asarray(arrays[f"{split}_logits"]) for name, arrays in stored.items()}
        return np.asarray(module.fuse(logits))

    return module, {"validation": join("validation"), "test": join("test")}


def total_cost(members: Iterable[Run], name: str) -> int | float:
    """Returns the sum of a cost over all members; NaN if it was not measured."""
    return sum(math.nan if (cost := run.cost[name]) is None else cost for run in members)
