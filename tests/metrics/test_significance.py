import math

import numpy as np
import pytest

from fusion_bench.metrics.significance import (
    bootstrap_interval,
    detectable_difference,
    holm,
    paired_p_value,
    pairwise_p_values,
    ranks,
    seeds_to_detect,
)


def test_p_value_of_three_differences_by_hand():
    # mean 2, s = 1, t = 2 √3 = 3.4641; the t distribution with two degrees of freedom is closed:
    # p = 1 - t / √(t² + 2)
    t = 2 * math.sqrt(3)
    assert paired_p_value([1.0, 2.0, 3.0]) == pytest.approx(1 - t / math.sqrt(t**2 + 2), rel=1e-9)


def test_p_value_at_the_edges():
    assert math.isnan(paired_p_value([0.5]))
    assert paired_p_value([0.0, 0.0, 0.0]) == 1
    assert math.isnan(paired_p_value([0.1, 0.1, 0.1]))  # of how it varies nothing is known


def test_direction_and_rank_are_of_the_seeds_that_both_have():
    """A strategy that lost its best seed is not worse for it."""
    first = {0: 0.750, 1: 0.7505, 2: 0.90, 3: 0.751}
    second = {0: 0.760, 1: 0.7604, 3: 0.7611}
    assert np.mean(list(first.values())) > np.mean(list(second.values()))
    assert ranks({"a": first, "b": second})["b"][1:] == (1, 1)
    assert ranks({"a": first, "b": second})["a"][1:] == (2, 2)


def test_false_claims_are_as_frequent_as_the_level():
    samples = np.random.default_rng(0).normal(size=(4000, 3))
    found = np.mean([paired_p_value(sample) < 0.05 for sample in samples])
    assert found == pytest.approx(0.05, abs=3 * math.sqrt(0.05 * 0.95 / 4000))


def test_holm_by_hand():
    # sorted .01, .02, .03, .04: 4 · .01, 3 · .02, 2 · .03, then .04 raised to what came before
    given = {"d": 0.04, "a": 0.01, "x": math.nan, "c": 0.03, "b": 0.02}
    corrected = holm(given)
    assert list(corrected) == list(given)
    assert math.isnan(corrected.pop("x"))
    assert corrected == pytest.approx({"a": 0.04, "b": 0.06, "c": 0.06, "d": 0.06})
    assert holm({"a": 0.6, "b": 0.9}) == {"a": 1.0, "b": 1.0}


def test_holm_keeps_the_probability_of_any_false_claim():
    samples = np.random.default_rng(1).normal(size=(2000, 6, 4))
    claims = 0
    for sample in samples:
        claims += min(holm({str(i): paired_p_value(row) for i, row in enumerate(sample)}).values()) < 0.05
    assert claims / 2000 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2000)


SPREAD = {0: 0.011, 1: -0.004, 2: 0.002, 3: -0.009, 4: 0.0}


def values(**means):
    """Accuracies by seed: each strategy's mean, and noise of its own, small beside what parts the strategies."""
    rng = np.random.default_rng(0)
    return {
        name: {s: mean + shared + rng.normal(0, 1e-3) for s, shared in SPREAD.items()} for name, mean in means.items()
    }


def test_pairs_are_symmetric_and_corrected_for_all_of_them():
    found = values(a=0.9, b=0.8, c=0.8)
    p_values = pairwise_p_values(found)
    assert p_values["a", "b"] == p_values["b", "a"] < 1e-6
    assert p_values["b", "c"] > 0.05
    assert len(p_values) == 6
    alone = paired_p_value([found["b"][s] - found["c"][s] for s in SPREAD])
    assert p_values["b", "c"] == pytest.approx(min(1, alone))  # the largest of three is not multiplied


def test_ranks_say_what_is_established():
    assert ranks(values(a=0.9, b=0.8, c=0.7)) == {"a": (1, 1, 1), "b": (2, 2, 2), "c": (3, 3, 3)}
    tied = ranks(values(a=0.9, b=0.8, c=0.8, d=0.1))
    assert tied["a"] == (1, 1, 1)
    assert {tied["b"][0], tied["c"][0]} == {2, 3}
    assert tied["b"][1:] == tied["c"][1:] == (2, 3)
    assert tied["d"] == (4, 4, 4)


def test_one_seed_establishes_no_rank():
    assert ranks({"a": {0: 0.9}, "b": {0: 0.1}}) == {"a": (1, 1, 2), "b": (2, 1, 2)}


def test_the_true_ranks_lie_in_the_intervals():
    rng, covered = np.random.default_rng(2), 0
    for _ in range(300):
        drawn = {name: dict(enumerate(rng.normal(mean, 1, 4))) for name, mean in (("a", 2.0), ("b", 1.0), ("c", 0))}
        found = ranks(drawn)
        covered += all(found[name][1] <= true <= found[name][2] for name, true in zip("abc", (1, 2, 3), strict=True))
    assert covered / 300 >= 0.95 - 3 * math.sqrt(0.05 * 0.95 / 300)


@pytest.mark.parametrize(("effect", "n"), [(1.0, 10), (0.5, 34), (0.2, 199)])
def test_seeds_are_those_of_the_tables_of_power(effect, n):
    # paired t-test, two-sided, 5 %, power 80 %: the usual tables' sample sizes
    assert seeds_to_detect(effect, 1.0) == n
    assert detectable_difference(1.0, n) <= effect < detectable_difference(1.0, n - 1)


def test_the_detectable_difference_is_found_four_times_in_five():
    rng, n = np.random.default_rng(3), 3
    true = detectable_difference(0.02, n)
    samples = rng.normal(true, 0.02, (4000, n))
    found = np.mean([paired_p_value(sample) < 0.05 for sample in samples])
    assert found == pytest.approx(0.8, abs=3 * math.sqrt(0.16 / 4000))


def test_more_tests_need_a_larger_difference():
    alone, first_of_thirty = (detectable_difference(1.0, 3, tests) for tests in (1, 30))
    # the quantiles of t with two degrees of freedom at 2.5 % and at 2.5 / 30 %
    assert first_of_thirty / alone == pytest.approx(24.5 / 4.303, rel=0.05)
    assert (seeds_to_detect(1.0, 1.0, 30) or 0) > (seeds_to_detect(1.0, 1.0) or 0) > 0


def test_detection_at_the_edges():
    assert detectable_difference(0.01, 1) == math.inf
    assert detectable_difference(0.0, 3) == 0
    assert seeds_to_detect(0.01, 0.0) == 2
    assert seeds_to_detect(1e-4, 0.1) is None


def test_bootstrap_of_one_seed_is_near_the_binomial():
    correct = np.arange(2000)[None] < 1400
    mean, half_width = bootstrap_interval(correct.mean(axis=0))
    assert mean == 0.7
    assert half_width == pytest.approx(1.96 * math.sqrt(0.7 * 0.3 / 2000), rel=0.06)


def test_seeds_that_agree_do_not_make_the_test_set_larger():
    correct = np.arange(1000)[None] < 600
    repeated = np.repeat(correct, 5, axis=0)
    assert bootstrap_interval(repeated.mean(axis=0)) == bootstrap_interval(correct.mean(axis=0))


def test_bootstrap_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(4)
    covered = 0
    for _ in range(1000):
        difficulty = rng.beta(2, 1, 400)  # the same images for three seeds; true accuracy 2 / 3
        mean, half_width = bootstrap_interval((rng.random((3, 400)) < difficulty).mean(axis=0), draws=500)
        covered += abs(mean - 2 / 3) <= half_width
    assert covered / 1000 == pytest.approx(0.95, abs=0.025)


def test_a_difference_on_the_same_images_is_surer_than_two_accuracies():
    rng = np.random.default_rng(5)
    drawn = rng.random((3, 1000)) < 0.7
    first, second = (seeds.mean(axis=0) for seeds in (drawn, drawn & (rng.random((3, 1000)) < 0.97)))
    mean, half_width = bootstrap_interval(first - second)
    assert mean == pytest.approx(first.mean() - second.mean())
    assert 0 < half_width < bootstrap_interval(first).half_width / 2
