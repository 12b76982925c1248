"""A thousand classes: pictures show a part of them that can be read, and the page stays small."""

import numpy as np
import pytest

from fusion_bench.report.findings import Findings, find
from fusion_bench.report.page import render_page
from fusion_bench.report.plots import classes, confusion, pictures
from fusion_bench.report.plots.marks import Bars, HeatMap
from fusion_bench.report.table import table
from fusion_bench.store import Store
from tests.report.study import ACCURACIES, write_study

CLASSES, WORST = 1000, (700, 3)
"""Every class has one example, and these two, which are taken for each other, have none right."""


def logits_of(strategy, seed):
    labels = np.arange(CLASSES)
    taken = labels.copy()
    wrong = np.arange(100, 130)
    taken[wrong] = wrong + 500 + len(strategy)
    taken[list(WORST)] = WORST[::-1]
    return (3 * np.eye(CLASSES)[taken]).astype(np.float32), labels


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("study"))
    write_study(store, classes=[f"a class with the number {number}" for number in range(CLASSES)], seeds=1)
    (found,) = find(store, table(store))
    for strategy in ACCURACIES:
        found.tests[strategy] = [logits_of(strategy, 0)]
    return found


def test_the_page_is_less_than_seven_megabytes(found):
    drawn = pictures(found)
    assert len(render_page([found], {found.name: drawn}).encode()) < 7e6
    shown = {picture.name: picture for picture in drawn}
    for name in ("classes", "confusion"):
        assert "Of 1,000 classes, the 30 " in shown[name].caption


def test_the_confusion_matrix_shows_pairs_and_sums_up_the_others(found):
    panel = confusion.picture(found).panels["concat"]
    assert len(panel.y.names) == confusion.SHOWN
    assert panel.x.names == (*panel.y.names, "all others")
    one, other = (panel.y.names.index(f"a class with the number {place}") for place in WORST)
    (cell,) = panel.marks
    assert isinstance(cell, HeatMap)
    cells = cell.values
    np.testing.assert_allclose(cells.sum(axis=1), 100)
    assert cells[one, other] == cells[other, one] == 100
    assert cells[panel.y.names.index("a class with the number 100"), -1] == 100  # taken for a class that is not shown


def test_the_hardest_classes_come_first(found):
    picture = classes.picture(found)
    names = picture.panels["concat"].x.names
    assert len(names) == classes.SHOWN
    assert {f"a class with the number {place}" for place in (3, *range(100, 129))} == {*names}  # of 32, by number
    (bars,) = picture.panels["concat"].marks
    assert isinstance(bars, Bars)
    assert not np.any(bars.heights)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([[5, 0, 0], [0, 5, 0], [0, 0, 5]], [0, 1]),
        ([[5, 0, 0], [0, 4, 1], [0, 0, 5]], [1, 2]),
        ([[0, 1, 4], [0, 5, 0], [0, 2, 3]], [0, 2]),
    ],
)
def test_the_most_confused_pairs_by_hand(counts, expected):
    counts = np.array(counts)
    assert confusion.most_confused(counts, 2).tolist() == expected
    assert confusion.most_confused(counts, 3).tolist() == [0, 1, 2]


def test_few_classes_are_all_shown_in_their_order(tmp_path):
    store = Store(tmp_path)
    write_study(store, seeds=1)
    found: Findings = find(store, table(store))[0]
    for picture in (classes.picture(found), confusion.picture(found)):
        assert "Of 3" not in picture.caption
        assert picture.panels["concat"].x.names == found.class_names
