"""Pictures of diagnostics: their marks against the values that were stored."""

import re
from typing import Any

import numpy as np
import pytest

from fusion_bench.config import Choice
from fusion_bench.report.findings import find
from fusion_bench.report.page import write_report
from fusion_bench.report.plots import bits, channel_shift, contributions, pictures, plotly, robustness, similarity
from fusion_bench.report.plots.marks import Bars, HeatMap, Line, Points
from fusion_bench.report.table import table
from fusion_bench.store import Store
from fusion_bench.store.diagnosed import write_values
from tests.report.study import FAMILIES, write_study

FUSIONS = [name for name, family in FAMILIES.items() if family != "unimodal"]
PARTS = ("redundant", "unique_image", "unique_text", "synergistic")
BASE = 0.1
"""The values of the first fusion and seed; the next strategy has 0.01 more, the next seed 0.001."""


def values_of(strategy, seed):
    """Returns the values of a run, by name."""
    start = BASE + 0.01 * [*FAMILIES].index(strategy) + 0.001 * seed
    found = {f"bits_data_{part}": 0.2 for part in PARTS}
    found |= {f"bits_used_{part}": start * (place + 1) for place, part in enumerate(PARTS)}
    found |= {"shapley_image": start, "shapley_text": -start, "emap_gap": 0.0, "accuracy_without_text": start}
    found |= {f"accuracy_contrast_{severity}": start - 0.01 * severity for severity in range(1, 6)}
    found |= {"accuracy_clean": start, "accuracy_words_dropped_0.5": start, "ceiling_words_dropped_0.5": 0.3}
    found |= {"accuracy_on_half": start, "bayes_on_half": 0.6, "mismatched_bayes_on_half": 0.5}
    found |= {f"cka_image_with_{other}": 0.9 for other in FUSIONS if other != strategy} | {"cka_image_seeds": 0.8}
    return found


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    opened = Store(tmp_path_factory.mktemp("study"))
    write_study(opened)
    for run in opened.runs():
        if run.strategy in FUSIONS:
            write_values(opened.directory, run.id, "all", Choice("all"), 1, (), values_of(run.strategy, run.seed), {})
    return opened


@pytest.fixture(scope="module")
def found(store):
    (findings,) = find(store, table(store, details=True))
    return findings


@pytest.fixture(scope="module")
def panels_of(found):
    """Returns the panels of a picture, which is there."""

    def panels_of(module) -> Any:
        picture = module.picture(found)
        assert picture is not None
        return picture.panels

    return panels_of


def mean_of(name, strategy):
    return float(np.mean([values_of(strategy, seed)[name] for seed in range(3)]))


def test_bars_of_bits_are_stacked_below_those_of_the_data(found, panels_of):
    (panel,) = panels_of(bits).values()
    assert panel.y.names == ("data: a perfect image model", *FUSIONS)
    assert [mark.label.partition(":")[0] for mark in panel.marks] == ["redundant", "unique", "unique", "synergistic"]
    base = np.zeros(len(panel.y.names))
    for mark, part in zip(panel.marks, PARTS, strict=True):
        assert isinstance(mark, Bars)
        np.testing.assert_allclose(mark.base, base)
        np.testing.assert_allclose(mark.heights, [0.2, *(mean_of(f"bits_used_{part}", name) for name in FUSIONS)])
        base += mark.heights


def test_stacked_bars_lie_on_one_line(found):
    """Without the overlay, plotly moves bars of several traces beside each other."""
    picture = bits.picture(found)
    assert picture is not None
    layouts = [panel["layout"] for panel in plotly.chart(picture)["panels"].values()]
    assert [layout["barmode"] for layout in layouts] == ["overlay"]


def test_a_panel_for_each_contribution_with_one_point_a_strategy(found, panels_of):
    panels = panels_of(contributions)
    assert len(panels) == 4
    panel = panels["Shapley value of text, points of accuracy"]
    points = [mark for mark in panel.marks if isinstance(mark, Points)]
    assert panel.y.names == tuple(FUSIONS)  # unimodal strategies have no values
    drawn = {panel.y.names[y]: x for mark in points for x, y in zip(mark.x, mark.y, strict=True)}
    assert drawn == pytest.approx({name: 100 * mean_of("shapley_text", name) for name in FUSIONS})
    assert any(isinstance(mark, Line) for mark in panel.marks)  # at zero, as some are below


def test_curves_go_through_the_severities_and_a_missing_rate_is_a_straight_line(found, panels_of):
    panels = panels_of(robustness)
    assert set(panels) == {"image: contrast", "text: dropped words", "text missing"}
    lines = {mark.label: mark for mark in panels["image: contrast"].marks if isinstance(mark, Line)}
    assert set(lines) == set(found.leaders) & set(FUSIONS)
    assert list(lines["concat"].x) == [0, 1, 2, 3, 4, 5]
    assert lines["concat"].y[5] == pytest.approx(100 * mean_of("accuracy_contrast_5", "concat"))
    (missing,) = [m for m in panels["text missing"].marks if isinstance(m, Line) and m.label == "concat"]
    np.testing.assert_allclose(missing.y, [85.0, 100 * mean_of("accuracy_without_text", "concat")])
    assert [m.label for m in panels["text: dropped words"].marks if isinstance(m, Line)][-1] == "ceiling: text only"


def test_the_shift_matrix_has_both_bayes_accuracies_above_the_strategies(found, panels_of):
    (panel,) = panels_of(channel_shift).values()
    (mark,) = panel.marks
    assert isinstance(mark, HeatMap)
    assert panel.y.names[2:] == tuple(FUSIONS)
    expected = [60.0, 50.0, *(100 * mean_of("accuracy_on_half", name) for name in FUSIONS)]
    np.testing.assert_allclose(mark.values[:, 0], expected)


def test_similarity_has_the_seeds_on_its_diagonal(found, panels_of):
    (panel,) = panels_of(similarity).values()
    (mark,) = panel.marks
    np.testing.assert_allclose(mark.values, np.full((len(FUSIONS),) * 2, 0.9) - 0.1 * np.eye(len(FUSIONS)))


def test_a_study_without_diagnostics_has_none_of_these_pictures(tmp_path):
    plain = Store(tmp_path)
    write_study(plain)
    (findings,) = find(plain, table(plain, details=True))
    names = {picture.name for picture in pictures(findings)}
    assert not names & {"bits", "contributions", "robustness", "channel-shift", "similarity"}


def test_the_page_and_the_folder_of_figures_have_them(store):
    page, omitted = write_report(store)
    assert omitted == []
    text = page.read_text(encoding="utf-8")
    for name in ("bits", "contributions", "robustness", "channel-shift", "similarity"):
        assert re.search(f'id="[^"]+-{name}"', text)
        assert [*(page.parent / "figures").glob(f"*/{name}.svg")]
