import itertools
import math
import re
import shutil
import xml.etree.ElementTree as ET
from typing import Any

import matplotlib
import numpy as np
import pytest
from PIL import Image

from fusion_bench.cli import main
from fusion_bench.errors import UserError
from fusion_bench.report.costs import LATENCY, PARAMETERS, TRAIN_SECONDS
from fusion_bench.report.figures.canvas import STYLE, save
from fusion_bench.report.figures.write import FIGURES, write_figures
from fusion_bench.report.findings import compare, find, focus, mean_band, pareto_front, seeds_of
from fusion_bench.report.labels import plain, spread, ticks
from fusion_bench.report.palette import LOOKS, lightness
from fusion_bench.report.table import table
from fusion_bench.report.write import write_report
from fusion_bench.store import Store
from tests.report.study import ACCURACIES, CLASSES, FAMILIES, N_TEST, write_study

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
    band = mean_band(np.array([1.0, 2.0]), np.array([[0.70, 0.5], [0.72, np.nan], [0.74, 0.7]]))
    assert band.mean == pytest.approx([0.72, 0.6])
    # s = 0.02 over three seeds; s = √0.02 over two, whose t is 12.706
    assert band.half_width == pytest.approx([T_TWO * 0.02 / math.sqrt(3), 12.706205 * 0.1], rel=1e-6)
    assert np.isnan(mean_band(np.array([1.0]), np.array([[0.5]])).half_width).all()


def test_the_matrix_by_hand():
    values = {"a": {0: 0.5, 1: 0.6, 2: 0.4}, "b": {0: 0.7, 1: 0.8, 2: 0.9}, "c": {0: 0.9, 1: 1.0, 2: 0.8}}
    matrix = compare(values, 1 / 1000)
    assert matrix.strategies == ["c", "b", "a"]
    assert matrix.differences[0] == pytest.approx([0.0, 0.1, 0.4])
    # c − a is 0.4 in each seed: on a grid of 0.001 p < 1e-5; b − a: 0.2, 0.2, 0.5, t = 3; c − b: 0.2, 0.2, −0.1, t = 1
    p = {t: 1 - t / math.sqrt(t**2 + 2) for t in (3.0, 1.0)}
    assert 0 < matrix.p_values[0, 2] < 1e-5
    assert matrix.p_values[1, 2] == matrix.p_values[2, 1] == pytest.approx(2 * p[3.0])
    assert matrix.p_values[0, 1] == pytest.approx(p[1.0])
    assert np.isnan(matrix.p_values.diagonal()).all()


def test_findings_of_the_study(found):
    assert found.curves["concat"].mean == pytest.approx([0.65, 0.75, 0.85])
    assert set(found.curves) == {*FAMILIES} - {"late-posthoc"}
    # late-posthoc is better on validation, to which it was fitted
    assert found.leaders == ["image-only", "early-channel", "concat", "tensor:width=8", "late-mean"]
    confusion = found.diagnoses["concat"].confusion
    # right in the first 84, 86 and 85 % of the examples of each class, else taken for the next but one
    assert confusion == pytest.approx(0.85 * np.eye(3) + 0.15 * np.eye(3)[[1, 2, 0]])
    assert found.diagnoses["concat"].calibration.count.sum() == 3 * N_TEST
    assert found.class_names == CLASSES
    assert found.omitted == []
    assert found.said_of(FAMILIES) == "n = 3 seeds"


def test_the_enlarged_part_holds_the_best(found):
    low, high = focus(found.block)
    assert 0.41 < low < 0.76
    assert 0.88 < high <= 1.005


def test_seeds_in_words():
    assert seeds_of([3, 3]) == "n = 3 seeds"
    assert seeds_of([2, 3]) == "n = 2 to 3 seeds"
    assert seeds_of([1]) == "n = 1 seed"


def test_costs(found):
    rows = found.measured
    assert PARAMETERS.values(rows) == [1000.0, 2000.0, 3000.0, 4000.0, 5000.0, 6000.0, 7000.0]
    assert set(LATENCY.values(rows)) == {0.5}  # in ms
    assert math.isnan(TRAIN_SECONDS.values(rows)[-1])
    assert TRAIN_SECONDS.pictured(rows, 0.805) == [2.5, 2.5, 2.5]  # but for late-posthoc


def test_labels_are_moved_apart_in_their_order():
    assert spread([0.5, 0.5, 0.1], 0.1, 0.0, 1.0) == pytest.approx([0.5, 0.6, 0.1])
    assert spread([0.95, 0.96, 0.97], 0.1, 0.0, 1.0) == pytest.approx([0.8, 0.9, 1.0])
    assert spread([], 0.1, 0.0, 1.0) == []


def test_numbers_of_an_axis():
    assert [plain(value) for value in (0.5, 20.0, 50_000.0, 2e6, 1e9)] == ["0.5", "20", "50k", "2M", "1G"]
    assert ticks(30.0, 900.0) == [50.0, 100.0, 200.0, 500.0]
    assert ticks(1.0, 3.0) == [1.0, 1.5, 2.0, 3.0]
    assert ticks(5.1, 5.9) == [5.2, 5.4, 5.6, 5.8]


def test_families_are_told_apart_in_grey_and_by_shape():
    shown = [LOOKS[family] for family in ("intermediate", "tensor", "late", "early", "unimodal")]
    steps = [lightness(b.colour) - lightness(a.colour) for a, b in itertools.pairwise(shown)]
    assert min(steps) > 6
    assert len({look.marker for look in shown}) == len({look.symbol for look in shown}) == len(shown)
    assert lightness("#ffffff") == pytest.approx(100)
    assert lightness("#777777") == pytest.approx(50.03, abs=0.01)


# What is drawn


@pytest.fixture(scope="module")
def drawn(found, tmp_path_factory):
    folder = tmp_path_factory.mktemp("figures")
    return folder, write_figures(found, folder)


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
    for part in (*FAMILIES, "bayes-reference", "ceiling: text only 45.00", "85.00 ± 2.48"):
        assert part in accuracy
    cost = text_of(folder / "cost.svg")
    assert "concat" in cost  # on the front
    assert "late-mean" not in cost  # dearer than concat, and worse
    assert "text-only 41.0" in cost  # below the picture, named in the note
    assert "No curve, as they are joined after training: late-posthoc" in text_of(folder / "curves.svg")
    assert CLASSES[1] in text_of(folder / "confusion/concat.svg")


def test_the_same_runs_give_the_same_figures(found, drawn, tmp_path):
    folder, _ = drawn
    with matplotlib.rc_context(STYLE):  # type: ignore[arg-type]
        save(FIGURES["roc"](found), tmp_path / "roc")
    for name in ("roc.svg", "roc.png"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_one_seed_has_no_interval_and_is_drawn_all_the_same(tmp_path):
    store = Store(tmp_path)
    write_study(store, seeds=1)
    (found,) = find(store, table(store))
    written = {path.name for path in write_figures(found, tmp_path / "figures")}
    assert "significance" not in written  # there is no p-value
    assert {"accuracy", "cost", "curves", "roc"} <= written
    assert "n = 1 seed" in text_of(tmp_path / "figures" / "accuracy.svg")


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
        "diagnosis of late-mean",
        "metrics",
    ):
        assert f"fusion-bench: left out{':' * (what[0] != 'c')} {what}" in told.err
    page = tmp_path / "report" / "index.html"
    assert re.fullmatch(rf"written to {page}, \d\.\d MB; figures beside it\n", told.out)
    text = page.read_text(encoding="utf-8")
    assert "Left out: diagnosis of late-mean" in text
    assert "Gain: over text-only" in text


def test_a_report_that_cannot_be_written_is_said_in_one_line(tmp_path):
    store = Store(tmp_path)
    write_study(store)
    (tmp_path / "report").write_text("")
    with pytest.raises(UserError, match=r"report cannot be written"):
        write_report(store)


def test_a_directory_without_a_readable_run(tmp_path):
    (tmp_path / "runs").mkdir()
    with pytest.raises(UserError, match="there is no run in"):
        write_report(Store(tmp_path, read_only=True))
