"""The speed benchmark's arithmetic on known figures, and its files."""

import dataclasses
import json
import math
import re
import statistics
from pathlib import Path

import pytest

from fusion_bench.config import DataConfig
from fusion_bench.errors import ConfigError, UserError
from fusion_bench.report.plots import matplotlib
from fusion_bench.speed import compare, device, record
from fusion_bench.speed.config import SpeedConfig
from fusion_bench.speed.interleave import interleaved, rounds
from fusion_bench.speed.record import Summary
from fusion_bench.speed.roofline import derive, fastest, knee, place
from tests.speed.devices import FAST, SLOW, point, spread, strategy, sweep


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ((100.0, 400.0, 420.0), 8),  # 400 is more than nine tenths of 420
        ((100.0, 300.0, 420.0), 64),
        ((420.0, 400.0, 380.0), 1),
        ((100.0, 420.0, 200.0), 8),
    ],
)
def test_the_knee_is_the_smallest_batch_near_the_best(rates, expected):
    assert knee(sweep(*rates)).batch_size == expected
    assert fastest(sweep(*rates)).examples_per_s.median == 420.0


@pytest.mark.parametrize(
    ("flops", "moved", "bound", "of_matmul", "of_memory"),
    [(5e7, 1e6, "compute", 0.5, 0.1), (2e6, 8e6, "memory", 0.02, 0.8), (2e6, 2e5, "overhead", 0.02, 0.02)],
)
def test_the_place_under_the_roofs(flops, moved, bound, of_matmul, of_memory):
    """1,000 examples/s below 1e11 FLOP/s and 1e10 bytes/s."""
    found = place(point(8, 1000.0, flops=flops, moved_bytes=moved), SLOW.ceilings)
    assert found is not None
    assert found.bound == bound
    assert found.intensity == pytest.approx(flops / moved)
    assert (found.of_matmul, found.of_memory) == pytest.approx((of_matmul, of_memory))
    roof = min(1e11, found.intensity * 1e10)
    assert max(found.of_matmul, found.of_memory) == pytest.approx(found.flops_per_s / roof)


def test_what_the_compiler_does_not_tell_has_no_place():
    assert place(point(8, 1000.0, flops=None), SLOW.ceilings) is None


def test_order_of_turns_favours_nobody():
    order = list(rounds(["a", "b", "c"], 4))
    assert [name for _, name in order] == list("abccbaabccba")
    positions = {name: [i for i, (_, n) in enumerate(order) if n == name] for name in "abc"}
    assert len({sum(places) for places in positions.values()}) == 1
    assert len({statistics.median(places) for places in positions.values()}) == 1
    assert SpeedConfig().repetitions % 2 == 0


def test_samples_of_each_subject_are_kept_apart():
    numbers = map(float, range(100))
    turns = {name: lambda: [next(numbers)] for name in ("a", "b")}
    told = []
    assert interleaved(turns, 2, told.append) == {"a": [0, 3], "b": [1, 2]}
    assert told == ["repetition 1 of 2", "repetition 2 of 2"]


def test_a_file_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "new" / "slow.json"
    record.write(path, SLOW, derive(SLOW))
    assert record.read(path) == SLOW
    assert json.loads(path.read_text())["derived"]["concat"]["train"]["knee"] == 8
    assert [entry.name for entry in path.parent.iterdir()] == ["slow.json"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.pop("format"), "is no file of `fusion-bench speed`"),
        (lambda r: r.update(format="fusion_bench speed 9"), "this version reads"),
        (lambda r: r["strategies"][0].pop("params"), r"damaged: strategies\[0\].params is missing"),
        (lambda r: r["ceilings"]["flops_per_s"].update(low=math.inf), "damaged: "),
        (lambda r: r["strategies"][0]["train"][1].update(batch_size="8"), r"train\[1\].batch_size is '8'"),
        (lambda r: r["strategies"][0].update(inference=[]), "concat has no inference"),
    ],
)
def test_a_damaged_file_is_one_line(tmp_path, change, message):
    path = tmp_path / "x.json"
    record.write(path, SLOW, derive(SLOW))
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=message):
        record.read(path)


def test_a_files_name():
    assert record.file_name("AMD EPYC, 2 cores") == "amd-epyc-2-cores.json"


def test_ratios_to_the_reference():
    frame = compare.compare({"slow": SLOW, "fast": FAST}, "slow")
    found = {(r["device"], r["strategy"], r["quantity"]): r["ratio"] for r in frame.to_dict("records")}
    assert found["fast", "concat", "train"] == pytest.approx(2100 / 420)
    assert found["fast", "concat", "inference"] == pytest.approx(3000 / 1000)
    assert found["fast", "concat", "latency"] == pytest.approx(0.010 / 0.002)
    assert found["fast", "late-posthoc", "inference"] == pytest.approx(2.0)
    assert ("fast", "late-posthoc", "train") not in found
    assert "sum" not in set(frame["strategy"])  # the reference has not measured it
    assert all(ratio == 1 for (name, _, _), ratio in found.items() if name == "slow")
    shown = compare.listing(frame, "slow")
    assert shown.rows[0] == ("concat", "intermediate", "5.00", "3.00", "5.00")
    assert shown.rows[1] == ("late-posthoc", "late", "–", "2.00", "4.00")
    assert shown.rows[2] == ("geometric mean", "", "5.00", f"{math.sqrt(6):.2f}", f"{math.sqrt(20):.2f}")


def test_what_cannot_be_compared_is_said(tmp_path):
    small = dataclasses.replace(FAST, study=FAST.study | {"encoder": "small"})
    with pytest.raises(UserError, match="differ in encoder: small and tiny"):
        compare.compare({"slow": SLOW, "fast": small}, "slow")
    others = dataclasses.replace(FAST, strategies=FAST.strategies[2:])
    with pytest.raises(UserError, match="no strategy of slow is in every other file"):
        compare.compare({"slow": SLOW, "fast": others}, "slow")
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    assert list(compare.named([(path, SLOW) for path in paths])) == ["a", "b"]
    assert list(compare.named(list(zip(paths, (SLOW, FAST), strict=True)))) == ["slow", "fast"]


def test_a_dtype_of_its_own_is_told():
    half = dataclasses.replace(FAST, study=FAST.study | {"dtype": "bfloat16"})
    frame = compare.compare({"slow": SLOW, "fast": half}, "slow")
    assert compare.listing(frame, "slow").notes[-1] == "Computed in: slow float32; fast bfloat16."


def test_other_batches_and_commits_are_told():
    other = dataclasses.replace(
        FAST, study=FAST.study | {"batch_sizes": [1, 8]}, environment=FAST.environment | {"commit": "xyz"}
    )
    frame = compare.compare({"slow": SLOW, "fast": other}, "slow")
    assert compare.listing(frame, "slow").notes[-2:] == [
        "Batches tried: slow 1, 8, 64; fast 1, 8.", "Commits: slow abc; fast xyz.",
    ]  # fmt: skip


def test_a_figure_tells_six_devices_apart(tmp_path):
    devices = {"slow": SLOW} | {f"fast {number}": FAST for number in range(6)}
    matplotlib.write(compare.picture(compare.compare(devices, "slow"), "slow"), tmp_path / "six")
    drawn = " ".join(re.sub(r"<[^>]+>", " ", (tmp_path / "six.svg").read_text()).split())
    assert "fast 5, filled bottom half" in drawn
    with pytest.raises(UserError, match="up to 6 devices beside the reference; there are 7"):
        compare.picture(compare.compare(devices | {"fast 6": FAST}, "slow"), "slow")


def test_the_table_of_a_device():
    shown = device.listing(SLOW)
    assert shown.rows[0][:8] == ("concat", "intermediate", "400", "8", "overhead", "4", "900", "8")
    assert shown.rows[0][8:] == ("10", "20", "30", "2", "1", "2.0")
    assert shown.rows[1][2:6] == ("–",) * 4
    frame = device.frame(SLOW)
    assert len(frame) == 9
    assert frame.loc[frame["is_knee"], "batch_size"].tolist() == [8, 8, 64]
    assert "100 GFLOP/s" in shown.notes[0]
    assert device.listing(FAST).rows[0][3] == "≥ 64"  # still faster at the end of the sweep


def test_energy_is_a_column_where_it_was_measured():
    joules = dataclasses.replace(SLOW.strategies[0].train[2], joules=spread(0.002))
    row = strategy("concat", (100.0, 400.0, 420.0), (200.0, 900.0, 1000.0), 0.010)
    row = dataclasses.replace(row, train=(*row.train[:2], joules))
    shown = device.listing(dataclasses.replace(SLOW, strategies=(row,)))
    assert shown.header[-1].split() == ["train", "mJ"]
    assert shown.notes[-1].startswith("Train mJ: ")
    assert shown.rows[0][-1] == "2"
    assert not any("mJ" in heading for heading in device.listing(SLOW).header)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"repetitions": 0}, "repetitions is 0; it must be at least 1"),
        ({"batch_sizes": (8, 0)}, "batch_sizes is 8, 0; it must be at least 1"),
        ({"reference": Path("x")}, "reference is x; it does nothing where no devices are compared"),
        (
            {"compare": (Path("a"),), "strategies": ("all",)},
            "strategies is all; it does nothing where devices are only",
        ),
        ({"compare": (Path("a"),), "repetitions": 3}, "repetitions is 3; it does nothing where devices are only"),
        ({"compare": (Path("a"),), "data": DataConfig("cifar10")}, "source is cifar10; it does nothing where devices"),
    ],
)
def test_options_that_would_do_nothing_are_refused(changes, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        SpeedConfig(**changes)


def test_batch_sizes():
    assert SpeedConfig(batch_sizes=(64, 8, 8)).sizes(100) == (1, 8, 64)
    with pytest.raises(ConfigError, match="batch_sizes is 64; there are only 50 training examples"):
        SpeedConfig(batch_sizes=(64,)).sizes(50)


def test_a_spread():
    assert Summary.of([3.0, 1.0, 2.0]) == Summary(2.0, 1.0, 3.0, 3)
