"""Does every strategy train, and which ones learn an interaction?

    python experiments/every_strategy.py [--out results/cpu-2-cores/every-strategy] [--seeds 3] [--quick]

All strategies on `shapes`, twice. With `default` captions each multimodal one has to end above the better unimodal
baseline; a joint transformer above that transformer on one modality. With `synergy` captions the target is the image's
class plus a number in the text, modulo ten, and beside what was measured stands what theory allows.

The theory. Let log-scores add, s_c = f_c(y) + g_c(k), as in `late-mean`. By the inequality of the means
log Σ_c e^{s_c} ≥ ln C + Σ_c s_c / C, and as the target t is uniform given y alone and given k alone, the expectation
of s_t is that of Σ_c s_c / C: no cross-entropy is below ln C, that of guessing. Let probabilities add, as in
`late-mixture`: by Jensen's inequality E[-log (p_t(y) + q_t(k)) / 2] ≥ -log E[(p_t(y) + q_t(k)) / 2] = ln C. The maximum
of two probabilities is not bound so; with free tables for p and q, gradient descent from 12 random starts reaches 2.08
nats, where ln 10 = 2.30. All others can express the shift: as a bilinear form of the class and the number, or by the
hidden layer of the head.
"""

import dataclasses
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import tyro
from rich.console import Console
from rich.markdown import Markdown

import fusion_bench
from fusion_bench.config import BenchmarkConfig, DataConfig, ModelConfig, TrainingConfig
from fusion_bench.families import MULTIMODAL

ADDS_SCORES = "no: log-scores add up"
FAMILY_THEORY = {
    "unimodal": "no: the target is independent of each modality",
    "early": "yes: one network sees both",
    "tensor": "yes: products of features",
}
THEORY = {
    **dict.fromkeys(["late-mean", "late-weighted", "late-posthoc", "late-stacking"], ADDS_SCORES),
    "late-mixture": "no: probabilities add up",
    "late-max": "a little: 2.08 of 2.30 nats found",
    **dict.fromkeys(["concat", "sum"], "yes: by the head's hidden layer"),
    **dict.fromkeys(["attention", "gmu"], "yes: by gates and the head's hidden layer"),
    **dict.fromkeys(["gated", "film", "multiplicative"], "yes: one modality multiplies the other"),
    **dict.fromkeys(["cross-attention", "bottleneck"], "yes: by attention and the head's hidden layer"),
}
"""Whether a strategy can learn the target of `synergy`, and why; by strategy, or else by family."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Trains every strategy on `shapes` with `default` and with `synergy` captions."""

    out: Path = Path("runs/every-strategy")
    """Where runs and the table go; what is complete there is not repeated."""
    seeds: int = 3
    """Number of seeds."""
    epochs: int = 4
    """Passes over the training examples with `default` captions."""
    synergy_epochs: int = 30
    """The same with `synergy` captions, which take longer to learn."""
    quick: bool = False
    """A few strategies on a few images, in seconds: it shows that this runs, nothing more."""


def study(config: Config, captions: str, epochs: int) -> dict[str, dict[str, Any]]:
    """Runs one study and returns the rows of its table, by strategy."""
    settings = BenchmarkConfig(
        data=DataConfig(captions=captions),
        training=TrainingConfig(epochs=epochs),
        strategies=("all",),
        seeds=config.seeds,
        out=config.out / captions,
    )
    if config.quick:
        settings = dataclasses.replace(
            settings,
            data=DataConfig(captions=captions, train_size=300, test_size=100),
            model=ModelConfig(encoder="micro"),
            training=TrainingConfig(epochs=1),
            strategies=("image-only", "text-only", "concat", "late-mean"),
            workers=1,
        )
    return {row["strategy"]: row for row in fusion_bench.run(settings).to_dict("records")}


def theory(name: str, family: str) -> str:
    """Returns whether a strategy can learn the target of `synergy`, with the reason."""
    return THEORY.get(name) or FAMILY_THEORY.get(family, "not stated")


def accuracy(row: Mapping[str, Any]) -> str:
    half_width = row["test_accuracy_ci95"]
    interval = "" if pd.isna(half_width) else f" ± {100 * half_width:.2f}"
    return f"{100 * row['test_accuracy_mean']:.2f}{interval}"


def gain(row: Mapping[str, Any]) -> tuple[float, float]:
    """Returns the gain and half its interval, in points, over the best baseline of the strategy's own kind."""
    kind = "gain" if pd.isna(row["baseline_gain_mean"]) else "baseline_gain"
    return 100 * row[f"{kind}_mean"], 100 * row[f"{kind}_ci95"]


def to_markdown(default: Mapping[str, Any], synergy: Mapping[str, Any]) -> str:
    lines = [
        "| strategy | family | `default`, % | gain, points | `synergy`, % | can it learn `synergy`? |",
        "| --- | --- | --: | --: | --: | --- |",
    ]
    for name, row in default.items():
        if row["family"] in ("reference", "ceiling"):
            continue
        mean, half_width = gain(row)
        interval = "" if pd.isna(half_width) else f" ± {half_width:.2f}"
        gained = "–" if row["family"] == "unimodal" else f"{mean:+.2f}{interval}"
        learned = accuracy(synergy[name])
        reason = theory(name, row["family"])
        lines.append(f"| {name} | {row['family']} | {accuracy(row)} | {gained} | {learned} | {reason} |")
    first, other = (next(iter(rows.values())) for rows in (default, synergy))
    notes = [
        f"Test accuracy, mean ± 95 % interval over n = {first['n_seeds']} seeds; {first['n_train']:,} images to train, "
        f"{first['n_test']:,} to test; {first['epochs']} epochs with `default`, {other['epochs']} with `synergy`.",
        "Gain: over the best unimodal strategy on validation; that of a joint transformer over it on one modality.",
        f"Made on {first['device']}, commit {first['commit']}.",
    ]
    return "\n".join(lines) + "\n\n" + "".join(f"- {note}\n" for note in notes)


def main(config: Config) -> int:
    """Trains, writes table.md, prints it; 1 if a strategy's mean is not above that of its baseline."""
    start = time.perf_counter()
    default = study(config, "default", config.epochs)
    seconds = time.perf_counter() - start
    synergy = study(config, "synergy", config.synergy_epochs)
    text = to_markdown(default, synergy)
    (config.out / "table.md").write_text(text, encoding="utf-8")
    console = Console()
    console.print(Markdown(text))
    console.print(f"default captions took {seconds:.0f} s; written to {config.out}/table.md", style="dim")
    below = [name for name, row in default.items() if row["family"] in MULTIMODAL and not gain(row)[0] > 0]
    if below:
        print(f"not above their baseline: {', '.join(below)}", file=sys.stderr)
    return 1 if below else 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Config, description=__doc__)))
