"""What does a gate that skips modalities really spend?

    fusion-bench run --strategies image-only,text-only,concat,dynmm:cost=0,dynmm:cost=0.3,dynmm:cost=1 --out OUT
    python experiments/flops_spent.py OUT

The table of a study counts all branches of `dynmm`, which is what a batch computes. Here each test example goes through
the branch that its gate chooses: the FLOPs are those of the gate, of the encoders that the branch needs and of its
head, as the compiler counts them, weighted by how often the branch is chosen. The time is that of predictions of one
example, mean over test examples, of a program that computes the chosen branch alone, and of one that computes all.
"""

import dataclasses
import functools
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from flax import nnx

from fusion_bench.cli.flags import REGISTRY
from fusion_bench.config import DataConfig
from fusion_bench.data.batches import Inputs, gather, to_device
from fusion_bench.errors import UserError
from fusion_bench.fusion.late.dynmm import DynamicFusion
from fusion_bench.metrics.intervals import t_interval
from fusion_bench.report.listing import markdown_table
from fusion_bench.report.text import percent
from fusion_bench.store import Run, Store, setting
from fusion_bench.store.loaded import load_data, load_model


@dataclasses.dataclass(frozen=True)
class Config:
    """Counts the FLOPs that `dynmm` spends, and times it, with the models of one study."""

    study: Annotated[Path, tyro.conf.Positional]
    """The --out of a `fusion-bench run` with dynmm."""
    data: str = ""
    """Path of the data file that the runs were trained on, if any."""
    captions: str = ""
    """Path of the file of captions that the runs were trained on, if any."""
    data_dir: Path | None = None
    """Directory of prepared TFDS data."""
    timed: int = 300
    """Number of test examples that are timed; 1 or more."""


@dataclasses.dataclass(frozen=True)
class Spent:
    """Facts of one model: accuracy, fraction of examples by branch, FLOPs and seconds per example."""

    accuracy: float
    branches: Mapping[str, float]
    flops: float
    all_flops: float
    seconds: float
    all_seconds: float


def measure(run: Run, model: Any, data: Any, test: np.ndarray, timed: int) -> Spent:
    """Returns the facts of one model on the test examples."""
    names = [*model.heads]
    graph, state = nnx.split(model)

    def compiled(function: Callable[[Any, Inputs], Any]) -> Any:
        return jax.jit(lambda state, inputs: function(nnx.merge(graph, state), inputs))

    weigh = compiled(lambda model, inputs: model.modality_weights(model(inputs)))

    chosen = []
    for start in range(0, len(test), 500):
        inputs, _ = gather(data, jnp.asarray(test[start : start + 500]))
        weights = jnp.stack([weigh(state, inputs)[name] for name in names])
        chosen.append(np.asarray(jnp.where(weights.all(0), len(names), weights.argmax(0))))
    counts = np.bincount(np.concatenate(chosen), minlength=len(names) + 1) / len(test)
    ones = [gather(data, jnp.asarray(test[i : i + 1]))[0] for i in range(min(timed, len(test)))]
    of_branch = []
    for read in [*([name] for name in names), names]:
        branch = compiled(functools.partial(run_branch, read=read))
        of_branch.append(float((branch.lower(state, ones[0]).cost_analysis() or {}).get("flops", np.nan)))
    programs = {
        "one": compiled(lambda model, inputs: model.of_one(inputs)),
        "all": compiled(lambda model, inputs: model(inputs).logits),
    }
    seconds = dict.fromkeys(programs, 0.0)
    for one in (ones[0], *ones):  # in turn; the first compiles
        for name, program in programs.items():
            begin = time.perf_counter()
            jax.block_until_ready(program(state, one))
            seconds[name] += time.perf_counter() - begin
        if one is ones[0]:
            seconds = dict.fromkeys(programs, 0.0)
    return Spent(
        run.metrics["test_accuracy"],
        dict(zip((*names, "all"), counts, strict=True)),
        float(counts @ np.array(of_branch)),
        of_branch[-1],
        seconds["one"] / len(ones),
        seconds["all"] / len(ones),
    )


def run_branch(model: DynamicFusion, inputs: Inputs, *, read: list[str]) -> tuple[Any, ...]:
    """Returns the gate's logits, and those of the branch that reads these modalities."""
    gate = model.choose(jax.nn.relu(sum(model.glances[name](inputs[name]) for name in model.heads)))
    features = [model.encoders[name](inputs[name]) for name in read]
    head = model.heads[read[0]] if len(read) == 1 else model.joint
    return gate, head(jnp.concatenate(features, axis=-1))


def main(config: Config) -> int:
    """Prints a row for each setting of dynmm, means over seeds."""
    try:
        return _main(config)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2


def _main(config: Config) -> int:
    if config.timed < 1:
        raise UserError(f"--timed is {config.timed}; 1 or more is right")
    store = Store(config.study, read_only=True)
    runs = [run for run in store.runs() if run.metrics and run.strategy.partition(":")[0] == "dynmm"]
    settings = {str(setting(run)) for run in runs}
    if len(settings) != 1:
        raise UserError(f"{config.study} has runs of dynmm in {len(settings)} settings; one is right")
    dataset = load_data(runs[0], DataConfig(config.data, config.data_dir, config.captions))
    data, test = to_device(dataset), dataset.splits["test"]
    found: dict[str, list[Spent]] = {}
    for run in runs:
        found.setdefault(run.strategy, []).append(measure(run, load_model(store, run), data, test, config.timed))
    branches = [*next(iter(found.values()))[0].branches]
    header = [
        "strategy",
        "seeds",
        "accuracy, %",
        *(f"{name}, %" for name in branches),
        "FLOPs, % of all",
        "time, % of all",
    ]
    lines = []
    for strategy, each in found.items():
        shares = [f"{100 * np.mean([spent.branches[name] for spent in each]):.1f}" for name in branches]
        flops = 100 * np.mean([spent.flops / spent.all_flops for spent in each])
        seconds = 100 * np.mean([spent.seconds / spent.all_seconds for spent in each])
        accuracy = percent(*t_interval([spent.accuracy for spent in each]))
        lines.append([strategy, str(len(each)), accuracy, *shares, f"{flops:.1f}", f"{seconds:.0f}"])
    print(markdown_table(header, lines, "l" + "r" * (len(header) - 1)))
    print(f"{len(test):,} test examples, {jax.devices()[0].device_kind}")
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Config, description=__doc__, registry=REGISTRY)))
