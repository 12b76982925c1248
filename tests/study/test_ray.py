"""Studies on a Ray cluster: two nodes of one core each, on this machine."""

import dataclasses
import os
from pathlib import Path

import pytest

import fusion_bench
from fusion_bench.config import ClusterConfig
from fusion_bench.errors import ConfigError
from fusion_bench.fusion.registry import StrategySpec
from fusion_bench.store import Store
from fusion_bench.study import progress
from fusion_bench.study.executors.ray import RayExecutor, check, resources_of_a_run, slots
from fusion_bench.study.job import Job
from fusion_bench.study.resources import Resources
from tests.studies import ALONE, Recorder, assert_same_runs, make_config, outcomes
from tests.tasks import make_dataset

pytest.importorskip("ray", reason="Ray is not installed")
from ray.cluster_utils import Cluster

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*fork:RuntimeWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
"""Ray forks its own processes, which become other programs at once."""
ROOT = Path(__file__).parents[2]


class Remover(Recorder):
    """Takes a node away as soon as one training is done."""

    def __init__(self, cluster, node):
        super().__init__()
        self.cluster, self.node = cluster, node

    def finished(self, run):
        super().finished(run)
        if run.metrics and self.node is not None:
            self.cluster.remove_node(self.node, allow_graceful=False)
            self.node = None


@pytest.fixture
def cluster(monkeypatch):
    import ray

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def run(config, display, monkeypatch):
    monkeypatch.setattr(progress, "make_display", lambda console: display)
    return fusion_bench.run(config)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="a process cannot be kept to one core here")
def test_a_cluster_that_loses_a_node_gives_what_one_process_gives(source, alone, cluster, tmp_path, monkeypatch):
    display = Remover(cluster, cluster.add_node(num_cpus=1))
    config = make_config(source, tmp_path / "out", strategies=ALONE, seeds=2)
    config = dataclasses.replace(config, cluster=ClusterConfig("ray", cluster.address))
    run(config, display, monkeypatch)
    assert display.node is None
    assert_same_runs(config.out, alone)
    trained = [run for run in Store(config.out).runs() if run.identity["target"] == "label" and run.modality]
    assert {run.environment["cpu_usable"] for run in trained} == {1}

    again = Recorder()
    run(config, again, monkeypatch)
    assert again.runs == []

    lost = Store(config.out).directory / "runs"
    for folder in lost.glob("concat-s1-*"):
        (folder / "run.json").unlink()
    run(
        dataclasses.replace(config, cluster=ClusterConfig("ray", cluster.address, load_on_nodes=True)),
        again,
        monkeypatch,
    )
    assert [(run.strategy, run.seed) for run in again.runs] == [("concat", 1)]
    assert_same_runs(config.out, alone)
    assert {status for status, _ in outcomes(config.out).values()} == {"complete"}


NODES = [{"CPU": 2.0}, {"CPU": 1.0, "GPU": 1.0}]


@pytest.mark.parametrize(
    ("asked", "platform", "message"),
    [
        ({"gpus_per_run": 2.0}, "gpu", "gpus_per_run is 2; no node of the cluster has more than 1 GPUs"),
        ({"cpus_per_run": 3}, "cpu", "cpus_per_run is 3; no node of the cluster has more than 2 CPUs"),
        (
            {"cpus_per_run": 2, "gpus_per_run": 0.5},
            "gpu",
            "gpus_per_run is 0.5; no node of the cluster has more than 0",
        ),
        ({}, "gpu", "gpus_per_run is 0; this process computes on a GPU"),
    ],
    ids=["gpu", "cpu", "both on one node", "none"],
)
def test_what_no_node_has_is_refused(asked, platform, message):
    """Ray would wait for it for ever."""
    with pytest.raises(ConfigError, match=message):
        check(ClusterConfig("ray", **asked), NODES, platform)
    check(ClusterConfig("ray", gpus_per_run=0.25), NODES, "gpu")


def test_trainings_at_once_are_what_fits_of_both():
    assert slots(ClusterConfig("ray", cpus_per_run=2), {"CPU": 9.0}) == 4
    assert slots(ClusterConfig("ray", gpus_per_run=0.5), {"CPU": 128.0, "GPU": 4.0}) == 8


def test_a_training_gets_its_part_of_a_device(source, tmp_path):
    config = make_config(source, tmp_path)
    half = resources_of_a_run(dataclasses.replace(config, retries=5, cluster=ClusterConfig("ray", gpus_per_run=0.5)))
    assert (half["num_cpus"], half["num_gpus"], half["max_retries"]) == (1, 0.5, 0)
    assert half["runtime_env"]["env_vars"] == {"NPROC": "1", "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.45"}
    none = resources_of_a_run(dataclasses.replace(config, cluster=ClusterConfig("ray", cpus_per_run=3)))
    assert none["runtime_env"]["env_vars"] == {"NPROC": "3", "JAX_PLATFORMS": "cpu"}


@pytest.mark.parametrize(("slots", "sizes"), [(1, [3, 3]), (2, [3, 3]), (4, [2, 2, 1, 1]), (64, [1] * 6)])
def test_seeds_of_a_strategy_are_divided_where_there_is_room(tmp_path, slots, sizes, source):
    config = make_config(source, tmp_path)
    executor = RayExecutor(Resources(config, make_dataset(), Store(tmp_path)), Recorder())
    jobs = [
        Job("train", StrategySpec(name), seed, config.data, config.model, config.training)
        for name in ("concat", "image-only")
        for seed in range(3)
    ]
    tasks = executor.tasks(dict.fromkeys(jobs), slots)
    assert sorted(map(len, tasks), reverse=True) == sizes
    assert sorted(job.description for task in tasks for job in task) == sorted(job.description for job in jobs)
    assert all(len({job.label for job in task}) == 1 for task in tasks)
