import copy
import errno
import hashlib
import json
import logging
import math
import os
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion_bench.errors import DiskFull, UserError
from fusion_bench.store import Run, Store, checkpoint, run_id, setting

IDENTITY = {
    "strategy": "tensor:width=8",
    "options": {"width": 8},
    "seed": 0,
    "target": "label",
    "data": {"source": "shapes", "captions": "default", "train_size": None},
    "training": {"epochs": 8, "learning_rate": 0.005, "augment": True},
    "fingerprint": "0123abcd",
}
CURVE = pd.DataFrame({"epoch": [1, 2], "train_loss": [2.5, 1.25], "validation_accuracy": [0.25, 0.5]})
PREDICTIONS = {
    "test_logits": np.arange(12, dtype=np.float32).reshape(4, 3),
    "test_labels": np.array([2, 0, 1, 2], np.int32),
}
CHECKPOINT = {
    "params": {"head": {"kernel": np.ones((3, 2), np.float32), "layers": {0: np.zeros(2, np.float32)}}},
    "rest": {},
}
CONTENTS = {
    "curve": CURVE,
    "predictions": PREDICTIONS,
    "checkpoint": CHECKPOINT,
    "tokenizers": {"text": '{"vocabulary": "größer"}', "überschrift": "{}"},
}


def make_run(seed=0, strategy="tensor:width=8", **changes):
    identity = IDENTITY | {"seed": seed, "strategy": strategy}
    fields = {
        "id": run_id(identity),
        "status": "complete",
        "strategy": strategy,
        "family": "tensor",
        "seed": seed,
        "identity": identity,
        "data": {"name": "shapes", "n_test": 4},
        "metrics": {"test_accuracy": 0.75, "validation_accuracy": 0.5, "epoch": 2},
        "cost": {"params": 8, "compile_s": 1.5},
        "environment": {"device": "a processor"},
    }
    return Run(**fields | changes)


def failed_run(**changes):
    return make_run(status="failed", metrics={}, cost={}, reason="the loss is nan in epoch 3", **changes)


def folders(store):
    return sorted(path.name for path in (store.directory / "runs").iterdir())


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "study")


# Identity

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
TREES = st.recursive(
    SCALARS, lambda parts: st.lists(parts, max_size=3) | st.dictionaries(st.text(), parts, max_size=3), max_leaves=8
)


def reordered(tree):
    """The same tree with the keys of every mapping in the opposite order."""
    if isinstance(tree, dict):
        return {key: reordered(tree[key]) for key in reversed(list(tree))}
    return [reordered(part) for part in tree] if isinstance(tree, list) else tree


def paths(tree):
    """The path of every leaf of nested dictionaries and lists, as a list of keys."""
    parts = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else None
    if parts is None:
        return [[]]
    return [[key, *path] for key, part in parts for path in paths(part)]


@given(st.dictionaries(st.text(), TREES, max_size=4))
def test_the_id_does_not_depend_on_the_order_of_keys_nor_on_a_round_trip(config):
    identity = {"strategy": "concat", "seed": 0, "config": config}
    assert run_id(reordered(identity)) == run_id(identity)
    assert run_id(json.loads(json.dumps(identity))) == run_id(identity)


@given(st.dictionaries(st.text(), TREES, min_size=1, max_size=4), st.data())
def test_any_changed_value_changes_the_id(config, data):
    identity = {"strategy": "concat", "seed": 0, "config": config}
    path = data.draw(st.sampled_from(paths(identity)))
    changed = copy.deepcopy(identity)
    part = changed
    for key in path[:-1]:
        part = part[key]
    old = part[path[-1]]
    values = st.text() if path == ["strategy"] else SCALARS
    part[path[-1]] = data.draw(values.filter(lambda new: json.dumps(new) != json.dumps(old)))
    assert run_id(changed) != run_id(identity)


@pytest.mark.parametrize("name", ["strategy", "seed", "target", "fingerprint"])
def test_every_part_of_the_identity_counts(name):
    assert run_id(IDENTITY | {name: "another"}) != run_id(IDENTITY)
    assert run_id({key: value for key, value in IDENTITY.items() if key != "target"}) != run_id(IDENTITY)


def test_the_id_says_strategy_and_seed_and_is_a_file_name():
    assert run_id(IDENTITY).startswith("tensor-width-8-s0-")
    assert len(run_id(IDENTITY)) == len("tensor-width-8-s0-") + 10
    awkward = run_id(IDENTITY | {"strategy": "../a b:c=é/" + "x" * 500})
    assert "/" not in awkward
    assert not awkward.startswith(".")
    assert len(awkward) < 120


@pytest.mark.parametrize("value", [math.nan, math.inf, {1, 2}, Path("file")])
def test_an_identity_that_json_cannot_hold_is_refused(value):
    with pytest.raises((TypeError, ValueError)):
        run_id(IDENTITY | {"value": value})


def test_a_setting_is_what_strategies_and_seeds_share():
    first, second = make_run(0, "concat"), make_run(3, "tensor:width=8")
    assert setting(first) == setting(second)
    assert not {"strategy", "options", "seed", "target"} & setting(first).keys()
    assert setting(first)["training"] == IDENTITY["training"]


# Reading what was written


def test_the_tokenizer_of_an_older_run_is_that_of_its_text(store):
    folder = store.write(make_run(), **{**CONTENTS, "tokenizers": {}})
    assert store.tokenizer_paths(folder.name) == {}
    (folder / "tokenizer.json").write_text("{}")
    assert store.tokenizer_paths(folder.name) == {"text": folder / "tokenizer.json"}


def test_a_run_comes_back_as_it_was_written(store):
    run = make_run()
    folder = store.write(run, **CONTENTS)
    assert folder == store.directory / "runs" / run.id
    assert {path.name for path in folder.iterdir()} == {
        "run.json",
        "curve.csv",
        "predictions.npz",
        "tokenizer-text.json",
        "tokenizer-überschrift.json",
        "checkpoint",
    }
    assert store.get(run.id) == run
    assert store.runs() == [run]
    pd.testing.assert_frame_equal(store.curve(run.id), CURVE)
    predictions = store.predictions(run.id)
    assert predictions.keys() == PREDICTIONS.keys()
    for name, array in PREDICTIONS.items():
        np.testing.assert_array_equal(predictions[name], array, strict=True)
    paths = store.tokenizer_paths(folder.name)
    assert {name: path.read_text(encoding="utf-8") for name, path in paths.items()} == CONTENTS["tokenizers"]
    assert folders(store) == [run.id]
    assert store.damaged == {}


def test_a_checkpoint_comes_back_as_a_tree_of_arrays(store):
    import jax

    run = make_run()
    store.write(run, checkpoint=jax.tree.map(jax.numpy.asarray, CHECKPOINT))
    like = jax.tree.map(np.zeros_like, CHECKPOINT)
    restored = store.restore(run.id, like)
    assert jax.tree.structure(restored) == jax.tree.structure(CHECKPOINT)
    jax.tree.map(np.testing.assert_array_equal, restored, CHECKPOINT)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(restored))


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (
            np.ones((3, 5), np.float32),
            r"params/head/kernel is \(3, 2\) .* in the checkpoint and \(3, 5\) .* in the model",
        ),
        (np.ones((3, 2), np.int32), r"kernel is \(3, 2\) float32 in the checkpoint and \(3, 2\) int32 in the model"),
        (None, "params/head/kernel is .* in the checkpoint and absent in the model"),
    ],
)
def test_a_checkpoint_of_another_model_is_refused(store, kernel, message):
    run = make_run()
    store.write(run, checkpoint=CHECKPOINT)
    like = copy.deepcopy(CHECKPOINT)
    like["params"]["head"]["kernel"] = kernel
    with pytest.raises(UserError, match=message):
        store.restore(run.id, like)


def test_runs_are_sorted_by_strategy_and_seed(store):
    for strategy, seed in [("tensor", 10), ("tensor", 2), ("concat", 3)]:
        store.write(make_run(seed, strategy))
    assert [(run.strategy, run.seed) for run in store.runs()] == [("concat", 3), ("tensor", 2), ("tensor", 10)]


def test_numbers_that_json_has_no_name_for_are_stored_as_null(store):
    run = make_run(cost={"rates": [1.0, math.nan], "flops": math.inf})
    folder = store.write(run)
    stored = store.get(run.id)
    assert stored is not None
    assert stored.cost == {"rates": [1.0, None], "flops": None}
    assert "NaN" not in (folder / "run.json").read_text()


def test_fields_that_a_later_version_adds_are_ignored(store):
    run = make_run()
    path = store.write(run) / "run.json"
    later = json.loads(path.read_text()) | {"colour": "red"}
    del later["digest"]
    later["digest"] = hashlib.sha256(json.dumps(later, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps(later))
    assert store.get(run.id) == run


def test_what_was_not_written_is_said_to_be_missing(store):
    run = make_run()
    store.write(run)
    assert store.get("concat-s0-0123456789") is None
    for read in (store.predictions, store.curve, lambda identifier: store.restore(identifier, {})):
        with pytest.raises(UserError, match=rf"{run.id} cannot be read: .*; delete that folder and run again"):
            read(run.id)


# Writing once


def test_a_complete_run_is_never_overwritten(store):
    first = make_run()
    store.write(first, predictions=PREDICTIONS)
    store.write(make_run(metrics={"test_accuracy": 0.1}))
    store.write(failed_run())
    assert store.runs() == [first]
    assert store.predictions(first.id).keys() == PREDICTIONS.keys()
    assert folders(store) == [first.id]


def test_a_failed_run_is_replaced(store):
    store.write(failed_run(), curve=CURVE)
    failed = store.get(make_run().id)
    assert failed is not None
    assert (failed.status, failed.reason) == ("failed", "the loss is nan in epoch 3")
    store.write(make_run(), predictions=PREDICTIONS)
    assert store.runs() == [make_run()]
    assert not (store.directory / "runs" / failed.id / "curve.csv").exists()
    assert folders(store) == [failed.id]


def test_a_run_whose_id_is_of_another_identity_is_a_mistake(store):
    with pytest.raises(ValueError, match="should have the id"):
        store.write(make_run(id="tensor-s0-0000000000"))


def test_the_quicker_of_two_processes_wins(store, monkeypatch):
    """Both found no run, both wrote; the second one's rename finds the first one's folder."""
    run, rename = make_run(), Path.rename

    def overtaken(path, target):
        if ".partial-" in path.name and not Path(target).exists():
            monkeypatch.setattr(Path, "rename", rename)
            Store(store.directory).write(run, predictions=PREDICTIONS)
            path.mkdir()  # the other process shares this one's id here, so it removed the folder
            (path / "run.json").touch()
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", overtaken)
    store.write(run)
    assert store.predictions(run.id).keys() == PREDICTIONS.keys()
    assert folders(store) == [run.id]


# What a killed process leaves

KILLED = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from tests.store.test_store import CHECKPOINT, CURVE, PREDICTIONS, make_run
from fusion_bench.store import Store, checkpoint, record

def kill(*arguments): os.kill(os.getpid(), 9)

checkpoint.save = kill if sys.argv[2] == "checkpoint" else lambda path, tree: path.mkdir()
record.write_record = kill
Store(Path(sys.argv[1])).write(make_run(), curve=CURVE, predictions=PREDICTIONS, checkpoint=CHECKPOINT)
"""


@pytest.mark.parametrize("moment", ["checkpoint", "record"])
def test_a_run_that_was_killed_half_written_is_absent_and_cleared_away(store, moment):
    root = str(Path(__file__).parents[1])
    command = [sys.executable, "-c", KILLED, str(store.directory), moment, root]
    assert subprocess.run(command, check=False).returncode == -9
    (left,) = folders(store)
    assert left.startswith(".partial-")
    assert store.runs() == []
    assert store.get(make_run().id) is None
    store.write(make_run(1))
    assert folders(store) == [make_run(1).id]


def test_what_a_live_process_or_another_machine_is_writing_is_left_alone(store):
    store.write(make_run(1))
    runs = store.directory / "runs"
    this_machine = f"@{os.uname().nodename}-"
    kept = [f".partial-a{this_machine}{os.getppid()}", ".partial-b@elsewhere-999999999", ".partial-c"]
    for name in kept:
        (runs / name).mkdir()
    (runs / f".partial-d{this_machine}999999999").mkdir()
    store.write(make_run(2))
    assert folders(store) == sorted([*kept, make_run(1).id, make_run(2).id])
    assert store.runs() == [make_run(1), make_run(2)]


def test_a_half_written_text_file_is_cleared_away(store):
    store.publish("table.md", "old")
    left = store.directory / f".partial-table.md@{os.uname().nodename}-999999999"
    left.write_text("ne")
    store.publish("table.md", "new")
    assert not left.exists()
    assert (store.directory / "table.md").read_text() == "new"


def truncated(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(path):
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(content)


def of_another_seed(path):
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))


def better(path):
    path.write_text(path.read_text().replace('"test_accuracy": 0.75', '"test_accuracy": 0.95'))


def without_metrics(path):
    path.write_text(json.dumps(json.loads(path.read_text()) | {"metrics": {}}))


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("run.json", Path.unlink, "run.json: No such file"),
        ("run.json", truncated, "run.json: "),
        ("run.json", lambda path: path.write_text(""), "run.json: "),
        ("run.json", lambda path: path.write_text("[]"), "run.json: "),
        ("run.json", lambda path: path.write_text("{}"), "run.json: "),
        ("run.json", lambda path: path.write_bytes(b"\xff\xfe"), "run.json: "),
        ("run.json", of_another_seed, "run.json is of another run"),
        ("run.json", without_metrics, "run.json: 'test_accuracy'"),
        ("predictions.npz", Path.unlink, "predictions.npz is missing"),
        ("run.json", better, "run.json was changed after it was written"),
        ("predictions.npz", truncated, "predictions.npz was changed after it was written"),
        ("predictions.npz", flipped, "predictions.npz was changed after it was written"),
        ("curve.csv", lambda path: path.write_text(path.read_text().replace("0.5", "0.9")), "curve.csv was changed"),
        ("curve.csv", Path.unlink, "curve.csv is missing"),
    ],
)  # fmt: skip
def test_a_damaged_run_is_named_left_out_and_replaced(store, name, damage, message):
    intact, run = make_run(1), make_run()
    store.write(intact)
    damage(store.write(run, curve=CURVE, predictions=PREDICTIONS) / name)
    assert store.runs() == [intact]
    assert store.get(run.id) is None
    assert store.damaged.keys() == {run.id}
    assert pd.Series(store.damaged[run.id]).str.match(message).all(), store.damaged
    assert "\n" not in store.damaged[run.id]

    store.write(run, curve=CURVE, predictions=PREDICTIONS)
    assert store.runs() == [run, intact]
    assert store.damaged == {}


@pytest.mark.parametrize("damage", [truncated, flipped, lambda path: path.write_bytes(b"")])
def test_damaged_predictions_are_reported_with_what_to_do(store, damage):
    run = make_run()
    damage(store.write(run, predictions=PREDICTIONS) / "predictions.npz")
    with pytest.raises(UserError, match=r"the predictions of .* cannot be read: .*; delete that folder and run again"):
        store.predictions(run.id)


def test_a_damaged_checkpoint_is_reported_in_one_line(store):
    run = make_run()
    folder = store.write(run, checkpoint=CHECKPOINT)
    for path in (folder / "checkpoint").rglob("*"):
        if path.is_file():
            truncated(path)
    with pytest.raises(UserError, match=r"the checkpoint of .* cannot be read") as caught:
        store.restore(run.id, CHECKPOINT)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_changed_weights_is_reported(store):
    first, second = make_run(0), make_run(1)
    folders = [store.write(run, checkpoint=CHECKPOINT) for run in (first, second)]
    shutil.rmtree(folders[0] / "checkpoint")
    checkpoint.save(folders[0] / "checkpoint", jax.tree.map(np.zeros_like, CHECKPOINT))
    with pytest.raises(UserError, match=r"the checkpoint of .* it was changed after it was written"):
        store.restore(first.id, CHECKPOINT)
    store.restore(second.id, CHECKPOINT)


# Directories that cannot be written to


def test_nothing_is_created_before_the_first_write(store):
    assert store.runs() == []
    assert store.get("concat-s0-0123456789") is None
    assert not store.directory.exists()


@pytest.mark.parametrize("below", ["", "deep/er"])
def test_a_directory_below_a_file_is_refused_at_once(tmp_path, below):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match=r"results cannot be written to .*notes\.txt is not a directory"):
        Store(tmp_path / "notes.txt" / below)


def test_a_dangling_link_is_refused_at_once(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match="link is not a directory"):
        Store(tmp_path / "link")


def test_a_directory_without_permission_is_refused_at_once(tmp_path, monkeypatch):
    def refuse(dir):
        assert dir == tmp_path
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(UserError, match=f"{re.escape(str(tmp_path))} is not writable"):
        Store(tmp_path / "study")


def test_runs_can_be_read_without_permission_to_write(store, monkeypatch):
    store.write(make_run())
    monkeypatch.setattr("tempfile.TemporaryFile", None)
    assert Store(store.directory, read_only=True).runs() == [make_run()]


def test_there_must_be_runs_to_read(tmp_path):
    with pytest.raises(UserError, match="there are no runs in"):
        Store(tmp_path, read_only=True)


@pytest.mark.parametrize(
    ("where", "code", "message"),
    [
        ("pathlib.Path.mkdir", errno.EROFS, "Read-only file system"),
        ("numpy.savez", errno.ENOSPC, "No space left on device"),
        ("pathlib.Path.rename", errno.EACCES, "Permission denied"),
    ],
)
def test_a_write_that_fails_leaves_nothing_and_says_why(store, monkeypatch, where, code, message):
    store.write(make_run(1))

    def fail(*arguments, **options):
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(where, fail)
        with pytest.raises(UserError, match=rf"cannot be written to .*: {message}") as caught:
            store.write(make_run(), predictions=PREDICTIONS)
    assert isinstance(caught.value, DiskFull) == (code == errno.ENOSPC)
    assert folders(store) == [make_run(1).id]
    store.write(make_run(), predictions=PREDICTIONS)
    assert store.runs() == [make_run(), make_run(1)]


def test_a_disk_that_is_full_of_a_checkpoint_is_said_as_for_other_files(store, monkeypatch, caplog):
    """Orbax does not raise what the system does."""

    def fail(*arguments):
        logging.getLogger("absl").error("a long trace")
        raise ValueError("RESOURCE_EXHAUSTED: Error writing 'a/0': No space left [os_error_code='28']")

    monkeypatch.setattr("orbax.checkpoint.Checkpointer.save", fail)
    with pytest.raises(DiskFull, match=r"cannot be written to .*: No space left on device$"):
        store.write(make_run(), checkpoint=CHECKPOINT)
    assert caplog.records == []
    assert folders(store) == []


def test_a_checkpoint_that_will_not_fit_is_not_begun(store, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: types.SimpleNamespace(free=70_000))
    store.write(make_run(), checkpoint=CHECKPOINT)
    with pytest.raises(DiskFull, match="No space left on device"):
        store.write(make_run(1), checkpoint={"kernel": np.ones(10_000)})
    assert folders(store) == [make_run().id]
