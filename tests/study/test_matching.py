"""Strategies made equal in parameters or FLOPs."""

import functools

import numpy as np
import pytest

from fusion_bench.cli.choices import parse_choices
from fusion_bench.config import BenchmarkConfig, TrainingConfig
from fusion_bench.data.batches import to_device
from fusion_bench.errors import UserError
from fusion_bench.fusion.registry import StrategySpec, resolve
from fusion_bench.study.job import Matched
from fusion_bench.study.matching import match, match_study, nearest
from fusion_bench.training.compile import compile_program
from fusion_bench.training.cost import count_params, count_train_flops
from tests.studies import Recorder
from tests.tasks import CONFIG, make_dataset

DATASET = make_dataset()
TASK = DATASET.task
TRAINING = TrainingConfig(epochs=1, batch_size=16)


def params(spec):
    return float(count_params(spec, TASK, CONFIG))


def matched_to(text, target, measure=params):
    return match(resolve(parse_choices(text), TASK), Matched("params", "concat", target), measure)


@pytest.mark.parametrize(("start", "unit"), [(64, 1), (16, 1), (64, 4), (6, 4), (1, 1)])
@pytest.mark.parametrize("target", [1.0, 700.0, 5_000.0, 123_456.0, 1e7])
def test_the_nearest_width_is_found_in_a_few_tries(start, unit, target):
    tried = []

    @functools.cache
    def figure(width):
        tried.append(width)
        return 3 * width**2 + 40 * width + 600

    found = nearest(figure, start, unit, target)
    widths = np.arange(start % unit or unit, 16_000, unit)
    best = np.abs(3.0 * widths**2 + 40 * widths + 600 - target).min() / target
    assert abs(figure(found) / target - 1) <= max(best, 0.001) + 1e-9
    assert (found - start) % unit == 0
    assert len(tried) < 25


@pytest.mark.parametrize("text", ["sum", "tensor:width=3", "low-rank:rank=2", "mfb", "gmu", "cross-attention"])
@pytest.mark.parametrize("target", [2_000.0, 9_000.0])
def test_no_other_width_comes_nearer_than_the_one_that_is_chosen(text, target):
    (spec,) = matched_to(text, target)
    size = spec.registration.size
    width = spec.resolved_options[size]
    unit = 4 if text == "cross-attention" else 1
    around = [
        params(resolve(parse_choices(f"{text.partition(':')[0]}{rest(text)}:{size}={w}"), TASK)[0]) - target
        for w in (max(unit, width - unit), width, width + unit)
    ]
    assert abs(around[1]) == min(map(abs, around)) or abs(around[1]) <= 0.001 * target


def rest(text):
    return ":rank=2" if "rank" in text else ""


def test_what_has_no_width_stays_as_it_is():
    asked = "image-only,early-token,concat,film,late-mean,late-posthoc"
    assert matched_to(asked, 9_000.0) == resolve(parse_choices(asked), TASK)


def test_what_gives_the_target_stays_as_it_is():
    (spec,) = match([StrategySpec("sum", {"out_features": 7})], Matched("params", "sum:out_features=7", 1.0), params)
    assert spec.options == {"out_features": 7}


def test_two_widths_of_one_strategy_would_become_one():
    with pytest.raises(UserError, match="after matching, sum:out_features=40 equals another strategy"):
        matched_to("sum:out_features=4,sum:out_features=40", 5_000.0)


@pytest.mark.parametrize("name", ["early-channel", "mid-channel"])
def test_what_is_laid_over_a_map_is_matched_by_its_channels(name):
    (spec,) = matched_to(name, 2_500.0)
    assert set(spec.options) == {"channels"}
    assert abs(params(spec) / 2_500 - 1) < 0.05


def test_experts_are_matched_by_their_own_width():
    """The width of their sum has few of the parameters: matched by it, `moe` would pass one number to its head."""
    (spec,) = matched_to("moe:hidden=200", 7_777.0)
    assert set(spec.options) == {"hidden"}
    assert abs(params(spec) / 7_777 - 1) < 0.05


def test_a_width_that_heads_or_chunks_do_not_divide_is_not_chosen():
    for text, unit in (
        ("bottleneck", 4),
        ("block:out_features=8:chunks=4", 4),
        ("block:out_features=60:chunks=20", 20),
    ):
        (spec,) = matched_to(text, 7_777.0)
        assert spec.resolved_options[spec.registration.size] % unit == 0
        params(spec)


def test_a_width_that_does_not_suit_is_left_for_its_run_to_say():
    (spec,) = matched_to("cross-attention:width=30", 7_777.0)
    assert spec.options == {"width": 30}


@pytest.mark.parametrize("name", ["sum", "cross-attention"])
def test_the_quick_counts_are_those_of_the_compiled_program(name):
    spec = StrategySpec(name)
    data, num_train = to_device(DATASET), len(DATASET.splits["train"])
    program = compile_program(spec, TASK, CONFIG, TRAINING, data, num_train)
    assert count_params(spec, TASK, CONFIG) == program.params
    assert count_train_flops(spec, TASK, CONFIG, TRAINING, data, num_train) == program.train_flops


@pytest.mark.parametrize("quantity", ["params", "flops"])
def test_a_study_is_matched_to_the_strategy_that_is_named(quantity):
    config = BenchmarkConfig(
        model=CONFIG,
        training=TRAINING,
        strategies=("concat", "sum"),
        match=quantity,
        match_to=StrategySpec("sum", {"out_features": 20}),
    )
    specs = resolve(config.strategies, TASK)
    display = Recorder()
    chosen, matched = match_study(config, specs, DATASET, to_device(DATASET), display)
    assert [spec.label for spec in chosen] == ["concat", "sum:out_features=20"]
    assert matched is not None
    assert (matched.quantity, matched.to) == (quantity, "sum:out_features=20")
    asked = [spec.registration.name for spec in specs]
    assert display.events == [("matching", name, quantity, "sum:out_features=20") for name in asked]


def test_without_a_match_nothing_changes():
    specs = resolve(["concat", "sum"], TASK)
    assert match_study(BenchmarkConfig(), specs, DATASET, to_device(DATASET), Recorder()) == (specs, None)


@pytest.mark.parametrize(
    ("to", "message"),
    [("canonical", "match_to is canonical; it must be one strategy"), ("tensr", "unknown strategy 'tensr'")],
)
def test_the_target_is_one_strategy(to, message):
    config = BenchmarkConfig(match="params", match_to=to)
    with pytest.raises(UserError, match=message):
        match_study(config, resolve(["sum"], TASK), DATASET, to_device(DATASET), Recorder())
