"""Does every strategy train, and which ones learn an interaction?

    python experiments/ablations/every_strategy.py [--out results/cpu-2-cores/every-strategy] [--seeds 3] [--quick]

All strategies on `shapes`, twice. With `default` captions each multimodal strategy should end above the better unimodal
baseline; a joint transformer above that transformer on one modality. With `synergy` captions the target is the image's
class plus a number in the text, modulo ten; the table compares the measured accuracy with theory.

The theory. Let log-scores add, s_c = f_c(y) + g_c(k), as in `late-mean`. By the inequality of the means
log Σ_c e^{s_c} ≥ ln C + Σ_c s_c / C, and as the target t is uniform given y alone and given k alone, the expectation
of s_t is that of Σ_c s_c / C: no cross-entropy is below ln C, that of guessing. Let probabilities add, as in
`late-mixture`: by Jensen's inequality E[-log (p_t(y) + q_t(k)) / 2] ≥ -log E[(p_t(y) + q_t(k)) / 2] = ln C. This bound
does not hold for the maximum of two probabilities: with free tables for p and q, gradient descent from 12 random starts
reaches 2.08 nats, below ln 10 = 2.30. All others can express the shift, as a bilinear form of the class and the number
or by the hidden layer of the head.
"""

import dataclasses
import sys
from pathlib import Path

import pandas as pd
from sweep import Row, Scale, Sweep, cell, main, rows_of_strategies

from fusion_bench.config import BenchmarkConfig
from fusion_bench.families import MULTIMODAL
from fusion_bench.report.listing import markdown_table
from fusion_bench.report.text import MISSING
from fusion_bench.report.text import points as in_points

SYNERGY_EPOCHS = 8
"""Factor on the epochs with `synergy` captions, which take longer to learn."""
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
    **dict.fromkeys(["late-cosine", "qmf"], "no: scores of each modality add up"),
    "tmc": "a little: opinions are combined class by class",
    "pdf": "a little: only the weights depend on both",
    "dynmm": "yes: by its branch of all modalities",
    **dict.fromkeys(["concat", "sum", "moe"], "yes: by the head's hidden layer"),
    **dict.fromkeys(["attention", "gmu"], "yes: by gates and the head's hidden layer"),
    **dict.fromkeys(["gated", "film", "mmtm", "multiplicative"], "yes: one modality multiplies the other"),
    **dict.fromkeys(
        ["cross-attention", "mult", "bottleneck", "perceiver"], "yes: by attention and the head's hidden layer"
    ),
}
"""The theory of whether a strategy can learn the target of `synergy`; by strategy, or else by family."""


def points(scale: Scale) -> dict[str, BenchmarkConfig]:
    longer = dataclasses.replace(scale, epochs=SYNERGY_EPOCHS * scale.epochs)
    return {"default": scale.study("default"), "synergy": longer.study("synergy", captions="synergy")}


def theory(name: str, family: str) -> str:
    """Returns whether a strategy can learn the target of `synergy`, with the reason."""
    return THEORY.get(name) or FAMILY_THEORY.get(family, "not stated")


def gain(row: Row) -> tuple[float, float]:
    """Returns the gain and half its interval over the best baseline of the strategy's own kind."""
    kind = "gain" if pd.isna(row["baseline_gain_mean"]) else "baseline_gain"
    return row[f"{kind}_mean"], row[f"{kind}_ci95"]


def table(frame: pd.DataFrame) -> str:
    header = ["strategy", "family", "`default`, %", "gain, points", "`synergy`, %", "can it learn `synergy`?"]
    lines = []
    for name, rows in rows_of_strategies(frame):
        row, family = rows["default"], rows["default"]["family"]
        if family not in ("reference", "ceiling"):
            gained = MISSING if family == "unimodal" else in_points(*gain(row))
            lines.append([name, family, cell(row), gained, cell(rows["synergy"]), theory(name, family)])
    return markdown_table(header, lines, "llrrrl")


def remarks(frame: pd.DataFrame, scale: Scale) -> list[str]:
    joined = frame.loc[(frame["x"] == "default") & frame["family"].isin(MULTIMODAL)].to_dict("records")
    below = ", ".join(row["strategy"] for row in joined if not gain(row)[0] > 0) or "none"
    return [
        "Gain: over the best unimodal strategy on validation; for a joint transformer over it on one modality.",
        f"Not above their baseline with `default` captions: {below}.",
        f"Studies with synergy captions have {SYNERGY_EPOCHS} times as many epochs.",
    ]


SWEEP = Sweep(points, table, Scale(Path("runs/every-strategy"), seeds=3, strategies=("all",)), remarks=remarks)

if __name__ == "__main__":
    sys.exit(main(SWEEP, __doc__))
