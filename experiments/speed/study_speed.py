"""Is a whole study faster here than written in plain PyTorch?

    pip install torch==2.13.0                 # an optional comparison: nothing else needs PyTorch
    python experiments/speed/study_speed.py [--repetitions 3 --loaders 0] [--quick]

The wall-clock time of `fusion-bench run` in a process of its own, from start to table, with start-up and compilation:
with an empty compilation cache (cold), and with the cache of an equal study (warm). It is compared with
pytorch_study.py, which trains the same networks for as many steps. The study is run with its default number of worker
processes, and with one; all are timed in turn. Both sides use as many threads as the machine has cores, by their own
defaults; PyTorch loads its data in the training process.

Found on two cores of an AMD EPYC, jax 0.10.2, torch 2.13.0, commit 40b116fea8, canonical strategies, three seeds, one
study of each side: 95.8 s cold and 76.0 s warm, 0.39 and 0.31 of PyTorch's 245.3 s; with one worker 123.7 and 88.8 s.
So two workers are 1.29 and 1.17 times as fast as one. Their limit is 1.4: a training takes 7.5 s on one core and 5.3 s
on two (early-channel), and start-up, costs and post-hoc fusion are not divided.
"""

import dataclasses
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from fusion_bench.config import DataConfig
from fusion_bench.data.load import load_dataset
from fusion_bench.study.provenance import describe_environment

OURS = {
    "cold": "fusion_bench, nothing compiled",
    "warm": "fusion_bench, compiled before",
    "cold-one": "fusion_bench, one worker, nothing compiled",
    "warm-one": "fusion_bench, one worker, compiled before",
}
PYTORCH = "pytorch"


@dataclasses.dataclass(frozen=True)
class Config:
    """Times the canonical study on `shapes` against plain PyTorch."""

    repetitions: int = 2
    """Studies of each side."""
    epochs: int = 4
    """Passes over the training examples."""
    seeds: int = 3
    """Trainings of each strategy."""
    loaders: int = 0
    """Processes that load data, in PyTorch."""
    quick: bool = False
    """Two strategies, two epochs, one seed, few images, one worker; without PyTorch where it is missing."""


def write_data(config: Config, path: Path) -> None:
    """Writes the study's data as PyTorch's script reads them."""
    from fusion_bench.models.cnn import PatchStageSpec
    from fusion_bench.models.encoders import WIDTHS

    dataset = load_dataset(data_config(config))
    text, widths = dataset.modalities["text"], WIDTHS["tiny"]
    sizes = {name: getattr(widths, name) for name in ("features", "hidden", "tokens", "layers", "patch")}
    sizes["stages"] = [(s.patch, s.width, s.blocks) for s in widths.stages if isinstance(s, PatchStageSpec)]
    sizes |= {"vocabulary": text.spec.vocabulary_size, "words": text.values.shape[1]}
    arrays: dict[str, Any] = {name: dataset.modalities[name].values for name in ("image", "text")}
    arrays |= {str(name): indices for name, indices in dataset.splits.items()}
    np.savez(path, **arrays, label=dataset.labels, sizes=np.array(json.dumps(sizes)))


def data_config(config: Config) -> DataConfig:
    return DataConfig(train_size=300, test_size=100) if config.quick else DataConfig()


def commands(config: Config, data: Path, out: Path) -> dict[str, list[str]]:
    """Returns the command of each side."""
    names = ("image-only", "text-only") if config.quick else ()
    ours = [sys.executable, "-m", "fusion_bench", "run", "--out", str(out)]
    ours += ["--epochs", str(config.epochs), "--seeds", str(config.seeds)]
    if config.quick:
        ours += ["--train-size", "300", "--test-size", "100", "--strategies", ",".join(names), "--workers", "1"]
    theirs = [sys.executable, str(Path(__file__).with_name("pytorch_study.py")), str(data)]
    theirs += ["--epochs", str(config.epochs), "--seeds", str(config.seeds), "--workers", str(config.loaders)]
    theirs += ["--strategies", *names] if names else []
    one = [*ours, "--workers", "1"]
    return {"cold": ours, "warm": ours, "cold-one": one, "warm-one": one, PYTORCH: theirs}


def seconds_of(command: list[str], environment: Mapping[str, str]) -> tuple[float, str]:
    """Returns the wall clock of a command, and what it printed.

    Raises:
      RuntimeError: it failed.
    """
    start = time.perf_counter()
    done = subprocess.run(command, env=dict(environment), capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr[-500:]}")
    return seconds, done.stdout


def measure(config: Config, sides: tuple[str, ...]) -> tuple[dict[str, list[float]], dict[str, str], int]:
    """Returns the seconds of every study by side, what the last one printed, and what was compiled again."""
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    printed, compiled = {}, 0
    for repetition in range(config.repetitions):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            write_data(config, root / "data.npz")
            # a warm study needs the cold one's programs; each of the others stands before it or after
            backwards = [side for side in (PYTORCH, "cold-one", "warm-one", "cold", "warm") if side in sides]
            for side in backwards if repetition % 2 else sides:
                cache = str(root / f"cache{side[4:]}")
                base = {"FUSION_BENCH_CACHE_DIR": cache, "JAX_ENABLE_COMPILATION_CACHE": "true"}
                command = commands(config, root / "data.npz", root / side)[side]
                taken, printed[side] = seconds_of(command, {**os.environ, **base})
                seconds[side].append(taken)
            compiled += compiled_again(root / "warm")
    return seconds, printed, compiled


def compiled_again(study: Path) -> int:
    """Returns how many runs of a study had a program that was not read from the cache."""
    costs = [json.loads(path.read_text())["cost"] for path in study.glob("runs/*/run.json")]
    return sum(cost.get("compile_s") is not None for cost in costs)


def main(config: Config) -> int:
    """Takes the times, prints them with their ratios, and returns the exit status."""
    if config.quick:
        config = dataclasses.replace(config, epochs=2, seeds=1, repetitions=1)
    has_torch = importlib.util.find_spec("torch") is not None
    if not (has_torch or config.quick):
        print("this comparison needs PyTorch: pip install torch==2.13.0", file=sys.stderr)
        return 2
    ours = ("cold", "warm") if config.quick else tuple(OURS)
    seconds, printed, compiled = measure(config, (*ours, PYTORCH) if has_torch else ours)
    table = Table("study", "seconds", "of PyTorch's", "of one worker's")
    names = {**OURS, PYTORCH: "PyTorch"}
    for side, values in seconds.items():
        against = [seconds.get(PYTORCH), seconds.get(f"{side}-one")]
        ratios = ["–" if other is None else f"{np.median(np.divide(values, other)):.2f}" for other in against]
        table.add_row(names[side], " ".join(f"{value:.1f}" for value in values), *ratios)
    console = Console(width=max(100, Console().width))
    for side in ("cold", PYTORCH):
        if side in printed:
            console.print(printed[side].rstrip(), highlight=False, markup=False)
    console.print(table)
    environment = describe_environment()
    console.print(
        f"{environment['device']}, jax {importlib.metadata.version('jax')}, commit {environment['commit']}; "
        f"n = {config.repetitions}, medians of ratios. Runs of the second study that compiled something: {compiled}.",
        style="dim",
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Config, description=__doc__)))
