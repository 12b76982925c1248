"""`fusion-bench list`."""

import functools
import json

import numpy as np
import pytest

from fusion_bench.data.captions.spec import PRESETS

FAMILIES = ("unimodal", "early", "intermediate", "tensor", "late")


def test_list_json(call):
    status, printed, error = call("list", "--json")
    assert (status, error) == (0, "")
    catalogue = json.loads(printed)
    assert list(catalogue) == ["strategies", "remedies", "diagnostics", "datasets", "captions", "encoders"]
    fields = ["name", "family", "summary", "description", "reference", "options"]
    assert all(list(entry) == fields for entry in catalogue["strategies"])
    assert {entry["family"] for entry in catalogue["strategies"]} <= set(FAMILIES)
    assert all(entry[field] for entry in catalogue["strategies"] for field in fields[:-1] if field != "description")
    axes = catalogue["remedies"] + catalogue["diagnostics"]
    assert all(list(entry) == ["name", *fields[2:]] for entry in axes)
    names = {part: [entry["name"] for entry in entries] for part, entries in catalogue.items()}
    canonical = {"image-only", "text-only", "early-channel", "early-token", "concat", "tensor", "late-mean"}
    assert canonical | {"late-posthoc"} <= set(names["strategies"])
    assert {"shapes", "cifar10"} <= set(names["datasets"])
    assert names["captions"] == [*PRESETS, "human:FILE"]
    assert {"micro", "tiny", "small", "resnet9"} <= set(names["encoders"])
    figures = ["name", "bits", "interaction_bits", "text_only_ceiling", "image_only_ceiling", "summary"]
    assert all(list(entry) == figures for entry in catalogue["captions"])
    assert all(list(entry) == ["name", "summary"] for entry in catalogue["datasets"] + catalogue["encoders"])
    (synergy,) = [entry for entry in catalogue["captions"] if entry["name"] == "synergy"]
    assert synergy["interaction_bits"] == pytest.approx(np.log2(10))
    assert catalogue["captions"][-1]["bits"] is None  # it is counted in the data


def test_list_is_readable_in_80_columns(call):
    status, printed, error = call("list")
    assert (status, error) == (0, "")
    assert max(map(len, printed.splitlines())) <= 80
    words = " ".join(printed.split())
    formulas = ("; …; ", "⊗ … ⊗", ", …]", "×_1 z_1 … ×_M")
    assert "…" not in functools.reduce(
        lambda text, formula: text.replace(formula, ""), formulas, words
    )  # nothing is cut off
    catalogue = json.loads(call("list", "--json")[1])
    for entry in catalogue["strategies"]:
        assert f"{entry['name']} {entry['family']} " in words
        assert entry["summary"].split()[-1] in words
        assert entry["reference"] not in words or entry["reference"] in ("baseline", "baseline of early-token")
    assert "[h_1; …; h_M]" in words
    assert ":rank=4" in words
    assert all(name in words for name in PRESETS)


def test_one_strategy_is_shown_in_full(call):
    status, printed, _ = call("list", "low-rank")
    assert status == 0
    words = " ".join(printed.split())
    assert "low-rank (strategy)" in words
    assert "Σ_r w_r ∏_m F_m^r [1; h_m] + b" in words
    assert "Parameters: rank · out_features · Σ_m (d_m + 1) + rank + out_features." in words
    assert "arXiv:1806.00064" in words
    assert "rank=4, out_features=64" in words
    assert "modalities two or more" in words
    assert "on shapes with default captions and tiny encoders" in words
    assert max(map(len, printed.splitlines())) <= 80


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("ogm-ge", "alpha="),
        ("missing-modality", "(diagnostic)"),
        ("shapes", "(dataset)"),
        ("synergy", "interaction bits 3.322"),
        ("human:FILE", "interaction bits –"),
        ("image-only", "modalities image"),
        ("text-only", "parameters 22,410 on shapes"),
        ("gated", "modalities two "),
    ],
)
def test_every_kind_of_entry_is_shown(call, name, shown):
    status, printed, _ = call("list", name)
    assert status == 0
    assert shown in " ".join(printed.split()) + " "


def test_a_wrong_name_is_answered_with_near_ones(call):
    status, printed, line = call("list", "lowrank")
    assert (status, printed) == (2, "")
    assert line.startswith("fusion-bench: unknown name 'lowrank'; did you mean low-rank")
