"""`fusion-bench captions`."""

import numpy as np
import pandas as pd
import pytest

from tests.studies import make_quick, run_arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["synergi"], "unknown caption channel 'synergi'; did you mean synergy?"),
        (["default", "-n", "0"], "-n is 0; it must be at least 1"),
        (["default", "--data-seed", "-1"], "--data-seed is -1"),
        (["default", "--data", "cifar1"], "unknown data source 'cifar1'; did you mean cifar10?"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_wrong_captions(refuse, arguments, message):
    assert message in refuse(*arguments, command="captions")


def test_captions(call):
    status, printed, error = call("captions", "default", "-n", "3")
    assert (status, error) == (0, "")
    for figure in ("1.216", "0.4467", "1.0000"):
        assert figure in printed
    assert call("captions", "default", "-n", "3")[1] == printed
    assert call("captions", "default", "-n", "3", "--data-seed", "1")[1] != printed


def test_captions_of_classes_with_brackets(call, tmp_path):
    names = np.array(["[bold]", "[/red]", "c", "d"])
    np.savez(tmp_path / "b.npz", image=np.zeros((8, 8, 8, 3), np.uint8), label=np.arange(8) % 4, class_names=names)
    status, printed, _ = call("captions", "clean", "-n", "20", "--data", tmp_path / "b.npz")
    assert status == 0
    assert "[bold]" in printed
    assert "[/red]" in printed


def test_exported_captions_can_be_given_back(call, source, tmp_path, monkeypatch):
    make_quick(monkeypatch)
    path = tmp_path / "captions.csv"
    status, printed, _ = call("captions", "default", "--data", source, "--export", path)
    assert (status, printed) == (0, f"300 captions written to {path}\n")
    table = pd.read_csv(path)
    assert list(table.columns) == ["id", "split", "caption", "y", "k", "t"]
    assert table["id"].tolist() == list(range(300))
    with np.load(source) as arrays:
        np.testing.assert_array_equal(table["y"], arrays["label"])
        np.testing.assert_array_equal(table["split"] == "test", arrays["split"] == "test")
    np.testing.assert_array_equal(table["t"], np.mod(table["y"] + table["k"], 10))

    status, printed, _ = call(
        *run_arguments(source, tmp_path / "out", "--captions", path, strategies="text-only", seeds=1)
    )
    assert status == 0
    frame = pd.read_csv(tmp_path / "out" / "table.csv")
    assert frame["strategy"].tolist() == ["text-only"]  # a channel of one's own has no ceilings


def test_examples_are_drawn_with_their_captions(call, source, tmp_path):
    figure = tmp_path / "folder" / "examples"
    status, printed, _ = call("captions", "synergy", "--data", source, "-n", "12", "--figure", figure)
    assert (status, printed) == (0, f"12 examples drawn in {figure}.svg and {figure}.png\n")
    assert figure.with_suffix(".png").stat().st_size > 10_000
    drawing = figure.with_suffix(".svg").read_text()
    assert drawing.count("<image ") == 12
    assert "Target: " in drawing


def test_examples_need_images(call, tmp_path):
    vectors = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    np.savez(tmp_path / "v.npz", point=vectors, label=np.arange(200) % 4)
    status, _, line = call("captions", "clean", "--data", tmp_path / "v.npz", "--figure", tmp_path / "x")
    assert (status, line) == (2, "fusion-bench: v has no colour images with captions to show\n")
