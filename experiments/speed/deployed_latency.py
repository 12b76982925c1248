"""Which runtime predicts fastest? A stored model in this package, in onnxruntime, by `jax.export` and in PyTorch.

    fusion-bench run --strategies image-only,concat,tensor,early-token --seeds 1 --encoder small --out runs/latency
    pip install torch==2.13.0                 # an optional comparison
    python experiments/speed/deployed_latency.py runs/latency [--batch-sizes 1 64]

Every side has the weights of the same run and gets the same raw arrays in memory, uint8 pixels and int32 tokens; it
returns logits as a NumPy array. Sides are timed in turn, each with two threads. PyTorch, eager and compiled with frozen
weights, has its own process. The logits of all sides are compared first.
"""

# What PyTorch's types make of a dynamic module is checked only where it is installed.
# pyright: reportArgumentType=false, reportCallIssue=false

import dataclasses
import importlib.util
import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import pandas as pd
import tyro
from flax import nnx
from rich.console import Console
from tyro.conf import Positional, arg

from fusion_bench.config import ModelConfig
from fusion_bench.deploy.export.check import draw
from fusion_bench.deploy.export.onnx import Session, to_onnx
from fusion_bench.deploy.export.quantize import quantize
from fusion_bench.deploy.export.stablehlo import Program, to_stablehlo
from fusion_bench.deploy.model import Classifier, load_classifier
from fusion_bench.models.cnn import PatchStageSpec
from fusion_bench.models.encoders import WIDTHS
from fusion_bench.report.listing import Listing
from fusion_bench.store import Store
from fusion_bench.study.provenance import describe_environment

THREADS = 2
SECONDS = 0.5  # of one turn of a side
PAUSE = 0.3  # seconds in which the other side's threads stop spinning
TOLERANCE = 1e-4
OURS = "fusion_bench"
INT8 = "onnxruntime, int8"

Predict = Callable[[Sequence[np.ndarray]], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Config:
    """Times one prediction of every run with seed 0, in several runtimes."""

    directory: Annotated[Positional[Path], arg(metavar="DIR")]
    """The --out directory of `fusion-bench run`."""
    strategies: tuple[str, ...] = ("image-only", "concat", "tensor", "early-token")
    """Runs that are timed; canonical strategies and low-rank have a network in PyTorch."""
    batch_sizes: tuple[int, ...] = (1, 64)
    """Examples in a prediction."""
    repetitions: int = 7
    """Timed turns of each side."""
    out: Path = Path("runs/deployed-latency")
    """Directory of table.md and table.csv."""


@dataclasses.dataclass(frozen=True)
class Network:
    """Input of the PyTorch process.

    Attributes:
      strategy, sizes: which network.
      values: its parameters, by their path in Flax.
      running: running means and variances of its normalisations, likewise.
      mean, std: what it standardises pixels with.
    """

    strategy: str
    sizes: Mapping[str, Any]
    values: Mapping[str, np.ndarray]
    running: Mapping[str, np.ndarray]
    mean: np.ndarray
    std: np.ndarray


def pytorch_process(connection: Connection, job: Network) -> None:
    """Sends the names of its variants, then answers requests (variant, arrays, seconds) with logits or a time."""
    import torch  # pyright: ignore[reportMissingImports]
    from pytorch_networks import Sizes, load, make_network

    torch.set_num_threads(THREADS)
    network = make_network(job.strategy, Sizes(**job.sizes))
    load(network, job.values)
    buffers = dict(network.named_buffers())
    for path, value in job.running.items():
        stem, _, leaf = path.removeprefix("operator.").rpartition(".")
        buffers[f"{stem}.running_{leaf}"].copy_(torch.tensor(value))
    network.eval()
    mean, std = torch.from_numpy(job.mean), torch.from_numpy(job.std)

    def logits(image, *text):
        inputs = {"image": ((image.float() - mean) / std).permute(0, 3, 1, 2)}
        return network(inputs | ({"text": text[0]} if text else {}))

    variants: dict[str, Any] = {"PyTorch, eager": logits}
    if shutil.which(os.environ.get("CXX", "g++")):  # torch.compile needs it
        variants["PyTorch, compiled"] = torch.compile(logits, options={"freezing": True})
    connection.send(list(variants))
    with torch.inference_mode():
        for variant, arrays, seconds in iter(connection.recv, None):

            def predict(arrays, variant=variant):
                return variants[variant](*map(torch.from_numpy, arrays)).numpy()

            connection.send(time_of(predict, arrays, seconds) if seconds else predict(arrays))


def time_of(predict: Predict, arrays: Sequence[np.ndarray], seconds: float) -> float:
    """Returns the median time of a prediction, in seconds, over as many as fit into `seconds`."""
    found, end = [], time.perf_counter() + seconds
    while len(found) < 5 or time.perf_counter() < end:
        start = time.perf_counter()
        predict(arrays)
        found.append(time.perf_counter() - start)
    return float(np.median(found))


def our_sides(classifier: Classifier) -> dict[str, Predict]:
    """Returns the predictions of this process, by the name of the runtime."""
    model = to_onnx(classifier)
    content = model.SerializeToString()
    return {
        OURS: lambda arrays: np.asarray(classifier.compiled(*arrays)),
        "jax.export": Program(to_stablehlo(classifier)),
        "onnxruntime": Session(content, THREADS),
        INT8: Session(quantize(model).SerializeToString(), THREADS),
    }


def network_of(classifier: Classifier) -> Network:
    """Returns what the PyTorch process needs of a run."""
    widths = WIDTHS[ModelConfig(**classifier.run.identity["model"]).encoder]
    stages = tuple((s.patch, s.width, s.blocks) for s in widths.stages if isinstance(s, PatchStageSpec))
    names = ("features", "hidden", "tokens", "layers", "patch")
    text = classifier.modalities.get("text")
    sizes = {name: getattr(widths, name) for name in names} | {
        "stages": stages,
        "vocabulary": text.vocabulary_size if text else 1,
        "words": text.shape[0] if text else 1,
        "classes": len(classifier.class_names),
    }
    values, running = (
        {".".join(map(str, path)): np.asarray(variable[...]) for path, variable in nnx.to_flat_state(state)}
        for state in nnx.state(classifier.loaded.model, nnx.Param, nnx.BatchStat, ...)[:2]
    )
    mean, std = classifier.loaded.stats["image"]
    return Network(classifier.run.strategy, sizes, values, running, mean, std)


def measure(classifier: Classifier, config: Config, console: Console) -> list[dict[str, Any]]:
    """Returns a row for each side and batch size; a side whose logits differ is an error."""
    sides, process, connection = our_sides(classifier), None, None
    if importlib.util.find_spec("torch") is not None:
        connection, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=pytorch_process, args=(theirs, network_of(classifier)), daemon=True)
        process.start()
        theirs.close()  # so that a failure there ends the waiting here
        variants = connection.recv()
    else:
        variants = []

    def ask(*request: Any) -> Any:
        assert connection is not None
        connection.send(request)
        return connection.recv()

    rows = []
    for size in config.batch_sizes:
        arrays = draw(classifier, size)
        expected = sides[OURS](arrays)
        found = {name: predict(arrays) for name, predict in sides.items()}
        found |= {name: ask(name, arrays, 0.0) for name in variants}
        differences = {name: float(np.abs(logits - expected).max()) for name, logits in found.items()}
        for name, difference in differences.items():
            if name != INT8 and not difference <= TOLERANCE:
                raise ValueError(f"{classifier.run.id}: {name} differs by {difference:.1e}; no comparison")
        times: dict[str, list[float]] = {name: [] for name in found}
        for _ in range(config.repetitions):
            for name, seconds in times.items():
                time.sleep(PAUSE)
                own = sides.get(name)
                seconds.append(time_of(own, arrays, SECONDS) if own else ask(name, arrays, SECONDS))
        for name, seconds in times.items():
            ratios = np.array(seconds) / times[OURS]
            row = {"strategy": classifier.run.strategy, "batch": size, "runtime": name}
            row |= {"ms": 1000 * np.median(seconds), "lowest": 1000 * min(seconds), "highest": 1000 * max(seconds)}
            row |= {"ratio": np.median(ratios), "difference": differences[name]}
            rows.append(row)
            console.out(f"{row['strategy']}, batch {size}, {name}: {row['ms']:.3f} ms, {row['ratio']:.2f} × ours")
    if connection is not None and process is not None:
        connection.send(None)
        process.join()
    return rows


def listing(frame: pd.DataFrame, config: Config) -> Listing:
    """Returns the table: a row for each strategy, batch size and runtime."""
    rows = [
        [r["strategy"], str(r["batch"]), r["runtime"], f"{r['ms']:.3f}", f"{r['lowest']:.3f} to {r['highest']:.3f}",
         f"{r['ratio']:.2f}", f"{r['difference']:.0e}"]
        for r in frame.to_dict("records")
    ]  # fmt: skip
    environment = describe_environment()
    notes = [
        f"Median of {config.repetitions} turns, each the median of the calls in {SECONDS} s; {THREADS} threads.",
        "ratio: to the time of fusion_bench in the same turn, median. |Δ|: largest difference of a logit from its.",
        f"Commit {environment['commit']}, jax {jax.__version__}, {environment['device']}.",
    ]
    header = ["strategy", "batch", "runtime", "ms", "lowest to highest", "ratio", "|Δ|"]
    ends = {i for i in range(len(rows) - 1) if rows[i][:2] != rows[i + 1][:2]}
    return Listing("Time of one prediction", header, rows, notes, "lrlrrrr", ends=ends, is_whole=True)


def main(config: Config) -> int:
    """Measures, prints the table, and writes it."""
    if hasattr(os, "sched_setaffinity"):  # two threads, on a machine of many cores too
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])
    jax.config.update("jax_platforms", "cpu")
    console, rows = Console(), []
    for run in Store(config.directory, read_only=True).runs():
        if run.strategy in config.strategies and run.identity["target"] == "label" and run.seed == 0:
            rows += measure(load_classifier(config.directory, run.id), config, console)
    frame = pd.DataFrame(rows)
    table = listing(frame, config)
    config.out.mkdir(parents=True, exist_ok=True)
    frame.to_csv(config.out / "table.csv", index=False, float_format="%.6g")
    (config.out / "table.md").write_text(table.to_markdown(), encoding="utf-8")
    console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Config, description=__doc__)))
