"""A strategy, a remedy, a diagnostic and a source, each from one file outside the package."""

import importlib
import json
import sys

import pandas as pd
import pytest

from fusion_bench.data.sources import base as sources
from fusion_bench.diagnostics.base import diagnostics
from fusion_bench.fusion import registry
from fusion_bench.training.remedies.base import remedies
from tests.studies import TRAINING

OPERATOR = '''
import jax.numpy as jnp
from flax import nnx
from fusion_bench.fusion.registry import register

@register("extra-maximum", family="intermediate", reference="none")
class ExtraMaximum(nnx.Module):
    """Element-wise maximum of linear maps of the features."""

    def __init__(self, in_features, *, out_features: int = 8, dtype=None, rngs):
        self.maps = nnx.Dict({m: nnx.Linear(d, out_features, dtype=dtype, rngs=rngs) for m, d in in_features.items()})
        self.out_features = out_features

    def __call__(self, features):
        return jnp.stack([self.maps[m](h) for m, h in features.items()]).max(0)
'''

REMEDY = '''
from fusion_bench.training.remedies.base import Remedy, register_remedy

@register_remedy("extra-doubled", reference="none")
class Doubled(Remedy):
    """Doubles the loss."""

    def __init__(self, *, factor: float = 2.0):
        self.factor = factor

    def losses(self, step):
        return [self.factor * step.loss(step.outputs())], {}
'''

DIAGNOSTIC = '''
from fusion_bench.diagnostics.base import Diagnostic, register_diagnostic

@register_diagnostic("extra-share", reference="none")
class Share(Diagnostic):
    """Fraction of test examples with the label 0."""

    def __call__(self, model, indices):
        return {"share_of_zero": float((model.labels(indices) == 0).mean())}
'''

SOURCE = """
import numpy as np
from fusion_bench.data.dataset import Modality, RawDataset
from fusion_bench.data.sources.base import register_source

@register_source("extra-noise", summary="noise of two classes")
def load(config):
    labels = (np.arange(120) % 2).astype(np.int32)
    image = np.random.default_rng(0).integers(0, 255, (120, 8, 8, 3)).astype(np.uint8)
    split = np.where(np.arange(120) < 80, "train", "test")
    return RawDataset("extra-noise", {"image": Modality("grid", image)}, labels, ("even", "odd"), split)
"""


@pytest.fixture
def extend(tmp_path, monkeypatch):
    """Returns a function that imports a text as a module; the registries are as before after the test."""
    for axis in (registry.REGISTRY, sources.REGISTRY, remedies, diagnostics):
        monkeypatch.setattr(axis, "known", axis.registered())
    monkeypatch.syspath_prepend(tmp_path)

    def extend(text):
        (tmp_path / "extra_module.py").write_text(text)
        monkeypatch.delitem(sys.modules, "extra_module", raising=False)
        importlib.import_module("extra_module")

    return extend


@pytest.fixture
def train(call, source, tmp_path):
    """Returns a function that runs a study of one seed and gives its table, by strategy."""

    def train(*arguments, data=source):
        out = tmp_path / "out"
        status, _, errors = call("run", "--data", data, "--seeds", 1, "--out", out, *TRAINING, *arguments)
        assert status == 0, errors
        return pd.read_csv(out / "table.csv").set_index("strategy")

    return train


def listed(call, kind):
    return [entry["name"] for entry in json.loads(call("list", "--json")[1])[kind]]


def test_an_operator_is_one_file(extend, call, refuse, train):
    extend(OPERATOR)
    assert "extra-maximum" in listed(call, "strategies")
    assert "did you mean extra-maximum" in refuse("--strategies", "extra-maximun")
    rows = train("--strategies", "image-only,extra-maximum:out_features=4")
    assert rows.loc["extra-maximum:out_features=4", "n_seeds"] == 1


def test_a_remedy_is_one_file(extend, call, refuse, train):
    extend(REMEDY)
    assert "extra-doubled" in listed(call, "remedies")
    assert "did you mean extra-doubled" in refuse("--remedy", "extra-doubles")
    rows = train("--strategies", "image-only,concat", "--remedy", "extra-doubled:factor=3")
    assert set(rows.index) >= {"image-only", "concat+extra-doubled:factor=3.0"}


def test_a_diagnostic_is_one_file(extend, call, train, tmp_path, source):
    extend(DIAGNOSTIC)
    assert "extra-share" in listed(call, "diagnostics")
    train("--strategies", "image-only,concat")
    out = tmp_path / "out"
    status, _, line = call("diagnose", out, "--with", "extra-shar", "--data", source)
    assert status == 2
    assert "did you mean extra-share" in line
    status, printed, _ = call("diagnose", out, "--with", "extra-share", "--data", source)
    assert status == 0
    assert "share_of_zero" in printed
    values = pd.read_csv(out / "diagnostics.csv")
    assert list(values.columns) == ["strategy", "seed", "diagnostic", "name", "value", "run"]
    assert set(values["name"]) == {"share_of_zero"}
    assert set(values["strategy"]) <= {"image-only", "concat"}
    status, table, _ = call("table", out, "--columns", "accuracy,share_of_zero", "--format", "md")
    assert status == 0
    assert "share_of_zero" in table
    frame = pd.read_csv(out / "table.csv")
    assert "share_of_zero_mean" not in frame  # the file is as the study wrote it


def test_a_source_is_one_file(extend, call, refuse, train):
    extend(SOURCE)
    assert "extra-noise" in listed(call, "datasets")
    assert "did you mean extra-noise" in refuse("--data", "extra-nois")
    rows = train("--strategies", "image-only", data="extra-noise")
    assert set(rows["dataset"]) == {"extra-noise"}
