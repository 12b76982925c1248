"""Snapshots of a training that is not complete, on disk."""

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fusion_bench.config import CheckpointConfig
from fusion_bench.store import Store
from fusion_bench.store.unfinished import TrainingCheckpoint
from fusion_bench.study import execute
from fusion_bench.training import loop
from fusion_bench.training.loop import EpochMetrics, Trained
from fusion_bench.training.step import TrainState, Variables
from tests.studies import make_config, run_recorded

CURVE = (EpochMetrics(1, 2.5, 1.1, 0.25), EpochMetrics(2, 0.1 + 0.2, 1.0, 1 / 3))


def make_snapshot(value, *, curve=CURVE, width=3):
    variables = Variables({"kernel": jnp.full((2, width), value)}, {"mean": {"a/b": jnp.zeros(()), "c": jnp.ones(1)}})
    state = TrainState(variables, (jnp.int32(7), {"m": jnp.full((2, width), -value)}), jnp.int32(12))
    best = jax.tree.map(lambda leaf: leaf + 1, variables)
    return Trained(state, best, curve, len(curve), 1.5)


@pytest.fixture
def notes():
    return []


@pytest.fixture
def checkpoint(tmp_path, notes):
    return TrainingCheckpoint(Store(tmp_path).unfinished("concat-s0-0123456789"), notes.append)


def test_a_snapshot_comes_back_to_the_last_bit(checkpoint, notes, tmp_path):
    assert checkpoint.load(make_snapshot(0.0, curve=())) is None
    for value, curve in ((1 / 3, CURVE[:1]), (1 / 7, CURVE)):
        checkpoint.save(make_snapshot(value, curve=curve))
    back = checkpoint.load(make_snapshot(0.0, curve=()))
    expected = make_snapshot(1 / 7)
    assert back[2:] == expected[2:]
    assert jax.tree.structure(back[:2]) == jax.tree.structure(expected[:2])
    for ours, theirs in zip(jax.tree.leaves(back[:2]), jax.tree.leaves(expected[:2]), strict=True):
        assert isinstance(ours, jax.Array)
        np.testing.assert_array_equal(ours, theirs, strict=True)
    assert notes == ["resumes after epoch 2"]
    (folder,) = (tmp_path / "runs").iterdir()
    assert [path.name for path in folder.iterdir()] == ["000002"]  # the one before is gone


def damage(name):
    def change(save):
        for path in save.rglob(name):
            if path.is_file():
                content = bytearray(path.read_bytes())
                content[len(content) // 2] ^= 1
                path.write_bytes(content)

    return change


@pytest.mark.parametrize(
    "change",
    [
        damage("arrays/**/*"),
        lambda save: (save / "facts.json").write_text("{"),
        lambda save: (save / "facts.json").write_text("[]"),
        lambda save: (save / "facts.json").unlink(),
        lambda save: shutil.rmtree(save / "arrays"),
        lambda save: (save / "facts.json").write_text((save / "facts.json").read_text().replace("selected", "chosen")),
    ],
    ids=["arrays", "truncated", "list", "no facts", "no arrays", "other facts"],
)
def test_a_damaged_one_is_left_out_with_a_line(checkpoint, notes, tmp_path, change):
    checkpoint.save(make_snapshot(0.5))
    change(next((tmp_path / "runs").glob("*/000002")))
    assert checkpoint.load(make_snapshot(0.0)) is None
    (line,) = notes
    assert line.startswith("starts again, as its saved state cannot be read: ")
    assert "\n" not in line


def test_one_of_another_model_is_left_out(checkpoint, notes):
    checkpoint.save(make_snapshot(0.5, width=4))
    assert checkpoint.load(make_snapshot(0.0)) is None
    assert notes[0].endswith("(2, 4) float32 in the checkpoint and (2, 3) float32 in the model")


def test_a_save_that_fails_leaves_the_one_before_and_training_goes_on(checkpoint, notes, monkeypatch):
    checkpoint.save(make_snapshot(0.5, curve=CURVE[:1]))
    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.rename", lambda *names: (_ for _ in ()).throw(OSError(28, "No space left")))
        checkpoint.save(make_snapshot(0.25))
    assert notes == ["its state cannot be saved: No space left"]
    assert len(checkpoint.load(make_snapshot(0.0)).curve) == 1
    checkpoint.clear()
    assert checkpoint.load(make_snapshot(0.0)) is None


def test_a_study_that_is_interrupted_goes_on_within_a_run(source, tmp_path, monkeypatch):
    class Interrupted(Exception):
        pass

    def interrupted_train(*arguments, report, **options):
        def stop(progress):
            if progress.epoch > 2.4:
                raise Interrupted

        return loop.train(*arguments, report=stop, **options)

    config = make_config(source, tmp_path / "whole", strategies=("text-only",))
    config = dataclasses.replace(config, training=dataclasses.replace(config.training, epochs=4))
    whole = run_recorded(config)
    every_epoch = CheckpointConfig(save_seconds=0.0)
    config = dataclasses.replace(config, out=tmp_path / "paused", checkpoint=every_epoch)
    with monkeypatch.context() as patch:
        patch.setattr(execute, "train", interrupted_train)
        with pytest.raises(Interrupted):
            run_recorded(config)
    run = whole.stored("text-only")
    (costs,) = Store(config.out).runs()
    assert costs.identity["target"] == "cost"
    assert (config.out / "runs" / f".training-{run.id}" / "000002").is_dir()

    resumed = run_recorded(config)
    assert ("note", "text-only, seed 0: resumes after epoch 2") in resumed.events
    assert resumed.stored("text-only").metrics == run.metrics
    ours, theirs = (done.config.out / "runs" / run.id / "curve.csv" for done in (resumed, whole))
    assert ours.read_bytes() == theirs.read_bytes()
    ours, theirs = (done.store.predictions(run.id) for done in (resumed, whole))
    for name, array in theirs.items():
        np.testing.assert_array_equal(ours[name], array, strict=True)
    assert {path.name for path in (config.out / "runs").iterdir()} == {".locks", costs.id, run.id}
