"""`fusion-bench predict`: one example, a CSV file, a folder; what is wrong is a line, and the rest goes on."""

import csv
import io
import json
import shlex
import subprocess
import sys

import numpy as np
import pytest

from fusion_bench.deploy.examples import Row, predict_rows, read_folder
from fusion_bench.deploy.model import load_classifier
from tests.deploy.classifiers import draw_pixels, encoded, make_classifier


@pytest.fixture
def folder(tmp_path):
    """Five images with three captions, and what is no image."""
    (tmp_path / "more").mkdir()
    for number in range(4):
        (tmp_path / f"{number}.png").write_bytes(encoded(draw_pixels(seed=number)))
    (tmp_path / "more" / "4.jpg").write_bytes(encoded(draw_pixels(90, 60), "JPEG"))
    for name in ("0", "1", "more/4"):
        (tmp_path / f"{name}.txt").write_text("a star, seen at night\n", encoding="utf-8")
    (tmp_path / "3.png").write_bytes(b"no image")
    (tmp_path / ".hidden").write_bytes(b"")
    return tmp_path


def table(text):
    return list(csv.DictReader(io.StringIO(text)))


def shares(row):
    return [float(value) for name, value in row.items() if name.startswith("probability_")]


def test_one_example_has_bars(call, plain, folder, classifier):
    status, printed, line = call(
        "predict", plain.config.out, "concat-s0", "--image", folder / "0.png", "--text", "a star", "--top", "3"
    )
    assert (status, line) == (0, "")
    (expected,) = classifier.predict([{"image": draw_pixels(), "text": "a star"}])
    best = np.argsort(-expected)[:3]
    rows = printed.splitlines()
    assert [row.split()[0] for row in rows[:3]] == [classifier.class_names[index] for index in best]
    assert [row.split()[1] for row in rows[:3]] == [f"{100 * expected[index]:.1f}" for index in best]
    widths = [row.count("█") for row in rows[:3]]
    assert widths == sorted(widths, reverse=True)
    assert f"temperature {classifier.temperature:.2f}" in rows[3]


def test_a_folder_is_predicted_in_order_and_what_is_no_image_is_a_line(call, plain, folder, classifier):
    status, printed, lines = call("predict", plain.config.out, "concat-s0", "--folder", folder, "--missing", "neutral")
    assert status == 1
    assert lines == "fusion-bench: example 3.png: it is no PNG, JPEG or WebP image\n"
    rows = table(printed)
    assert [row["id"] for row in rows] == ["0.png", "1.png", "2.png", "more/4.jpg"]
    said, neutral = "a star, seen at night", classifier.neutral["text"]
    expected = classifier.predict(
        [{"image": draw_pixels(seed=n), "text": text} for n, text in enumerate((said, said, neutral))]
    )
    np.testing.assert_allclose([shares(row) for row in rows[:3]], expected, atol=1e-5)
    assert [row["label"] for row in rows[:3]] == [classifier.class_names[i] for i in expected.argmax(1)]


def test_a_text_for_all_images_stands_where_there_is_none_beside(call, plain, folder, classifier):
    _, printed, _ = call(
        "predict", plain.config.out, "concat-s0", "--folder", folder, "--text", "a dog", "--format", "jsonl"
    )
    records = [json.loads(line) for line in printed.splitlines()]
    expected = classifier.predict([{"image": draw_pixels(seed=2), "text": "a dog"}])[0]
    np.testing.assert_allclose([*records[2]["probabilities"].values()], expected, atol=1e-5)
    assert [*records[2]["probabilities"]] == [*classifier.class_names]


def test_a_missing_modality_is_an_error_and_the_others_go_on(call, plain, folder):
    status, printed, lines = call("predict", plain.config.out, "concat-s0", "--folder", folder)
    assert status == 1
    assert [row["id"] for row in table(printed)] == ["0.png", "1.png", "more/4.jpg"]
    assert "fusion-bench: example 2.png: text is missing" in lines
    assert lines.count("\n") == 2


def test_a_csv_file_from_standard_input(call, plain, folder, classifier, monkeypatch):
    written = f'id,text,image,label\nfirst,"a dog, a cat",{folder}/0.png,x\nsecond,a cat,{folder}/gone.png,y\n'
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xef\xbb\xbf" + written.encode()), "ascii"))
    status, printed, lines = call("predict", plain.config.out, "concat-s0", "--csv", "-")
    assert status == 1
    assert lines == f"fusion-bench: example second: {folder}/gone.png: No such file or directory\n"
    (row,) = table(printed)
    assert row["id"] == "first"
    expected = classifier.predict([{"image": draw_pixels(), "text": "a dog, a cat"}])[0]
    np.testing.assert_allclose(shares(row), expected, atol=1e-5)


def test_a_reader_that_leaves_is_no_fault_of_the_file(plain, folder):
    (folder / "list.csv").write_text("image,text\n" + "0.png,a dog\n" * 200, encoding="utf-8")
    words = "predict", plain.config.out, "concat-s0", "--csv", folder / "list.csv"
    command = shlex.join([sys.executable, "-m", "fusion_bench", *map(str, words)])
    done = subprocess.run(f"{command} | head -n 2", shell=True, capture_output=True, text=True, check=False)
    assert len(done.stdout.splitlines()) == 2
    assert "cannot be read" not in done.stderr
    assert "Traceback" not in done.stderr


def test_paths_of_a_csv_file_start_at_its_folder(call, plain, folder):
    (folder / "list.csv").write_bytes("\ufefftext,image\na dog,0.png\na cat,1.png\n".encode())
    status, printed, lines = call("predict", plain.config.out, "concat-s0", "--csv", folder / "list.csv")
    assert (status, lines) == (0, "")
    assert [row["id"] for row in table(printed)] == ["1", "2"]


def test_a_row_that_cannot_be_read_is_a_line_and_the_others_go_on(call, plain, folder):
    rows = [f"{number},{folder}/0.png,a dog".encode() for number in range(5)]
    rows[1] += b"\xe9"  # Latin-1
    rows[3] += b"g" * 200_000  # more than the reader takes
    (folder / "list.csv").write_bytes(b"\n".join([b"id,image,text", *rows, b""]))
    status, printed, lines = call("predict", plain.config.out, "concat-s0", "--csv", folder / "list.csv")
    assert status == 1
    assert [row["id"] for row in table(printed)] == ["0", "2", "4"]
    assert lines.splitlines()[0] == "fusion-bench: example 1: it is not UTF-8"
    assert lines.splitlines()[1].startswith("fusion-bench: example 4: it is not CSV: field larger than")
    assert lines.count("\n") == 2


def test_an_id_cannot_write_on_the_terminal(call, plain, folder):
    (folder / "list.csv").write_bytes(b'id,image,text\n"a\n\x1b[31m",gone.png,a dog\n')
    _, _, line = call("predict", plain.config.out, "concat-s0", "--csv", folder / "list.csv")
    assert line == "fusion-bench: example a��[31m: gone.png: No such file or directory\n"


@pytest.mark.parametrize("flags", [("--image", "0.png"), ("--input", "image=0.png")])
def test_what_is_given_twice_is_refused(refuse, plain, folder, flags):
    line = refuse(plain.config.out, "concat-s0", "--folder", folder, *flags, command="predict")
    assert "image is given twice" in line


def test_many_examples_as_bars_have_their_ids(call, plain, folder):
    _, printed, _ = call(
        "predict", plain.config.out, "concat-s0", "--folder", folder, "--text", "a", "--format", "bars", "--top", "1"
    )
    assert [line for line in printed.splitlines() if "." in line and "%" not in line and "temp" not in line] == [
        "0.png",
        "1.png",
        "2.png",
        "more/4.jpg",
    ]


def test_an_image_from_standard_input(call, plain, folder, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO((folder / "1.png").read_bytes())))
    status, printed, _ = call("predict", plain.config.out, "image-only-s0", "--image", "-", "--format", "csv")
    assert status == 0
    expected = load_classifier(plain.config.out, "image-only-s0").predict([{"image": draw_pixels(seed=1)}])[0]
    np.testing.assert_allclose(shares(table(printed)[0]), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give one example"),
        (("--csv", "a.csv", "--folder", "."), "give one example"),
        (("--csv", "gone.csv"), "gone.csv cannot be read"),
        (("--folder", "gone"), "gone: no such folder"),
        (("--input", "image"), "it must be NAME=VALUE"),
        (("--input", "imag=x.png"), "unknown modality 'imag'; did you mean image"),
    ],
)
def test_requests_that_cannot_be_met(refuse, plain, arguments, message):
    assert message in refuse(plain.config.out, "concat-s0", *arguments, command="predict")


def test_a_flag_of_a_modality_that_the_model_does_not_read(refuse, plain):
    line = refuse(plain.config.out, "image-only-s0", "--text", "a", command="predict")
    assert "reads image alone" in line


def test_columns_that_are_no_modality(refuse, plain, tmp_path):
    (tmp_path / "a.csv").write_text("photo,words\n", encoding="utf-8")
    line = refuse(plain.config.out, "concat-s0", "--csv", tmp_path / "a.csv", command="predict")
    assert "has the columns photo, words; the model reads image, text" in line


def test_a_text_that_is_too_long(call, plain, folder):
    status, _, line = call("predict", plain.config.out, "concat-s0", "--image", folder / "0.png", "--text", "a" * 1001)
    assert status == 1
    assert line == "fusion-bench: text has 1,001 characters; at most 1,000 are right\n"


def test_arrays_are_read_from_files(plain, tmp_path):
    classifier = make_classifier(plain.stored("concat"), "concat", ("audio", "text", "motion"))
    rng = np.random.default_rng(0)
    arrays = {"audio": rng.normal(size=(6, 5, 1)), "motion": rng.normal(size=(2, 3))}
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array.astype(np.float32))
    cells = {"audio": "audio.npy", "motion": "motion.npy", "text": "a dog"}
    found, bad = predict_rows(
        classifier, [Row("a", cells, tmp_path), Row("b", {**cells, "audio": "motion.npy"}, tmp_path)]
    )
    assert found.probabilities is not None
    example = {name: array.astype(np.float32) for name, array in arrays.items()} | {"text": "a dog"}
    np.testing.assert_allclose(found.probabilities, classifier.predict([example])[0], atol=1e-6)
    assert "audio has shape" in bad.fault
    for number, array in enumerate((np.zeros(3), np.zeros(()), np.zeros((2, 3, 1)), np.zeros((2, 4)))):
        np.save(tmp_path / f"{number}.npy", array.astype(np.float32))
        (bad,) = predict_rows(classifier, [Row("c", {**cells, "motion": f"{number}.npy"}, tmp_path)])
        assert "motion has shape" in bad.fault
    np.savez(tmp_path / "two.npz", a=np.zeros(3))
    header = (
        b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '<f4', 'fortran_order': False, 'shape': (10000000000000,), }".ljust(118)
    )
    (tmp_path / "vast.npy").write_bytes(header)
    for name in ("two.npz", "vast.npy", "."):
        (bad,) = predict_rows(classifier, [Row("c", {**cells, "motion": name}, tmp_path)])
        assert bad.probabilities is None
        assert bad.fault.startswith(f"{name}: ")


def test_examples_stream(plain, tmp_path):
    """No row is read before those of the batches before it are predicted."""
    classifier = make_classifier(plain.stored("concat"), "text-only", ("text",))
    read = []

    def rows():
        for number in range(100):
            read.append(number)
            yield Row(str(number), {"text": "a dog"}, tmp_path)

    found = predict_rows(classifier, rows(), batch=8)
    next(found)
    assert len(read) == 8
    assert len([*found]) == 99


def test_a_folder_has_no_hidden_files(folder):
    assert [row.id for row in read_folder(folder, "image", None)] == ["0.png", "1.png", "2.png", "3.png", "more/4.jpg"]
