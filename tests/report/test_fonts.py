"""Characters that the usual font of figures lacks."""

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager

from fusion_bench.cli import main
from fusion_bench.report.plots import examples, fonts, matplotlib
from fusion_bench.report.plots.matplotlib import write
from fusion_bench.store import Store
from fusion_bench.store.examples import Example
from tests.report.study import write_study

FOX, BEAR = "\U0001f98a", "\u718a"


def picture_of(name):
    return examples.picture([Example(0, np.zeros((4, 4, 3), np.uint8), f"a {name}", name, name)], "pets")


@pytest.fixture
def fox_font(tmp_path, monkeypatch):
    """A font that has a fox, a black square, and nothing else; it is the only one beside the usual one."""
    pen = TTGlyphPen(None)
    for place, point in enumerate([(0, 0), (0, 900), (900, 900), (900, 0)]):
        (pen.lineTo if place else pen.moveTo)(point)
    pen.closePath()
    builder = FontBuilder(1000)
    builder.setupGlyphOrder([".notdef", "fox"])
    builder.setupCharacterMap({ord(FOX): "fox"})
    builder.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "fox": pen.glyph()})
    builder.setupHorizontalMetrics({".notdef": (500, 0), "fox": (1000, 0)})
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": "Foxes", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    path = tmp_path / "foxes.ttf"
    builder.save(path)
    only_the_usual(monkeypatch)
    font_manager.fontManager.addfont(path)


def only_the_usual(monkeypatch):
    listed = font_manager.fontManager.ttflist
    usual = [font for font in listed if font.name == fonts.USUAL or font.name.startswith("Last Resort")]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", usual)
    monkeypatch.setattr(fonts, "_add_recent_fonts", lambda: None)


def test_an_installed_font_helps_out(fox_font, tmp_path):
    assert fonts.families(["a fox ", FOX]) == ([fonts.USUAL, "Foxes"], "")
    assert fonts.families(["a fox, ±"]) == ([fonts.USUAL], "")
    assert fonts.lacking([picture_of(FOX)]) == []
    write(picture_of(FOX), tmp_path / "fox")
    assert "Foxes" in (tmp_path / "fox.svg").read_text(encoding="utf-8")


def test_what_no_font_has_is_said_in_one_line_without_warnings(fox_font, tmp_path):
    assert fonts.families([FOX, BEAR, BEAR]) == ([fonts.USUAL, "Foxes"], BEAR)
    (line,) = fonts.lacking([picture_of(BEAR), picture_of("a"), picture_of(BEAR)])
    assert line == "characters of figures that no installed font has: U+718A CJK UNIFIED IDEOGRAPH-718A"
    write(picture_of(BEAR), tmp_path / "bear")  # pytest makes errors of warnings
    (line,) = fonts.lacking([picture_of("\u4e00\u4e01\u4e02\u4e03\u4e04")])
    assert line.endswith("U+4E02 CJK UNIFIED IDEOGRAPH-4E02 and 2 others")


def test_a_report_says_once_what_no_font_has(monkeypatch, tmp_path, capsys):
    only_the_usual(monkeypatch)
    monkeypatch.setattr(matplotlib, "write", lambda picture, path, title: [])
    store = Store(tmp_path)
    for captions in ("default", "synergy"):
        write_study(store, captions=captions, classes=["fox", BEAR, "cat"], seeds=1)
    with pytest.raises(SystemExit) as exit_:
        main(["report", str(tmp_path)])
    assert exit_.value.code == 0
    told = capsys.readouterr().err
    assert told == (
        "fusion-bench: left out: characters of figures that no installed font has: U+718A CJK UNIFIED IDEOGRAPH-718A\n"
    )
    assert r"\u718a" in (tmp_path / "report" / "index.html").read_text(encoding="utf-8")  # a browser has its own fonts
