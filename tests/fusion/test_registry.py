import inspect
import re
from typing import Any, cast

import pytest
from flax import nnx

from fusion_bench.errors import UserError
from fusion_bench.fusion import registry
from fusion_bench.fusion.base import Strategy
from fusion_bench.fusion.registry import (
    FAMILIES,
    NonNegative,
    StrategySpec,
    left_out,
    parse_strategies,
    register,
    strategies,
)
from tests.tasks import make_task

TASK = make_task("image", "text")
CANONICAL = [
    "image-only",
    "text-only",
    "early-channel",
    "early-token",
    "concat",
    "tensor",
    "late-mean",
    "late-posthoc",
]


def labels(text, task=TASK):
    return [spec.label for spec in parse_strategies(text, task)]


@pytest.fixture
def empty_registry(monkeypatch):
    strategies()  # imports every family, which must not land in the empty one
    monkeypatch.setattr(registry, "_REGISTRY", {})


def test_the_canonical_set():
    assert labels("canonical") == CANONICAL
    three = make_task("image", "text", "audio")
    assert labels("canonical", three) == [*CANONICAL[:2], "audio-only", *CANONICAL[2:]]


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
    (spec,) = parse_strategies("mine:depth=3", TASK)
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
    "name",
    ["", "all", "canonical", "bayes-reference", "a,b", "a:b", "Mine", "brace{x}", "{modality}", "a--b"],
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
        def __init__(self, blueprint, *, drop: int = 0, depth: "NonNegative" = 1):
            pass

    (spec,) = parse_strategies("mine:drop=0:depth=0", TASK)
    assert spec.label == "mine:depth=0"
    with pytest.raises(UserError, match="takes a whole number above 0"):
        parse_strategies("mine:drop=-1", TASK)


def test_options():
    (spec,) = parse_strategies("tensor:width=8", TASK)
    assert spec.options == spec.resolved_options == {"width": 8}
    assert spec.label == "tensor:width=8"
    (default,) = parse_strategies("tensor", TASK)
    assert default.options == {}
    assert default.resolved_options == {"width": strategies()["tensor"].options["width"].default}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("concat", ["concat"]),
        (" concat , tensor,", ["concat", "tensor"]),
        ("tensor,concat", ["tensor", "concat"]),
        ("concat,tensor:width=4,concat,tensor:width=4", ["concat", "tensor:width=4"]),
        ("tensor,tensor:width=4", ["tensor", "tensor:width=4"]),
        ("tensor,tensor:width=16", ["tensor"]),
        ("image-only,canonical", CANONICAL),
        ("canonical,image-token-only", [*CANONICAL, "image-token-only"]),
    ],
)
def test_lists(text, expected):
    assert labels(text) == expected


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [(int, "3", 3), (float, "0.5", 0.5), (str, "max", "max"), (bool, "True", True), (bool, "false", False)],
)
def test_an_option_is_read_as_its_default_is(empty_registry, kind, text, value):
    default = {int: 1, float: 1.0, str: "mean", bool: True}[kind]

    @register("mine", family="late", reference="a paper")
    class Mine(Strategy):
        def __init__(self, blueprint, *, option=default):
            pass

    (spec,) = parse_strategies(f"mine:option={text}", TASK)
    assert spec.resolved_options == {"option": value}
    assert type(spec.resolved_options["option"]) is kind
    if kind is not str:
        with pytest.raises(UserError, match=r"option option of mine takes .*, for example mine:option="):
            parse_strategies("mine:option=much", TASK)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("concatt", "unknown strategy 'concatt'; did you mean concat?"),
        ("cannonical", "did you mean canonical"),
        ("audio-only", "unknown strategy 'audio-only'; did you mean"),
        ("xyzzy", "choose from image-only"),
        ("", "no strategy is named; choose from image-only"),
        (" , ", "no strategy is named"),
        ("tensor:widht=8", "unknown option of tensor 'widht'; did you mean width?"),
        ("tensor:width", "option width of tensor takes a whole number above 0, for example tensor:width=16"),
        ("tensor:width=", "got 'width='"),
        ("tensor:width=many", "got 'width=many'"),
        ("tensor:width=2.5", "got 'width=2.5'"),
        ("tensor:width=0", "got 'width=0'"),
        ("tensor:width=-4", "got 'width=-4'"),
        ("tensor:modality=image", "unknown option of tensor 'modality'"),
        ("concat:width=8", "strategy 'concat' has no options, got 'width=8'"),
        ("image-only:modality=text", "strategy 'image-only' has no options"),
        ("early-channel:loudness=nan", "option loudness of early-channel takes a number"),
        ("tensor:width=8:width=9", "option width of tensor is given twice"),
        ("canonical:width=8", "canonical stands for several strategies and takes no option, got 'width=8'"),
    ],
)
def test_what_cannot_be_read(text, message):
    with pytest.raises(UserError, match=re.escape(message)) as error:
        parse_strategies(text, TASK)
    assert "\n" not in str(error.value)


def test_early_channel_needs_a_grid():
    import jax

    from fusion_bench.fusion.blueprint import Blueprint
    from tests.tasks import CONFIG

    task = make_task("text", "sensor")
    (spec,) = parse_strategies("early-channel", task)
    with pytest.raises(UserError, match="needs a grid; these data have none"):
        spec.build(Blueprint(task, CONFIG, jax.random.key(0)))


def test_a_label_leaves_defaults_out():
    tensor = strategies()["tensor"]
    assert StrategySpec(tensor, {"width": tensor.options["width"].default}).label == "tensor"


def test_all_says_what_it_leaves_out():
    three = make_task("image", "text", "audio")
    assert left_out("all", three) == ("gated", "multiplicative")
    assert left_out("canonical,concat", three) == left_out("all", TASK) == ()
    assert not {"gated", "multiplicative"} & set(labels("all", three))
