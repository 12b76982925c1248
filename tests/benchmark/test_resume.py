"""The training of a run that is not complete, in the store."""

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fusion_bench.benchmark import study
from fusion_bench.benchmark.resume import RunKeeper
from fusion_bench.store import Damaged, Store
from fusion_bench.training import loop
from fusion_bench.training.loop import EpochMetrics, Snapshot
from fusion_bench.training.step import TrainState, Variables
from tests.studies import Recorder, make_config, run_recorded

CURVE = (EpochMetrics(1, 2.5, 1.1, 0.25), EpochMetrics(2, 0.1 + 0.2, 1.0, 1 / 3))


def make_snapshot(value, *, curve=CURVE, width=3):
    variables = Variables(
        {"kernel": jnp.full((2, width), value)}, {"mean": {"a/b": jnp.zeros(()), "c": jnp.ones(1)}}
    )
    state = TrainState(variables, (jnp.int32(7), {"m": jnp.full((2, width), -value)}), jnp.int32(12))
    best = jax.tree.map(lambda leaf: leaf + 1, variables)
    return Snapshot(state, best, curve, len(curve), 1.5, 1.25)


@pytest.fixture
def unfinished(tmp_path):
    return Store(tmp_path).unfinished("concat-s0-0123456789")


@pytest.fixture
def keeper(unfinished):
    return RunKeeper(unfinished, Recorder(), "concat, seed 0")


def notes(keeper):
    return [event[1] for event in keeper.display.events]


def test_a_snapshot_comes_back_to_the_last_bit(keeper, tmp_path):
    assert keeper.load(make_snapshot(0.0, curve=())) is None
    for value, curve in ((1 / 3, CURVE[:1]), (1 / 7, CURVE)):
        keeper.save(make_snapshot(value, curve=curve))
    back = keeper.load(make_snapshot(0.0, curve=()))
    expected = make_snapshot(1 / 7)
    assert back[2:] == expected[2:]
    assert jax.tree.structure(back[:2]) == jax.tree.structure(expected[:2])
    for ours, theirs in zip(jax.tree.leaves(back[:2]), jax.tree.leaves(expected[:2]), strict=True):
        assert isinstance(ours, jax.Array)
        np.testing.assert_array_equal(ours, theirs, strict=True)
    assert notes(keeper) == ["concat, seed 0: goes on after epoch 2"]
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
        lambda save: (save / "facts.json").write_text(
            (save / "facts.json").read_text().replace("selected", "chosen")
        ),
    ],
    ids=["arrays", "truncated", "list", "no facts", "no arrays", "other facts"],
)
def test_a_damaged_one_is_left_out_with_a_line(keeper, tmp_path, change):
    keeper.save(make_snapshot(0.5))
    change(next((tmp_path / "runs").glob("*/000002")))
    assert keeper.load(make_snapshot(0.0)) is None
    (line,) = notes(keeper)
    assert line.startswith("concat, seed 0: starts anew, as its unfinished training cannot be read: ")
    assert "\n" not in line


def test_one_of_another_model_is_left_out(keeper):
    keeper.save(make_snapshot(0.5, width=4))
    assert keeper.load(make_snapshot(0.0)) is None
    assert notes(keeper)[0].endswith("(2, 4) float32 there and (2, 3) float32 in the model")


def test_a_save_that_fails_leaves_the_one_before_and_training_goes_on(keeper, unfinished, monkeypatch):
    keeper.save(make_snapshot(0.5, curve=CURVE[:1]))
    with monkeypatch.context() as patch:
        patch.setattr(
            "pathlib.Path.rename", lambda *names: (_ for _ in ()).throw(OSError(28, "No space left"))
        )
        keeper.save(make_snapshot(0.25))
    assert notes(keeper) == ["concat, seed 0: its unfinished training cannot be saved: No space left"]
    assert len(keeper.load(make_snapshot(0.0)).curve) == 1
    unfinished.clear()
    assert unfinished.load(()) is None
    unfinished.save(1, {"a": np.ones(2)}, {})
    with pytest.raises(Damaged):
        unfinished.load({"a": np.ones(3)})


def test_a_study_that_is_interrupted_goes_on_within_a_run(source, tmp_path, monkeypatch):
    class Interrupted(Exception):
        pass

    def interrupted_train(program, data, splits, seed, config, report, keeper):
        def stop(progress):
            if progress.epoch > 2.4:
                raise Interrupted

        return loop.train(program, data, splits, seed, config, stop, keeper)

    config = make_config(source, tmp_path / "whole", strategies=("text-only",))
    config = dataclasses.replace(config, training=dataclasses.replace(config.training, epochs=4))
    whole = run_recorded(config)
    config = dataclasses.replace(config, out=tmp_path / "paused")
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(study, "train", interrupted_train)
        with pytest.raises(Interrupted):
            run_recorded(config)
    run = whole.stored("text-only")
    assert Store(config.out).runs() == []
    assert (config.out / "runs" / f".training-{run.id}" / "000002").is_dir()

    resumed = run_recorded(config)
    assert ("note", "text-only, seed 0: goes on after epoch 2") in resumed.events
    assert resumed.stored("text-only").metrics == run.metrics
    ours, theirs = (done.config.out / "runs" / run.id / "curve.csv" for done in (resumed, whole))
    assert ours.read_bytes() == theirs.read_bytes()
    ours, theirs = (done.store.predictions(run.id) for done in (resumed, whole))
    for name, array in theirs.items():
        np.testing.assert_array_equal(ours[name], array, strict=True)
    assert {path.name for path in (config.out / "runs").iterdir()} == {".locks", run.id}
