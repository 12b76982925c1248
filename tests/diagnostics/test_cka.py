"""Similarities of features that are known, and of stored runs."""

import numpy as np
import pytest

from fusion_bench.config import Choice, DataConfig
from fusion_bench.diagnostics.cka import Cka
from fusion_bench.diagnostics.model import RunKey
from fusion_bench.fusion.registry import StrategySpec
from fusion_bench.metrics.representations import cka
from fusion_bench.store import Store
from fusion_bench.store.diagnosed import read_values
from fusion_bench.study.diagnose import diagnose
from tests.diagnostics.known import COUNT, SPLITS, Known, Loads

TEST = SPLITS["test"]
ROTATION, _ = np.linalg.qr(np.random.default_rng(9).normal(size=(5, 5)))


def random(seed, width=5):
    return np.random.default_rng(seed).normal(size=(COUNT, width))


def key(strategy, seed, target="label"):
    return RunKey(f"{strategy} {seed} {target}", strategy, seed, target, StrategySpec(strategy))


IMAGE, TEXT = random(0), random(1, 7)
MODELS = {
    key("image-only", 0): Known({"image": 2 * IMAGE @ ROTATION}),
    key("image-only", 0, "class"): Known({"image": random(2)}),
    key("concat", 1): Known({"image": IMAGE + 3, "text": random(3)}),
    key("concat", 2): Known({"image": random(4), "text": random(5)}),
    key("sum", 0): Known({"image": IMAGE + random(6), "text": TEXT}),
    key("sum", 1): Known({"image": IMAGE, "text": TEXT}),
    key("film", 0): Known({"image": IMAGE, "text": random(7)}, without=("image",)),
    key("early-token", 0): Known({"image": IMAGE, "text": TEXT}),
}


def test_each_value_is_with_the_models_that_it_names():
    model = Known({"image": IMAGE, "text": TEXT}, key("concat", 0), companions=Loads(MODELS))
    found = Cka()(model, TEST)
    assert found["cka_image_alone"] == pytest.approx(1.0, abs=1e-6)
    assert found["cka_image_with_image-only"] == found["cka_image_alone"]
    of_two = (1 + cka(IMAGE[TEST], random(4)[TEST])) / 2
    assert found["cka_image_seeds"] == pytest.approx(of_two, abs=1e-6)
    similar = cka(IMAGE[TEST], (IMAGE + random(6))[TEST])
    assert found["cka_image_with_sum"] == pytest.approx(similar, abs=1e-6)
    assert 0.3 < similar < 0.9
    assert found["cka_text_with_sum"] == pytest.approx(1.0, abs=1e-6)
    assert set(found) == {
        *("cka_image_alone", "cka_image_seeds", "cka_image_with_image-only", "cka_image_with_sum"),
        *("cka_text_seeds", "cka_text_with_sum", "cka_text_with_film"),
    }


def test_models_are_loaded_once_and_only_those_that_are_compared():
    loads, cache = Loads(MODELS), {}
    for seed in (0, 3):
        Cka()(Known({"image": IMAGE, "text": TEXT}, key("concat", seed), companions=loads, cache=cache), TEST)
    assert loads.count == {other: int(other not in (key("sum", 1), key("early-token", 0))) for other in MODELS}


def test_a_baseline_is_not_compared_with_itself():
    own = Known({"image": IMAGE}, key("image-only", 0), companions=Loads({key("sum", 0): MODELS[key("sum", 0)]}))
    assert set(Cka()(own, TEST)) == {"cka_image_with_sum"}


def test_test_examples_at_even_distances_are_compared():
    changed = np.where(np.isin(np.arange(COUNT), TEST[np.linspace(0, 399, 20).astype(int)])[:, None], IMAGE, random(8))
    model = Known({"image": IMAGE}, key("image-only", 0), companions=Loads({key("sum", 0): Known({"image": changed})}))
    assert Cka(examples=20)(model, TEST)["cka_image_with_sum"] == pytest.approx(1.0, abs=1e-6)
    assert Cka()(model, TEST)["cka_image_with_sum"] < 0.2


def test_an_encoder_that_gives_the_same_for_all_examples_has_no_value():
    dead = {key("sum", 0): Known({"image": np.ones((COUNT, 3))})}
    assert Cka()(Known({"image": IMAGE}, key("image-only", 0), companions=Loads(dead)), TEST) == {}


def test_stored_runs_are_compared_anew_where_others_are_added(plain, tmp_path):
    (tmp_path / "runs").mkdir()
    places, late = DataConfig(source=plain.config.data.source), []
    for folder in (plain.config.out / "runs").iterdir():
        if folder.name.startswith("image-only-s0"):
            late.append(folder)
        elif not folder.name.startswith("."):
            (tmp_path / "runs" / folder.name).symlink_to(folder)

    def apply():
        store = Store(tmp_path, read_only=True)
        computed = diagnose(store, [Choice("cka")], places=places).computed
        return computed, {run.strategy: read_values(tmp_path, run.id) for run in store.runs() if run.metrics}

    first, before = apply()
    assert set(before["concat"]) == {"cka_text_alone", "cka_text_with_text-only", *WITH_POSTHOC}
    for folder in late:
        (tmp_path / "runs" / folder.name).symlink_to(folder)
    again, after = apply()
    assert (first, again, apply()[0]) == (3, 4, 0)
    assert set(after["concat"]) == {*before["concat"], "cka_image_alone", "cka_image_with_image-only"}
    # the members of post-hoc fusion are the unimodal runs
    assert after["late-posthoc"]["cka_image_alone"] == pytest.approx(1.0, abs=1e-6)
    assert after["concat"]["cka_image_with_late-posthoc"] == pytest.approx(after["concat"]["cka_image_alone"], abs=1e-9)
    assert after["late-posthoc"]["cka_text_with_concat"] == pytest.approx(after["concat"]["cka_text_alone"], abs=1e-9)
    assert -0.1 < after["concat"]["cka_image_alone"] < 1 - 1e-4


WITH_POSTHOC = ("cka_image_with_late-posthoc", "cka_text_with_late-posthoc")
