"""Which remedies for modality imbalance survive several seeds, a validation split and equal tuning?

    python experiments/ablations/remedies.py [--out DIR] [--data cifar10 --data-dir DIR …] [--quick]

Each strategy is trained without a remedy and with each published one, with AdamW and with Nesterov momentum; with
`ogm-ge` also in its published form, which scales gradients: AdamW cancels the scale, and only the noise stays. Every
one gets the same number of tuning trials, in which its own hyperparameter is drawn too. The probe gap says how far the
image encoder is behind the same encoder trained alone.
"""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from sweep import Scale, Sweep, cell, main, rows_of_strategies

from fusion_bench.config import BenchmarkConfig, Choice
from fusion_bench.families import MULTIMODAL
from fusion_bench.metrics.intervals import CONFIDENCE
from fusion_bench.report.listing import markdown_table
from fusion_bench.report.plots import matplotlib
from fusion_bench.report.plots.marks import Axis, Line, Mark, Panel, Picture, Points
from fusion_bench.report.text import MISSING

RATES = {"adamw": 0.003, "nesterov": 0.05}
"""The usual learning rate of each optimiser; tuning draws around it."""
REMEDIES: tuple[str | Choice, ...] = (
    *("none", "unimodal-losses", "modality-dropout", "ogm-ge", Choice("ogm-ge", {"stage": "gradient"}), "agm"),
    *("gradient-blending", "mmpareto", "umt", "pretrained", "frozen"),
)
STRATEGIES = ("image-only", "text-only", "concat", "tensor", "late-mean")


def points(scale: Scale) -> dict[str, BenchmarkConfig]:
    found = {}
    for optimizer, rate in RATES.items():
        study = scale.study(optimizer, captions="contrast", tune=2 if scale.quick else 4)
        settings: Any = {"optimizer": optimizer, "learning_rate": rate}
        training = dataclasses.replace(study.training, **settings)
        remedies = REMEDIES[:2] if scale.quick else REMEDIES
        found[optimizer] = dataclasses.replace(study, training=training, remedies=remedies)
    return found


def table(frame: pd.DataFrame) -> str:
    """Returns a row for each strategy and remedy, with its accuracy, effect and probe gap for each optimiser."""
    optimizers = list(dict.fromkeys(frame["x"]))
    names = {"accuracy, %": "test_accuracy", "effect": "effect", "probe gap": "probe_gap_image"}
    header = ["strategy", "remedy", *(f"{optimizer}, {name}" for optimizer in optimizers for name in names)]
    lines = []
    for label, rows in rows_of_strategies(frame):
        if not any(row["n_seeds"] > 0 for row in rows.values()):
            continue
        strategy, _, remedy = label.partition("+")
        cells = [cell(rows[x], of) if x in rows else MISSING for x in optimizers for of in names.values()]
        lines.append([strategy, remedy or "none", *cells])
    return markdown_table(header, lines, "ll" + "r" * (len(header) - 2))


def treated(frame: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows of strategies with a remedy."""
    keep = frame["family"].isin(MULTIMODAL) & (frame["n_seeds"] > 0) & frame["strategy"].str.contains("+", regex=False)
    return frame.loc[keep].reset_index(drop=True)


def draw(frame: pd.DataFrame, note: str) -> Picture:
    """Returns the effect of each remedy on each strategy, a panel for each optimiser."""
    rows, panels = treated(frame), {}
    names = tuple(dict.fromkeys(rows["strategy"]))
    for x, group in rows.groupby("x", sort=False):
        marks: list[Mark] = [Line((0.0, 0.0), (-0.5, len(names) - 0.5), dash="dot")]
        for row in group.to_dict("records"):
            mean, width = 100 * row["effect_mean"], 100 * row["effect_ci95"]
            fill = "full" if row["effect_p"] < 1 - CONFIDENCE else "none"
            height = names.index(row["strategy"])
            marks.append(Points([mean], [height], row["family"], [width], label=row["family"], fill=fill))
        panels[str(x)] = Panel(marks, Axis("effect, points of accuracy"), Axis(names=names))
    note = f"Filled: significant after Holm's correction. {note}"
    size = matplotlib.PAGE / max(len(panels), 1), 0.8 + 0.17 * len(names)
    return Picture("figure", "", note, panels, size=size, columns=max(len(panels), 1))


def remarks(frame: pd.DataFrame, scale: Scale) -> list[str]:
    """Returns a line for each optimiser: which effects are significant."""
    lines = []
    for x, rows in treated(frame).groupby("x", sort=False):
        found = {word: [] for word in ("gains", "losses")}
        for row in rows.to_dict("records"):
            if row["effect_p"] < 1 - CONFIDENCE:
                found["gains" if row["effect_mean"] > 0 else "losses"].append(
                    f"{row['strategy']} {cell(row, 'effect')}"
                )
        parts = [f"{len(each)} {word}" + f" ({', '.join(each)})" * bool(each) for word, each in found.items()]
        lines.append(f"`{x}`: of {len(rows)} effects, significant are {' and '.join(parts)}.")
    lines.append("Effect: over the same strategy without a remedy, paired by seed; p Holm-corrected over the setting.")
    return lines


SWEEP = Sweep(
    points, table, Scale(Path("runs/remedies"), epochs=6, strategies=STRATEGIES), draw, diagnostics=("probes",),
    remarks=remarks,
)  # fmt: skip

if __name__ == "__main__":
    sys.exit(main(SWEEP, __doc__))
