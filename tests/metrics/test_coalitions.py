"""Games with known values, and the properties that define them."""

import itertools

import numpy as np
import pytest

from fusion_bench.metrics.coalitions import cooperation, presence, shapley_values


def game(names, value):
    return {
        frozenset(part): float(value(frozenset(part)))
        for size in range(len(names) + 1)
        for part in itertools.combinations(names, size)
    }


@pytest.mark.parametrize(
    ("value", "expected", "together"),
    [
        (lambda s: len(s) == 2, {"a": 0.5, "b": 0.5}, 1.0),  # both are needed
        (lambda s: len(s) > 0, {"a": 0.5, "b": 0.5}, -1.0),  # each says the same
        (lambda s: "a" in s, {"a": 1.0, "b": 0.0}, 0.0),  # a dummy
        (lambda s: 0.1 + 0.5 * ("a" in s) + 0.3 * ("b" in s), {"a": 0.5, "b": 0.3}, 0.0),
    ],
)
def test_known_games(value, expected, together):
    values = game("ab", value)
    assert shapley_values(values) == pytest.approx(expected, abs=1e-12)
    assert cooperation(values) == pytest.approx(together, abs=1e-12)


@pytest.mark.parametrize("names", ["ab", "abc", "abcd"])
def test_they_are_the_mean_over_all_orders_and_add_up(names):
    rng = np.random.default_rng(len(names))
    values = game(names, lambda s: rng.random())
    orders = list(itertools.permutations(names))
    for name, found in shapley_values(values).items():
        gains = [
            values[frozenset(order[: order.index(name) + 1])] - values[frozenset(order[: order.index(name)])]
            for order in orders
        ]
        assert found == pytest.approx(np.mean(gains), abs=1e-12)
    total = values[frozenset(names)] - values[frozenset()]
    assert sum(shapley_values(values).values()) == pytest.approx(total, abs=1e-12)


def test_three_modalities_of_which_two_are_needed():
    values = game("abc", lambda s: {"a", "b"} <= s)
    assert shapley_values(values) == pytest.approx({"a": 0.5, "b": 0.5, "c": 0.0}, abs=1e-12)
    assert cooperation(values) == 1.0


@pytest.mark.parametrize("names", ["ab", "abc"])
@pytest.mark.parametrize("missing", [0.0, 0.25, 0.9, 1.0])
def test_presence_is_the_sum_over_all_ways_of_missing(names, missing):
    """Each modality for itself; where all are missing, each of them is the one that is kept equally often."""
    expected = dict.fromkeys(game(names, len), 0.0)
    for lacks in itertools.product((False, True), repeat=len(names)):
        chance = np.prod([missing if lack else 1 - missing for lack in lacks])
        there = [name for name, lack in zip(names, lacks, strict=True) if not lack]
        for present in [there] if there else [[name] for name in names]:
            expected[frozenset(present)] += chance / (1 if there else len(names))
    del expected[frozenset()]
    found = presence(names, missing)
    assert found == pytest.approx(expected, abs=1e-15)
    assert sum(found.values()) == pytest.approx(1)
