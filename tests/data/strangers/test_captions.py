"""Captions files as people have them: the same captions in every format, or one line that says what would be right."""

import gzip
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fusion_bench.data.captions.files import read_captions
from fusion_bench.data.captions.spec import is_caption_file
from fusion_bench.errors import UserError

TEXTS = ("a cat, asleep", 'the "big" dog; barking', "Größe – 猫\tund\nnoch", "None")
IDS = (2, 0, 3, 1)
TABLE = pd.DataFrame({"id": IDS, "other": 1.5, "caption": [TEXTS[i] for i in IDS]})


def separated(separator=",", names=("id", "other", "caption"), end="\n", **options) -> bytes:
    text = TABLE.set_axis(list(names), axis=1).to_csv(sep=separator, index=False, lineterminator=end, **options)
    return text.encode()


def json_lines(*names: str) -> bytes:
    rows = TABLE.set_axis(list(names), axis=1).to_dict("records")
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def recoded(content: bytes, encoding: str) -> bytes:
    return content.decode().encode(encoding)


FILES = {
    "plain.csv": separated(),
    "bom.csv": recoded(separated(), "utf-8-sig"),
    "excel.csv": recoded(separated(";", end="\r\n"), "utf-8-sig"),
    "tab.csv": separated("\t"),
    "utf16.csv": recoded(separated(), "utf-16"),
    "utf16-big-endian.tsv": b"\xfe\xff" + recoded(separated("\t"), "utf-16-be"),
    "quoted.csv": separated(quoting=1),
    "spaces.csv": b'\r\nid, caption\r\n0, "a cat, asleep"\r\n',
    "names.csv": separated(names=(" ID ", "other", "Caption")),
    "text.csv": separated(names=("Id", "other", "TEXT")),
    "caption-before-text.csv": separated(names=("id", "text", "caption")),
    "exact-before-case.csv": separated(names=("id", "ID", "caption")),
    "plain.tsv": separated("\t"),
    "PLAIN.TSV": separated("\t"),
    "plain.jsonl": json_lines("id", "other", "caption"),
    "names.jsonl": json_lines("ID", "other", "text"),
    "blank.jsonl": b"\n" + json_lines("id", "other", "caption") + b"\r\n",
    "plain.csv.gz": gzip.compress(separated()),
    "semicolon.csv.gz": gzip.compress(separated(";")),
    "plain.tsv.gz": gzip.compress(separated("\t")),
    "plain.jsonl.gz": gzip.compress(json_lines("id", "other", "caption")),
}
TABLES = {
    "plain": TABLE,
    "names": TABLE.rename(columns={"id": "Id", "caption": "Caption "}),
    "index": TABLE.set_index("id"),
    "index-named-otherwise": TABLE.rename(columns={"id": "ID"}).set_index("ID"),
    "range": pd.DataFrame({"caption": TEXTS}, index=pd.RangeIndex(4, name="id")),
    "filtered": TABLE.set_index(pd.Index([9, 7, 5, 3])),
    "levels": TABLE.set_index(["id", "other"]),
    "strings": TABLE.astype({"id": str}),
    "floats": TABLE.astype({"id": float}),
    "categories": TABLE.astype({"caption": "category"}),
    "bytes": TABLE.assign(caption=[text.encode() for text in TABLE["caption"]]),
    "lists": TABLE.assign(caption=[[text] for text in TABLE["caption"]]),
    "lists-of-bytes": TABLE.assign(caption=[[text.encode()] for text in TABLE["caption"]]),
}


def write(path: Path, content: bytes | pd.DataFrame) -> Path:
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        content.to_parquet(path)
    return path


@pytest.mark.parametrize("name", FILES)
def test_the_same_captions_in_every_format(tmp_path, name):
    wanted = TEXTS[:1] if name == "spaces.csv" else TEXTS
    captions = read_captions(write(tmp_path / name, FILES[name]), len(wanted))
    assert captions == tuple((text,) for text in wanted)
    assert is_caption_file(name)


@pytest.mark.parametrize("name", TABLES)
def test_the_same_captions_in_every_parquet(tmp_path, name):
    assert read_captions(write(tmp_path / "c.parquet", TABLES[name]), 4) == tuple((text,) for text in TEXTS)


@pytest.mark.parametrize("name", ["c.jsonl", "c.parquet"])
def test_a_list_is_several_captions(tmp_path, name):
    rows = [{"id": 1, "caption": ["one", "two", "three"]}, {"id": 0, "caption": ["zero"]}]
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path = write(tmp_path / name, pd.DataFrame(rows) if name == "c.parquet" else lines)
    assert read_captions(path, 2) == (("zero",), ("one", "two", "three"))


def as_csv(*rows: str) -> bytes:
    return "\n".join(("id,caption", *rows)).encode()


def as_parquet(captions: list, ids=None) -> pd.DataFrame:
    return pd.DataFrame({"id": range(len(captions)) if ids is None else ids, "caption": captions})


REFUSED = {
    "windows-1252": (
        "c.csv",
        as_csv("0,plain", "1,Größe").decode().encode("windows-1252"),
        r"is not UTF-8 \(byte 0xF6 in line 3\); if it is Windows-1252, convert it with iconv -f WINDOWS-1252 -t UTF-8$",
    ),
    "windows-1252 compressed": ("c.csv.gz", gzip.compress(b"id,caption\n0,caf\xe9"), "is not UTF-8 .*WINDOWS-1252"),
    "windows-1252 lines": ("c.jsonl", b'{"id": 0, "caption": "caf\xe9"}', "is not UTF-8 .*line 1.*WINDOWS-1252"),
    "utf-16 without a mark": ("c.csv", "id,caption\n0,a".encode("utf-16-le"), "has NUL characters; .*byte-order mark$"),
    "utf-16 cut": ("c.csv", "id,caption\n0,a".encode("utf-16")[:-1], "begins as UTF-16 and is not"),
    "gzip that is none": ("c.csv.gz", as_csv("0,a"), "cannot be read as csv: Not a gzipped file"),
    "gzip cut": ("c.csv.gz", gzip.compress(as_csv("0,a"))[:-9], "cannot be read as csv: "),
    "comma": (
        "c.csv",
        as_csv("0,a", "1,b, and c"),
        "line 3 has more than 2 fields; a caption with a comma needs quotes$",
    ),
    "comma in all": ("c.csv", as_csv("0,a, and b", "1,b, and c"), "line 2 has .*a comma needs quotes$"),
    "semicolon": ("c.csv", b"id;caption\n0;a; and b", "line 2 has .*; a caption with a semicolon needs quotes$"),
    "tab": ("c.tsv", b"id\tcaption\n0\ta\tb", "line 2 has more than 2 fields; a caption with a tab needs quotes$"),
    "empty csv": ("c.csv", b"", "cannot be read as csv: No columns"),
    "empty lines": ("c.jsonl", b"", "no column id and no column caption; its columns are none$"),
    "no lines": ("c.jsonl", b'[{"id": 0, "caption": "a"}]', r'line 1 is no JSON object such as \{"id": 0, .*\}$'),
    "broken line": ("c.jsonl", b'{"id": 0, "caption": "a"}\n{"id": 1,', "line 2 is no JSON object"),
    "other columns": ("c.csv", b"image,raw\n0,a", "no column id and no column caption; its columns are image, raw$"),
    "two columns": ("c.csv", b"id,Caption,CAPTION\n0,a,b", "has 2 columns caption: Caption, CAPTION; keep one$"),
    "a column twice": ("c.csv", b"id,caption,caption\n0,a,b", "has 2 columns caption: caption, caption; keep one$"),
    "ending": ("c.json", b"[]", r"must end in \.csv, \.tsv, \.jsonl \(or one of them and \.gz\) or \.parquet$"),
    "parquet compressed": ("c.parquet.gz", b"", "must end in"),
    "struct": (
        "c.parquet",
        as_parquet([{"text": "a"}, {"text": "b"}]),
        r"2 captions not text \(id 0: dict, id 1: dict\); a caption is a string, or a list of strings$",
    ),
    "numbers": ("c.parquet", as_parquet([3, 4], [7, 1]), "2 captions not text .*id 1: int"),
    "number in json": ("c.jsonl", b'{"id": 0, "caption": 3}', r"1 caption not text \(id 0: int\)"),
    "object in json": ("c.jsonl", b'{"id": 0, "caption": {"en": "a"}}', r"1 caption not text \(id 0: dict\)"),
    "truth": ("c.parquet", as_parquet([True]), r"\(id 0: bool\)"),
    "times": ("c.parquet", as_parquet([pd.Timestamp(0)]), r"\(id 0: Timestamp\)"),
    "list of numbers": ("c.parquet", as_parquet([[1, 2]]), r"\(id 0: a list with int64\)"),
    "list of lists": ("c.jsonl", b'{"id": 0, "caption": [["a"]]}', r"\(id 0: a list with list\)"),
    "list with nothing": ("c.jsonl", b'{"id": 0, "caption": ["a", null]}', r"\(id 0: a list with NoneType\)"),
    "bytes of latin": ("c.parquet", as_parquet([b"caf\xe9"]), r"\(id 0: bytes that are not UTF-8\)"),
    "empty list": ("c.parquet", as_parquet([["a"], []]), r"1 caption empty \(1\); each id needs a text$"),
    "empty in list": ("c.jsonl", b'{"id": 0, "caption": ["a", " "]}', r"1 caption empty \(0\)"),
    "null": ("c.jsonl", b'{"id": 0, "caption": null}', r"1 caption empty \(0\)"),
    "printed lists": (
        "c.csv",
        b"id,caption\n0,\"['a', 'b']\"\n1,\"['c']\"",
        r"captions are values as Python prints them",
    ),
    "most are printed lists": (
        "c.csv",
        b"id,caption\n0,\"['a',\n 'b']\"\n1,none\n2,['c']",
        r"its captions are values as Python prints them \(\['a', 'b'\] …\); JSON lines and",
    ),
    "printed tuples": ("c.csv", b"id,caption\n0,\"('a', 'b')\"", r"prints them \(\('a', 'b'\) …\)"),
    "a printed tuple of one": ("c.csv", b"id,caption\n0,\"('a',)\"", r"prints them \(\('a',\) …\)"),
    "printed bytes": ("c.parquet", as_parquet(["b'a cat'", "b'a dog'"]), r"prints them \(b'a cat' …\); JSON lines and"),
    "truth for an id": ("c.jsonl", b'{"id": true, "caption": "a"}', r"1 id invalid \(True\); ids are whole numbers$"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_captions_file_is_refused_in_one_line(tmp_path, case):
    name, content, message = REFUSED[case]
    path = write(tmp_path / name, content)
    count = {"numbers": 8, "most are printed lists": 3}.get(case, 1)
    count = 2 if case in ("struct", "empty list", "printed bytes", "printed lists") else count
    needed = np.array([1, 7]) if case == "numbers" else None
    with pytest.raises(UserError, match=message) as caught:
        read_captions(path, count, needed)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["[laughs]", "('hello')", "(a, b)"])
def test_brackets_alone_are_captions(tmp_path, text):
    assert read_captions(write(tmp_path / "c.csv", as_csv(f'0,"{text}"')), 1) == ((text,),)


def test_a_few_printed_values_are_captions(tmp_path):
    path = write(tmp_path / "c.csv", as_csv("0,['a']", "1,a cat"))
    assert read_captions(path, 2) == (("['a']",), ("a cat",))


FILE_NAMES, NUMBERS, PADDED = ("b.jpg", "a.jpg", "0007"), ("295", "17", "4"), ("0295", "0017", "0004")
STEMS = ("295.jpg", "17.jpg", "4.jpg")


@pytest.mark.parametrize(
    ("names", "ids", "captions"),
    [
        (FILE_NAMES, ["a.jpg", "b.jpg", "0007"], "bac"),
        (FILE_NAMES, [" a.jpg ", "0007", "b.jpg"], "cab"),
        (FILE_NAMES, [*FILE_NAMES, "another.jpg"], "abc"),  # of a larger set of images
        (FILE_NAMES, ["a.jpg", "b.jpg", "7"], "bac"),
        (("2", "40", "1"), [0, 1, 2, 40], "cdb"),
        (PADDED, [17, 295, 4], "bac"),
        (PADDED, [17.0, 295.0, 4.0], "bac"),
        (PADDED, ["17", "295", "4"], "bac"),
        (NUMBERS, ["17.0", "295.0", "4.0"], "bac"),
        (NUMBERS, PADDED, "abc"),
        (("1", "01"), ["01", "1"], "ba"),
        (("x.jpg", "y.jpg", "z.jpg"), ["1", "0", "2"], "bac"),  # no name could be meant: indices
        (("0.jpg", "1.jpg", "2.jpg"), [1, 0, 2], "bac"),
        (("same.jpg",) * 3, [1, 0, 2], "bac"),
    ],
)
def test_ids_may_be_the_names_that_the_source_knows(tmp_path, names, ids, captions):
    rows = [{"id": each, "caption": word} for each, word in zip(ids, "abcd", strict=False)]
    path = write(tmp_path / "c.jsonl", "\n".join(map(json.dumps, rows)).encode())
    assert read_captions(path, len(names), names=names) == tuple((text,) for text in captions)


@pytest.mark.parametrize(
    ("names", "ids", "message"),
    [
        (FILE_NAMES, ["a.jpg", "b.jpg"], r"1 id missing \(0007\); ids are names such as b\.jpg, and each example of"),
        (FILE_NAMES, ["a.jpg", "a.jpg", "b.jpg", "0007"], r"1 id duplicate \(a\.jpg\); each id has one row$"),
        (FILE_NAMES, [7, 1, 2], r"2 ids missing \(b\.jpg, a\.jpg\)"),
        (FILE_NAMES, [0, 1, 2], r"3 ids missing \(b\.jpg, a\.jpg, 0007\)"),  # 0007 could be meant
        (("2", "0", "1"), [0, 1], r"1 id missing \(2\); ids are names such as 2,"),
        (NUMBERS, [0, 1, 2], r"3 ids missing \(295, 17, 4\); ids are names such as 295,"),
        (("1", "2", "3"), [0, 1, 2], r"1 id missing \(3\)"),
        (STEMS, [295, 17, 4], r"3 ids missing .*; ids are names such as 295\.jpg,"),
        (("2.jpg", "0.jpg", "1.jpg"), [0, 1, 2], r"3 ids missing .*; ids are names such as 2\.jpg,"),
        (("x.jpg", "y.jpg", "z.jpg"), [0, 1], r"3 ids missing .*; ids are names such as x\.jpg,"),
        (("x.jpg", "y.jpg", "z.jpg"), [1, 2, 3], r"3 ids missing .*; ids are names such as x\.jpg,"),
        (("x.jpg", "x.jpg", "z.jpg"), ["x.jpg", "z.jpg"], r"id 'x\.jpg' stands for several examples; give each"),
        (("1", "01", "2"), [1, 2], r"1 id missing \(01\)"),
    ],
)  # fmt: skip
def test_names_that_are_not_there(tmp_path, names, ids, message):
    rows = [{"id": each, "caption": "a"} for each in ids]
    path = write(tmp_path / "c.jsonl", "\n".join(map(json.dumps, rows)).encode())
    with pytest.raises(UserError, match=message):
        read_captions(path, 3, names=names)


def test_a_source_has_a_name_for_each_example(tmp_path):
    path = write(tmp_path / "c.csv", as_csv("0,a", "1,b"))
    with pytest.raises(UserError, match=r"^the source has 1 ids for 2 examples; one each is right$"):
        read_captions(path, 2, names=("x",))


def test_half_a_character_is_replaced(tmp_path):
    path = write(tmp_path / "c.jsonl", b'{"id": 0, "caption": ["a cat \\ud83d", "\\ud83d\\ude00"]}')
    assert read_captions(path, 1) == (("a cat \ufffd", "\U0001f600"),)


def test_only_examples_of_the_splits_need_a_caption(tmp_path):
    path = write(tmp_path / "c.csv", as_csv("3,d", "0,a", "1,"))
    assert read_captions(path, 4, np.array([0, 3])) == (("a",), (), (), ("d",))
    assert read_captions(path, 4, np.array([3])) == ((), (), (), ("d",))  # whatever else there is
    with pytest.raises(UserError, match=r"1 id missing \(2\)"):
        read_captions(path, 4, np.array([0, 2]))
    with pytest.raises(UserError, match=r"1 caption empty \(1\)"):
        read_captions(path, 4, np.array([0, 1]))


@pytest.mark.parametrize(
    ("name", "is_file"),
    [("default", False), ("half:named=0.2", False), ("c.json", True), ("c.CSV", True), ("c.csv.gz", True)],
)
def test_what_has_an_ending_is_a_file(name, is_file):
    assert is_caption_file(name) == is_file
