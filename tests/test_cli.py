import dataclasses
import errno
import functools
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pandas as pd
import pytest

from fusion_bench.benchmark import study
from fusion_bench.cli import main
from fusion_bench.data.captions import PRESETS
from fusion_bench.store import Store, record
from tests.studies import TRAINING, make_quick, write_source

FAMILIES = ("unimodal", "early", "intermediate", "tensor", "late")


@pytest.fixture(scope="session")
def source(tmp_path_factory):
    return write_source(tmp_path_factory.mktemp("cli") / "tiny.npz")


@pytest.fixture
def call(capsys, monkeypatch):
    """Returns a function that calls the command line: exit status, standard output, standard error."""
    monkeypatch.setenv("COLUMNS", "80")

    def call(*arguments):
        with pytest.raises(SystemExit) as exit_:
            main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return exit_.value.code or 0, printed.out, printed.err

    return call


@pytest.fixture
def refuse(call, tmp_path):
    """Returns a function that runs what cannot be run, and gives the one line that says why."""

    def refuse(*arguments, command="run"):
        out = ("--out", tmp_path / "out") if command == "run" and "--out" not in arguments else ()
        status, printed, line = call(command, *arguments, *out)
        assert status == 2
        assert printed == ""
        assert line.startswith("fusion-bench: ")
        assert line.count("\n") == 1
        assert not (tmp_path / "out").exists()
        return line

    return refuse


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--strategies", "image-only,concta"], "unknown strategy 'concta'; did you mean concat"),
        (["--strategies", "tensor:widht=8"], "unknown option of tensor 'widht'; did you mean width?"),
        (["--captions", "defualt"], "unknown caption channel 'defualt'; did you mean default or"),
        (["--seeds", "0"], "--seeds is 0; it must be at least 1"),
        (["--epochs", "0"], "--epochs is 0; it must be at least 1"),
        (["--learning-rate", "-1"], "--learning-rate is -1.0; it must be finite and above 0"),
        (["--bias-rate", "0"], "--bias-rate is 0.0; it must be finite and above 0"),
        (["--no-augment", "--flip", "alternating"], "--flip alternating does nothing with --no-augment"),
        (["--data-seed", "-1"], "--data-seed is -1; it must be at least 0"),
        (["--validation-fraction", "1.5"], "1.5"),
        (["--match", "params", "--match-to", "tensr"], "unknown strategy 'tensr'; did you mean tensor"),
        (["--match-to", "sum"], "--match-to sum does nothing without --match params or --match flops"),
        (["--match", "flops", "--match-to", "canonical"], "--match-to takes one strategy, got 'canonical'"),
        (["--train-size", "0"], "0"),
        (["--strategies", "concat,mid-channel:depth=9"], "mid-channel has depths from 0 to 2"),
        (["--strategies", "cross-attention:width=30"], "30 cannot be divided among 4 heads"),
        (["--strategies", "block:out_features=10", "--match", "params"], "10 is not divisible by 4"),
        (
            ["--data", "shapes", "--audio", "--strategies", "gated"],
            "gated joins two modalities; these are audio,",
        ),
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
        (
            {"image": np.zeros((9, 8, 8, 3), np.uint8), "label": np.arange(10) % 2},
            "image has shape (9, 8, 8, 3)",
        ),
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


def test_table_without_runs(refuse, tmp_path):
    assert f"no runs in {tmp_path}" in refuse(tmp_path, command="table")
    assert "no runs in absent" in refuse("absent", command="table")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["synergi"], "unknown caption channel 'synergi'; did you mean synergy?"),
        (["default", "-n", "0"], "-n is 0; it must be at least 1"),
        (["default", "--data-seed", "-1"], "--data-seed is -1"),
        (["default", "--data", "cifar1"], "unknown data source 'cifar1'; did you mean cifar10?"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_wrong_captions(refuse, arguments, message):
    assert message in refuse(*arguments, command="captions")


@pytest.mark.parametrize("arguments", [["run", "--seedz", "3"], ["run", "--seeds", "many"], ["rum"], []])
def test_wrong_words(call, arguments):
    status, printed, error = call(*arguments)
    assert status == 2
    assert printed == ""
    assert "Traceback" not in error
    assert "fusion-bench" in error
    if "--seedz" in arguments:
        assert "--seeds" in error.replace("--seedz", "")


@pytest.fixture(scope="module")
def broken(source, tmp_path_factory):
    """A study whose image-only run with seed 0 diverges: its directory and exit status."""
    out = tmp_path_factory.mktemp("broken")
    with pytest.MonkeyPatch.context() as patch:
        make_quick(patch)

        def compile_program(spec, *arguments, original=study.compile_program):
            program = original(spec, *arguments)
            if spec.label != "image-only":
                return program

            def train(state, data, indices, seed, steps):
                state, loss = program.train(state, data, indices, seed, steps)
                return state, loss if seed else loss * np.nan

            return dataclasses.replace(program, train=train)

        patch.setattr(study, "compile_program", compile_program)
        with pytest.raises(SystemExit) as exit_:
            main(run_arguments(source, out))
    return out, exit_.value.code


def run_arguments(source, out, *more, strategies="late-posthoc", seeds=2):
    words = [
        "run",
        "--data",
        source,
        "--strategies",
        strategies,
        "--seeds",
        seeds,
        "--out",
        out,
        *TRAINING,
        *more,
    ]
    return [str(word) for word in words]


def outcomes(out):
    return {(run.strategy, run.seed): (run.status, run.reason) for run in Store(out).runs()}


def test_a_diverged_run_is_recorded_and_the_others_go_on(broken):
    out, status = broken
    assert status == 1
    good = ("complete", "")
    assert outcomes(out) == {
        ("image-only", 0): ("failed", "the loss is nan in epoch 1, with seed 0"),
        ("image-only", 1): good,
        ("text-only", 0): good,
        ("text-only", 1): good,
        ("late-posthoc", 0): ("failed", "a unimodal run that it joins has failed"),
        ("late-posthoc", 1): good,
        ("bayes-reference", 0): ("failed", "the image model that it uses has failed"),
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


def test_a_strategy_that_cannot_join_the_data_is_recorded_and_the_others_go_on(call, tmp_path, monkeypatch):
    make_quick(monkeypatch)
    rng = np.random.default_rng(0)
    label = np.arange(300) % 10
    split = np.where(np.arange(300) < 200, "train", "test")
    np.savez(
        tmp_path / "x.npz", sensor=rng.normal(size=(300, 3)).astype(np.float32), label=label, split=split
    )
    arguments = run_arguments(tmp_path / "x.npz", tmp_path, strategies="early-channel,concat", seeds=1)
    status, _, _ = call(*arguments)
    assert status == 1
    reason = "a strategy inside a CNN needs a grid; these data have none"
    assert outcomes(tmp_path) == {("early-channel", 0): ("failed", reason), ("concat", 0): ("complete", "")}


def test_captions_are_not_laid_over_a_text(refuse, tmp_path):
    text, label = np.ones((300, 4), np.int32), np.arange(300) % 10
    np.savez(tmp_path / "own.npz", image=np.zeros((300, 8, 8, 3), np.uint8), text=text, label=label)
    line = refuse("--data", tmp_path / "own.npz", "--captions", "synergy")
    assert "brings a text of its own; --captions synergy cannot replace it" in line


@pytest.mark.parametrize("form", ["terminal", "md", "csv", "latex"])
def test_table_formats(broken, call, form):
    status, printed, error = call("table", broken[0], *(["--format", form] if form != "terminal" else []))
    assert (status, error) == (0, "")
    assert max(map(len, printed.splitlines())) <= 80 or form != "terminal"
    if form == "csv":
        (broken[0] / "printed.csv").write_text(printed)
        frame = pd.read_csv(broken[0] / "printed.csv")
        assert list(frame["strategy"][:4]) == ["image-only", "text-only", "late-posthoc", "bayes-reference"]
    elif form == "md":
        assert printed == (broken[0] / "table.md").read_text()
    else:
        assert (r"\toprule" in printed) == (form == "latex")
        for strategy in ("image-only", "text-only", "late-posthoc", "bayes-reference"):
            assert strategy in printed


def test_table_names_damaged_runs(broken, call, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(broken[0], out)
    (run,) = [run for run in Store(out).runs() if (run.strategy, run.seed) == ("text-only", 1)]
    (out / "runs" / run.id / "run.json").write_text("{")
    status, printed, error = call("table", out, "--format", "csv")
    assert status == 0
    assert error.startswith(f"fusion-bench: left out {run.id}: run.json")
    assert "late-posthoc" in printed


def test_captions(call):
    status, printed, error = call("captions", "default", "-n", "3")
    assert (status, error) == (0, "")
    for figure in ("1.216", "0.4467", "1.0000"):
        assert figure in printed
    assert call("captions", "default", "-n", "3")[1] == printed
    assert call("captions", "default", "-n", "3", "--data-seed", "1")[1] != printed


def test_captions_of_classes_with_brackets(call, tmp_path):
    names = np.array(["[bold]", "[/red]", "c", "d"])
    np.savez(
        tmp_path / "b.npz", image=np.zeros((8, 8, 8, 3), np.uint8), label=np.arange(8) % 4, class_names=names
    )
    status, printed, _ = call("captions", "clean", "-n", "20", "--data", tmp_path / "b.npz")
    assert status == 0
    assert "[bold]" in printed
    assert "[/red]" in printed


def test_exported_captions_can_be_given_back(call, source, tmp_path, monkeypatch):
    make_quick(monkeypatch)
    path = tmp_path / "captions.csv"
    status, printed, _ = call("captions", "default", "--data", source, "--export", path)
    assert (status, printed) == (0, f"300 captions written to {path}\n")
    table = pd.read_csv(path)
    assert list(table.columns) == ["id", "split", "caption", "y", "k", "t"]
    assert table["id"].tolist() == list(range(300))
    with np.load(source) as arrays:
        np.testing.assert_array_equal(table["y"], arrays["label"])
        np.testing.assert_array_equal(table["split"] == "test", arrays["split"] == "test")
    np.testing.assert_array_equal(table["t"], np.mod(table["y"] + table["k"], 10))

    status, printed, _ = call(
        *run_arguments(source, tmp_path / "out", "--captions", path, strategies="text-only", seeds=1)
    )
    assert status == 0
    frame = pd.read_csv(tmp_path / "out" / "table.csv")
    assert frame["strategy"].tolist() == ["text-only"]  # a channel of one's own has no ceilings


def test_list_json(call):
    status, printed, error = call("list", "--json")
    assert (status, error) == (0, "")
    catalogue = json.loads(printed)
    assert list(catalogue) == ["strategies", "datasets", "captions", "encoders"]
    fields = ["name", "family", "summary", "reference", "options"]
    assert all(list(entry) == fields for entry in catalogue["strategies"])
    assert {entry["family"] for entry in catalogue["strategies"]} <= set(FAMILIES)
    assert all(entry[field] for entry in catalogue["strategies"] for field in fields[:-1])
    names = {part: [entry["name"] for entry in entries] for part, entries in catalogue.items()}
    canonical = {"image-only", "text-only", "early-channel", "early-token", "concat", "tensor", "late-mean"}
    assert canonical | {"late-posthoc"} <= set(names["strategies"])
    assert {"shapes", "cifar10"} <= set(names["datasets"])
    assert names["captions"] == list(PRESETS)
    assert {"tiny", "small", "resnet9"} <= set(names["encoders"])
    figures = ["name", "bits", "interaction_bits", "text_only_ceiling", "image_only_ceiling", "summary"]
    assert all(list(entry) == figures for entry in catalogue["captions"])
    assert all(list(entry) == ["name", "summary"] for entry in catalogue["datasets"] + catalogue["encoders"])
    (synergy,) = [entry for entry in catalogue["captions"] if entry["name"] == "synergy"]
    assert synergy["interaction_bits"] == pytest.approx(np.log2(10))


def test_list_is_readable_in_80_columns(call):
    status, printed, error = call("list")
    assert (status, error) == (0, "")
    assert max(map(len, printed.splitlines())) <= 80
    words = " ".join(printed.split())
    formulas = ("; …; ", "⊗ … ⊗", ", …]", "×_1 z_1 … ×_M")
    assert "…" not in functools.reduce(
        lambda text, formula: text.replace(formula, ""), formulas, words
    )  # nothing is cut off
    catalogue = json.loads(call("list", "--json")[1])
    for entry in catalogue["strategies"]:
        assert f"{entry['name']} {entry['family']} " in words
        assert entry["summary"].split()[-1] in words
        assert entry["reference"] not in words or entry["reference"] in (
            "baseline",
            "baseline of early-token",
        )
    assert "[h_1; …; h_M]" in words
    assert ":rank=4" in words
    assert all(name in words for name in PRESETS)


@pytest.mark.parametrize("command", [["run"], ["captions"], ["table"], ["report"], ["list"]])
def test_help_states_each_default_once(call, command):
    status, printed, _ = call(*command, "--help")
    assert status == 0
    assert "None" not in printed
    assert "True" not in printed


QUICK = """
    import sys
    sys.argv = ["fusion-bench", *sys.argv[1:]]
    from fusion_bench.cli import main
    try:
        main()
    finally:
        heavy = {"jax", "flax", "pandas", "tensorflow_datasets", "tokenizers", "orbax"} & set(sys.modules)
        print("heavy:", *sorted(heavy), file=sys.stderr)
"""


@pytest.mark.parametrize("arguments", [["--help"], ["list", "--help"], ["captions", "synergy", "-n", "1"]])
def test_quick_commands_import_nothing_heavy(arguments):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(QUICK), *arguments], capture_output=True, text=True, check=True
    )
    assert done.stdout
    assert done.stderr == "heavy:\n"


def test_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "fusion_bench", "captions", "synergi"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == "fusion-bench: unknown caption channel 'synergi'; did you mean synergy?\n"


def test_a_full_disk_fails_one_run_and_the_others_go_on(call, source, tmp_path, monkeypatch):
    """There is space for a record of the failure of text-only, and none for that of concat."""
    make_quick(monkeypatch)

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def savez(path, *arguments, original=np.savez, **options):
        return (
            full()
            if {"text", "concat"} & set(path.parent.name.split("-"))
            else original(path, *arguments, **options)
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
        assert re.search(
            rf"{strategy}, seed 0: failed, .* cannot be written to .*: No space left on device", error
        )
    store = Store(tmp_path / "out")
    statuses = {run.strategy: run.status for run in store.runs()}
    assert statuses == {"image-only": "complete", "text-only": "failed", "bayes-reference": "complete"}
    assert call(*arguments)[0] == 0
    assert {run.status for run in store.runs()} == {"complete"}


def test_a_run_that_was_edited_by_hand_is_named_and_made_anew(broken, call, source, tmp_path, monkeypatch):
    make_quick(monkeypatch)
    out = tmp_path / "out"
    shutil.copytree(broken[0], out)
    (run,) = [run for run in Store(out).runs() if (run.strategy, run.seed) == ("text-only", 1)]
    path = out / "runs" / run.id / "run.json"
    genuine = path.read_text()
    path.write_text(genuine.replace('"test_accuracy": 0', '"test_accuracy": 1'))
    fault = "run.json was changed after it was written"
    status, _, error = call("table", out, "--format", "csv")
    assert (status, error) == (0, f"fusion-bench: left out {run.id}: {fault}\n")

    status, _, progress = call(*run_arguments(source, out, strategies="text-only"))
    assert status == 0
    assert progress.splitlines()[0] == f"text-only, seed 1: made anew, {run.id} is damaged: {fault}"
    metrics = json.loads(genuine)["metrics"]
    assert json.loads(path.read_text())["metrics"] == metrics
