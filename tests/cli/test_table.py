"""`fusion-bench table`."""

import json
import shutil

import pandas as pd
import pytest

from fusion_bench.store import Store
from tests.studies import make_quick, run_arguments


def test_table_without_runs(refuse, tmp_path):
    assert f"no runs in {tmp_path}" in refuse(tmp_path, command="table")
    assert "no runs in absent" in refuse("absent", command="table")


def test_table_without_a_complete_run(refuse, call, broken, tmp_path):
    (tmp_path / "runs").mkdir()
    for command in ("table", "report"):
        assert refuse(tmp_path, command=command) == f"fusion-bench: there is no complete run in {tmp_path}\n"
    shutil.copytree(broken[0], tmp_path, dirs_exist_ok=True)
    for path in tmp_path.glob("runs/*/run.json"):
        path.write_text("{")
    status, printed, error = call("table", tmp_path)
    assert (status, printed) == (2, "")
    assert error.splitlines()[-1] == f"fusion-bench: there is no complete run in {tmp_path}"
    assert "left out" in error.splitlines()[0]


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
    assert progress.splitlines()[0] == f"text-only, seed 1: repeated, as {run.id} is damaged: {fault}"
    metrics = json.loads(genuine)["metrics"]
    assert json.loads(path.read_text())["metrics"] == metrics
