"""What the robustness of a run is compared with."""

import numpy as np
import pytest

from fusion_bench.config import Choice
from fusion_bench.diagnostics.base import Result, chosen, diagnostics, spaced
from fusion_bench.diagnostics.model import RunKey
from fusion_bench.diagnostics.robustness.corruptions import Corruptions
from fusion_bench.diagnostics.robustness.references import compared
from fusion_bench.errors import UserError

RNG = np.random.default_rng(0)


def make_results(count):
    """Returns fusion runs of `count` seeds, and the runs of two image models."""

    def result(strategy, modality, seed):
        clean, corrupted = RNG.uniform(0.4, 0.9, 2)
        return Result(strategy, modality, seed, {"accuracy_clean": clean, "accuracy_corrupted": corrupted})

    names = (("concat", None), ("image-only", "image"), ("image-token-only", "image"))
    return [result(name, modality, seed) for seed in range(count) for name, modality in names]


def test_retention_is_against_the_image_model_of_the_same_seed():
    results = make_results(3)
    found = Corruptions().compare(results)
    for seed in range(3):
        fusion, image = (r.values["accuracy_corrupted"] for r in results[3 * seed : 3 * seed + 2])
        assert found[3 * seed] == {"retention_corrupted_image": pytest.approx(fusion / image)}
        assert found[3 * seed + 1 : 3 * seed + 3] == [{}, {}]


def test_effective_robustness_needs_ten_models_and_is_that_of_the_fit():
    results = make_results(4)
    name = "effective_robustness_corrupted"
    assert name not in compared(results[:9], "corrupted", "accuracy_clean", 1000)[0]
    found = compared(results, "corrupted", "accuracy_clean", 1000)
    x, y = (
        np.log(a / (1 - a))
        for a in (np.array([r.values[f"accuracy_{key}"] for r in results]) for key in ("clean", "corrupted"))
    )
    slope, intercept = np.linalg.lstsq(np.stack([x, np.ones_like(x)], 1), y, rcond=None)[0]
    for i, result in enumerate(results):
        expected = result.values["accuracy_corrupted"] - 1 / (1 + np.exp(-(intercept + slope * x[i])))
        assert found[i][name] == pytest.approx(expected, abs=1e-10)
        assert found[i][f"{name}_r2"] == pytest.approx(np.corrcoef(x, y)[0, 1] ** 2)


def test_one_method_more_leaves_the_retention_of_the_others():
    results = make_results(4)
    more = Result("zero", None, 0, {"accuracy_clean": 0.99, "accuracy_corrupted": 0.01})
    before, after = (compared(some, "corrupted", "accuracy_clean", 1000) for some in (results, [*results, more]))
    for old, new in zip(before, after[:-1], strict=True):
        assert old.get("retention_corrupted_image") == new.get("retention_corrupted_image")


def test_runs_without_the_accuracy_are_not_compared():
    results = [Result("concat", None, 0, {"accuracy_cifar10_c_spatter": 0.5})] * 12
    assert compared(results, "cifar10_c", "accuracy_cifar10_c_clean", 100) == [{}] * 12


def test_an_accuracy_of_zero_has_no_retention():
    results = [
        Result("concat", None, 0, {"accuracy_clean": 0.5, "accuracy_corrupted": 0.4}),
        Result("image-only", "image", 0, {"accuracy_clean": 0.5, "accuracy_corrupted": 0.0}),
    ]
    assert compared(results, "corrupted", "accuracy_clean", 100) == [{}, {}]


def test_examples_are_at_even_distances():
    np.testing.assert_array_equal(spaced(9, 3), [0, 4, 8])
    np.testing.assert_array_equal(spaced(3, 10), [0, 1, 2])


def test_a_bundle_stands_for_its_diagnostics_each_once():
    found = chosen([Choice("robustness", {"examples": 50}), Choice("corruptions", {"examples": 50}), Choice("emap")])
    assert [str(choice) for choice in found] == [
        "corruptions:examples=50",
        "dropped-words:examples=50",
        "channel-shift:examples=50",
        "emap:examples=500:costly_examples=100",
    ]
    with pytest.raises(UserError, match="unknown option of robustness 'example'; did you mean examples"):
        chosen([Choice("robustness", {"example": 50})])


@pytest.mark.parametrize("name", ["corruptions", "dropped-words", "channel-shift", "pid", "probes"])
def test_values_are_computed_again_when_a_unimodal_run_of_the_seed_is_added(name):
    own = RunKey("own", "concat", 0)
    others = [RunKey("a", "image-only", 0), RunKey("b", "image-only", 1), RunKey("c", "text-only", 0)]
    diagnostic = diagnostics.make(Choice(name))
    assert [run.id for run in diagnostic.companions(own, [*others, RunKey("d", "sum", 0)])] == ["a", "c"]
