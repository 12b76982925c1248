"""Which strategy is best, as they are and at equal cost?

    python experiments/main_table.py [--out DIR] [--data cifar10 --data-dir DIR …] [--quick]

All strategies with `default` captions, twice: with their usual widths, and with the joint part resized until the
parameters are those of `tensor`.

Found on CIFAR-10 (JPEG copy; tiny, 5,400 images to train, 6 epochs, 10,000 to test) with --strategies canonical, n = 5
seeds, commit a1877c70a2: late-posthoc 64.5, late-mean 64.0, concat 62.9, tensor 61.8, early-channel 59.8 and with the
parameters of tensor 59.6, early-token 55.9. Of the canonical set only early-channel has a size to be matched by.
"""

import dataclasses
import sys
from pathlib import Path

import ablation
import pandas as pd
import tyro


@dataclasses.dataclass(frozen=True)
class Config(ablation.Scale):
    """The main table, width-matched and parameter-matched."""

    out: Path = Path("runs/main-table")
    """Where runs and table go."""
    strategies: str = "all"
    """As in `fusion-bench run`."""


def main(config: Config) -> int:
    """Runs both studies and writes them side by side."""
    usual = config.config("width-matched")
    matched = config.config("parameter-matched", match="params")
    frame = ablation.sweep({"usual widths": usual, "equal parameters": matched})
    frame["strategy"] = (
        frame["strategy"].str.partition(":")[0].where(frame["family"] != "ceiling", frame["strategy"])
    )
    lines = [
        "| strategy | family | usual widths, % | parameters | equal parameters, % | parameters |",
        "| --- | --- | --: | --: | --: | --: |",
    ]
    for name, pair in frame.groupby("strategy", sort=False):
        by_point = {row["x"]: row for row in pair.to_dict("records")}
        cells = [
            part
            for x in ("usual widths", "equal parameters")
            for part in (ablation.cell(by_point[x]), params(by_point[x]))
        ]
        lines.append(f"| {name} | {pair['family'].iloc[0]} | {' | '.join(cells)} |")
    return ablation.write(config.out, frame, "\n".join(lines) + f"\n\n- {ablation.provenance(frame)}\n")


def params(row: dict) -> str:
    return "–" if pd.isna(row["params"]) else f"{int(row['params']):,}"


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Config, description=__doc__)))
