"""Which strategy is best, as they are and at equal cost?

    python experiments/main_table.py [--out DIR] [--data cifar10 --data-dir DIR …] [--quick]

All strategies with `default` captions, twice: with their usual widths, and with the joint part resized until the
parameters are those of `tensor`.

Found on CIFAR-10 (JPEG copy; tiny, 5,400 images to train, 6 epochs, 10,000 to test), all strategies, n = 5 seeds,
commit 4a3bbd977c: late-posthoc has the highest mean of 27 joins, 64.7 ± 0.6 %, 1.8 below the Bayes reference; eight
others are not shown to be behind it at usual widths, and eight at equal parameters (named below the table). The outer
product, made for interactions that these captions do not have, is 2.6 points behind; joining at the input 4.5
(early-channel) and 8.9 (early-token). Equal parameters change little: gated gains 1.0 point, mfh loses 2.3, and of the
other 13 that were resized no change is established. What has no joint part, all late strategies and concat, keeps its
size, 12 to 13 % below the target.
"""

import collections
import dataclasses
import sys
from pathlib import Path

import ablation
import pandas as pd
import tyro
from ablation_figures import draw_dots

from fusion_bench.cli.flags import Strategies
from fusion_bench.families import MULTIMODAL
from fusion_bench.metrics.intervals import CONFIDENCE, paired_differences, paired_interval
from fusion_bench.metrics.significance import holm, paired_p_value
from fusion_bench.report.block import blocks
from fusion_bench.report.notes import is_off_target
from fusion_bench.report.table import table
from fusion_bench.report.text import points
from fusion_bench.store import Store

POINTS = {"usual widths": "width-matched", "equal parameters": "parameter-matched"}
"""The two columns, and the folders of their studies."""


@dataclasses.dataclass(frozen=True)
class Config(ablation.Scale):
    """The main table, width-matched and parameter-matched."""

    out: Path = Path("runs/main-table")
    """Where runs, table and figure go."""
    strategies: Strategies = ("all",)
    """As in `fusion-bench run`; each strategy once."""


def main(config: Config) -> int:
    """Runs both studies and writes them side by side, as a table and as a figure."""
    names = collections.Counter(item if isinstance(item, str) else item.name for item in config.strategies)
    if max(names.values()) > 1:
        print(f"a strategy has one row here; {names.most_common(1)[0][0]} is named twice", file=sys.stderr)
        return 2
    frame = ablation.sweep(
        {
            "usual widths": config.config(POINTS["usual widths"]),
            "equal parameters": config.config(POINTS["equal parameters"], match="params"),
        }
    )
    trained = frame["family"] != ablation.CEILING
    frame["strategy"] = frame["strategy"].where(~trained, frame["strategy"].str.partition(":")[0])
    lines = [
        "| strategy | family | usual widths, % | parameters | equal parameters, % | parameters |",
        "| --- | --- | --: | --: | --: | --: |",
    ]
    for name, pair in frame.groupby("strategy", sort=False):
        rows = {row["x"]: row for row in pair.to_dict("records")}
        cells = [part for x in POINTS for part in (ablation.cell(rows[x]), params(rows[x]))]
        lines.append(f"| {name} | {pair['family'].iloc[0]} | {' | '.join(cells)} |")
    note = ablation.provenance(frame)
    marked = "not within 2 % of the parameters of tensor, which the width of the join does not reach or is no part of"
    draw_dots(
        frame, config.out / "figure", label="test accuracy, %", note=f"{note} Hollow: {marked}.",
        hollow=is_off_target,
    )  # fmt: skip
    remarks = [
        f"\\*: {marked}.",
        *(f"{x.capitalize()}: {level_with_best(config.out / folder)}" for x, folder in POINTS.items()),
        changes(*(config.out / folder for folder in POINTS.values())),
        note,
    ]
    text = "\n".join(lines) + "\n\n" + "".join(f"- {remark}\n" for remark in remarks)
    return ablation.write(config.out, frame, text)


def params(row: dict) -> str:
    return "–" if pd.isna(row["params"]) else f"{int(row['params']):,}" + "\\*" * is_off_target(row)


def level_with_best(study: Path) -> str:
    """Returns one sentence: the join with the highest mean, and which others are not shown to be behind it."""
    store = Store(study, read_only=True)
    frame = table(store)
    joined = frame.loc[frame["family"].isin(MULTIMODAL) & (frame["n_seeds"] > 0)]
    best = joined.loc[joined["test_accuracy_mean"].idxmax(), "strategy"]
    against = table(store, against=best)
    rows = against.loc[against["strategy"].isin(joined["strategy"])].to_dict("records")
    level = [row for row in rows if row["strategy"] != best and not row["gain_p"] < 1 - CONFIDENCE]
    level.sort(key=lambda row: -row["test_accuracy_mean"])
    names = ", ".join(row["strategy"].partition(":")[0] for row in level) or "any other"
    return (
        f"{best.partition(':')[0]} has the highest mean of {len(rows)} joins; it is not shown to be ahead of {names} "
        "(paired t-tests over seeds, Holm-corrected over the rows)."
    )


def changes(usual: Path, matched: Path) -> str:
    """Returns one sentence: which strategies gain or lose by the equal number of parameters."""
    before, after = (accuracies(Store(study, read_only=True)) for study in (usual, matched))
    resized = {name: after[name] for name in after if name in before and after[name] != before[name]}
    n_test = next(run.data["n_test"] for run in Store(usual, read_only=True).runs())
    raw = {name: paired_p_value(paired_differences(resized[name], before[name]), 1 / n_test) for name in resized}
    shown = {name: p for name, p in holm(raw).items() if p < 1 - CONFIDENCE}
    told = ", ".join(f"{name} {points(*paired_interval(after[name], before[name], 1 / n_test))}" for name in shown)
    established = f"{told} points" if told else "none that the seeds establish"
    return (
        f"Changes by equal parameters, of {len(resized)} strategies that were resized: {established} (paired t-tests "
        "over seeds, Holm-corrected)."
    )


def accuracies(store: Store) -> dict[str, dict[int, float]]:
    """Returns the test accuracies of each join by seed, by the name without what matching chose."""
    found: dict[str, dict[int, float]] = {}
    for block in blocks(store).values():
        for row in block.multimodal:
            found.setdefault(row.name.partition(":")[0], {}).update(row.accuracies)
    return found


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Config, description=__doc__)))
