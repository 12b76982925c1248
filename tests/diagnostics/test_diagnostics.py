"""Every registered diagnostic on stored runs; a new one is tested by being there."""

import json
import shutil

import numpy as np
import pytest

from fusion_bench.config import Choice, DataConfig
from fusion_bench.data.load import load_dataset
from fusion_bench.diagnostics.base import Diagnostic, diagnostics, register_diagnostic
from fusion_bench.errors import UserError
from fusion_bench.report.table import table
from fusion_bench.store import Store, merge
from fusion_bench.store.diagnosed import read_values
from fusion_bench.study.diagnose import diagnose


@pytest.fixture
def stored(plain, tmp_path):
    """A copy of a finished study, and a function that applies diagnostics to its runs."""
    store = Store(shutil.copytree(plain.config.out, tmp_path / "out"))
    places = DataConfig(source=plain.config.data.source)
    return store, lambda *choices: diagnose(store, choices, places=places)


@pytest.mark.parametrize("name", diagnostics.registered())
def test_a_diagnostic_gives_finite_numbers_or_a_reason(stored, name):
    store, apply = stored
    done = apply(Choice(name))
    assert done.computed + len(done.skipped) > 0
    for run in store.runs():
        values = read_values(store.directory, run.id)
        assert all(np.isfinite(value) for value in values.values())
        if run.strategy == "concat" and run.metrics:
            assert values or any("--cifar10-c DIR" in line for line in done.skipped)
    assert apply(Choice(name)).computed == 0  # stored already


def test_values_of_a_fusion_are_stored_with_their_version_and_options(stored):
    store, apply = stored
    done = apply(Choice("missing-modality", {"permutations": 2}))
    assert (done.computed, done.kept) == (2, 0)  # concat and late-posthoc
    assert sorted(done.skipped) == [
        "missing-modality: image-only reads image alone",
        "missing-modality: text-only reads text alone",
    ]
    (path,) = (store.directory / "diagnostics").glob("concat-s0-*/missing-modality-permutations=2.json")
    record = json.loads(path.read_text())
    assert record["options"] == {"baseline": "marginal", "permutations": 2, "costly_permutations": 2}
    assert record["version"] == 4
    assert 0 <= record["values"]["accuracy_without_text"] <= 1
    assert apply(Choice("missing-modality")).computed == 2  # other options are stored beside them


def test_a_value_is_a_column_of_the_table(stored):
    store, apply = stored
    apply(Choice("missing-modality"))
    rows = table(store).set_index("strategy")
    (run,) = [run for run in store.runs() if run.strategy == "concat" and run.metrics]
    value = read_values(store.directory, run.id)["accuracy_without_text"]
    assert rows.loc["concat", "accuracy_without_text_mean"] == value
    assert np.isnan(rows.loc["image-only", "accuracy_without_text_mean"])


def test_data_that_are_missing_or_other_are_named_and_those_of_other_settings_are_diagnosed(stored, plain, tmp_path):
    store, _ = stored
    missing = diagnose(store, [Choice("missing-modality")])
    assert (missing.computed, len(missing.failed)) == (0, 1)
    assert "no file tiny.npz" in missing.failed[0]

    elsewhere = tmp_path / "tiny.npz"
    arrays = dict(np.load(plain.config.data.source))
    np.savez(elsewhere, **arrays | {"label": arrays["label"][::-1]})
    other = diagnose(store, [Choice("missing-modality")], places=DataConfig(source=str(elsewhere)))
    assert (other.computed, len(other.failed)) == (0, 1)
    assert "trained on other data" in other.failed[0]


def test_a_setting_without_its_data_does_not_stop_the_next(plain, shifted, tmp_path, monkeypatch):
    store = merge([plain.config.out, shifted.config.out], tmp_path / "merged").store
    loads = []

    def load_second(config):
        loads.append(config)
        if len(loads) == 1:
            raise UserError("no file")
        return load_dataset(config)

    monkeypatch.setattr("fusion_bench.store.loaded.load_dataset", load_second)
    done = diagnose(store, [Choice("missing-modality")], places=DataConfig(source=plain.config.data.source))
    assert done.computed > 0
    assert [line.endswith(": no file") for line in done.failed] == [True]


def test_an_unknown_name_is_answered_with_the_nearest(stored):
    _, apply = stored
    with pytest.raises(UserError, match="unknown diagnostic 'missing'; did you mean missing-modality"):
        apply(Choice("missing"))


def test_a_diagnostic_of_a_module_of_ones_own_is_found(stored, monkeypatch):
    monkeypatch.setattr(diagnostics, "known", diagnostics.registered())

    @register_diagnostic("seven", reference="none")
    class Seven(Diagnostic):
        """Always seven."""

        def __call__(self, model, indices):
            return {"seven": 7.0}

    store, apply = stored
    assert apply(Choice("seven")).computed == 4
    assert set(table(store).set_index("strategy").loc[["concat", "image-only"], "seven_mean"]) == {7.0}


def test_values_are_merged_with_their_runs(stored, tmp_path):
    store, apply = stored
    apply(Choice("missing-modality", {"permutations": 1}))
    merged = merge([store.directory], tmp_path / "merged").store
    runs = [run for run in merged.runs() if run.strategy == "concat" and run.metrics]
    assert [read_values(merged.directory, run.id) for run in runs] == [
        read_values(store.directory, run.id) for run in runs
    ]
    assert read_values(merged.directory, runs[0].id)


def test_a_damaged_model_is_named_and_the_others_are_diagnosed(stored):
    store, apply = stored
    (folder,) = store.directory.glob("runs/concat-s0-*/checkpoint")
    next(path for path in sorted(folder.rglob("*")) if path.is_file()).write_bytes(b"")
    done = apply(Choice("missing-modality"))
    assert done.computed == 1
    assert len(done.failed) == 1
    assert "concat-s0-" in done.failed[0]


def test_a_damaged_companion_is_named_once_and_all_that_does_not_need_it_is_computed(stored):
    store, apply = stored
    (folder,) = store.directory.glob("runs/image-only-s0-*/checkpoint")
    next(path for path in sorted(folder.rglob("*")) if path.is_file()).write_bytes(b"")
    done = apply(Choice("probes"), Choice("missing-modality"))
    assert done.computed == 3  # probes of text-only, missing modalities of concat and late-posthoc
    assert len(done.failed) == 1
    assert "image-only-s0-" in done.failed[0]
    assert not list(store.directory.glob("diagnostics/concat-s0-*/probes.json"))
