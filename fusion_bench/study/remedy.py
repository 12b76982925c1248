"""The start of a training with a remedy that uses other runs."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx

from fusion_bench.data.batches import DeviceData
from fusion_bench.data.dataset import Split
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.metrics.classification import cross_entropy
from fusion_bench.store import Run
from fusion_bench.store.loaded import load_model, strategy_of
from fusion_bench.study.job import Job
from fusion_bench.study.resources import Resources
from fusion_bench.training import mesh
from fusion_bench.training.compile import Program, default_predict_batch, in_batches
from fusion_bench.training.remedies.base import Member, Remedy, remedies
from fusion_bench.training.step import TrainState, predict, run_key, split_module


def prepare_remedy(
    job: Job, runs: Sequence[Run], program: Program, resources: Resources, state: TrainState
) -> TrainState:
    """Returns the initial state as the job's remedy changes it, from the runs of its members.

    Raises:
      UserError: a member's model cannot be read.
    """
    remedy: Remedy = remedies.make(job.training.remedy)
    if type(remedy).prepare is Remedy.prepare:
        return state
    strategy, parts = nnx.merge(program.graph, *state.variables), nnx.merge(program.parts_graph, *state.parts)
    remedy.prepare(strategy, parts, {run.strategy: _member(run, resources) for run in runs})
    variables, own = (mesh.replicate(split_module(each)[1]) for each in (strategy, parts))
    return state._replace(variables=variables, parts=own)


def _member(run: Run, resources: Resources) -> Member:
    key, model = run_key(run.seed, "init"), resources.config.model
    untrained = strategy_of(run).build(Blueprint(resources.dataset.task, model, key))
    splits = resources.dataset.splits
    count = min(len(splits["train"]), len(splits["validation"]))

    def loss(module: Any, split: Split) -> float:
        indices = splits[split][np.linspace(0, len(splits[split]) - 1, count).astype(int)]
        return cross_entropy(_logits(module, resources.data, indices), resources.dataset.labels[indices])

    return Member(load_model(resources.store, run), loss, untrained)


def _logits(module: nnx.Module, data: DeviceData, indices: np.ndarray) -> np.ndarray:
    graph, variables = split_module(module)
    return in_batches(functools.partial(_predict, graph, variables, data), indices, default_predict_batch())


_predict = jax.jit(predict, static_argnums=0)
