import dataclasses
import io
import itertools
import math
import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from fusion_bench.cli import main
from fusion_bench.config import Choice
from fusion_bench.errors import UserError
from fusion_bench.report.block import best_unimodal, blocks
from fusion_bench.report.columns import COLUMNS, choose_columns, known_columns
from fusion_bench.report.render import to_latex, to_markdown, to_rich, write_tables
from fusion_bench.report.table import arrange, table, to_csv
from fusion_bench.store import Run, Store, run_id
from fusion_bench.store.diagnosed import write_values

T_TWO = 4.302653  # 97.5 % quantile of Student's t with two degrees of freedom, n = 3
T_ONE = 12.706205  # with one, n = 2

KEYS = (
    *("strategy", "family", "n_seeds", "n_failed", "params", "test_accuracy_mean", "test_accuracy_ci95"),
    *("gain_mean", "gain_ci95", "gain_p", "gain_over", "ties_best", "rank", "rank_low", "rank_high"),
    *("detectable_gain", "detectable_gain_corrected", "seeds_for_a_point", "seeds_for_a_point_corrected"),
    *("baseline_kind", "baseline", "baseline_gain_mean", "baseline_gain_ci95"),
    *("reference_gain_mean", "reference_gain_ci95", "reference_p", "validation_accuracy_mean"),
    *("train_examples_per_s", "inference_examples_per_s", "latency_s", "compile_s"),
    *("train_flops", "inference_flops", "train_seconds"),
    *("match", "match_to", "match_target", "match_ratio", "tune", "learning_rate", "weight_decay"),
    *("dataset", "description", "data_notes", "augmented", "misalign", "missing", "damage"),
    *("captions", "bits", "interaction_bits", "encoder", "epochs"),
    *(
        "n_train",
        "n_validation",
        "n_test",
        "device",
        "version",
        "commit",
        "plugins",
        "cores",
        "setting",
        "differs",
        "failures",
    ),
)
DETAILS = (
    *("accuracy_mean", "accuracy_ci95", "balanced_accuracy_mean", "balanced_accuracy_ci95"),
    *("macro_f1_mean", "macro_f1_ci95", "roc_auc_mean", "roc_auc_ci95", "nll_mean", "nll_ci95"),
    *("brier_mean", "brier_ci95", "ece_mean", "ece_ci95", "sampling_ci95", "gain_sampling_ci95"),
)
"""The columns of a CSV, in order."""
DATA = {
    "name": "shapes",
    "description": "ten shapes, drawn from seed 0",
    "captions": "default",
    "notes": ["Nothing was left out."],
    "inputs": {"image": {"augment": ["flip", "translate"]}, "text": {"augment": []}},
    "modalities": ["image", "text"],
    "num_classes": 10,
    "n_train": 4500,
    "n_validation": 500,
    "n_test": 1000,
    "bits": 1.2164,
    "interaction_bits": 0.0,
    "captions_modality": "text",
    "class_modality": "image",
    "text_only_ceiling": 0.4467,
    "image_only_ceiling": 1.0,
}
SHARED = {
    "data": {"source": "shapes", "captions": "default"},
    "model": {"encoder": "tiny"},
    "training": {"epochs": 8, "batch_size": 128},
    "fingerprint": "0123abcd",
    "version": "0.1.0",
    "platform": "cpu",
}


def make_run(strategy, family, seed, accuracy, *, validation=0.5, shared=SHARED, target="label", **changes):
    identity = {
        "strategy": strategy,
        "name": strategy.partition(":")[0],
        "options": {},
        "seed": seed,
        "target": target,
        **shared,
    }
    modality = strategy.partition("-")[0] if family == "unimodal" else None
    trained = family != "reference" and "posthoc" not in strategy
    cost = {"params": 12345, **({"train_seconds": 2.0 + seed} if trained else {})}
    fields = {
        "id": run_id(identity),
        "status": "complete",
        "strategy": strategy,
        "family": family,
        "seed": seed,
        "identity": identity,
        "data": DATA,
        "metrics": {"test_accuracy": accuracy, "validation_accuracy": validation},
        "cost": {} if family == "reference" else cost,
        "environment": {"device": "a processor, 2 cores", "commit": "0123456789", "version": "0.1.0"},
        "baseline": "token-only" if strategy == "early-token" else "only",
        "modality": modality,
    }
    return Run(**fields | changes)


def runs_of(strategy, family, accuracies, **changes):
    return [make_run(strategy, family, seed, accuracy, **changes) for seed, accuracy in enumerate(accuracies)]


IMAGE = runs_of("image-only", "unimodal", [0.60, 0.62, 0.61], validation=0.62)
TEXT = runs_of("text-only", "unimodal", [0.44, 0.45, 0.43], validation=0.44)
CONCAT = runs_of("concat", "intermediate", [0.70, 0.72, 0.74])
LATE = runs_of("late-posthoc", "late", [0.68, 0.70, 0.69])
REFERENCE = runs_of("bayes-reference", "reference", [0.685, 0.70, 0.69])
EARLY_TOKEN = runs_of("early-token", "early", [0.50, 0.52, 0.54])
TOKEN_ONLY = [
    *runs_of("image-token-only", "unimodal", [0.40, 0.42, 0.41], validation=0.41),
    *runs_of("text-token-only", "unimodal", [0.43, 0.44, 0.45], validation=0.40),
]
FAILED = make_run("tensor", "tensor", 2, 0.0, status="failed", metrics={}, cost={}, reason="the loss is nan in epoch 3")
TENSOR = [*runs_of("tensor", "tensor", [0.69, 0.71]), FAILED]


MATCHED = SHARED | {"match": {"quantity": "params", "to": "tensor", "target": 12_000.0}}
BY_FLOPS = SHARED | {"match": {"quantity": "flops", "to": "tensor", "target": 2.0e6}}


def costs_of(run, **cost):
    """The run that measured the costs of a strategy."""
    identity = {**run.identity, "seed": 0, "target": "cost"}
    cost = cost or {"compile_s": 3.0, "train_examples_per_s": 1234.5, "inference_examples_per_s": 98765.0}
    return dataclasses.replace(run, id=run_id(identity), identity=identity, seed=0, metrics={}, cost=cost)


def written(directory, *groups):
    store = Store(directory)
    runs = [run for group in groups for run in group]
    measured = [costs_of(run) for run in runs if run.status == "complete" and run.family != "reference"]
    for run in [*runs, *{run.id: run for run in measured}.values()]:
        store.write(run)
    return store


@pytest.fixture
def frame_of(tmp_path):
    return lambda *groups: table(written(tmp_path, *groups)).set_index("strategy", drop=False)


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    directory = tmp_path_factory.mktemp("study")
    return table(written(directory, IMAGE, TEXT, CONCAT, LATE, REFERENCE, EARLY_TOKEN, TOKEN_ONLY, TENSOR))


def test_rows_are_sorted_by_family_with_reference_and_ceilings_last(full):
    assert list(full["strategy"]) == [
        *("image-only", "text-only", "image-token-only", "text-token-only", "early-token", "concat", "tensor"),
        *("late-posthoc", "bayes-reference", "ceiling: image only", "ceiling: text only"),
    ]
    assert tuple(full.columns) == KEYS


def test_means_and_intervals_by_hand(full):
    row = full.set_index("strategy").loc["concat"]
    # 0.70, 0.72, 0.74: s = 0.02
    assert row["test_accuracy_mean"] == pytest.approx(0.72)
    assert row["test_accuracy_ci95"] == pytest.approx(T_TWO * 0.02 / math.sqrt(3), rel=1e-6)
    # over image-only, seed by seed: 0.10, 0.10, 0.13, whose s = sqrt(0.0003)
    assert row["gain_mean"] == pytest.approx(0.11)
    assert row["gain_ci95"] == pytest.approx(T_TWO * math.sqrt(0.0003) / math.sqrt(3), rel=1e-6)
    assert row["gain_over"] == "image-only"
    # over the Bayes reference: 0.015, 0.02, 0.05
    assert row["reference_gain_mean"] == pytest.approx(0.085 / 3)
    assert (row["n_seeds"], row["n_failed"], row["params"]) == (3, 0, 12345)
    assert row["train_seconds"] == 3.0  # the median of 2, 3, 4
    assert row["compile_s"] == 3.0
    assert (row["train_examples_per_s"], row["inference_examples_per_s"]) == (1234.5, 98765.0)


def test_the_best_unimodal_strategy_has_no_gain_over_itself(full):
    row = full.set_index("strategy").loc["image-only"]
    assert row["gain_over"] == "image-only"
    assert math.isnan(row["gain_mean"])


def test_the_best_unimodal_strategy_is_chosen_on_validation_not_on_test(frame_of):
    image = runs_of("image-only", "unimodal", [0.9, 0.9], validation=0.4)
    text = runs_of("text-only", "unimodal", [0.5, 0.5], validation=0.5)
    frame = frame_of(image, text, runs_of("concat", "intermediate", [0.8, 0.8]))
    assert set(frame.loc[["image-only", "text-only", "concat"], "gain_over"]) == {"text-only"}
    assert frame.loc["concat", "gain_mean"] == pytest.approx(0.3)


def test_the_best_unimodal_strategy_is_never_a_failed_one_nor_a_fusion():
    failed = [make_run("image-only", "unimodal", 0, 0.0, status="failed", metrics={})]
    assert best_unimodal([*failed, *CONCAT]) == ""
    assert best_unimodal([*failed, *CONCAT, *TEXT]) == "text-only"
    assert best_unimodal(TOKEN_ONLY) == ""
    assert best_unimodal(TOKEN_ONLY, "token-only") == "image-token-only"


def test_a_joint_transformer_is_also_compared_with_itself_on_one_modality(full):
    rows = full.set_index("strategy")
    row = rows.loc["early-token"]
    assert (row["gain_over"], row["baseline"]) == ("image-only", "image-token-only")
    assert row["gain_mean"] == pytest.approx(-0.09)
    assert row["baseline_gain_mean"] == pytest.approx(0.11)
    assert list(rows.index[rows["baseline"] != ""]) == ["early-token"]


def test_failed_seeds_are_counted_and_left_out_of_means(full):
    row = full.set_index("strategy").loc["tensor"]
    assert (row["n_seeds"], row["n_failed"]) == (2, 1)
    assert row["test_accuracy_mean"] == pytest.approx(0.70)
    assert row["test_accuracy_ci95"] == pytest.approx(T_ONE * 0.01, rel=1e-6)
    assert row["failures"] == "seed 2: the loss is nan in epoch 3"


def test_ceilings_are_exact_and_have_no_seeds(full):
    rows = full.set_index("strategy")
    for modality, ceiling in [("text", 0.4467), ("image", 1.0)]:
        row = rows.loc[f"ceiling: {modality} only"]
        assert row["test_accuracy_mean"] == ceiling
        assert row["n_seeds"] == 0
        assert row[["test_accuracy_ci95", "gain_mean", "params", "compile_s"]].isna().all()


def test_without_a_channel_there_are_no_ceilings(frame_of):
    data = {name: DATA[name] for name in ("name", "captions", "n_train", "n_validation", "n_test")}
    frame = frame_of(runs_of("image-only", "unimodal", [0.6, 0.7], data=data))
    assert list(frame["strategy"]) == ["image-only"]
    assert "bits" not in to_markdown(frame)


def test_models_of_the_class_serve_the_reference_alone(frame_of):
    helpers = runs_of("image-only", "unimodal", [0.9, 0.9, 0.9], validation=0.9, target="class")
    frame = frame_of(IMAGE, helpers)
    assert frame.loc["image-only", "n_seeds"] == 3
    assert frame.loc["image-only", "test_accuracy_mean"] == pytest.approx(0.61)


def test_a_strategy_of_which_every_seed_failed_keeps_its_row(frame_of):
    frame = frame_of(IMAGE, [FAILED])
    assert (frame.loc["tensor", "n_seeds"], frame.loc["tensor", "n_failed"]) == (0, 1)
    assert "| tensor | tensor | – | – | – | – | – | – |" in to_markdown(frame)


def test_an_empty_store_gives_an_empty_table(tmp_path):
    frame = table(Store(tmp_path))
    assert frame.empty
    assert tuple(frame.columns) == KEYS
    assert (to_markdown(frame), to_latex(frame)) == ("", "")


# Costs, tuning, diagnostics


def test_costs_come_from_the_run_that_measured_them(tmp_path):
    store = Store(tmp_path)
    for run in (*IMAGE, *CONCAT, costs_of(CONCAT[0], compile_s=1.5, latency_s=0.002), costs_of(LATE[0])):
        store.write(run)
    (block,) = blocks(store).values()
    assert {run.strategy for run in block.runs} == {"image-only", "concat"}
    rows = table(store).set_index("strategy")
    assert list(rows.index) == ["image-only", "concat", "ceiling: image only", "ceiling: text only"]
    row = rows.loc["concat"]
    assert (row["n_seeds"], row["compile_s"], row["latency_s"]) == (3, 1.5, 0.002)
    assert (row["params"], row["train_seconds"]) == (12345, 3.0)
    assert math.isnan(row["train_examples_per_s"])
    assert math.isnan(rows.loc["image-only", "compile_s"])


def test_what_tuning_chose_is_read_from_the_identity(tmp_path):
    image, concat = (
        runs_of(strategy, family, accuracies, shared=with_training(learning_rate=rate, weight_decay=0.1) | {"tune": 3})
        for strategy, family, accuracies, rate in (
            ("image-only", "unimodal", [0.6, 0.62], 0.01), ("concat", "intermediate", [0.7, 0.72], 0.002)
        )
    )  # fmt: skip
    joined = runs_of("late-posthoc", "late", [0.7, 0.7], shared=SHARED | {"tune": 3})
    frame = table(written(tmp_path, image, concat, joined))
    assert len(set(frame["setting"])) == 1
    rows = frame.set_index("strategy")
    assert rows.loc[["image-only", "concat"], "learning_rate"].tolist() == [0.01, 0.002]
    assert math.isnan(rows.loc["late-posthoc", "learning_rate"])  # nothing was trained
    assert "image-only 0.01 and 0.1; concat 0.002 and 0.1." in to_markdown(frame)


def test_values_of_diagnostics_are_columns(tmp_path, capsys):
    store = written(tmp_path, IMAGE, CONCAT)
    for run, value in zip(CONCAT, (0.5, 0.6, 0.7), strict=True):
        write_values(tmp_path, run.id, "reliance", Choice("reliance"), 1, (), {"on_text": value}, {})
    frame = table(store)
    assert tuple(frame.columns) == (*KEYS, "on_text_mean", "on_text_ci95")
    row = frame.set_index("strategy").loc["concat"]
    assert row["on_text_mean"] == pytest.approx(0.6)
    assert row["on_text_ci95"] == pytest.approx(T_TWO * 0.1 / math.sqrt(3), rel=1e-6)
    assert "on_text" not in COLUMNS
    lines = to_markdown(frame, choose_columns(["on_text"], known_columns(frame))).splitlines()
    assert lines[4:6] == ["| image-only | – |", "| concat | 0.600 ± 0.248 |"]
    with pytest.raises(SystemExit) as exit_:
        main(["table", str(tmp_path), "--columns", "on_text", "--sort", "on_text", "--format", "csv"])
    assert exit_.value.code == 0
    assert capsys.readouterr().out.splitlines()[0] == "setting,strategy,on_text_mean,on_text_ci95"


# Settings


def with_training(**changes):
    return {**SHARED, "training": {**SHARED["training"], **changes}}


def test_runs_of_different_settings_are_never_averaged_nor_paired(frame_of):
    other = with_training(batch_size=64)
    frame = frame_of(IMAGE, CONCAT, runs_of("concat", "intermediate", [0.1, 0.1], shared=other)).reset_index(drop=True)
    assert frame.groupby("differs")["n_seeds"].max().to_dict() == {"batch_size 128": 3, "batch_size 64": 2}
    small = frame[(frame["differs"] == "batch_size 64") & (frame["strategy"] == "concat")].iloc[0]
    assert small["test_accuracy_mean"] == pytest.approx(0.1)
    assert small["gain_over"] == ""
    headings = re.findall("^### .*$", to_markdown(frame), re.MULTILINE)
    assert [heading.rpartition("; ")[2] for heading in headings] == list(dict.fromkeys(frame["differs"]))


def test_what_a_heading_says_anyway_is_not_said_twice(frame_of):
    assert set(
        frame_of(IMAGE, runs_of("image-only", "unimodal", [0.5], shared=with_training(epochs=2)))["differs"]
    ) == {""}


CEILINGS = {"text_only": 0.4467, "with_class": 0.9849, "text_only_misaligned": 0.3773, "with_class_misaligned": 0.9152}


@pytest.mark.parametrize("facts", [{}, {"misaligned_ceilings": CEILINGS, "missing_ceiling": 0.8518}])
def test_damage_is_told_with_its_ceilings(frame_of, facts):
    probabilities = {"misalign": 0.2, "missing": 0.25}
    shared = {**SHARED, "data": SHARED["data"] | probabilities, "fingerprint": "ffff"}
    data = DATA | {"misaligned_modalities": ["text"]} | facts
    frame = frame_of(IMAGE, runs_of("image-only", "unimodal", [0.5], shared=shared, data=data)).reset_index(drop=True)
    assert {*zip(frame["misalign"], frame["missing"], strict=True)} == {(0, 0), (0.2, 0.25)}
    assert set(frame["differs"]) == {""}
    undamaged, damaged = to_markdown(frame).split("### ")[1:]
    assert "misaligned" not in undamaged
    assert "missing" not in undamaged
    heading, *_, notes = damaged.split("\n", 1)
    assert heading.endswith(
        "; training pairs misaligned with probability 0.2; modalities missing in training with probability 0.25"
    )
    assert "Misaligned in training: with probability 0.2 an example has the text of another one" in notes
    assert "Missing in training: each modality of an example with probability 0.25, but one is kept" in notes
    told = [
        "optimal on such pairs is right in 44.67 % of aligned pairs from text alone, and in 98.49 % from text and the",
        "On misaligned pairs the best possible accuracies are 37.73 % and 91.52 %.",
        "missing with probability 0.25, the best possible accuracy is 85.18 %.",
    ]
    assert [sentence in notes for sentence in told] == [bool(facts)] * 3


def test_blocks_are_in_the_order_of_their_damage(frame_of):
    def with_misalign(rate):
        return {**SHARED, "data": SHARED["data"] | {"misalign": rate}, "fingerprint": f"f{rate}"}

    data = DATA | {"misaligned_modalities": ["text"]}
    rates = (0.6, 0.1, 0.9, 0.3)
    groups = [runs_of("image-only", "unimodal", [0.5], shared=with_misalign(rate), data=data) for rate in rates]
    assert list(dict.fromkeys(frame_of(*groups)["misalign"])) == sorted(rates)


def test_settings_that_differ_in_their_data_alone_are_told_apart_by_its_fingerprint(frame_of):
    other = {**SHARED, "fingerprint": "ffff"}
    frame = frame_of(IMAGE, runs_of("image-only", "unimodal", [0.5], shared=other))
    assert set(frame["differs"]) == {"fingerprint 0123abcd", "fingerprint ffff"}


# Rendering

GOLDEN = """\
### shapes, default captions (1.216 bits), tiny encoders; 8 epochs on 4,500 examples, 1,000 to test

| strategy | family | test accuracy, % | gain over image-only | parameters | train examples/s | test examples/s | compile s |
| --- | --- | --: | --: | --: | --: | --: | --: |
| image-only | unimodal | 61.00 ± 2.48 | – | 12,345 | 1,230 | 98,800 | 3.0 |
| text-only | unimodal | 44.00 ± 2.48 | −17.00 ± 2.48 | 12,345 | 1,230 | 98,800 | 3.0 |
| concat | intermediate | **72.00 ± 4.97** | +11.00 ± 4.30 | 12,345 | 1,230 | 98,800 | 3.0 |
| late-posthoc | late | **69.00 ± 2.48** | +8.00 ± 0.10 | 12,345 | 1,230 | 98,800 | 3.0 |
| bayes-reference | reference | 69.17 ± 1.90 | +8.17 ± 0.72 | – | – | – | – |
| ceiling: image only | ceiling | 100.00 | – | – | – | – | – |
| ceiling: text only | ceiling | 44.67 | – | – | – | – | – |

- ±: 95 % interval over n = 3 seeds (Student's t: 4.3 standard errors), given the split and the captions.
- Gain: over image-only, the best unimodal strategy on validation; percentage points, paired by seed.
- Bold: the best multimodal mean and all strategies not significantly different from it (paired t-test, α = 0.05, uncorrected).
- With n = 3 seeds a paired t-test detects a true gain of 2.9 points with 80 % power (5.0 after Holm's correction); to detect one point takes 14 seeds (19 after the correction). Medians over the multimodal rows.
- The intervals leave out the sampling error of the 1,000 test examples, which is common to all rows; its 95 % interval (Wilson) is 40.95 to 47.09 % for 44.00 % and 69.14 to 74.69 % for 72.00 %.
- Bayes reference: the best possible use of one unimodal model and the exact caption channel, if image and caption are independent given the class, which words of people need not be. No strategy is significantly above it (paired t-test, α = 0.05, Holm-corrected).
- Ceilings: the best possible accuracy from one modality alone, computed exactly from the caption channel; without captions, that of a perfect classifier of the class.
- Examples/s: median of short timed passes, without compilation.
- Nothing was left out.
- Made on a processor, 2 cores, fusion_bench 0.1.0, commit 0123456789. Data: ten shapes, drawn from seed 0. Augmented in training: image: flip and translate.
"""  # noqa: E501  # as it is written


def test_markdown_of_a_small_study(tmp_path):
    assert to_markdown(table(written(tmp_path, IMAGE, TEXT, CONCAT, LATE, REFERENCE))) == GOLDEN


def test_what_exceeds_the_reference_is_named_and_explained(frame_of):
    above = runs_of("early-channel", "early", [0.70, 0.715, 0.705])
    text = to_markdown(frame_of(IMAGE, CONCAT, above, REFERENCE))
    (note,) = re.findall("^- Bayes reference.*$", text, re.MULTILINE)
    assert (
        "Significantly above it (paired t-test, α = 0.05, Holm-corrected): early-channel (+1.50 ± 0.10). A jointly"
        in note
    )
    assert "concat" not in note  # +2.83 ± 4.70


def test_notes_name_the_joint_encoders_baseline_or_say_that_it_was_not_run(full, frame_of):
    assert "the same encoder on one modality: +11.00 ± 4.30 points over image-token-only." in to_markdown(full)
    assert "one modality: not known, as MODALITY-token-only was not run." in to_markdown(frame_of(IMAGE, EARLY_TOKEN))


def test_an_operator_that_has_changed_replaces_its_old_runs(frame_of):
    old, new = (
        [
            make_run(
                "concat", "intermediate", seed, accuracy, shared={**SHARED, "version": code},
                environment={"device": "", "commit": "", "started": started},
            )
            for seed in range(3)
        ]
        for accuracy, code, started in ((0.6, 1, "2026-01-02"), (0.7, 2, "2026-01-03"))
    )  # fmt: skip
    for runs in ((old, new), (new, old)):
        (row,) = (r for r in frame_of(*runs).to_dict("records") if r["strategy"] == "concat")
        assert (row["n_seeds"], row["test_accuracy_mean"]) == (3, pytest.approx(0.7))


def test_notes_name_failures_and_other_numbers_of_seeds(full):
    text = to_markdown(full)
    assert "n = 3 seeds (Student's t: 4.3 standard errors), given the split and the captions; tensor: n = 2." in text
    assert "- Failed: tensor, seed 2: the loss is nan in epoch 3." in text


def test_one_seed_has_no_interval_and_says_so(frame_of):
    text = to_markdown(frame_of(IMAGE[:1], CONCAT[:1], REFERENCE[:1]))
    assert "| 70.00 | +10.00 |" in text  # and nothing is bold
    assert "One seed: there are no intervals" in text
    assert "above it" not in text


def test_interaction_bits_are_in_the_heading_where_there_are_any(frame_of):
    data = {**DATA, "captions": "synergy", "bits": 0.0, "interaction_bits": 3.3219}
    text = to_markdown(frame_of(runs_of("image-only", "unimodal", [0.1, 0.1], data=data)))
    assert text.startswith("### shapes, synergy captions (0.000 bits and 3.322 of interaction), tiny encoders;")


def printed(frame, width, columns=None, **options):
    console = Console(width=width, **options)
    with console.capture() as capture:
        console.print(to_rich(frame, columns))
    return capture.get()


FITTING = {  # of a width, the columns beside the strategy, and those left out
    40: (["accuracy"], ["family", "gain over image-only", "parameters", "train", "test", "compile s"]),
    50: (["accuracy", "gain"], ["family", "parameters", "train", "test", "compile s"]),
    60: (["accuracy", "gain", "params"], ["family", "train", "test", "compile s"]),
    80: (["accuracy", "gain", "params", "train_rate", "test_rate", "compile"], ["family"]),
    120: (["family", "accuracy", "gain", "params", "train_rate", "test_rate", "compile"], []),
}


@pytest.mark.parametrize("width", FITTING)
def test_a_narrow_terminal_drops_columns_and_says_so_but_no_character(full, width):
    text = printed(full, width)
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    names, left_out = FITTING[width]
    for row in full.to_dict("records"):
        (line,) = (line for line in lines if line[:20].rstrip() == row["strategy"])
        shown = [COLUMNS[name].cell(row) for name in names]
        assert line.split()[len(row["strategy"].split()) :] == " ".join(shown).split()
    told = " ".join(text.split()).replace(" ex./s", "").replace(" examples/s", "")
    note = f"· Columns that do not fit: {', '.join(left_out)}; a wider terminal or --format md shows them."
    assert (note in told) == bool(left_out)
    assert "do not fit" not in printed(full, 140)


@pytest.mark.parametrize("width", [40, 50, 60, 80, 120])
def test_columns_that_are_asked_for_are_shown_in_several_tables_that_fit(with_logits, width):
    frame, columns = table(with_logits, details=True), choose_columns(["all"])
    text = printed(frame, width, columns)
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    assert "do not fit" not in text
    for row in frame.to_dict("records"):
        parts = [line[20:].split() for line in lines if line[:20].rstrip() == row["strategy"]]
        assert [*itertools.chain(*parts)] == " ".join(column.cell(row) for column in columns[1:]).split()
        assert len(parts) > 2 or width == 120


def test_a_name_that_is_wider_than_the_terminal_is_folded(frame_of):
    name = "compact-bilinear:out_features=512"
    lines = printed(frame_of(IMAGE, runs_of(name, "tensor", [0.70, 0.72, 0.74])), 40).splitlines()
    place = next(place for place, line in enumerate(lines) if line.startswith("compact"))
    assert "".join(line[:26].strip() for line in lines[place : place + 2]) == name
    assert lines[place].endswith(" 72.00 ± 4.97")


def test_the_terminal_lines_means_up_and_keeps_families_apart(full):
    lines = printed(full, 100).splitlines()
    rows = {name: next(line for line in lines if line.startswith(name)) for name in full["strategy"]}
    points = {name: row.index(".") for name, row in rows.items()}
    assert len(set(points.values())) == 1, points
    before = lines[lines.index(rows["concat"]) - 1]
    assert not before.strip()
    assert lines.index(rows["text-only"]) == lines.index(rows["image-only"]) + 1


def test_the_terminal_sets_in_bold_what_may_be_the_best(full):
    text = printed(full, 100, force_terminal=True, color_system="standard", legacy_windows=False)
    bold = re.findall(r"\x1b\[1m([^\x1b]*)", text)
    assert [cell.strip() for cell in bold if "±" in cell] == [
        "72.00 ±  4.97",  # concat
        "69.00 ±  2.48",  # late-posthoc; tensor is a point lower in both of its seeds, early-token far lower
    ]


def test_latex_is_escaped_and_ruled(full):
    text = to_latex(full)
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 1
    assert r"concat & intermediate & \textbf{72.00 $\pm$ 4.97} & +11.00 $\pm$ 4.30 & 12,345 &" in text
    assert r"text-only & unimodal & 44.00 $\pm$ 2.48 & $-$17.00 $\pm$ 2.48" in text
    assert r"fusion\_bench 0.1.0" in text
    assert not re.search(r"(?<!\\)[%_#]", text.replace("{%\n", "{\n"))
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 1 + len(full)
    assert {line.count(" & ") for line in rows} == {7}


# Files


def test_tables_are_written_and_replaced(tmp_path):
    store = written(tmp_path, IMAGE, TEXT)
    write_tables(store, table(store))
    frame = table(written(tmp_path, CONCAT))
    write_tables(store, frame)
    assert {path.name for path in tmp_path.iterdir()} == {"runs", "table.csv", "table.md"}
    assert (tmp_path / "table.md").read_text(encoding="utf-8") == to_markdown(frame)
    read = pd.read_csv(tmp_path / "table.csv")
    assert list(read.columns) == list(KEYS)
    assert list(read["strategy"]) == list(frame["strategy"])
    assert read["params"].tolist()[:3] == [12345] * 3
    assert read["gain_mean"].tolist() == pytest.approx(frame["gain_mean"].tolist(), abs=1e-6, nan_ok=True)


def test_a_table_that_cannot_be_written_is_said_in_one_line(tmp_path):
    store = written(tmp_path, IMAGE)
    (tmp_path / "table.csv").mkdir()
    with pytest.raises(UserError, match=r"table\.csv cannot be written: Is a directory"):
        write_tables(store, table(store))
    assert {path.name for path in tmp_path.iterdir()} == {"runs", "table.csv"}


def matched_runs(shared):
    """The unimodal ones at 12,345 parameters; sum on target, concat off it."""
    image = runs_of("image-only", "unimodal", [0.6, 0.62], shared=shared)
    cost = {"params": 12_100, "train_flops": 2.01e6}
    sum_ = runs_of("sum:width=9", "intermediate", [0.7, 0.72], shared=shared, cost=cost)
    cost = {"params": 9_000, "train_flops": 2.2e6}
    return [*image, *sum_, *runs_of("concat", "intermediate", [0.7, 0.72], shared=shared, cost=cost)]


def test_what_was_matched_has_a_block_of_its_own(tmp_path):
    frame = table(written(tmp_path, IMAGE, matched_runs(MATCHED)))
    assert len(set(frame["setting"])) == 2
    rows = [row for row in frame.to_dict("records") if row["match"] == "params"]
    ratios = {row["strategy"]: row["match_ratio"] for row in rows}
    assert set(ratios) == {"image-only", "sum:width=9", "concat"}
    assert ratios["concat"] == pytest.approx(9_000 / 12_000)
    assert {row["match_to"] for row in rows} == {"tensor"}
    text = to_markdown(frame)
    first, second = sorted(text.split("### ")[1:], key=lambda part: "matched" in part)
    assert "matched" not in first.lower()
    assert "parameters matched to the 12,000 of tensor" in second.splitlines()[0]
    assert "12,345 |" in second  # a baseline is as it is
    assert "12,100 |" in second
    assert "9,000* |" in second
    assert "Exceptions, marked *, have no size option or no closer size: concat (−25.00 %). Unimodal" in second
    assert "to tensor" not in first + second.splitlines()[0]  # said once, in words


def test_flops_have_a_column_where_they_were_matched(tmp_path):
    frame = table(written(tmp_path, matched_runs(BY_FLOPS)))
    text = to_markdown(frame)
    assert "FLOPs per training example matched to the 2,000,000 of tensor" in text.splitlines()[0]
    assert "| train MFLOP |" in text
    assert "| 2.010 |" in text
    assert "| 2.200* |" in text
    assert "train MFLOP" not in to_markdown(table(written(tmp_path / "other", IMAGE)))
    assert "2.200*" in printed(frame, width=100)


# What the seeds establish


def test_p_values_are_corrected_over_the_rows_and_ranks_say_what_is_open(full):
    rows = full.set_index("strategy")
    # over image-only, seed by seed: 0.10, 0.10, 0.13: t = 0.11 √3 / √0.0003 = 11, p = 1 - t / √(t² + 2) = .00816
    t = 0.11 * math.sqrt(3) / math.sqrt(0.0003)
    alone = 1 - t / math.sqrt(t**2 + 2)
    # of the seven compared, five are surer and early-token, 0.10, 0.10, 0.07 below, is less sure
    assert rows.loc["concat", "gain_p"] == pytest.approx(2 * alone, rel=1e-6)
    assert math.isnan(rows.loc["image-only", "gain_p"])
    assert math.isnan(rows.loc["bayes-reference", "gain_p"])
    assert rows.loc["concat", "rank"] == 1
    assert rows.loc["concat", "rank_low"] == 1
    assert list(rows.index[rows["ties_best"].astype(bool)]) == ["concat", "late-posthoc"]
    # s = √0.0003 of the gain; in units of it three seeds find 3.264
    assert rows.loc["concat", "detectable_gain"] == pytest.approx(3.264 * math.sqrt(0.0003), rel=1e-3)


def test_gains_can_be_over_any_strategy(tmp_path):
    store = written(tmp_path, IMAGE, TEXT, CONCAT, LATE)
    rows = table(store, against="concat").set_index("strategy")
    assert rows.loc["late-posthoc", "gain_mean"] == pytest.approx(-0.03)
    assert set(rows["gain_over"]) == {"concat", ""}
    assert "Gain: over concat; percentage points" in to_markdown(table(store, against="concat"))
    with pytest.raises(UserError, match="unknown strategy 'conct'; did you mean concat"):
        table(store, against="conct")


LOGITS = np.log(np.array([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.2, 0.8]]))
PREDICTIONS = {
    "test_logits": LOGITS,
    "test_labels": np.array([0, 1, 1, 1]),
    "validation_logits": LOGITS[:0],
    "validation_labels": np.array([], int),
}


@pytest.fixture
def with_logits(tmp_path):
    store = Store(tmp_path)
    for run in (*IMAGE[:2], *CONCAT[:2]):
        store.write(run, predictions=PREDICTIONS)
    return store


def test_details_are_computed_from_the_logits(with_logits):
    row = table(with_logits, details=True).set_index("strategy").loc["concat"]
    assert row["accuracy_mean"] == 0.75
    assert row["accuracy_ci95"] == 0  # both seeds are alike
    assert row["balanced_accuracy_mean"] == pytest.approx((1 + 2 / 3) / 2)
    assert row["nll_mean"] == pytest.approx(-np.log([0.9, 0.4, 0.7, 0.8]).mean())
    assert row["sampling_ci95"] > 0.2
    assert row["gain_sampling_ci95"] == 0  # both strategies have the same images right
    assert tuple(table(with_logits, details=True).columns) == (*KEYS, *DETAILS)


def test_the_sampling_of_a_gain_is_over_the_images_that_change(tmp_path):
    store = Store(tmp_path)
    for runs, logits in ((IMAGE, LOGITS), (CONCAT, LOGITS[[0, 2, 2, 3]])):
        for run in runs[:2]:
            store.write(run, predictions={**PREDICTIONS, "test_logits": logits})
    frame = table(store, details=True).set_index("strategy")
    # One image of four is gained: the mean of four draws, each a gain with probability 1/4, is 0 to 3/4 in 95 %.
    assert frame.loc["concat", "gain_sampling_ci95"] == 0.375
    assert np.isnan(frame.loc["image-only", "gain_sampling_ci95"])


def test_where_all_is_right_the_sampling_error_is_wilsons(tmp_path):
    store = Store(tmp_path)
    for run in runs_of("concat", "intermediate", [1.0, 1.0], data={**DATA, "n_test": 4}):
        store.write(run, predictions={**PREDICTIONS, "test_labels": LOGITS.argmax(axis=1)})
    frame = table(store, details=True)
    z = 1.959964
    assert frame["sampling_ci95"].iloc[0] == pytest.approx(
        z**2 / (4 + z**2), rel=1e-6
    )  # all of the interval is below 100 %
    assert "its 95 % interval (Wilson) is 51.01 to 100.00 % for 100.00 %." in to_markdown(frame)


def test_a_column_that_is_shown_is_explained(with_logits):
    frame = table(with_logits, details=True)
    for write in (to_markdown, to_latex):
        assert "bootstrap over images" in write(frame, choose_columns(["strategy", "gain_sampling"]))
        assert "for all ranks simultaneously" in write(frame, choose_columns(["strategy", "rank"]))
        assert "bootstrap over images" not in write(frame, choose_columns(["strategy", "accuracy"]))


def test_columns_are_chosen_and_sorted(with_logits):
    columns = choose_columns(["nll", "strategy", "accuracy"])
    frame = arrange(table(with_logits, details=True), COLUMNS["accuracy"], by_family=False)
    lines = to_markdown(frame, columns).splitlines()
    assert lines[2:6] == [
        "| strategy | NLL, nats | test accuracy, % |",
        "| --- | --: | --: |",
        "| ceiling: image only | – | 100.00 |",
        "| concat | 0.400 ± 0.000 | **71.00 ± 12.71** |",
    ]
    assert [column.name for column in choose_columns(["all"])] == list(COLUMNS)
    with pytest.raises(UserError, match="unknown column 'acuracy'; did you mean accuracy"):
        choose_columns(["acuracy"])
    with pytest.raises(UserError, match="no column is named; choose from strategy, family, accuracy"):
        choose_columns([])


def test_chosen_columns_of_a_csv_come_unrounded_with_their_intervals(with_logits):
    frame = table(with_logits, details=True)
    found = pd.read_csv(io.StringIO(to_csv(frame, choose_columns(["strategy", "accuracy", "nll"]))))
    names = ["setting", "strategy", "test_accuracy_mean", "test_accuracy_ci95", "nll_mean", "nll_ci95"]
    assert list(found.columns) == names
    assert found["nll_mean"].iloc[0] == frame["nll_mean"].iloc[0]
    assert list(pd.read_csv(io.StringIO(to_csv(frame))).columns) == list(frame.columns)


@pytest.mark.parametrize("name", COLUMNS)
def test_every_column_sorts_and_shows(with_logits, name):
    frame = arrange(table(with_logits, details=True), COLUMNS[name], by_family=False)
    values = frame.loc[frame["n_seeds"] > 0, COLUMNS[name].keys[0]].dropna()
    assert values.is_monotonic_increasing if COLUMNS[name].ascending else values.is_monotonic_decreasing
    text = to_markdown(frame, [COLUMNS["strategy"], COLUMNS[name]])
    assert "nan" not in text.lower().replace("finance", "")
    assert text.count("\n| ") == 2 + len(frame) - text.startswith("| ")


def test_families_stay_together_unless_they_shall_not(full):
    accuracy = COLUMNS["accuracy"]
    together = list(arrange(full, accuracy)["family"])
    assert len([1 for a, b in itertools.pairwise(together) if a != b]) == len(set(together)) - 1
    apart = arrange(full, accuracy, by_family=False)["test_accuracy_mean"]
    assert apart.is_monotonic_decreasing
    assert r"\midrule" not in to_latex(arrange(full, accuracy, by_family=False)).split(r"\midrule", 1)[1]


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no pdflatex on this machine")
def test_latex_compiles(full, with_logits, tmp_path):
    body = to_latex(full) + to_latex(table(with_logits, details=True), choose_columns(["all"]))
    text = "\\documentclass{article}\\usepackage{booktabs,graphicx}\\begin{document}\n" + body + "\\end{document}\n"
    (tmp_path / "t.tex").write_text(text, encoding="utf-8")
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert "too large" not in done.stdout
    assert not re.search(r"Overfull \\hbox \((\d{2,})", done.stdout)
