"""The table of what operators cost: its numbers against those that follow from the operators' formulas."""

import pandas as pd
import pytest

from fusion_bench.fusion.registry import strategies
from tests.experiments.loading import load

BATCH = 64


def read(directory):
    """Returns the rows of table.csv by operator and D."""
    rows = pd.read_csv(directory / "table.csv").to_dict("records")
    return {(row["operator"], row["D"]): row for row in rows}


@pytest.fixture(scope="module")
def experiment():
    return load("operator_cost")


@pytest.fixture(scope="module")
def quick(experiment, tmp_path_factory):
    """The directory that --quick has written to."""
    out = tmp_path_factory.mktemp("operator-cost")
    assert experiment.main(experiment.Config(out, quick=True)) == 0
    return out


def test_parameters_and_operations_are_those_of_the_formulas(quick):
    rows = read(quick)
    assert len(rows) == 11  # the scores of late-weighted have no D
    for D in (64, 128):
        expected = {  # parameters, and the matrix products that make most of the operations
            "sum": (2 * (D + 1) * 64, 2 * 6 * D * 64),
            "multiplicative": ((D**2 + 2 * D + 1) * 16, 6 * D**2 * 16 + 2 * 6 * D * 16),
            "tensor": (2 * (D + 1) * 16, 2 * 6 * D * 16),
            # 16 channels over the image enter the 4×4 stem of 32; a norm without parameters; a map of the vector
            "early-channel": ((D + 1) * 16 + 16 * 16 * 32, 6 * 64 * 16 * 16 * 32),
        }
        for name, (parameters, flops) in expected.items():
            assert rows[name, D]["parameters"] == parameters, name
            assert rows[name, D]["kflop"] == pytest.approx(flops / 1000, rel=0.15), name
    # 16 tokens and 4 shared ones; attention's own products are on top of those with parameters
    kernels = 2 * 2 * 8 * 64**2
    assert rows["bottleneck", 64]["kflop"] == pytest.approx(6 * 20 * kernels / 1000, rel=0.2)
    assert rows["tensor", 64]["joint"] == 17**2


def test_memory_holds_the_results_and_what_is_between(quick):
    rows = read(quick)
    # the joint feature, the gradients of the features and of the parameters
    results = 64 + 2 * 64 + 2 * 65 * 64 / BATCH
    kb = rows["sum", 64]["kb"] - rows["sum", 64]["temporary_kb"]
    assert kb == pytest.approx(4 * results / 1000, rel=0.05)
    assert all(row["temporary_kb"] >= 0 for row in rows.values())
    # 16 channels at every pixel; the peaks of the two programs need not coincide, so half of them are asked for
    assert rows["early-channel", 64]["temporary_kb"] > 4 * 32 * 32 * 8 / 1000


def test_the_table_compares_and_says_which_are_measured_otherwise(quick):
    lines = (quick / "table.md").read_text(encoding="utf-8").splitlines()
    rows = {line.split("|")[1].strip(): line for line in lines if line.startswith("|")}
    assert {"early-channel †", "late-weighted ‡", "sum", "tensor"} <= rows.keys()
    exponents = next(line for line in lines if line.startswith("- Exponents"))
    assert "2.0 multiplicative; 1.0 sum" in exponents


def test_what_is_for_two_has_a_dash_for_more(experiment):
    frame = experiment.measure_all(["gated", "sum"], [(2, 64), (3, 64)])
    assert len(frame) == 3
    header, (gated, total) = experiment.cells(frame)
    assert header[4] == "× at D=64 · M=3"
    assert gated[4] == "1 · –"
    assert total[4] == "1 · 1.5"


@pytest.mark.parametrize("name", [name for name, r in strategies().items() if r.is_posthoc])
def test_what_trains_nothing_has_no_backward_pass(experiment, name):
    cost = experiment.measure(strategies()[name], 2, 64)
    assert cost.parameters == 0
    assert cost.kb - cost.temporary_kb == pytest.approx(4 * 10 / 1000)  # scores alone


def test_a_wide_head_makes_the_product_the_smaller_form(experiment):
    for hidden, product_is_smaller in ((64, True), (8, False)):  # 17 entries in a factor
        product, factors = (experiment.tensor_cost(2, hidden, materialised=m) for m in (True, False))
        assert (product.temporary_kb < factors.temporary_kb) == product_is_smaller
        assert product.parameters == factors.parameters == 17**2 * hidden
