"""What does a fusion operator cost, and how does its cost grow with feature width D and number of modalities M?

    python experiments/speed/operator_cost.py [--out results/cpu-2-cores/operator-cost] [--quick]

Parameters, floating-point operations and memory of the fusion alone, with the operator's default options, from the
compiler's analysis: nothing is executed, and no formula is written by hand.

Found with jax 0.10.2 on a CPU, commit eb08c5c40c, in 75 seconds; at the defaults, from D = 64 and M = 2:

- Only `multiplicative` is quadratic in D: 412 kFLOP per example, 15.5 times as many at D = 256. Operators that project
  to a fixed width first are linear; `tucker`, `mutan` and `block` spend much on a core that does not depend on D.
- In M most are linear; `gmu` (one gate over all features per modality) and `cross-attention` (pairs) are quadratic.
  `tensor` and `tucker` are exponential: at M = 4 they need 352 and 314 times the memory, `tucker` 230 times the
  operations. The parameters for the product of `tensor` are in the head, with (width + 1)^M rows: 289, 4,913, 83,521.
- Operators on tokens cost most: `bottleneck` 18,470 kFLOP and 504 kB, 374 and 327 times those of `sum`. `early-channel`
  is third with 3,371 kFLOP, as every further modality becomes 16 channels at every pixel.
- `compact-bilinear` trains nothing, and its 939 kFLOP are 19 times those of `sum`.
- `tensor` materialises the product at its defaults, which is cheaper. Contracting the head's kernel with one factor
  first makes (width + 1)^(M - 1) · hidden entries instead of (width + 1)^M: more if hidden > width + 1. For 64 and 17
  this is 3.1 times the temporary memory at M = 2 (14.2 kB against 4.62) and 3.0 at M = 3 (246 against 80.9), and 5 %
  more operations. With a head of 8 it is 0.4 times the memory, so the operator contracts there.
"""

import dataclasses
import functools
import math
import operator
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import pandas as pd
import tyro
from flax import nnx
from rich.console import Console

from fusion_bench.config import ModelConfig
from fusion_bench.data.batches import ModalityBatch
from fusion_bench.data.dataset import ModalitySpec, Task
from fusion_bench.fusion.base import LateFusion, PosthocFusion
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.fusion.registry import Registration, strategies
from fusion_bench.models.encoders import Encoder, GridEncoder, VectorEncoder, Widths
from fusion_bench.report.listing import Listing
from fusion_bench.study.provenance import describe_environment

BATCH, TOKENS, CLASSES = 64, 16, 10
IMAGE = ModalitySpec("grid", (32, 32, 3))
MODEL = ModelConfig(encoder="tiny", dtype="float32")
BASE = (2, 64)
"""The number of modalities M and the width D that all others are compared with."""
SIZES = (BASE, (2, 128), (2, 256), (3, 64), (4, 64))
QUICK_SIZES = SIZES[:2]
QUICK_OPERATORS = ("sum", "multiplicative", "tensor", "bottleneck", "late-weighted", "early-channel")
NOT_OF_THE_JOIN = ("encoders", "members", "head")
"""Parts of a strategy before and after the fusion."""
MARKS = {"inside": " †", "late": " ‡", "post-hoc": " §"}
COMPILER_OPTIONS: dict[str, Any] = {"xla_backend_optimization_level": 0}
"""Compiles faster: operations and memory are counted before the machine code, which is not run, is optimised."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Measures parameters, operations and memory of every fusion operator."""

    out: Path = Path("runs/operator-cost")
    """Directory of table.md and table.csv."""
    quick: bool = False
    """Measure only some operators, with two modalities and D = 64 and 128."""


@dataclasses.dataclass(frozen=True)
class SizedBlueprint(Blueprint):
    """A blueprint whose encoders of vectors have features of a given width D."""

    features: int

    @property
    def widths(self) -> Widths:
        return dataclasses.replace(super().widths, features=self.features)

    def token_encoder(self, modality: str) -> Encoder:
        spec = self.task.modalities[modality]
        make = GridEncoder if spec.kind == "grid" else VectorEncoder
        return make(spec, self.widths, dtype=self.dtype, rngs=self.rngs(f"encoder/{modality}"))


class Cost(NamedTuple):
    """Costs of a program: parameters; operations, kB besides the arguments and temporary kB per example."""

    parameters: int
    kflop: float
    kb: float
    temporary_kb: float
    joint: int = 0  # entries of the joint feature


def cost_of(function: Callable, parameters: Any, *arguments: Any, joint: int = 0) -> Cost:
    """Returns the cost of a compiled function of parameters and arguments."""
    compiled = jax.jit(function).lower(parameters, *arguments).compile(COMPILER_OPTIONS)
    flops = (compiled.cost_analysis() or {}).get("flops", 0.0)  # absent where there are none
    memory: Any = compiled.memory_analysis()
    temporary, results = memory.temp_size_in_bytes, memory.output_size_in_bytes
    return Cost(
        parameters=sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(parameters)),
        kflop=flops / BATCH / 1000,
        kb=(temporary + results) / BATCH / 1000,
        temporary_kb=temporary / BATCH / 1000,
        joint=joint,
    )


def floats(*shape: int) -> Any:
    """Returns the shape of an array of floats, which stands for the array."""
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def vectors(count: int, width: int) -> dict[str, ModalitySpec]:
    """Returns `count` modalities that are vectors of this length."""
    return {f"vector {i}": ModalitySpec("vector", (width,)) for i in range(count)}


def build(registration: Registration, modalities: Mapping[str, ModalitySpec], width: int) -> Any:
    """Returns the strategy in training mode, with shapes instead of values."""
    task, key = Task(modalities, CLASSES), jax.random.key(0)
    module = nnx.eval_shape(lambda k: registration.build(SizedBlueprint(task, MODEL, k, width), {}), key)
    module.train()
    return module


def of_the_join(path: tuple, value: Any) -> bool:
    """Returns whether a variable is trained, and belongs to neither encoders nor heads."""
    return isinstance(value, nnx.Param) and path[0] not in NOT_OF_THE_JOIN


def kind_of(registration: Registration) -> str:
    """Returns the kind of a strategy's measurement: "features", "tokens", "late", "post-hoc" or "inside"."""
    if registration.reads is not None:
        return registration.reads
    kinds = {PosthocFusion: "post-hoc", LateFusion: "late"}
    return next((kind for base, kind in kinds.items() if issubclass(registration.make, base)), "inside")


def measure(registration: Registration, count: int, width: int) -> Cost:
    """Returns the cost of fusing `count` modalities with features of this width."""
    kind, modalities = kind_of(registration), vectors(count, width)
    if kind == "inside":
        return added_cost(registration, count, width)
    module = build(registration, modalities, width)
    if kind == "features":
        return join_cost(module, lambda m, x: m.operator(x), {name: floats(BATCH, width) for name in modalities})
    if kind == "tokens":
        masks = {name: jnp.ones((BATCH, TOKENS), bool) for name in modalities}
        tokens = {name: floats(BATCH, TOKENS, width) for name in modalities}
        return join_cost(module, lambda m, x: m.operator(x, masks), tokens)
    scores = {name: floats(BATCH, CLASSES) for name in modalities}
    return join_cost(module, lambda m, x: m.fuse(x), scores)


def join_cost(module: Any, join: Callable[[Any, Any], jax.Array], inputs: Any) -> Cost:
    """Returns the cost of a fusion and of its gradients with respect to parameters and inputs.

    Args:
      module: the strategy.
      join: (module, inputs) → joint features or logits, [batch, joint].
      inputs: shapes of features, tokens or logits, by modality.
    """
    graph, params, rest = nnx.split(module, of_the_join, ...)

    def forward(params, rest, inputs):
        return join(nnx.merge(graph, params, rest, copy=True), inputs)

    def forward_and_backward(params, rest, inputs, cotangent):
        result, pullback = jax.vjp(lambda params, inputs: forward(params, rest, inputs), params, inputs)
        return result, pullback(cotangent)

    result = jax.eval_shape(forward, params, rest, inputs)
    if isinstance(module, PosthocFusion):  # trains nothing
        return cost_of(forward, params, rest, inputs, joint=result.shape[1])
    return cost_of(forward_and_backward, params, rest, inputs, result, joint=result.shape[1])


def added_cost(registration: Registration, count: int, width: int) -> Cost:
    """Returns the cost that M - 1 vectors of length D add to the training of a model of one image."""
    modalities = {"image": IMAGE, **vectors(count - 1, width)}
    joint = training_cost(build(registration, modalities, width), modalities)
    return jax.tree.map(operator.sub, joint, image_cost(registration.baseline))


@functools.cache
def image_cost(baseline: str) -> Cost:
    """Returns the cost of training a unimodal strategy on the image."""
    alone = build(strategies(["image"])[f"image-{baseline}"], {"image": IMAGE}, BASE[1])
    return training_cost(alone, {"image": IMAGE})


def training_cost(module: Any, modalities: Mapping[str, ModalitySpec]) -> Cost:
    """Returns the cost of a whole model's loss and of its gradient in all parameters."""
    graph, params, rest = nnx.split(module, nnx.Param, ...)

    def loss_fn(params, rest, inputs, labels):
        model: Any = nnx.merge(graph, params, rest, copy=True)
        loss = model.loss(model(inputs), labels, label_smoothing=0.1)
        return loss, nnx.state(model, nnx.Not(nnx.Param))

    inputs = {name: ModalityBatch(floats(BATCH, *spec.shape)) for name, spec in modalities.items()}
    labels = jax.ShapeDtypeStruct((BATCH,), jnp.int32)
    return cost_of(jax.value_and_grad(loss_fn, has_aux=True), params, rest, inputs, labels)


def tensor_cost(count: int, hidden: int, *, materialised: bool, size: int = 17) -> Cost:
    """Returns the cost of `tensor` with its head's first layer, forward and backward.

    Args:
      count: number of factors [1; z_m].
      hidden: width of the head's first layer.
      materialised: whether their product, of size^M entries, is computed and then multiplied with the layer's kernel;
        else the kernel is contracted with one factor after another, and the first result has size^(M-1) · hidden
        entries.
      size: of each factor.
    """

    def form(kernel, factors):
        if materialised:
            outer = functools.reduce(lambda a, b: jax.vmap(jnp.outer)(a, b).reshape(len(a), -1), factors)
            return outer @ kernel.reshape(-1, hidden)
        joint = jnp.tensordot(factors[0], kernel, axes=1)
        return functools.reduce(lambda joint, z: jnp.einsum("bi,bi...->b...", z, joint), factors[1:], joint)

    def forward_and_backward(kernel, factors, cotangent):
        result, pullback = jax.vjp(form, kernel, factors)
        return result, pullback(cotangent)

    kernel, factors = floats(*[size] * count, hidden), [floats(BATCH, size)] * count
    return cost_of(forward_and_backward, kernel, factors, floats(BATCH, hidden))


def measure_all(names: Iterable[str], sizes: Iterable[tuple[int, int]]) -> pd.DataFrame:
    """Returns a row for each operator and each (M, D) for which it is defined; if D does not matter, for one D."""
    rows = []
    for registration in (strategies(["image"])[name] for name in names):
        kind = kind_of(registration)
        about = {"operator": registration.name, "family": registration.family, "measured": kind}
        for count, width in sizes:
            differs = width == BASE[1] or kind not in ("late", "post-hoc")
            if differs and (count == 2 or not registration.pairs_only):
                cost = measure(registration, count, width)
                rows.append({**about, "M": count, "D": width, **cost._asdict()})
    return pd.DataFrame(rows)


# --- the table


def cells(frame: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Returns header and rows: each quantity at the base, and its factors at the other (M, D)."""
    counts = sorted(set(frame["M"]))
    compared = [(BASE[0], frame["D"].max()), *((count, BASE[1]) for count in counts if count != BASE[0])]
    growth = "× at " + " · ".join(f"D={d}" if m == BASE[0] else f"M={m}" for m, d in compared)
    rows = []
    for name, group in frame.groupby("operator", sort=False):
        family, kind = group["family"].iloc[0], group["measured"].iloc[0]
        at = {(row["M"], row["D"]): row for row in group.to_dict("records")}
        joint = dict.fromkeys(at[count, BASE[1]]["joint"] for count in counts if (count, BASE[1]) in at)
        row = [f"{name}{MARKS.get(kind, '')}", family, " · ".join(f"{x:,}" for x in joint if x) or "–"]
        for quantity in ("parameters", "kflop", "kb"):
            base, others = at[BASE][quantity], [at.get(size, {}).get(quantity) for size in compared]
            factors = [f"{x / base:.3g}" if x and base > 0 else "–" for x in others]
            row += [number(base), " · ".join(factors)]
        rows.append(row)
    return ["operator", "family", "joint", "parameters", growth, "kFLOP", growth, "kB", growth], rows


def number(value: float) -> str:
    """Returns three significant digits, or a whole number in full."""
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def notes(frame: pd.DataFrame) -> list[str]:
    """Returns the notes below the table."""
    environment = describe_environment()
    return [
        f"Commit {environment['commit']}, jax {jax.__version__}, {environment['platform']}, float32, batch {BATCH}.",
        f"M modalities, features of width D, default options. Numbers are those at M={BASE[0]} and D={BASE[1]}; × is "
        "the factor at another D or M, – if the operator is not defined there or D does not matter.",
        "joint: entries of the joint features at each M where they change; the head's first layer has as many rows. "
        "For `tensor` these are (width + 1)^M: the operator has few parameters, the head has many.",
        "parameters: of the fusion module, without encoders and heads. `compact-bilinear` trains none.",
        "kFLOP: per example, forward and backward, as counted by XLA: 8 log2 n for each entry of a Fourier transform "
        "of n, nothing for tanh, exp and the like.",
        f"kB: memory of the program besides its arguments, divided by {BATCH} examples: temporary arrays, joint "
        "features, gradients of features and parameters. table.csv has the temporary arrays separately.",
        f"Operators on tokens get {TOKENS} tokens of width D for each modality.",
        "† inside an encoder: cost that M - 1 vectors of length D (in `film`, with their encoders of width D) add to "
        f"the training of a model of one {'×'.join(map(str, IMAGE.shape))} image; kB is a difference of peaks and may "
        "fall.",
        f"‡ on logits of {CLASSES} classes: D does not matter. § the same, forward only, as nothing is trained.",
        width_exponents(frame),
        *(tensor_note(count, hidden) for hidden in (64, 8) for count in (2, 3)),
    ]


def width_exponents(frame: pd.DataFrame) -> str:
    """Returns the operators by the exponent with which their operations grow between the two largest widths."""
    low, high = sorted(set(frame["D"]))[-2:]
    kflop = {(r["operator"], r["D"]): r["kflop"] for r in frame.to_dict("records") if r["M"] == BASE[0]}
    exponents = {
        name: math.log(kflop[name, high] / value, high / low)
        for (name, width), value in kflop.items()
        if width == low and value > 0 and (name, high) in kflop
    }
    found: dict[str, list[str]] = {}
    for name in sorted(exponents, key=lambda name: -exponents[name]):
        found.setdefault(f"{exponents[name]:.1f}", []).append(name)
    listed = "; ".join(f"{exponent} {', '.join(names)}" for exponent, names in found.items())
    return f"Exponents of the operations in D, from {low} to {high}: {listed}."


def tensor_note(count: int, hidden: int) -> str:
    """Returns one line that compares the two forms of `tensor`."""
    costs = (tensor_cost(count, hidden, materialised=materialised) for materialised in (True, False))
    product, factors = (f"{number(c.temporary_kb)} temporary kB and {number(c.kflop)} kFLOP" for c in costs)
    return (
        f"`tensor` with its head's first layer of {hidden}, M={count}: {product} with the product, {factors} with the "
        "kernel contracted with one factor after another."
    )


def listing(frame: pd.DataFrame) -> Listing:
    """Returns the table with its notes."""
    header, rows = cells(frame)
    ends = {place for place in range(len(rows) - 1) if rows[place][1] != rows[place + 1][1]}
    sides = "ll" + "r" * (len(header) - 2)
    return Listing("What a fusion operator costs", header, rows, notes(frame), sides, ends=ends, is_whole=True)


def main(config: Config) -> int:
    """Measures, prints the table, and writes it."""
    operators = [name for name, r in strategies(["image"]).items() if r.family != "unimodal"]
    if config.quick:
        frame = measure_all([name for name in operators if name in QUICK_OPERATORS], QUICK_SIZES)
    else:
        frame = measure_all(operators, SIZES)
    table = listing(frame)
    config.out.mkdir(parents=True, exist_ok=True)
    frame.to_csv(config.out / "table.csv", index=False, float_format="%.6g")
    (config.out / "table.md").write_text(table.to_markdown(), encoding="utf-8")
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Config, description=__doc__)))
