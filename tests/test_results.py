"""results/: every folder says where its numbers come from, and the page is written from these facts."""

import datetime
import tomllib

import pytest

from tests.experiments.loading import EXPERIMENTS, load

RESULTS = EXPERIMENTS.parent / "results"
FOLDERS = sorted(path for path in RESULTS.glob("*/*") if path.is_dir())


def test_the_page_is_what_the_facts_give():
    assert (RESULTS / "README.md").read_text() == load("write_results").render() + "\n"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_result_states_its_origin(folder):
    facts = tomllib.loads((folder / "run.toml").read_text())
    assert {"question", "finding", "commands", "commit", "date", "data"} <= set(facts)
    assert all(facts.values())
    assert {len(commit) for commit in facts["commit"].split(", ")} == {10}  # a sweep that is continued has several
    assert isinstance(facts["date"], datetime.date)
    assert (folder / "table.md").exists()
