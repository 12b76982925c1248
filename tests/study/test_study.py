import dataclasses
import json
import shutil

import pandas as pd
import pytest

import fusion_bench
from fusion_bench.errors import UserError
from tests.studies import STRATEGIES, TRAINED, make_config, run_recorded, write_source

COLUMNS = (
    *("strategy", "family", "n_seeds", "params", "test_accuracy_mean", "test_accuracy_ci95"),
    *("train_examples_per_s", "inference_examples_per_s", "compile_s"),
)
FILES = {"run.json", "curve.csv", "predictions.npz", "tokenizer-text.json", "checkpoint"}


@pytest.fixture
def resumed(plain, tmp_path):
    """Returns a function that runs a study in a copy of the finished one's directory."""
    out = tmp_path / "out"
    shutil.copytree(plain.config.out, out)
    return lambda **changes: run_recorded(dataclasses.replace(plain.config, out=out, **changes))


def test_each_strategy_is_compiled_once_and_every_run_announced(plain):
    assert plain.compiled == TRAINED
    assert plain.events == [("begin", 3, 1)]
    done = [(run.strategy, run.identity["target"]) for run in plain.runs]
    both = [(name, target) for name in (*TRAINED, "late-posthoc") for target in ("cost", "label")]
    assert done == [*both, ("bayes-reference", "label")]
    assert all(run.status == "complete" for run in plain.runs)


@pytest.mark.parametrize(
    ("strategy", "missing"),
    [
        *((strategy, set()) for strategy in TRAINED),
        ("late-posthoc", {"curve.csv"}),
        ("bayes-reference", {"curve.csv", "checkpoint"}),
    ],
)
def test_files_of_a_run(plain, strategy, missing):
    folder = plain.config.out / "runs" / plain.stored(strategy).id
    assert {path.name for path in folder.iterdir()} == FILES - missing


def test_nothing_else_is_left_behind(plain):
    names = {path.name for path in plain.config.out.iterdir()}
    assert names == {"runs", "examples", "table.csv", "table.md"}
    hidden = {path.name for path in (plain.config.out / "runs").iterdir() if path.name.startswith(".")}
    assert hidden == {".locks"}
    assert len(plain.store.runs()) == 9


def test_record_of_a_run(plain):
    record = json.loads((plain.config.out / "runs" / plain.stored("concat").id / "run.json").read_text())
    assert record["identity"]["training"]["learning_rate"] == 0.01
    assert record["identity"]["data"]["captions"] == "default"
    assert len(record["identity"]["fingerprint"]) == 64
    assert record["data"]["n_train"] + record["data"]["n_validation"] == 240
    assert record["data"]["n_test"] == 60
    assert record["metrics"]["epoch"] == 1
    assert {"jax", "flax", "optax"} <= set(record["environment"]["packages"])
    assert set(record["cost"]) == {"params", "train_seconds", "train_flops", "inference_flops"}
    assert min(record["cost"].values()) > 0


@pytest.mark.parametrize("strategy", [*TRAINED, "late-posthoc"])
def test_costs_are_measured_once_by_a_run_of_their_own(plain, strategy):
    run = plain.stored(strategy, target="cost")
    folder = plain.config.out / "runs" / run.id
    assert {path.name for path in folder.iterdir()} == {"run.json"}
    assert run.metrics == {}
    for rate in ("inference_examples_per_s", *(["train_examples_per_s"] if strategy in TRAINED else [])):
        assert 0 < run.cost[f"{rate}_low"] <= run.cost[rate] <= run.cost[f"{rate}_high"]
    assert min(run.cost["compile_s"], run.cost["latency_s"]) > 0


def test_curve_has_a_row_an_epoch(plain):
    run = plain.stored("image-only")
    curve = plain.store.curve(run.id)
    assert curve["epoch"].tolist() == [1]
    assert curve["validation_accuracy"].item() == pytest.approx(run.metrics["validation_accuracy"])
    assert curve["validation_loss"].item() == pytest.approx(run.metrics["validation_loss"], abs=1e-5)


def test_table(plain):
    frame = pd.read_csv(plain.config.out / "table.csv").set_index("strategy")
    assert set(COLUMNS) <= {"strategy", *frame.columns}
    assert list(frame.index[:5]) == [*TRAINED, "late-posthoc", "bayes-reference"]
    assert frame.loc[[*TRAINED, "late-posthoc"], list(COLUMNS[-3:])].gt(0).all(axis=None)
    for strategy in (*TRAINED, "late-posthoc", "bayes-reference"):
        predictions = plain.store.predictions(plain.stored(strategy).id)
        accuracy = (predictions["test_logits"].argmax(1) == predictions["test_labels"]).mean()
        assert frame.loc[strategy, "test_accuracy_mean"] == pytest.approx(accuracy, abs=1e-5)
        assert frame.loc[strategy, "n_seeds"] == 1
    assert frame.equals(pd.read_csv(plain.config.out / "table.csv").set_index("strategy"))
    assert list(plain.frame["strategy"]) == list(frame.index)


def test_the_same_command_again_trains_nothing(plain, resumed):
    again = resumed()
    assert again.compiled == []
    assert again.runs == []
    assert again.events == [("kept", 3), ("begin", 0, 1)]
    pd.testing.assert_frame_equal(again.frame, plain.frame)
    for name in ("table.csv", "table.md"):
        assert (again.config.out / name).read_bytes() == (plain.config.out / name).read_bytes()


def test_seeds_added_later_train_only_those(plain, resumed):
    more = resumed(strategies=("text-only",), seeds=2)
    assert more.events == [("kept", 1), ("begin", 1, 1)]
    assert [(run.strategy, run.seed) for run in more.runs] == [("text-only", 1)]
    old = plain.stored("text-only")
    assert (more.config.out / "runs" / old.id / "run.json").read_bytes() == (
        plain.config.out / "runs" / old.id / "run.json"
    ).read_bytes()
    row = more.frame.set_index("strategy").loc["text-only"]
    assert row["n_seeds"] == 2
    assert row["test_accuracy_ci95"] >= 0


def test_a_damaged_run_is_made_anew(plain, resumed):
    name = plain.stored("bayes-reference").id
    (resumed(strategies=("image-only",)).config.out / "runs" / name / "predictions.npz").write_bytes(b"cut off")
    assert [run.id for run in resumed(strategies=("image-only",)).runs] == [name]


def test_posthoc_fusion_brings_its_members(shifted):
    labels = [(run.strategy, run.identity["target"]) for run in shifted.runs if run.metrics]
    assert labels == [
        ("image-only", "label"),
        ("image-only", "class"),
        ("text-only", "label"),
        ("late-posthoc", "label"),
        ("bayes-reference", "label"),
    ]
    assert shifted.compiled == ["image-only", "text-only"]


def test_models_of_the_class_are_no_rows(shifted):
    rows = shifted.frame.set_index("strategy")
    assert list(rows.index[:4]) == ["image-only", "text-only", "late-posthoc", "bayes-reference"]
    assert rows.index.is_unique
    of_label, of_class = (shifted.stored("image-only", target=target) for target in ("label", "class"))
    assert rows.loc["image-only", "n_seeds"] == 1
    assert rows.loc["image-only", "test_accuracy_mean"] == of_label.metrics["test_accuracy"]
    stored = [shifted.store.predictions(run.id)["test_labels"] for run in (of_label, of_class)]
    assert (stored[0] != stored[1]).any()


def test_one_modality_cannot_be_fused(tmp_path):
    path = write_source(tmp_path / "photos.npz")
    with pytest.raises(UserError, match="photos has one modality, image; a fusion needs two"):
        fusion_bench.run(make_config(path, tmp_path / "out", strategies=STRATEGIES, captions="none"))
