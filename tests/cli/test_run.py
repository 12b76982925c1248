"""`fusion-bench run`: requests that are refused, and runs that fail."""

import errno
import os
import re
import shutil

import numpy as np
import pandas as pd
import pytest

from fusion_bench.store import Store, record
from tests.studies import make_quick, outcomes, run_arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--strategies", "image-only,concta"], "unknown strategy 'concta'; did you mean concat"),
        (["--strategies", "tensor:widht=8"], "unknown option of tensor 'widht'; did you mean width or widths?"),
        (["--captions", "defualt"], "unknown caption channel 'defualt'; did you mean default or"),
        (["--seeds", "0"], "--seeds is 0; it must be at least 1"),
        (["--epochs", "0"], "--epochs is 0; it must be at least 1"),
        (["--learning-rate", "-1"], "--learning-rate is -1; it must be finite and above 0"),
        (["--bias-rate", "0"], "--bias-rate is 0; it must be finite and above 0"),
        (["--augment", "none", "--flip", "alternating"], "--flip is alternating; it does nothing where"),
        (["--data-seed", "-1"], "--data-seed is -1; it must be at least 0"),
        (["--validation-fraction", "1.5"], "--validation-fraction is 1.5; it must be between 0 and 1"),
        (["--misalign", "1.5"], "--misalign is 1.5; it must be at least 0 and at most 1"),
        (
            ["--missing", "0.2", "--captions", "none"],
            "--missing is 0.2; it needs two modalities, and tiny has one, image",
        ),
        (["--match", "params", "--match-to", "tensr"], "unknown strategy 'tensr'; did you mean tensor"),
        (["--match-to", "sum"], "--match-to is sum; it does nothing where"),
        (["--match", "flops", "--match-to", "canonical"], "--match-to is canonical; it must be one strategy"),
        (["--train-size", "0"], "--train-size is 0; it must be at least 1"),
        (["--train-size", "9"], "--train-size is 9; 10 classes need at least 20 examples"),
        (["--devices", "99"], "--devices is 99; there"),
        (["--strategies", "tensor:width=8:width=9"], "option width of tensor is given twice"),
        (["--strategies", "concat,mid-channel:depth=9"], "mid-channel has depths from 0 to 2"),
        (["--strategies", "cross-attention:width=30"], "30 cannot be divided among 4 heads"),
        (["--strategies", "block:out_features=10", "--match", "params"], "10 is not divisible by 4"),
        (["--data", "shapes", "--audio", "--strategies", "gated"], "gated: it joins two modalities; these are audio,"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_wrong_values(refuse, source, arguments, message):
    assert message in refuse("--data", source, *arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "shape"], "unknown data source 'shape'; did you mean shapes?"),
        (["--data", "absent.npz"], "no file absent.npz"),
        (["--data", "cifar10", "--data-dir", "absent"], "no directory absent"),
    ],
    ids=["name", "file", "directory"],
)
def test_wrong_sources(refuse, arguments, message):
    assert message in refuse(*arguments)


def test_damaged_data_directory(refuse, tmp_path):
    prepared = tmp_path / "tfds" / "cifar10" / "3.0.2"
    prepared.mkdir(parents=True)
    (prepared / "dataset_info.json").write_text('{"name": "cifar10", "versi')
    (prepared / "features.json").write_text("{}")
    assert "cifar10/3.0.2 is damaged" in refuse("--data", "cifar10", "--data-dir", tmp_path / "tfds")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"image": np.zeros((9, 8, 8, 3), np.uint8), "label": np.arange(10) % 2}, "image has shape (9, 8, 8, 3)"),
        ({"image": np.zeros((10, 8), np.uint8), "label": np.arange(10) % 2}, "image"),
        ({"image": np.zeros((10, 8, 8, 3), np.uint8), "label": np.arange(10) - 1}, "label"),
        ({"image": np.zeros((10, 8, 8, 3), np.uint8), "label": np.linspace(0, 1, 10)}, "label"),
    ],
    ids=["count", "shape", "negative", "fractions"],
)
def test_wrong_arrays(refuse, tmp_path, arrays, message):
    np.savez(tmp_path / "wrong.npz", **arrays)
    line = refuse("--data", tmp_path / "wrong.npz")
    assert str(tmp_path / "wrong.npz") in line
    assert message in line


def test_captions_that_miss_ids(refuse, source, tmp_path):
    captions = tmp_path / "captions.csv"
    pd.DataFrame({"id": range(1, 300), "caption": "a thing"}).to_csv(captions, index=False)
    line = refuse("--data", source, "--captions", captions)
    assert f"{captions}: 1 id" in line
    assert "(0)" in line


def test_unwritable_directory(refuse, source, tmp_path):
    (tmp_path / "file").write_text("")
    line = refuse("--data", source, "--out", tmp_path / "file" / "out")
    assert f"{tmp_path / 'file'} is not a directory" in line


def test_a_diverged_run_is_recorded_and_the_others_go_on(broken):
    out, status = broken
    assert status == 1
    good = ("complete", "")
    assert outcomes(out) == {
        ("image-only", 0): ("failed", "the loss is nan in epoch 1, with seed 0"),
        ("image-only", 1): good,
        ("text-only", 0): good,
        ("text-only", 1): good,
        ("late-posthoc", 0): ("failed", "a run that it depends on has failed: image-only, seed 0"),
        ("late-posthoc", 1): good,
        ("bayes-reference", 0): ("failed", "a run that it depends on has failed: image-only, seed 0"),
        ("bayes-reference", 1): good,
    }
    frame = pd.read_csv(out / "table.csv").set_index("strategy")
    assert frame.loc["image-only", ["n_seeds", "n_failed"]].tolist() == [1, 1]
    assert frame.loc["text-only", ["n_seeds", "n_failed"]].tolist() == [2, 0]
    assert "the loss is nan in epoch 1, with seed 0" in (out / "table.md").read_text()


def test_failed_runs_are_tried_again(broken, call, source, tmp_path, monkeypatch):
    out = tmp_path / "out"
    shutil.copytree(broken[0], out)
    make_quick(monkeypatch)
    status, printed, progress = call(*run_arguments(source, out))
    assert status == 0
    assert {outcome for outcome, _ in outcomes(out).values()} == {"complete"}
    lines = progress.splitlines()
    assert lines[:2] == ["runs complete already: 3", "runs to train: 1, epochs of each: 1"]
    assert [line.partition(":")[0] for line in lines[2:]] == [
        "[1/1] image-only, seed 0",
        "late-posthoc, seed 0",
        "bayes-reference, seed 0",
    ]
    assert "late-posthoc" in printed
    assert f"written to {out}/table.csv" in printed
    assert set(pd.read_csv(out / "table.csv")["n_failed"]) == {0}


def test_a_learning_rate_that_diverges(call, source, tmp_path, monkeypatch):
    make_quick(monkeypatch)
    arguments = run_arguments(source, tmp_path, strategies="text-only", seeds=1)
    arguments[arguments.index("--learning-rate") + 1] = "1e30"
    status, _, progress = call(*arguments)
    assert status == 1
    assert "[1/1] text-only, seed 0: failed, the loss is" in progress
    assert outcomes(tmp_path)["text-only", 0][1].endswith("in epoch 1, with seed 0")

    status, printed, _ = call(*run_arguments(source, tmp_path, strategies="text-only", seeds=1))
    assert status == 0  # what failed here before was another study's
    assert "Failed: text-only, seed 0" in " ".join(printed.split())


def test_strategies_that_two_vectors_do_not_suit_are_left_out_and_told(call, refuse, tmp_path):
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(2, 300, 3))
    np.savez(tmp_path / "x.npz", label=np.arange(300) % 10, left=left, right=right)
    arguments = ("--data", tmp_path / "x.npz", "--out", tmp_path / "out")
    status, printed, told = call("run", *arguments, "--dry-run")
    assert status == 0
    assert "left out: early-channel, it joins inside a CNN and needs a grid" in told
    assert "concat" in printed
    assert "early-channel" not in printed
    assert "early-channel: it joins inside a CNN" in refuse(*arguments, "--strategies", "concat,early-channel")


def test_a_full_disk_fails_one_run_and_the_others_go_on(call, source, tmp_path, monkeypatch):
    """There is space for a record of the failure of text-only, and none for that of concat."""
    make_quick(monkeypatch)

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def savez(path, *arguments, original=np.savez, **options):
        return (
            full() if {"text", "concat"} & set(path.parent.name.split("-")) else original(path, *arguments, **options)
        )

    def write_record(folder, run, files, original=record.write_record):
        return full() if run.strategy == "concat" else original(folder, run, files)

    arguments = run_arguments(source, tmp_path / "out", strategies="image-only,text-only,concat", seeds=1)
    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", savez)
        patch.setattr(record, "write_record", write_record)
        status, _, error = call(*arguments)
    assert status == 1
    for strategy in ("text-only", "concat"):
        assert re.search(rf"{strategy}, seed 0: failed, .* cannot be written to .*: No space left on device", error)
    store = Store(tmp_path / "out")
    statuses = {run.strategy: run.status for run in store.runs()}
    assert statuses == {"image-only": "complete", "text-only": "failed", "bayes-reference": "complete"}
    assert call(*arguments)[0] == 0
    assert {run.status for run in store.runs()} == {"complete"}
