"""Captions from and to files."""

import functools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion_bench.data.captions.files import export_captions, read_captions
from fusion_bench.errors import UserError

ENDINGS = ["csv", "parquet"]
ALL_ENDINGS = [*ENDINGS, "tsv", "jsonl", "csv.gz", "tsv.gz", "jsonl.gz"]


def write(path: Path, **columns: list) -> Path:
    table = pd.DataFrame(columns)
    if path.suffix == ".csv":
        table.to_csv(path, index=False)
    else:
        table.to_parquet(path, index=False)
    return path


@pytest.mark.parametrize("ending", ENDINGS)
def test_captions_come_in_the_order_of_ids(tmp_path: Path, ending: str) -> None:
    path = write(tmp_path / f"c.{ending}", caption=["two", "zero", "one"], id=[2, 0, 1], other=[1.5, 2.5, 3.5])
    assert read_captions(path, 3) == (("zero",), ("one",), ("two",))


def test_words_that_look_like_nothing_are_captions(tmp_path: Path) -> None:
    path = write(tmp_path / "c.csv", id=[0, 1, 2], caption=["None", "NA", "7"])
    assert read_captions(path, 3) == (("None",), ("NA",), ("7",))


def test_ids_may_be_text_or_floats_in_parquet(tmp_path: Path) -> None:
    assert read_captions(write(tmp_path / "a.parquet", id=["1", "0"], caption=["b", "a"]), 2) == (("a",), ("b",))
    assert read_captions(write(tmp_path / "b.parquet", id=[1.0, 0.0], caption=["b", "a"]), 2) == (("a",), ("b",))


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(
    ("ids", "captions", "message"),
    [
        ([0, 1, 2], ["a", "b", "c"], r"7 ids missing \(3, 4, 5, …\); each example of the splits needs a row"),
        ([*range(9)], ["a"] * 9, r"1 id missing \(9\);"),
        ([*range(10), 4, 7], ["a"] * 12, r"2 ids duplicate \(4, 7\); each id has one row"),
        ([*range(9), 10], ["a"] * 10, r"1 id out of range \(10\); ids are 0\.\.9"),
        ([-1, *range(9)], ["a"] * 10, r"1 id out of range \(-1\)"),
        ([*range(9), 8.5], ["a"] * 10, r"1 id invalid \('?8.5'?\); ids are whole numbers"),
        ([*range(9), None], ["a"] * 10, r"1 id invalid"),
        ([*range(10)], ["a"] * 8 + ["", "  "], r"2 captions empty \(8, 9\); each id needs a text"),
        ([*range(9, -1, -1)], ["a"] * 9 + [None], r"1 caption empty \(0\)"),
    ],
)
def test_bad_rows_are_counted_and_shown(tmp_path: Path, ending: str, ids: list, captions: list, message: str) -> None:
    path = write(tmp_path / f"c.{ending}", id=ids, caption=captions)
    with pytest.raises(UserError, match=message) as caught:
        read_captions(path, 10)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_file_or_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_captions(tmp_path / "none.csv", 1)
    with pytest.raises(UserError, match="no column caption; its columns are id, words"):
        read_captions(write(tmp_path / "a.csv", id=[0], words=["a"]), 1)
    with pytest.raises(UserError, match="no column id and no column caption"):
        read_captions(write(tmp_path / "b.parquet", words=["a"]), 1)


@pytest.mark.parametrize(
    ("name", "content"),
    [("empty.parquet", b""), ("text.parquet", b"id,caption\n0,a\n"), ("cut.parquet", b"PAR1 and then nothing PAR1")],
)
def test_an_unreadable_file_is_one_line(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match="cannot be read as parquet: ") as caught:
        read_captions(tmp_path / name, 1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ending", ALL_ENDINGS)
def test_an_export_says_all_and_reads_back(tmp_path: Path, ending: str) -> None:
    path = tmp_path / "new" / f"c.{ending}"
    texts = ("A cat, 'the' \"cat\".", "line\nbreak", "None", "ünïcödé")
    splits = {"train": np.array([0, 3]), "test": np.array([1])}
    classes, shifts, targets = np.array([0, 1, 2, 1]), np.array([1, 0, 2, 1]), np.array([1, 1, 1, 2])
    export_captions(path, texts, splits=splits, classes=classes, shifts=shifts, targets=targets)
    assert read_captions(path, 4) == tuple((text,) for text in texts)
    readers = {"csv": pd.read_csv, "tsv": functools.partial(pd.read_csv, sep="\t"), "parquet": pd.read_parquet}
    table = readers.get(ending.removesuffix(".gz"), functools.partial(pd.read_json, lines=True))(path)
    assert list(table.columns) == ["id", "split", "caption", "y", "k", "t"]
    assert table["id"].tolist() == [0, 1, 2, 3]
    assert table["split"].tolist() == ["train", "test", "unused", "train"]
    for column, values in {"y": classes, "k": shifts, "t": targets}.items():
        assert table[column].tolist() == values.tolist()


def test_an_export_without_shifts_has_none(tmp_path: Path) -> None:
    classes = np.array([3, 4])
    export_captions(tmp_path / "c.csv", ("a", "b"), splits={}, classes=classes, targets=classes)
    assert pd.read_csv(tmp_path / "c.csv")["k"].tolist() == [0, 0]


def test_an_export_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    classes = np.array([0])
    with pytest.raises(UserError, match="must end in"):
        export_captions(tmp_path / "c.json", ("a",), splits={}, classes=classes, targets=classes)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(UserError, match="cannot write"):
        export_captions(tmp_path / "folder.csv", ("a",), splits={}, classes=classes, targets=classes)


@settings(max_examples=30)
@given(texts=st.lists(st.text(st.characters(exclude_categories=("Cs", "Cc"))), min_size=1, max_size=5))
def test_any_text_makes_the_round_trip(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    texts = ["x" + text for text in texts]
    classes = np.zeros(len(texts), np.int32)
    for ending in ENDINGS:
        path = tmp_path_factory.mktemp("trip") / f"c.{ending}"
        export_captions(path, texts, splits={}, classes=classes, targets=classes)
        assert read_captions(path, len(texts)) == tuple((text,) for text in texts)
