import dataclasses
import itertools
import math
import re
import shutil
import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
from matplotlib.collections import LineCollection, QuadMesh
from matplotlib.patches import Rectangle
from matplotlib.text import Annotation
from PIL import Image

from fusion_bench.cli import main
from fusion_bench.errors import UserError
from fusion_bench.families import FAMILIES
from fusion_bench.report.findings import find, mean_interval
from fusion_bench.report.page import write_report
from fusion_bench.report.plots import cost, pictures, plotly
from fusion_bench.report.plots.accuracy import focus
from fusion_bench.report.plots.cost import pareto_front
from fusion_bench.report.plots.labels import plain, spread, ticks
from fusion_bench.report.plots.marks import Names
from fusion_bench.report.plots.matplotlib import draw, style, write
from fusion_bench.report.table import table
from fusion_bench.store import Store
from tests.report.study import ACCURACIES, CLASSES, N_TEST, write_study
from tests.report.study import FAMILIES as FAMILY_OF

T_TWO = 4.302653  # 97.5 % quantile of Student's t with two degrees of freedom, n = 3


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    opened = Store(tmp_path_factory.mktemp("study"))
    write_study(opened)
    return opened


@pytest.fixture(scope="module")
def found(store):
    (findings,) = find(store, table(store, details=True))
    return findings


# What is computed


def test_the_pareto_front_by_hand():
    #           front      dearer     front      worse      front: equal   no cost
    costs = [1.0, 3.0, 2.0, 2.0, 2.0, math.nan]
    values = [0.5, 0.6, 0.7, 0.6, 0.7, 0.9]
    assert pareto_front(costs, values) == [0, 2, 4]
    assert pareto_front([], []) == []
    assert pareto_front([2.0, 1.0], [0.5, 0.5]) == [1]


def test_a_band_by_hand():
    mean, half_width = mean_interval(np.array([[0.70, 0.5], [0.72, np.nan], [0.74, 0.7]]))
    assert mean == pytest.approx([0.72, 0.6])
    # s = 0.02 over three seeds; s = √0.02 over two, whose t is 12.706
    assert half_width == pytest.approx([T_TWO * 0.02 / math.sqrt(3), 12.706205 * 0.1], rel=1e-6)
    assert np.isnan(mean_interval(np.array([[0.5]]))[1]).all()


def test_findings_of_the_study(found):
    assert found.curves["concat"].mean(axis=1).tolist() == pytest.approx([0.65, 0.75, 0.85])
    assert set(found.curves) == {*FAMILY_OF} - {"late-posthoc"}
    # late-posthoc is better on validation, to which it was fitted
    assert found.leaders == ["image-only", "early-channel", "concat", "tensor:width=8", "late-mean"]
    assert [len(labels) for _, labels in found.tests["concat"]] == [N_TEST] * 3
    assert found.class_names == tuple(CLASSES)
    assert found.omitted == []
    assert found.seeds_text(FAMILY_OF) == "n = 3 seeds"


def test_the_enlarged_part_holds_the_best(found):
    low, high = focus(found.rows)
    assert 0.41 < low < 0.76
    assert 0.88 < high <= 1.005


def test_costs(found):
    rows = found.measured
    assert cost.values(rows, "parameters") == [1000.0, 2000.0, 3000.0, 4000.0, 5000.0, 6000.0, 7000.0]
    assert set(cost.values(rows, "latency of one example, ms")) == {0.5}
    assert math.isnan(cost.values(rows, "training time, s")[-1])  # late-posthoc is not trained


def test_labels_are_moved_apart_in_their_order():
    assert spread([0.5, 0.5, 0.1], 0.1, 0.0, 1.0) == pytest.approx([0.5, 0.6, 0.1])
    assert spread([0.95, 0.96, 0.97], 0.1, 0.0, 1.0) == pytest.approx([0.8, 0.9, 1.0])
    assert spread([], 0.1, 0.0, 1.0) == []


def test_numbers_of_an_axis():
    assert [plain(value) for value in (0.5, 20.0, 50_000.0, 2e6, 1e9)] == ["0.5", "20", "50k", "2M", "1G"]
    assert ticks(30.0, 900.0) == [50.0, 100.0, 200.0, 500.0]
    assert ticks(1.0, 3.0) == [1.0, 1.5, 2.0, 3.0]
    assert ticks(5.1, 5.9) == [5.2, 5.4, 5.6, 5.8]


def lightness(colour):
    """The CIE lightness L*, 0 to 100, of an sRGB colour "#rrggbb"."""
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    luminance = sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    return 116 * luminance ** (1 / 3) - 16


def test_families_differ_in_grey_and_in_shape():
    shown = [FAMILIES[family] for family in ("intermediate", "tensor", "late", "early", "unimodal")]
    steps = [lightness(b.colour) - lightness(a.colour) for a, b in itertools.pairwise(shown)]
    assert min(steps) > 6
    assert len({look.marker for look in shown}) == len({look.symbol for look in shown}) == len(shown)


# The two renderers


def known(points):
    """The points without those that have a NaN, each once."""
    found = np.array([point for point in points if not np.isnan(point).any()], float)
    return np.unique(found, axis=0)


def holds(points, others):
    """Whether each of some points lies among others, up to rounding."""
    return all(np.isclose(np.asarray(points), point, rtol=1e-4, atol=1e-4).all(axis=1).any() for point in others)


def ends(x, y, trace):
    """The ends of intervals, as points."""
    for axis in "xy":
        for place, width in enumerate(trace.get(f"error_{axis}", {}).get("array", ())):
            yield from (
                (x[place] + sign * width * (axis == "x"), y[place] + sign * width * (axis == "y")) for sign in (-1, 1)
            )


def of_plotly(picture, name):
    """All points of a panel, cells as (column, row, value), and names."""
    chart = plotly.chart(dataclasses.replace(picture, page=[name]))
    panel, points, cells = chart["panels"][name], [], []
    for trace in (*panel["data"], *chart["shared"]):
        go.Figure(trace)  # raises if plotly does not know an attribute
        if trace["type"] == "heatmap":
            z = np.array(trace["z"], float)
            cells += [(column, row, z[row, column]) for row, column in np.ndindex(z.shape)]
        elif trace["x"] != [None]:
            x, y = np.array(trace["x"], float), np.array(trace["y"], float)  # None is NaN
            points += [*zip(x, y, strict=True), *ends(x, y, trace)]
    go.Figure(layout=panel["layout"])
    return known(points), known(cells), {note["text"] for note in panel["layout"]["annotations"]}


def of_matplotlib(picture, name):
    with style():
        axes = draw(picture, [name]).axes[0]
    points: list[Any] = [point for line in axes.lines for point in np.array(line.get_data(), float).T]
    for patch in axes.patches:
        if isinstance(patch, Rectangle):
            points.append((patch.get_x() + patch.get_width() / 2, patch.get_height()))
        else:
            points += [*patch.get_xy()]  # type: ignore[attr-defined]
    cells: list[Any] = []
    for collection in axes.collections:
        if isinstance(collection, QuadMesh):
            z = np.ma.filled(collection.get_array(), np.nan)  # type: ignore[arg-type]
            cells += [(column, row, z[row, column]) for row, column in np.ndindex(z.shape)]
        elif isinstance(collection, LineCollection):
            points += [point for segment in collection.get_segments() for point in segment]
    return (known(points), known(cells), {text.get_text() for text in axes.texts if isinstance(text, Annotation)})


def test_both_renderers_show_the_same_numbers(found):
    drawn = pictures(found)
    assert [picture.name for picture in drawn] == [
        *("accuracy", "cost", "curves", "significance", "classes", "confusion", "roc", "calibration")
    ]
    for picture in drawn:
        for name, panel in picture.panels.items():
            points, cells, names = of_plotly(picture, name)
            other_points, other_cells, other_names = of_matplotlib(picture, name)
            for own, other in ((points, other_points), (cells, other_cells)):
                assert holds(own, other), (picture.name, name)
                assert holds(other, own), (picture.name, name)
            assert len(points) + len(cells) > 0
            if not any(isinstance(mark, Names) and mark.side == "edge" for mark in panel.marks):
                assert names == other_names


def test_pictures_show_what_was_found(found):
    by_name = {picture.name: picture for picture in pictures(found)}
    points, _, _ = of_plotly(by_name["accuracy"], "all")
    half_width = T_TWO * 1.0 / math.sqrt(3)  # of 84, 86 and 85 %
    row = list(found.measured["strategy"]).index("concat")
    assert holds(points, [(85, row), (85 - half_width, row), (85 + half_width, row)])
    assert holds(points, [(45, -0.5), (88, -0.5)])  # a ceiling and the reference
    points, _, names = of_plotly(by_name["cost"], "parameters")
    assert holds(points, [(4000, 85), (7000, 85)])  # the front, up to the dearest
    assert names == {"early-channel", "concat"}
    for name, panel, expected in (
        ("confusion", "concat", [(0, 0, 85), (2, 0, 0), (2, 1, 15)]),
        ("significance", "", [(0, 0, 0), (5, 5, 2)]),
    ):
        _, cells, _ = of_plotly(by_name[name], panel)
        assert holds(cells, expected)
    hover = plotly.chart(by_name["significance"])["panels"][""]["data"][0]["hovertext"]
    # concat − text-only by seed: 0.44, 0.45, 0.43; two-sided p of t = 0.44 √3 / 0.01 = 76, in Holm's order
    assert hover[5][0].startswith("<b>concat over text-only</b><br>+44.00 points, p = ")
    points, _, _ = of_plotly(by_name["classes"], "concat")
    assert holds(points, [(1, 85), (1, 71)])  # the chosen strategy and the best unimodal one
    points, _, _ = of_plotly(by_name["curves"], "intermediate")
    assert holds(points, [(1, 65), (3, 85)])


@pytest.fixture(scope="module")
def drawn(found, tmp_path_factory):
    folder = tmp_path_factory.mktemp("figures")
    return folder, [path for each in pictures(found) for path in write(each, folder / each.name, found.title)]


FIGURES = ("accuracy", "cost", "curves", "calibration", "significance", "roc")


def text_of(path):
    """The words of an SVG; a note's lines are joined again."""
    words = " ".join(text for node in ET.parse(path).iter() if (text := (node.text or "").strip()))
    return re.sub(r"\s+", " ", words)


def test_every_figure_is_written_as_png_and_svg(drawn):
    folder, written = drawn
    expected = {*FIGURES, *(f"confusion/{name.replace(':', '-').replace('=', '-')}" for name in ACCURACIES)}
    assert {str(path.relative_to(folder)) for path in written} == expected
    for path in written:
        with Image.open(path.with_name(f"{path.name}.png")) as image:
            width = image.size[0] / 300
        assert 3.3 <= round(width, 1) <= 6.9


@pytest.mark.parametrize("name", [*FIGURES, "confusion/concat"])
def test_every_figure_states_n_and_what_it_is_of(drawn, name):
    folder, _ = drawn
    text = text_of(folder / f"{name}.svg")
    assert "n = 3 seeds" in text
    assert "shapes, default captions" in text
    if name in ("accuracy", "cost", "curves", "roc", "calibration"):
        assert "95 % interval" in text
    if name == "significance":
        assert "Holm-corrected over all 21 pairs" in text


def test_figures_name_what_they_show(drawn):
    folder, _ = drawn
    accuracy = text_of(folder / "accuracy.svg")
    for part in (*FAMILY_OF, "bayes-reference", "ceiling: text only 45.00", "85.00 ± 2.48"):
        assert part in accuracy
    cost = text_of(folder / "cost.svg")
    assert "concat" in cost  # on the front
    assert "late-mean" not in cost  # dearer than concat, and worse
    assert "text-only 41.0" in cost  # below the picture, named in the note
    assert "Without a curve, as they join trained models: late-posthoc" in text_of(folder / "curves.svg")
    assert CLASSES[1] in text_of(folder / "confusion/concat.svg")


def test_the_same_runs_give_the_same_figures(found, drawn, tmp_path):
    folder, _ = drawn
    write(next(each for each in pictures(found) if each.name == "roc"), tmp_path / "roc", found.title)
    for name in ("roc.svg", "roc.png"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_one_seed_has_no_interval_and_is_drawn_all_the_same(tmp_path):
    store = Store(tmp_path)
    write_study(store, seeds=1)
    (found,) = find(store, table(store))
    drawn = {each.name: each for each in pictures(found)}
    assert "significance" not in drawn  # there is no p-value
    assert {"accuracy", "cost", "curves", "roc"} <= set(drawn)
    write(drawn["accuracy"], tmp_path / "accuracy")
    assert "n = 1 seed" in text_of(tmp_path / "accuracy.svg")
    write(drawn["curves"], tmp_path / "curves")
    found.curves.update({name: curve.iloc[:1] for name, curve in found.curves.items()})
    assert "curves" not in {each.name for each in pictures(found)}  # one epoch makes no line


# The report


def test_a_report_of_damaged_runs_leaves_out_what_cannot_be_read(tmp_path, capsys):
    store = Store(tmp_path)
    write_study(store)
    runs = {run.strategy: run.id for run in store.runs() if run.seed == 0}
    for strategy in ("tensor:width=8", "late-mean"):  # as an older version may have left them
        run = store.get(runs[strategy])
        assert run is not None
        kept: Any = {} if strategy == "late-mean" else {"predictions": store.predictions(run.id)}
        shutil.rmtree(tmp_path / "runs" / run.id)
        store.write(run, **kept)
    (tmp_path / "runs" / runs["concat"] / "run.json").write_text("{")
    with pytest.raises(SystemExit) as exit_:
        main(["report", str(tmp_path), "--against", "text-only"])
    assert exit_.value.code == 0
    told = capsys.readouterr()
    for what in (
        f"{runs['concat']}: run.json",
        "learning curve of tensor:width=8",
        "predictions of late-mean",
        "metrics",
    ):
        assert f"fusion-bench: left out{':' * (what[0] != 'c')} {what}" in told.err
    page = tmp_path / "report" / "index.html"
    assert re.fullmatch(rf"written to {page}, \d\.\d MB; figures beside it\n", told.out)
    text = page.read_text(encoding="utf-8")
    assert "Left out: predictions of late-mean" in text
    assert "Gain: over text-only" in text


def test_a_report_that_cannot_be_written_is_said_in_one_line(tmp_path):
    store = Store(tmp_path)
    write_study(store)
    (tmp_path / "report").write_text("")
    with pytest.raises(UserError, match=r"report cannot be written"):
        write_report(store)


def test_a_directory_without_a_readable_run(tmp_path):
    (tmp_path / "runs").mkdir()
    with pytest.raises(UserError, match="there is no complete run in"):
        write_report(Store(tmp_path, read_only=True))
