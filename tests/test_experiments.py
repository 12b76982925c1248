"""Experiments in their short form."""

import importlib.util
from pathlib import Path

import pytest

from fusion_bench.store import Store
from tests.studies import make_config, run_recorded, write_source

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


def load(name):
    """Returns an experiment's module."""
    spec = importlib.util.spec_from_file_location(name, EXPERIMENTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_posthoc_gap(tmp_path, capsys):
    config = make_config(write_source(tmp_path / "x.npz"), tmp_path / "out", seeds=2)
    run_recorded(config)
    experiment = load("posthoc_gap")
    assert experiment.main(experiment.Config(config.out, config.data)) == 0
    heading, trained, counted, exact = capsys.readouterr().out.splitlines()
    assert heading == "192 captions to learn from, 60 to test, n = 2 seeds, ± 95 %"
    runs = Store(config.out, read_only=True).runs()
    for name, line in (("late-posthoc", trained), ("bayes-reference", exact)):
        accuracies = [run.metrics["test_accuracy"] for run in runs if run.strategy == name]
        assert float(line.split("%")[0].split()[-1]) == pytest.approx(100 * sum(accuracies) / 2, abs=0.005)
    assert counted.startswith("counted frequencies")
    assert exact.endswith("+0.00 ± 0.00 points")
