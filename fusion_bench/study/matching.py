"""Parameter and FLOP matching by the size of each strategy's fusion module."""

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import assert_never

from fusion_bench.config import BenchmarkConfig, Choice
from fusion_bench.data.batches import DeviceData
from fusion_bench.data.dataset import Dataset
from fusion_bench.errors import ConfigError, UserError
from fusion_bench.fusion.registry import StrategySpec, resolve
from fusion_bench.study.job import Matched
from fusion_bench.study.progress import Display
from fusion_bench.training.backend import memory_told
from fusion_bench.training.cost import count_params, count_train_flops

_CLOSE = 0.001  # relative distance from the target at which the search ends
_LARGEST = 1 << 14
_LARGEST_UNIT = 64


def match_study(
    config: BenchmarkConfig, specs: tuple[StrategySpec, ...], dataset: Dataset, data: DeviceData, display: Display
) -> tuple[tuple[StrategySpec, ...], Matched | None]:
    """Returns the strategies with the widths that `config.match` asks for, and the cost that they are matched to."""
    quantity = config.match
    if quantity == "none":
        return specs, None
    to = resolve([config.match_to], dataset.task)
    if len(to) != 1:
        raise ConfigError("match_to", config.match_to, "it must be one strategy")

    def measure(spec: StrategySpec) -> float:
        with memory_told(spec.label):
            match quantity:
                case "params":
                    return float(count_params(spec, dataset.task, config.model))
                case "flops":
                    num_train = len(dataset.splits["train"])
                    plain = dataclasses.replace(config.training, remedy=Choice("none"))  # the strategy's own cost
                    return count_train_flops(spec, dataset.task, config.model, plain, data, num_train)
                case other:
                    assert_never(other)

    matched = Matched(quantity, to[0].label, measure(to[0]))
    found = match(specs, matched, measure, lambda name: display.matching(name, quantity, matched.to))
    return found, matched


def match(
    specs: Iterable[StrategySpec],
    matched: Matched,
    measure: Callable[[StrategySpec], float],
    report: Callable[[str], None] = lambda name: None,
) -> tuple[StrategySpec, ...]:
    """Returns the strategies with the size of each chosen so that its cost is nearest to the target.

    The size is the option that a registration names. Strategies without it, and the strategy that is matched, are
    returned unchanged. A size given by the user only starts the search.

    `measure` returns the cost of a strategy, which grows with its size, and raises UserError for an invalid size;
    `report` is called with the name of each strategy before it is matched.
    """
    found: dict[str, StrategySpec] = {}
    for asked in specs:
        report(asked.name)
        has_size = asked.registration.size in asked.registration.options
        spec = _resized(asked, matched.target, measure) if has_size and asked.label != matched.to else asked
        if spec.label in found:
            raise UserError(f"after matching, {asked.label} equals another strategy, {spec.label}; leave one out")
        found[spec.label] = spec
    return tuple(found.values())


def _resized(spec: StrategySpec, target: float, measure: Callable[[StrategySpec], float]) -> StrategySpec:
    def with_width(width: int) -> StrategySpec:
        return dataclasses.replace(spec, options={**spec.options, size: width})

    size = spec.registration.size

    @functools.cache
    def cost(width: int) -> float:
        return measure(with_width(width))

    start = spec.resolved_options[size]
    try:
        cost(start)
        return with_width(nearest(cost, start, _unit(start, cost), target))
    except UserError:  # not defined for these data, its width is invalid, or it is too large; its run will say so
        return spec


def _unit(start: int, cost: Callable[[int], float]) -> int:
    """Returns the smallest step by which a width can grow: heads and chunks must divide it."""
    for unit in range(1, _LARGEST_UNIT):
        try:
            cost(start + unit)
        except UserError:
            continue
        return unit
    return _LARGEST_UNIT


def nearest(cost: Callable[[int], float], start: int, unit: int, target: float) -> int:
    """Returns the width of start, start ± unit, … whose cost is nearest to the target.

    `cost` is an increasing function of the width; it is slow, so it is called only a few times.
    """
    tried: dict[int, float] = {}

    def error(width: int) -> float:
        tried[width] = cost(width) / target - 1
        return tried[width]

    smallest = start % unit or unit
    low = high = start
    while error(high) < 0 and high < _LARGEST:
        low, high = high, high + max(unit, high // unit * unit)
    while error(low) > 0 and low > smallest:
        low, high = max(smallest, low - max(unit, low // (2 * unit) * unit)), low
    while high - low > unit and min(map(abs, tried.values())) > _CLOSE:
        slope = (tried[high] - tried[low]) / (high - low)
        guess = low - tried[low] / slope if slope else low
        middle = start + round((guess - start) / unit) * unit
        middle = min(max(middle, low + unit), high - unit)
        low, high = (middle, high) if error(middle) < 0 else (low, middle)
    return min(tried, key=lambda width: abs(tried[width]))
