"""Decompositions with known answers, and the condition for a minimum."""

import numpy as np
import pytest

from fusion_bench.metrics.information import decompose, mutual_information


def gate(target):
    """Returns the table of two fair bits and a function of them."""
    joint = np.zeros((2, 2, 4))
    for first in (0, 1):
        for second in (0, 1):
            joint[first, second, target(first, second)] += 1 / 4
    return joint


COPY = np.zeros((2, 2, 2))
COPY[0, 0, 0] = COPY[1, 1, 1] = 1 / 2
LOG3 = np.log2(3)

# in bits; of AND, R = 3/2 - 3/4 log2(3) and S = 1/2
KNOWN = {
    "XOR": (gate(lambda a, b: a ^ b), (0, 0, 0, 1)),
    "AND": (gate(lambda a, b: a & b), (1.5 - 0.75 * LOG3, 0, 0, 0.5)),
    "UNQ": (gate(lambda a, b: a), (0, 1, 0, 0)),
    "both bits": (gate(lambda a, b: 2 * a + b), (0, 1, 1, 0)),
    "RDN": (COPY, (1, 0, 0, 0)),
    "nothing": (np.full((2, 3, 2), 1 / 12), (0, 0, 0, 0)),
}


@pytest.mark.parametrize("name", KNOWN)
def test_gates(name):
    joint, expected = KNOWN[name]
    np.testing.assert_allclose(decompose(joint), expected, atol=2e-4)


@pytest.mark.parametrize("seed", range(3))
def test_the_parts_add_up_and_the_sources_are_alike(seed):
    joint = np.random.default_rng(seed).dirichlet(np.full(3 * 4 * 2, 0.5)).reshape(3, 4, 2)
    found = decompose(joint)
    redundant, unique_first, unique_second, synergistic = found
    assert redundant + unique_first == pytest.approx(mutual_information(joint.sum(1)), abs=1e-9)
    assert redundant + unique_second == pytest.approx(mutual_information(joint.sum(0)), abs=1e-9)
    assert sum(found) == pytest.approx(mutual_information(joint.reshape(12, 2)), abs=1e-9)
    swapped = decompose(joint.transpose(1, 0, 2))
    np.testing.assert_allclose(swapped, (redundant, unique_second, unique_first, synergistic), atol=1e-5)
    assert min(found) >= 0


@pytest.mark.parametrize("seed", range(3))
def test_no_table_with_the_same_marginals_tells_less(seed):
    """Steps along directions that keep both marginals, from the table itself, never fall below I*."""
    rng = np.random.default_rng(seed)
    joint = rng.dirichlet(np.full(2 * 2 * 2, 1.0)).reshape(2, 2, 2)
    redundant, unique_first, unique_second, _ = decompose(joint)
    least = redundant + unique_first + unique_second
    checker = np.array([[1, -1], [-1, 1]])[:, :, None]
    steps = np.linspace(-0.5, 0.5, 201)
    values = [
        mutual_information(moved.reshape(4, 2))
        for a in steps
        for b in steps
        if (moved := joint + checker * [a, b]).min() >= 0
    ]
    assert min(values) >= least - 1e-6
    assert min(values) == pytest.approx(least, abs=1e-3)


def test_what_tells_the_same_is_one_value():
    joint = np.random.default_rng(0).dirichlet(np.full(2 * 3 * 2, 1.0)).reshape(2, 3, 2)
    split = np.concatenate([joint * 0.3, joint * 0.7], axis=1)  # a coin beside the second source
    np.testing.assert_allclose(decompose(split), decompose(joint), atol=1e-6)


@pytest.mark.parametrize("joint", [np.full((2, 2, 2), 1.0), np.array([[[1.5]], [[-0.5]]])])
def test_what_is_no_distribution(joint):
    with pytest.raises(ValueError, match="probabilities that sum to 1"):
        decompose(joint)
