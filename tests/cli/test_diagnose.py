"""The tables that `fusion-bench diagnose` prints."""

from rich.console import Console

from fusion_bench.cli.diagnose import print_values
from fusion_bench.config import Choice
from fusion_bench.store import Store
from fusion_bench.store.diagnosed import write_values
from tests.report.study import FAMILIES, write_study


def test_each_table_has_the_values_of_its_diagnostic_and_the_notes_come_once(tmp_path):
    """Two diagnostics that differ in an option have values of the same name."""
    store = Store(tmp_path)
    write_study(store)
    values = {"emap": 0.125, "emap:examples=9": 0.25}
    for run in store.runs():
        if FAMILIES.get(run.strategy) not in (None, "unimodal"):
            for label, value in values.items():
                write_values(tmp_path, run.id, label, Choice("emap"), 1, (), {"emap_gap": value}, {})
    console = Console(width=100)
    with console.capture() as captured:
        print_values(store, {label: ["emap_gap"] for label in values}, console)
    first, second = captured.get().split("emap:examples=9: ")
    assert first.startswith("emap: ")
    assert ("0.125" in first, "0.250" in first) == (True, False)
    assert ("0.125" in second, "0.250" in second) == (False, True)
    assert ("95 % interval" in first, "95 % interval" in second) == (False, True)
    assert "image-only" not in second.split("·")[0]
