"""Robustness of the runs of finished studies."""

import shutil

import numpy as np
import pandas as pd
import pytest

from fusion_bench.cli import main
from fusion_bench.config import Choice, DataConfig
from fusion_bench.data.corruptions import CORRUPTIONS
from fusion_bench.report.findings import find
from fusion_bench.report.plots import channel_shift, robustness
from fusion_bench.report.table import table
from fusion_bench.store import Store
from fusion_bench.store.diagnosed import read_values
from fusion_bench.study.diagnose import diagnose


@pytest.fixture(scope="module")
def robust(plain, tmp_path_factory):
    """A copy of a finished study with its robustness, and what `diagnose` returned."""
    store = Store(shutil.copytree(plain.config.out, tmp_path_factory.mktemp("robust") / "out"))
    return store, diagnose(store, [Choice("robustness")], places=DataConfig(source=plain.config.data.source))


def values_of(store, strategy):
    (run,) = [run for run in store.runs() if run.strategy == strategy and run.identity["target"] == "label"]
    return run, read_values(store.directory, run.id)


def test_every_strategy_has_what_applies_to_it(robust):
    store, done = robust
    assert done.computed == 4 + 2 * 3 - 1  # all parts of two fusions and the captions' of text, the images' of image
    assert sorted(done.skipped) == [
        "channel-shift: image-only reads image alone",
        "corruptions: text-only reads text alone",
        "dropped-words: image-only reads image alone",
    ]
    for strategy, parts in (("concat", "icw"), ("late-posthoc", "icw"), ("image-only", "i"), ("text-only", "cw")):
        _, values = values_of(store, strategy)
        has = {"i": "accuracy_jpeg_compression_5", "c": "mismatched_bayes_on_pairs", "w": "ceiling_words_dropped_0.25"}
        assert [part for part in "icw" if has[part] in values] == sorted(parts, key="icw".index)
        assert all(np.isfinite(value) for value in values.values())


def test_without_a_shift_the_accuracy_is_the_runs_own(robust):
    store, _ = robust
    for strategy in ("concat", "late-posthoc", "image-only", "text-only"):
        run, values = values_of(store, strategy)
        for name in ("accuracy_clean", "accuracy_words_dropped_0.0", "accuracy_on_default"):
            assert values.get(name, run.metrics["test_accuracy"]) == pytest.approx(run.metrics["test_accuracy"])
    reference, _ = values_of(store, "bayes-reference")
    _, values = values_of(store, "concat")
    for name in ("bayes_words_dropped_0.0", "bayes_on_default", "mismatched_bayes_on_default"):
        assert values[name] == pytest.approx(reference.metrics["test_accuracy"])


def test_the_image_model_of_the_class_serves_where_captions_shift_the_label(shifted, tmp_path):
    store = Store(shutil.copytree(shifted.config.out, tmp_path / "out"))
    choices = [Choice("dropped-words"), Choice("channel-shift")]
    diagnose(store, choices, places=DataConfig(source=shifted.config.data.source))
    run, values = values_of(store, "late-posthoc")
    reference, _ = values_of(store, "bayes-reference")
    assert values["accuracy_on_mixed"] == pytest.approx(run.metrics["test_accuracy"])
    for name in ("bayes_words_dropped_0.0", "bayes_on_mixed", "mismatched_bayes_on_mixed"):
        assert values[name] == pytest.approx(reference.metrics["test_accuracy"])


def test_retentions_are_stored_and_columns_of_the_table(robust):
    store, _ = robust
    _, concat = values_of(store, "concat")
    _, image = values_of(store, "image-only")
    _, text = values_of(store, "text-only")
    assert concat["retention_corrupted_image"] == pytest.approx(
        concat["accuracy_corrupted"] / image["accuracy_corrupted"]
    )
    assert concat["retention_corrupted_text"] == pytest.approx(
        concat["accuracy_corrupted"] / text["accuracy_words_dropped_0.0"]
    )
    dropped = "accuracy_words_dropped"
    assert concat["retention_words_dropped_text"] == pytest.approx(concat[dropped] / text[dropped])
    assert concat["retention_words_dropped_image"] == pytest.approx(concat[dropped] / image["accuracy_clean"])
    assert "retention_corrupted_image" not in image
    rows = table(store).set_index("strategy")
    assert rows.loc["concat", "retention_corrupted_image_mean"] == concat["retention_corrupted_image"]


def test_they_are_drawn(robust):
    store, _ = robust
    (found,) = find(store, table(store, details=True))
    curves, matrix = robustness.picture(found), channel_shift.picture(found)
    assert curves is not None
    assert matrix is not None
    assert set(curves.panels) == {f"image: {name.replace('_', ' ')}" for name in CORRUPTIONS} | {"text: dropped words"}


def test_ten_runs_have_an_effective_robustness_that_is_kept_up_to_date(robust, plain, tmp_path, monkeypatch):
    store = Store(shutil.copytree(robust[0].directory, tmp_path / "out"))
    name, places = "effective_robustness_corrupted", DataConfig(source=plain.config.data.source)
    assert name not in values_of(store, "concat")[1]
    monkeypatch.setattr("fusion_bench.metrics.robustness.MIN_MODELS", 3)
    done = diagnose(store, [Choice("robustness")], places=places)
    assert done.computed == 0
    found = {strategy: values_of(store, strategy)[1] for strategy in ("concat", "late-posthoc", "image-only")}
    assert len({values[f"{name}_r2"] for values in found.values()}) == 1
    assert all(-1 < values[name] < 1 for values in found.values())
    assert name not in values_of(store, "text-only")[1]
    printed = {value for names in done.names.values() for value in names}
    assert {"accuracy_corrupted", name, f"{name}_r2"} <= printed
    assert "accuracy_contrast_3" not in printed
    monkeypatch.undo()
    diagnose(store, [Choice("robustness")], places=places)
    assert name not in values_of(store, "concat")[1]


@pytest.fixture
def published(plain, tmp_path):
    """Published files whose fog is no fog, and whose snow leaves nothing of an image."""
    with np.load(plain.config.data.source) as arrays:
        of_test = arrays["split"] == "test"
        images, labels = arrays["image"][of_test], arrays["label"][of_test]
    folder = tmp_path / "CIFAR-10-C"
    folder.mkdir()
    np.save(folder / "labels.npy", np.tile(labels, 5).astype(np.uint8))
    np.save(folder / "fog.npy", np.concatenate([images] * 5))
    np.save(folder / "snow.npy", np.full((5 * len(images), 8, 8, 3), 255, np.uint8))
    return folder


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return exit_.value.code or 0, printed.out, printed.err


def test_the_command_measures_everything_and_reads_published_files(robust, plain, published, tmp_path, capsys):
    out = shutil.copytree(robust[0].directory, tmp_path / "out")
    words = "diagnose", out, "--with", "robustness", "--data", plain.config.data.source
    status, printed, errors = run(capsys, *words, "--cifar10-c", published)
    assert status == 0
    assert "skipped: cifar10-c: text-only reads text alone" in errors
    values = pd.read_csv(out / "diagnostics.csv")
    assert set(values["diagnostic"]) == {"corruptions", "dropped-words", "channel-shift", "cifar10-c"}
    concat = values[values["strategy"] == "concat"].set_index("name")["value"].to_dict()
    assert concat["accuracy_cifar10_c_fog_5"] == concat["accuracy_cifar10_c_clean"] == concat["accuracy_clean"]
    assert concat["accuracy_cifar10_c"] == pytest.approx(
        (concat["accuracy_cifar10_c_fog"] + concat["accuracy_cifar10_c_snow"]) / 2, abs=1e-5
    )
    assert {f"nll_{name}" for name in CORRUPTIONS} <= set(concat)
    for name in ("accuracy_corrupted", "accuracy_words_dropped_0.5", "accuracy_on_synergy", "accuracy_cifar10_c"):
        assert name in printed
    assert "accuracy_contrast_3" not in printed
    status, printed, _ = run(capsys, "table", out, "--columns", "accuracy_contrast_3,bayes_on_half", "--format", "md")
    assert (status, "bayes_on_half" in printed) == (0, True)


def test_published_files_of_other_images_are_refused_in_one_line(robust, plain, published, tmp_path, capsys):
    out = shutil.copytree(robust[0].directory, tmp_path / "out")
    words = "diagnose", out, "--with", "robustness", "--data", plain.config.data.source, "--cifar10-c"
    labels = np.load(published / "labels.npy")
    np.save(published / "labels.npy", (labels + 1) % 10)
    status, _, errors = run(capsys, *words, published)
    assert status == 1
    assert errors.count("has other labels than the test images of tiny") == 1
    status, printed, errors = run(capsys, *words, tmp_path)
    assert (status, printed) == (2, "")
    assert errors.startswith(f"fusion-bench: no file {tmp_path / 'labels.npy'}")
