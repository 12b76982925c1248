import dataclasses
import inspect
import json
import math
import pickle
import re
from typing import Any, cast

import pytest
from flax import nnx

from fusion_bench.config import Choice
from fusion_bench.errors import UserError
from fusion_bench.fields import Natural
from fusion_bench.fusion import registry
from fusion_bench.fusion.base import Strategy
from fusion_bench.fusion.registry import FAMILIES, StrategySpec, find, left_out, register, resolve, strategies
from tests.tasks import make_task

TASK = make_task("image", "text")
CANONICAL = ["image-only", "text-only", "early-channel", "early-token", "concat", "tensor", "late-mean", "late-posthoc"]


NARROW = Choice("tensor", {"width": 4})


def labels(*asked, task=TASK):
    return [spec.label for spec in resolve(asked, task)]


@pytest.fixture
def empty_registry(monkeypatch):
    strategies()  # imports every family, which must not land in the empty one
    monkeypatch.setattr(registry.REGISTRY, "known", {})


def test_the_canonical_set():
    assert labels("canonical") == CANONICAL
    three = make_task("image", "text", "audio")
    assert labels("canonical", task=three) == [*CANONICAL[:2], "audio-only", *CANONICAL[2:]]


def test_all_is_everything_once():
    assert sorted(labels("all")) == sorted(strategies(TASK.modalities))
    assert set(CANONICAL) < set(labels("all"))


def test_a_baseline_for_each_modality():
    found = strategies(("sensor", "image"))
    for name in ("sensor", "image"):
        assert found[f"{name}-only"].modality == name
        assert found[f"{name}-token-only"].modality == name
    assert not [name for name in found if "text" in name or "{" in name]
    assert found["concat"].modality is None


def test_every_registration_says_what_it_is():
    for name, registration in strategies().items():
        assert registration.name == name
        assert registration.family in FAMILIES
        assert len(registration.summary) > 20
        assert registration.reference
        assert issubclass(registration.make, Strategy if registration.reads is None else nnx.Module)
        assert all(p.default is not p.empty for p in registration.options.values()), "options need defaults"
    order = [FAMILIES.index(registration.family) for registration in strategies().values()]
    assert order == sorted(order)


def test_early_token_is_compared_with_its_own_transformer():
    found = strategies()
    assert {name for name, r in found.items() if r.baseline == "token-only"} == {"early-token"}
    assert {"image-token-only", "text-token-only"} < set(found)


def test_a_layer_in_one_file_becomes_a_strategy(empty_registry):
    @register("mine", family="intermediate", reference="a paper")
    class Mine(nnx.Module):
        """Joins."""

        def __init__(self, in_features, *, depth: int = 2, dtype=None, rngs):
            self.out_features = in_features["image"]

        def __call__(self, features):
            return features["image"]

    (found,) = strategies().values()
    assert (found.make, found.summary, found.canonical) == (Mine, "Joins.", False)
    assert (found.reads, found.version) == ("features", 1)
    (spec,) = resolve([Choice("mine", {"depth": 3})], TASK)
    assert (spec.label, spec.resolved_options) == ("mine:depth=3", {"depth": 3})


def test_a_name_is_registered_once(empty_registry):
    class First(Strategy):
        pass

    class Second(Strategy):
        pass

    register("mine", family="late", reference="a paper")(First)
    register("mine", family="late", reference="a paper")(First)  # as when a module is imported again
    with pytest.raises(ValueError, match=r"'mine' is registered twice: .*First.* and .*Second"):
        register("mine", family="late", reference="a paper")(Second)
    assert strategies()["mine"].make is First


@pytest.mark.parametrize(
    "name", ["", "all", "canonical", "bayes-reference", "a,b", "a:b", "Mine", "brace{x}", "{modality}", "a--b"]
)
def test_a_name_can_be_typed(empty_registry, name):
    class Mine(Strategy):
        pass

    with pytest.raises(ValueError, match=f"a strategy cannot be called {re.escape(repr(name))}"):
        register(name, family="late", reference="a paper")(Mine)


def test_no_name_is_that_of_a_baseline():
    class Mine(Strategy):
        pass

    for name in ("image-only", "sensor-only", "text-token-only", "{modality}-only"):
        with pytest.raises(ValueError, match="is registered twice"):
            register(name, family="late", reference="a paper")(Mine)


def test_only_layers_and_classes_of_strategies_are_registered(empty_registry):
    with pytest.raises(TypeError, match="'mine' should be a Flax layer or a subclass of Strategy"):
        register("mine", family="late", reference="a paper")(cast(Any, dict))


@pytest.mark.parametrize("default", [None, (1, 2), b"x", inspect.Parameter.empty])
def test_options_have_defaults_that_can_be_typed(empty_registry, default):
    class Mine(Strategy):
        def __init__(self, blueprint, *, option=default):
            pass

    if default is inspect.Parameter.empty:
        Mine.__init__.__kwdefaults__ = {}
    with pytest.raises(ValueError, match="option option of strategy 'mine' needs a default that is a number"):
        register("mine", family="late", reference="a paper")(Mine)


def test_an_option_takes_its_own_default(empty_registry):
    @register("mine", family="late", reference="a paper")
    class Mine(Strategy):
        def __init__(self, blueprint, *, drop: int = 0, depth: "Natural" = 1):
            pass

    (spec,) = resolve([Choice("mine", {"drop": 0, "depth": 0})], TASK)
    assert spec.label == "mine:depth=0"
    with pytest.raises(UserError, match="option drop of mine is -1; it must be at least 1, for example 0"):
        resolve([Choice("mine", {"drop": -1})], TASK)
    with pytest.raises(UserError, match="option depth of mine is -1; it must be at least 0, for example 1"):
        resolve([Choice("mine", {"depth": -1})], TASK)


def test_options():
    (spec,) = resolve([Choice("tensor", {"width": 8})], TASK)
    assert spec.options == {"width": 8}
    assert spec.resolved_options == {"width": 8, "widths": ""}
    assert spec.label == "tensor:width=8"
    (default,) = resolve(["tensor"], TASK)
    assert default.options == {}
    assert default.resolved_options["width"] == strategies()["tensor"].options["width"].default


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (["concat"], ["concat"]),
        (["tensor", "concat"], ["tensor", "concat"]),
        (["concat", NARROW, "concat", NARROW], ["concat", "tensor:width=4"]),
        (["tensor", NARROW], ["tensor", "tensor:width=4"]),
        (["tensor", Choice("tensor", {"width": 16})], ["tensor"]),
        (["image-only", "canonical"], CANONICAL),
        (["canonical", "image-token-only"], [*CANONICAL, "image-token-only"]),
    ],
)
def test_lists(asked, expected):
    assert labels(*asked) == expected


@pytest.mark.parametrize(
    ("default", "value", "expected", "wrong"),
    [(1, 3, 3, 3.0), (1.0, 3, 3.0, "much"), ("mean", "max", "max", 3), (True, False, False, "no")],
)
def test_an_option_is_of_the_type_of_its_default(empty_registry, default, value, expected, wrong):
    @register("mine", family="late", reference="a paper")
    class Mine(Strategy):
        def __init__(self, blueprint, *, option=default):
            pass

    (spec,) = resolve([Choice("mine", {"option": value})], TASK)
    assert spec.resolved_options == {"option": expected}
    assert type(spec.resolved_options["option"]) is type(default)
    with pytest.raises(UserError, match=f"option option of mine is {wrong!r}; it must be .*, for example"):
        resolve([Choice("mine", {"option": wrong})], TASK)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["concatt"], "unknown strategy 'concatt'; did you mean concat?"),
        (["cannonical"], "did you mean canonical"),
        (["audio-only"], "unknown strategy 'audio-only'; did you mean"),
        (["{modality}-only"], "unknown strategy '{modality}-only'"),
        (["xyzzy"], "choose from image-only"),
        ([], "no strategy is named; choose from image-only"),
        ([Choice("tensor", {"widht": 8})], "unknown option of tensor 'widht'; did you mean width or widths?"),
        ([Choice("tensor", {"width": ""})], "option width of tensor is ''; it must be a whole number, for example 16"),
        ([Choice("tensor", {"width": 2.5})], "is 2.5; it must be a whole number"),
        ([Choice("tensor", {"width": 0})], "is 0; it must be at least 1"),
        ([Choice("tensor", {"modality": "image"})], "unknown option of tensor 'modality'"),
        ([Choice("concat", {"width": 8})], "concat has no options, got 'width'"),
        ([Choice("image-only", {"modality": "text"})], "image-only has no options"),
        ([Choice("early-channel", {"loudness": math.nan})], "of early-channel is nan; it must be finite"),
        ([Choice("canonical", {"width": 8})], "canonical stands for several strategies and takes no option"),
    ],
)
def test_what_cannot_be_resolved(asked, message):
    with pytest.raises(UserError, match=re.escape(message)) as error:
        resolve(asked, TASK)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "pattern", "modality"),
    [
        ("concat", "concat", None),
        ("image-only", "{modality}-only", "image"),
        ("image-token-only", "{modality}-token-only", "image"),
        ("left_eye-token-only", "{modality}-token-only", "left_eye"),
    ],
)
def test_a_spec_is_a_value_whose_registration_is_found_by_its_name(name, pattern, modality):
    spec = StrategySpec(name)
    assert spec.registration == dataclasses.replace(registry.REGISTRY.known[pattern], name=name, modality=modality)
    assert pickle.loads(pickle.dumps(spec)) == StrategySpec(**json.loads(json.dumps(dataclasses.asdict(spec))))
    with pytest.raises(UserError, match=f"unknown strategy '{name}s'; did you mean"):
        find(f"{name}s")


def test_strategies_inside_a_cnn_need_a_grid():
    task = make_task("text", "sensor")
    with pytest.raises(UserError, match=r"early-channel: it joins inside a CNN and needs a grid"):
        resolve(["early-channel"], task)
    inside = ["early-channel", "mid-channel", "film", "mmtm"]
    assert sorted(left_out(["all"], task)) == sorted(inside)
    assert list(left_out(["canonical"], task)) == inside[:1]
    assert not {*inside} & {*labels("all", task=task)}


def test_a_label_leaves_defaults_out():
    width = find("tensor").options["width"].default
    assert StrategySpec("tensor", {"width": width}).label == "tensor"
    assert StrategySpec("block", {"out_features": 8, "chunks": 2}).label == "block:chunks=2:out_features=8"


def test_all_says_what_it_leaves_out():
    three = make_task("image", "text", "audio")
    reason = "it joins two modalities; these are audio, image, text"
    assert left_out(["all"], three) == {"gated": reason, "multiplicative": reason}
    assert left_out(["canonical", "concat"], three) == left_out(["all"], TASK) == {}
    assert not {"gated", "multiplicative"} & set(labels("all", task=three))
