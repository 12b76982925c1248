"""Decompositions with known answers, beside a convex program of an independent solver, and its properties."""

import functools

import cvxpy as cp
import numpy as np
import pytest
import scipy.stats

from fusion_bench.data.captions.channel import make_channel
from fusion_bench.metrics import information
from fusion_bench.metrics.information import (
    conditional_independence,
    conditional_mutual_information,
    decompose,
    least_information,
    mutual_information,
)


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
    np.testing.assert_allclose(decompose(joint), expected, atol=2e-5)


def least_by_program(joint):
    """Returns I* in bits, from the convex program in all entries of Q, by an interior point method."""
    rows, columns, targets = joint.shape
    tables = [cp.Variable((rows, columns), nonneg=True) for _ in range(targets)]
    mean = sum(tables[1:], tables[0])
    same = [cp.sum(table, axis=1) == joint.sum(1)[:, t] for t, table in enumerate(tables)]
    same += [cp.sum(table, axis=0) == joint.sum(0)[:, t] for t, table in enumerate(tables)]
    program = cp.Problem(cp.Minimize(sum(cp.sum(cp.rel_entr(table, mean)) for table in tables)), same)
    program.solve(solver=cp.CLARABEL)
    assert program.status == "optimal"
    prior = joint.sum((0, 1))
    return program.value / np.log(2) - (prior * np.log2(prior)).sum()


def random_table(*shape, seed, zeros=0.0):
    rng = np.random.default_rng(seed)
    joint = rng.dirichlet(np.full(np.prod(shape), 0.3)).reshape(shape) * (rng.random(shape) >= zeros)
    return joint / joint.sum()


PROGRAMS = {
    **{name: KNOWN[name][0][:, :, :2] for name in ("AND", "XOR", "UNQ", "RDN")},
    "5 x 5 x 5": random_table(5, 5, 5, seed=0),
    "4 x 3 x 6, with zeros": random_table(4, 3, 6, seed=1, zeros=0.4),
    "2 x 6 x 3, with zeros": random_table(2, 6, 3, seed=2, zeros=0.6),
    "10 x 4 x 10": random_table(10, 4, 10, seed=3),
}


@functools.cache
def oracle(name):
    return least_by_program(PROGRAMS[name])


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_least_information_is_that_of_the_convex_program(name):
    redundant, unique_first, unique_second, _ = decompose(PROGRAMS[name])
    assert redundant + unique_first + unique_second == pytest.approx(oracle(name), abs=3e-5)


@pytest.mark.parametrize("tolerance", [1.0, 1e-2, 1e-3, 1e-4])
@pytest.mark.parametrize("name", PROGRAMS)
def test_bounds_are_on_both_sides_of_the_convex_program(name, tolerance):
    """After the first iteration, and whenever it stops; the program is exact to 1e-6."""
    first, second = PROGRAMS[name].sum(1), PROGRAMS[name].sum(0)
    bounds = least_information(first, second, tolerance)
    assert bounds.lower - 1e-6 <= oracle(name) <= bounds.upper + 1e-6
    assert bounds.upper - bounds.lower <= tolerance


@pytest.mark.parametrize("name", ["AND", "5 x 5 x 5", "4 x 3 x 6, with zeros"])
def test_any_factors_give_a_lower_bound(name):
    """Among them such near the best, u_t(x1) = P(t | x1) / P(t) and v = 1, which give I(T; X1)."""
    rng = np.random.default_rng(0)
    joint = PROGRAMS[name]
    prior = joint.sum((0, 1))
    first, second = joint.sum(1) / prior, joint.sum(0) / prior
    told = first / (first @ prior)[:, None]
    bound = information._lower_bound(first, second, prior, told, np.ones_like(second))
    assert bound == pytest.approx(mutual_information(joint.sum(1)), abs=1e-9)
    for spread in (0.01, 0.1, 1):
        for _ in range(100):
            left = told * rng.lognormal(sigma=spread, size=first.shape)
            right = rng.lognormal(sigma=spread, size=second.shape)
            assert information._lower_bound(first, second, prior, left, right) <= oracle(name) + 1e-6


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_value_errs_upwards(name):
    redundant, unique_first, unique_second, _ = decompose(PROGRAMS[name], tolerance=0.03)
    assert -1e-6 <= redundant + unique_first + unique_second - oracle(name) <= 0.03


def test_repaired_tables_have_the_marginals():
    tables = random_table(4, 5, 3, seed=6, zeros=0.2)
    tables /= tables.sum((0, 1))
    near = tables * np.random.default_rng(0).lognormal(sigma=0.01, size=tables.shape)
    repaired = information._with_marginals(near, tables.sum(1), tables.sum(0))
    np.testing.assert_allclose(repaired.sum(1), tables.sum(1), atol=1e-14)
    np.testing.assert_allclose(repaired.sum(0), tables.sum(0), atol=1e-14)
    assert repaired.min() >= 0
    assert np.abs(repaired - near).sum() < 3 * np.abs(near - tables).sum()


def test_rare_values_do_not_hold_up_the_bound(monkeypatch):
    """It takes 1000 iterations; 6000 or more if only one side's factors are shifted, 30,000 by one number for all."""
    monkeypatch.setattr(information, "MAX_ITERATIONS", 1200)
    classes = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    prior = 2.0 ** -np.arange(10)
    channel = make_channel("mixed:named=0.05:grouped=0.9", classes, prior / prior.sum())
    joint = (channel.prior[:, None, None, None] * channel.table).reshape(10, -1, 10)
    found = decompose(joint)
    swapped = decompose(joint.transpose(1, 0, 2))
    np.testing.assert_allclose(np.take(swapped, [0, 2, 1, 3]), found, atol=1e-5)


def test_a_tolerance_is_an_error_bound(monkeypatch):
    joint = random_table(5, 5, 5, seed=4)
    exact = np.array(decompose(joint, tolerance=1e-9))
    for tolerance in (0.1, 1e-2, 1e-3):
        assert np.abs(decompose(joint, tolerance=tolerance) - exact).max() <= tolerance
    monkeypatch.setattr(information, "MAX_ITERATIONS", 1000)
    with pytest.raises(ValueError, match=r"not known to 0 bits .* between \S+ and \S+$") as caught:
        decompose(joint, tolerance=0.0)
    lower, upper = (float(word) for word in str(caught.value).split()[-3::2])
    assert lower <= exact[:3].sum() + 1e-8
    assert exact[:3].sum() <= upper + 1e-8
    assert upper - lower < 1e-3  # it is told how close it came


def test_a_symbol_that_never_occurs_changes_nothing():
    joint = random_table(3, 4, 2, seed=5)
    wider = np.zeros((5, 6, 4))
    wider[1:4, :4, ::2] = joint
    np.testing.assert_allclose(decompose(wider), decompose(joint), atol=1e-12)


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


def test_what_tells_the_same_is_one_value(monkeypatch):
    joint = np.random.default_rng(0).dirichlet(np.full(2 * 3 * 2, 1.0)).reshape(2, 3, 2)
    split = np.concatenate([joint * 0.3, joint * 0.7], axis=1)  # a coin beside the second source
    np.testing.assert_allclose(decompose(split), decompose(joint), atol=1e-6)
    sizes = []

    def least(first, second, tolerance):
        sizes.append((len(first), len(second)))
        return least_information(first, second, tolerance)

    monkeypatch.setattr(information, "least_information", least)
    decompose(split)
    decompose(split.transpose(1, 0, 2))
    assert sizes == [(2, 3), (3, 2)]


def test_probabilities_whose_product_is_no_number():
    joint = np.array([[1e-200, 0], [0, 1]])
    assert mutual_information(joint) == pytest.approx(1e-200 * np.log2(1e200))


@pytest.mark.parametrize("joint", [np.full((2, 2, 2), 1.0), np.array([[[1.5]], [[-0.5]]])])
def test_what_is_no_distribution(joint):
    with pytest.raises(ValueError, match="probabilities that sum to 1"):
        decompose(joint)


def conditional_by_loops(first, second, given):
    """I(A; B | C) in bits of a sample, as the mean over C of the mutual information of its examples."""
    found = 0.0
    for c in set(given):
        pairs = [(a, b) for a, b, of in zip(first, second, given, strict=True) if of == c]
        for a in {pair[0] for pair in pairs}:
            for b in {pair[1] for pair in pairs}:
                both = pairs.count((a, b)) / len(pairs)
                alone = [sum(pair[i] == value for pair in pairs) / len(pairs) for i, value in ((0, a), (1, b))]
                if both:
                    found += len(pairs) / len(given) * both * np.log2(both / (alone[0] * alone[1]))
    return found


def draw(count, seed, *sizes):
    rng = np.random.default_rng(seed)
    return [rng.integers(size, size=count) for size in sizes]


@pytest.mark.parametrize("seed", range(4))
def test_conditional_information_by_loops(seed):
    first, second, given = draw(60, seed, 3, 4, 2)
    counts = np.zeros((3, 4, 2), int)
    np.add.at(counts, (first, second, given), 1)
    expected = conditional_by_loops(first.tolist(), second.tolist(), given.tolist())
    assert conditional_mutual_information(counts) == pytest.approx(expected, abs=1e-12)
    np.testing.assert_allclose(conditional_mutual_information(np.stack([counts, 2 * counts])), expected, atol=1e-12)
    assert conditional_independence(first, second, given, permutations=10).bits == pytest.approx(expected, abs=1e-12)


def test_what_a_third_variable_explains_is_not_dependence():
    """A and B are C: all they share is known."""
    given = np.arange(90) % 3
    found = conditional_independence(given, given, given, permutations=50)
    assert found == pytest.approx((0, 0, 1), abs=1e-12)  # every permutation is as large


@pytest.mark.parametrize("classes", [2, 4])
def test_a_deterministic_relation_has_all_bits_of_a_variable(classes):
    first, given = np.divmod(np.arange(classes * 5 * 12) % (classes * 5), 5)
    found = conditional_independence(first, (first + given) % classes, given, permutations=199)
    assert found.bits == pytest.approx(np.log2(classes), abs=1e-12)
    assert found.p_value == 1 / 200
    assert 0 < found.expected < found.bits


def test_exclusive_or_is_seen_only_given_the_third_variable():
    first, second = draw(400, 0, 2, 2)
    alone = conditional_independence(first, second, np.zeros(400, int), permutations=199)
    known = conditional_independence(first, second, first ^ second, permutations=199)
    assert alone.p_value > 0.05
    assert known.p_value == 1 / 200
    assert known.bits > 0.9


def test_p_values_of_independent_variables_are_uniform():
    """A and B depend on C strongly, and on nothing else."""
    rng, found = np.random.default_rng(0), []
    for seed in range(200):
        given = rng.integers(3, size=80)
        first, second = (np.where(rng.random(80) < 0.6, given, rng.integers(3, size=80)) for _ in range(2))
        found.append(conditional_independence(first, second, given, permutations=99, seed=seed).p_value)
    assert scipy.stats.kstest(found, "uniform").pvalue > 0.01
    assert np.mean(np.array(found) <= 0.05) == pytest.approx(0.05, abs=3 * np.sqrt(0.05 * 0.95 / 200))


def test_permutations_stay_within_a_value_of_the_third_variable():
    """Were they not, A = C would be permuted, and the value of the sample exceeded."""
    given = np.repeat([0, 1], 30)
    second = np.random.default_rng(0).integers(3, size=60)
    found = conditional_independence(given, second, given, permutations=99)
    assert found == pytest.approx((0, 0, 1), abs=1e-12)


def test_the_test_depends_on_its_seed_alone():
    first, second, given = draw(120, 3, 3, 3, 2)
    one, again, other = (conditional_independence(first, second, given, permutations=150, seed=s) for s in (1, 1, 2))
    assert one == again
    assert one.bits == other.bits
    assert one.expected != other.expected


def test_several_variables_are_one_test_of_their_mean():
    first, second, given = draw(300, 3, 3, 3, 4)
    rng = np.random.default_rng(1)
    several = np.stack([first, rng.integers(3, size=300)])
    each = [conditional_independence(one, second, given, permutations=20, seed=2) for one in several]
    found = conditional_independence(several, second, given, permutations=20, seed=2)
    assert found.bits == pytest.approx(np.mean([one.bits for one in each]), abs=1e-12)
    assert found.expected == pytest.approx(np.mean([one.expected for one in each]), abs=1e-12)
    alike = conditional_independence(np.stack([first, first]), second, given, permutations=20, seed=2)
    assert alike == pytest.approx(each[0], abs=1e-12)
