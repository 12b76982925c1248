"""Exported models against the runs that they were made from: ONNX, StableHLO, int8."""

import dataclasses
import datetime
import json
import math
import os
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusion_bench.config import DataConfig
from fusion_bench.data.dataset import PAD
from fusion_bench.deploy.card import describe
from fusion_bench.deploy.export import check as checking
from fusion_bench.deploy.export.check import BATCHES, TOLERANCE, check, draw
from fusion_bench.deploy.export.litert import LiteRT
from fusion_bench.deploy.export.onnx import CARD, TOKENIZER, Session, to_onnx
from fusion_bench.deploy.export.quantize import compare, quantize
from fusion_bench.deploy.export.stablehlo import Program, to_stablehlo
from fusion_bench.deploy.model import load_classifier
from fusion_bench.errors import UserError
from fusion_bench.fusion.registry import strategies
from fusion_bench.store.loaded import load_data
from tests.deploy.classifiers import draw_pixels, make_classifier

OTHERWISE = ("mult", "perceiver", "mmtm", "moe", "late-cosine", "qmf", "tmc", "pdf", "dynmm")
"""Strategies that compute what no canonical one does: a choice of experts, a gate, opinions and the like."""
CASES = [
    pytest.param(names, name, id=f"{name}-of-{len(names)}")
    for names in (("image", "text"), ("image", "text", "motion"))
    for name, registration in strategies(names).items()
    if (registration.canonical or name in OTHERWISE) and (len(names) == 2 or registration.modality is None)
]
"""The canonical strategies and these on two and on three modalities; `experiments/export_parity.py` has all."""


@pytest.fixture(scope="module")
def run(plain):
    return plain.stored("concat")


@pytest.mark.parametrize(("names", "name"), CASES)
def test_an_exported_model_is_the_run(run, names, name):
    classifier = make_classifier(run, name, names)
    exported = {
        "ONNX": Session(to_onnx(classifier).SerializeToString()),
        "StableHLO": Program(to_stablehlo(classifier)),
    }
    for form, predict in exported.items():
        assert check(classifier, predict, form) <= TOLERANCE


def test_the_fourier_transform_is_exported_as_products(run):
    classifier = make_classifier(run, "compact-bilinear")
    assert check(classifier, Session(to_onnx(classifier).SerializeToString()), "ONNX") <= TOLERANCE


def test_drawn_examples_are_those_of_the_data(run):
    classifier = make_classifier(run, "concat", ("image", "text", "motion"))
    image, text, motion, mask = draw(classifier, 500)
    assert image.dtype == np.uint8
    assert abs(image.mean() - 100) < 5
    lengths = (text != PAD).sum(1)
    assert {*lengths} == {*range(1, text.shape[1] + 1)}
    assert text.max() < classifier.modalities["text"].vocabulary_size
    assert {*mask.sum(1)} == {1, 2, 3, 4, 5}
    assert (motion[~mask] == 0).all()
    for ours, again in zip(draw(classifier, 500), (image, text, motion, mask), strict=True):
        np.testing.assert_array_equal(ours, again)


@pytest.mark.parametrize("size", BATCHES)
def test_a_difference_is_refused_and_named(run, size):
    classifier = make_classifier(run, "concat")

    def predict(arrays):
        logits = np.array(classifier.compiled(*arrays))
        logits[-1, -1] += 2e-4 * (len(logits) == size)
        return logits

    with pytest.raises(UserError, match=f"x is not exported: .* in a batch of {size}; at most 1e-04 is right"):
        check(classifier, predict, "x")


def test_logits_that_are_no_numbers_are_refused(run):
    classifier = make_classifier(run, "concat")
    with pytest.raises(UserError, match="differ by nan"):
        check(classifier, lambda arrays: np.full((len(arrays[0]), 4), np.nan, np.float32), "x")


def test_what_the_converter_does_not_know_is_a_line(run, monkeypatch):
    import jax2onnx

    def fail(*arguments, **options):
        raise NotImplementedError("no plugin for fft\nmore")

    monkeypatch.setattr(jax2onnx, "to_onnx", fail)
    with pytest.raises(UserError, match=r"^concat cannot be exported to ONNX: no plugin for fft$"):
        to_onnx(make_classifier(run, "concat"))


def test_the_graph_has_its_card_and_tokenizers(run):
    classifier = make_classifier(run, "concat")
    model = to_onnx(classifier)
    found = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(found[CARD]) == describe(classifier)
    assert json.loads(found[f"{TOKENIZER}text"])["model"]["vocab"]["dog"] > 1
    assert [(node.name, node.type.tensor_type.shape.dim[0].dim_param) for node in model.graph.input] == [
        ("image", "batch"),
        ("text", "batch"),
    ]
    assert [node.name for node in model.graph.output] == ["logits"]


def test_the_snippet_of_the_page_reads_an_exported_model(run, tmp_path, monkeypatch):
    classifier = make_classifier(run, "concat")
    (tmp_path / "model.onnx").write_bytes(to_onnx(classifier).SerializeToString())
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / "docs" / "deploy.md").read_text(encoding="utf-8")
    (snippet,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    namespace: dict[str, Any] = {}
    exec(snippet, namespace)
    image = draw_pixels()[None]
    logits = namespace["session"].run(None, {"image": image, "text": namespace["ids"]})[0]
    expected = classifier.predict([{"image": image[0], "text": "a pointed star"}])
    np.testing.assert_allclose(classifier.probabilities(logits), expected, atol=1e-5)
    np.testing.assert_allclose(namespace["probabilities"](logits), expected, atol=1e-5)


def test_int8_weights_are_smaller_and_measured_on_the_test_split(plain, run):
    classifier = load_classifier(plain.config.out, run.id)
    model = to_onnx(classifier)
    before = model.SerializeToString()
    quantized = quantize(model)
    after = quantized.SerializeToString()
    sizes = {
        kind: sum(math.prod(t.dims) for t in quantized.graph.initializer if t.data_type == kind) for kind in (1, 3)
    }
    assert sizes[3] > sizes[1]  # entries of int8 and of float32; kernels among the former
    dataset = load_data(run, DataConfig(source=plain.config.data.source))
    found = compare(classifier, dataset, before, after)
    assert found.before == pytest.approx(run.metrics["test_accuracy"])
    assert abs(found.after - found.before) < 0.1
    assert found.count == len(dataset.splits["test"])
    flipped = dataclasses.replace(dataset, labels=(dataset.labels + 1) % 10)
    assert compare(classifier, flipped, before, after).before < found.before
    arrays = classifier.stored(dataset, dataset.splits["test"][:8])
    assert 0 < np.abs(Session(after)(arrays) - Session(before)(arrays)).max() < 1


@pytest.mark.parametrize("form", ["onnx", "stablehlo"])
def test_the_command_writes_a_file_that_predicts(call, plain, run, tmp_path, form):
    path = tmp_path / "out" / "model"
    status, printed, line = call("export", plain.config.out, "late-posthoc-s0", "--format", form, "--out", path)
    assert (status, line) == (0, "")
    assert "logits differ by at most" in printed
    classifier = load_classifier(plain.config.out, "late-posthoc-s0")
    predict = (Session if form == "onnx" else Program)(path.read_bytes())
    assert check(classifier, predict, form) <= TOLERANCE
    if form == "stablehlo":
        about = json.loads((tmp_path / "out" / "model.card.json").read_text())
        left = datetime.date.fromisoformat(about["expires"]) - datetime.datetime.now(datetime.UTC).date()
        assert 178 <= left.days <= 180
        assert about["expires"] in printed
        assert json.loads(about[CARD])["strategy"] == "late-posthoc"


def test_the_command_writes_nothing_where_the_logits_differ(call, plain, tmp_path, monkeypatch):
    monkeypatch.setattr(checking, "TOLERANCE", 0.0)
    status, _, line = call("export", plain.config.out, "concat-s0", "--out", tmp_path / "model.onnx")
    assert status == 2
    assert "is not exported: its logits differ by" in line
    assert not [*tmp_path.iterdir()]


def test_the_command_quantises(call, plain, tmp_path):
    where = "--out", tmp_path / "model.onnx", "--quantize", "int8"
    status, printed, _ = call("export", plain.config.out, "concat-s0", *where, "--data", plain.config.data.source)
    assert status == 0
    assert "% with int8 weights, n = 60" in printed
    session = Session((tmp_path / "model.onnx").read_bytes()).session
    card = json.loads(session.get_modelmeta().custom_metadata_map[CARD])
    assert card["quantization"] == "int8"
    assert f"{100 * card['test_accuracy']:.2f} % with int8 weights" in printed
    status, _, line = call("export", plain.config.out, "concat-s0", *where, "--format", "stablehlo")
    assert (status, line) == (2, "fusion-bench: --quantize int8 is for --format onnx or web\n")


def test_litert_needs_an_environment_of_its_own(call, plain, tmp_path):
    where = "export", plain.config.out, "concat-s0", "--out", tmp_path / "model.tflite", "--format", "litert"
    status, _, line = call(*where)
    assert (status, "--litert-python" in line) == (2, True)
    status, _, line = call(*where, "--litert-python", tmp_path / "gone")
    assert line == f"fusion-bench: {tmp_path}/gone cannot be run: No such file or directory\n"
    status, _, line = call(*where, "--litert-python", sys.executable)
    assert line.startswith("fusion-bench: concat cannot be exported to LiteRT: ModuleNotFoundError: No module named")
    assert not [*tmp_path.iterdir()]


@pytest.mark.skipif("LITERT_PYTHON" not in os.environ, reason="LITERT_PYTHON names no Python with litert-converter")
@pytest.mark.parametrize(("names", "name"), CASES)
def test_litert_is_the_run(run, names, name):
    classifier = make_classifier(run, name, names)
    model = LiteRT(classifier, Path(os.environ["LITERT_PYTHON"]))
    assert check(classifier, model, "LiteRT") <= TOLERANCE
