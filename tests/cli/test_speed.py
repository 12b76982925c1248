"""The command as it is used: two devices of one machine are measured and compared."""

import json
import os
import shutil
import subprocess
import sys

import pandas as pd
import pytest

SMALL = [
    "--strategies", "text-only,concat,late-posthoc", "--train-size", "200", "--test-size", "50",
    "--encoder", "micro", "--batch-sizes", "16", "--repetitions", "2",
]  # fmt: skip


def speed(*arguments, flags="", limit=()):
    environment = {**os.environ, "XLA_FLAGS": flags, "COLUMNS": "140"}
    command = [*limit, sys.executable, "-m", "fusion_bench", "speed", *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The whole machine, one core of it, and the whole divided into two devices, of which one is used."""
    folder = tmp_path_factory.mktemp("speed")
    divided = "--xla_force_host_platform_device_count=2"
    one_core = ["taskset", "-c", str(min(os.sched_getaffinity(0)))] if shutil.which("taskset") else []
    for name, more, flags, limit in (
        ("whole", [], "", []),
        ("half", ["--strategies", "text-only"], divided, []),
        ("core", ["--strategies", "text-only"], "", one_core),
    ):
        out = folder / f"{name}.json"
        done = speed(*SMALL, *more, "--out", out, "--figure", folder / name, flags=flags, limit=limit)
        assert done.returncode == 0, done.stderr
        (folder / f"{name}.txt").write_text(done.stdout)
    return folder


def test_a_devices_file(files):
    content = json.loads((files / "whole.json").read_text())
    assert content["study"]["batch_sizes"] == [1, 16]
    by_name = {row["strategy"]: row for row in content["strategies"]}
    assert list(by_name) == ["text-only", "concat", "late-posthoc"]
    for name, row in by_name.items():
        assert [point["batch_size"] for point in row["inference"]] == [1, 16]
        assert len(row["train"]) == (0 if name == "late-posthoc" else 2)
        assert row["compile_s"]["n"] == 2
        latency = row["latency_s"]
        assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"]
        assert latency["n"] > 2
        for point in (*row["train"], *row["inference"]):
            assert 0 < point["examples_per_s"]["low"] <= point["examples_per_s"]["high"]
            assert point["flops"] > 0
            assert point["moved_bytes"] > 0
            assert point["peak_bytes"] > point["temporary_bytes"] >= 0
    assert content["ceilings"]["flops_per_s"]["median"] > 1e9
    assert content["ceilings"]["bytes_per_s"]["median"] > 1e8
    shown = (files / "whole.txt").read_text()
    assert "text-only" in shown
    assert "GFLOP/s" in shown
    assert all((files / f"whole.{end}").stat().st_size > 0 for end in ("svg", "png"))
    assert "divided into 2 devices" in (files / "half.txt").read_text()


@pytest.mark.parametrize("form", ["terminal", "md", "csv", "latex"])
def test_two_devices_compared(call, files, form, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")
    status, printed, _ = call(
        "speed", "--compare", *(files / f"{name}.json" for name in ("half", "core", "whole")),
        "--reference", files / "whole.json",
        "--format", form, "--figure", tmp_path / "figure",
    )  # fmt: skip
    assert status == 0
    assert (tmp_path / "figure.svg").stat().st_size > 0
    if form == "csv":
        (tmp_path / "x.csv").write_text(printed)
        frame = pd.read_csv(tmp_path / "x.csv")
        assert set(frame["strategy"]) == {"text-only", "concat", "late-posthoc"}
        names = list(dict.fromkeys(frame["device"]))
        assert len(names) == 3
        assert set(frame.loc[frame["device"] == names[0], "ratio"]) == {1.0}
    else:
        assert "geometric mean" in " ".join(printed.split())
    if form == "latex" and shutil.which("pdflatex"):
        document = "\\documentclass{article}\\usepackage{booktabs,graphicx}\\begin{document}"
        (tmp_path / "x.tex").write_text(document + printed + "\\end{document}")
        compiled = subprocess.run(
            ["pdflatex", "-interaction=batchmode", "x.tex"], cwd=tmp_path, check=False, capture_output=True
        )
        assert compiled.returncode == 0, (tmp_path / "x.log").read_text()[-2000:]


def test_a_wrong_request_is_one_line(tmp_path):
    done = speed("--compare", tmp_path / "no.json", tmp_path / "nothing.json")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "no.json" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch-sizes", text], f"--batch-sizes is {text!r}; it must be whole numbers above 0, for example")
        for text in ("", "0", "8,x", "-1", "1.5")
    ]
    + [
        (["--repetitions", "0"], "--repetitions is 0; it must be at least 1"),
        (["--reference", "x.json"], "--reference is x.json; it does nothing where no devices are compared"),
        (["--compare", "a.json", "--data", "cifar10"], "--data is cifar10; it does nothing where"),
        (["--compare", "a.json"], "--compare takes two files or more"),
    ],
)
def test_wrong_values(refuse, arguments, message):
    assert message in refuse(*arguments, command="speed")
