"""Directories of several machines become one."""

import dataclasses
import hashlib

import pytest

from fusion_bench.cli import main
from fusion_bench.errors import UserError
from fusion_bench.store import Store, merge
from tests.report.test_table import CONCAT, IMAGE, written
from tests.store.test_store import CHECKPOINT, CONTENTS, failed_run, make_run


def contents(directory):
    """Every file below a directory, with its content and the time of its last change."""
    return {
        str(path.relative_to(directory)): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in directory.rglob("*")
        if path.is_file()
    }


def fill(directory, *runs):
    store = Store(directory)
    for run in runs:
        store.write(run, **(CONTENTS if run.status == "complete" else {}))
    return directory


def test_runs_of_several_machines_come_together(tmp_path):
    mine, theirs = make_run(1, cost={"params": 8, "compile_s": 9.0}), make_run(1)
    a, b = (fill(tmp_path / "a", make_run(0), mine), fill(tmp_path / "b", theirs, make_run(2), failed_run(seed=3)))
    before = [contents(path) for path in (a, b)]
    merged = merge([a, b], tmp_path / "c")
    assert (merged.copied, merged.known, merged.failed) == (3, 1, 1)
    assert merged.conflicts == merged.damaged == ()
    assert merged.store.runs() == [make_run(0), mine, make_run(2)]  # a cost is no conflict; the first is kept
    assert [contents(path) for path in (a, b)] == before
    for run in merged.store.runs():
        merged.store.restore(run.id, CHECKPOINT)
        assert merged.store.predictions(run.id).keys() == CONTENTS["predictions"].keys()
    assert {path.name for path in (tmp_path / "c/runs").iterdir() if path.name[0] == "."} == {".locks"}

    again = merge([a, b], tmp_path / "c")
    assert (again.copied, again.known, again.conflicts) == (0, 4, ())
    assert again.store.runs() == merged.store.runs()


def test_a_failed_run_gives_way_to_a_complete_one(tmp_path):
    a, c = fill(tmp_path / "a", make_run()), fill(tmp_path / "c", failed_run())
    assert merge([a], c).copied == 1
    assert Store(c).runs() == [make_run()]


def test_conflicts_are_named_and_the_first_is_kept(tmp_path):
    other = make_run(metrics=make_run().metrics | {"test_accuracy": 0.8})
    a, b = fill(tmp_path / "a", make_run()), fill(tmp_path / "b", other)
    merged = merge([a, b], tmp_path / "c")
    assert merged.conflicts == (f"{other.id}: test_accuracy is 0.75 in {a}, which is kept, 0.8 in {b}",)
    assert merged.store.runs() == [make_run()]


def test_damaged_runs_are_named_and_left_out(tmp_path):
    a = fill(tmp_path / "a", *(make_run(seed) for seed in range(3)))
    folders = [a / "runs" / make_run(seed).id for seed in range(3)]
    (folders[0] / "run.json").write_text("{")
    weights = next(path for path in (folders[1] / "checkpoint").rglob("*") if path.is_file())
    weights.write_bytes(b"")
    merged = merge([a], tmp_path / "c")
    assert merged.store.runs() == [make_run(2)]
    assert sorted(line.partition(": run.json")[0].partition(": checkpoint")[0] for line in merged.damaged) == sorted(
        f"{a}: {folder.name}" for folder in folders[:2]
    )


def test_what_cannot_be_merged(tmp_path):
    a = fill(tmp_path / "a", make_run())
    with pytest.raises(UserError, match="there are no runs in"):
        merge([a, tmp_path / "absent"], tmp_path / "c")
    assert not (tmp_path / "c").exists()
    with pytest.raises(UserError, match="is one of the directories to merge"):
        merge([a], tmp_path / "b/../a")


def test_a_damaged_run_ends_the_command_with_status_1(tmp_path, capsys):
    written(tmp_path / "a", IMAGE)
    next((tmp_path / "a/runs").glob("*/run.json")).write_text("{")
    with pytest.raises(SystemExit) as exit_:
        main(["merge", str(tmp_path / "a"), "--out", str(tmp_path / "c")])
    assert exit_.value.code == 1
    assert "fusion-bench: left out: " in capsys.readouterr().err


@pytest.mark.parametrize("conflict", [False, True])
def test_the_command(tmp_path, capsys, conflict):
    written(tmp_path / "a", IMAGE)
    changed = [dataclasses.replace(run, metrics=run.metrics | {"test_accuracy": 0.1}) for run in IMAGE]
    written(tmp_path / "b", CONCAT, changed if conflict else IMAGE)
    with pytest.raises(SystemExit) as exit_:
        main(["merge", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "c")])
    printed = capsys.readouterr()
    assert exit_.value.code == (1 if conflict else 0)
    known = 1 + (0 if conflict else len(IMAGE))  # costs are equal
    copied = 1 + len(IMAGE) + 1 + len(CONCAT)
    assert printed.out == (
        f"runs: {copied} copied, {known} already there, 0 failed and left out; written to {tmp_path}/c\n"
    )
    assert printed.err.count("fusion-bench: conflict: image-only") == (len(IMAGE) if conflict else 0)
    assert "concat" in (tmp_path / "c/table.md").read_text()
    assert not (tmp_path / "a/table.md").exists()
