"""Which strategy is best, at the usual widths and at equal parameters?

    python experiments/ablations/main_table.py [--out DIR] [--data cifar10 --data-dir DIR …] [--quick]

All strategies with `default` captions, twice: with their usual widths, and with the fusion module resized to the
number of parameters of `tensor`.

Found on CIFAR-10 (JPEG copy; tiny, 5,400 images to train, 6 epochs, 10,000 to test), all strategies, n = 5 seeds,
commit 629bed2b64 (moe at equal parameters: 956863191b): pdf has the highest mean of 36 strategies, 65.3 ± 0.4 %, 0.8
below the Bayes reference; only qmf and tmc, and at equal parameters attention, are not significantly below. The outer
product, made for interactions that these captions do not have, is 3.3 points behind; early fusion is 3.1 (mid-channel),
5.3 (early-channel) and 8.5 points behind (early-token). Of 18 strategies that are resized to equal parameters one
changes significantly, mfh by −1.8 ± 0.6 points; pdf, qmf and tmc have no size option. Strategies without a size option,
most late ones and concat among them, stay off the target.
"""

import sys
from pathlib import Path

import pandas as pd
import pictures
from changes import listed_changes
from sweep import Row, Scale, Sweep, cell, main, rows_of_strategies

from fusion_bench.config import BenchmarkConfig
from fusion_bench.families import MULTIMODAL
from fusion_bench.metrics.intervals import CONFIDENCE
from fusion_bench.report.block import blocks
from fusion_bench.report.listing import markdown_table
from fusion_bench.report.notes import is_off_target
from fusion_bench.report.plots.marks import Picture
from fusion_bench.report.table import table
from fusion_bench.store import Store

USUAL, EQUAL = "usual widths", "equal parameters"
FOLDERS = {USUAL: "width-matched", EQUAL: "parameter-matched"}
MARKED = "not within 2 % of the parameters of tensor, for lack of a size option or of a closer size"


def points(scale: Scale) -> dict[str, BenchmarkConfig]:
    names = [item if isinstance(item, str) else item.name for item in scale.strategies]
    if len(set(names)) < len(names):
        raise SystemExit("a strategy is named twice, but has only one row here")
    return {USUAL: scale.study(FOLDERS[USUAL]), EQUAL: scale.study(FOLDERS[EQUAL], match="params")}


def arrange(frame: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows with the names of the strategies, without the sizes that matching has chosen."""
    is_ceiling = frame["family"] == "ceiling"
    names = frame["strategy"].where(is_ceiling, frame["strategy"].str.partition(":")[0])
    return frame.assign(strategy=names)


def side_by_side(frame: pd.DataFrame) -> str:
    header = ["strategy", "family", *(title for x in FOLDERS for title in (f"{x}, %", "parameters"))]
    lines = [
        [name, rows[USUAL]["family"], *(part for x in FOLDERS for part in (cell(rows[x]), params(rows[x])))]
        for name, rows in rows_of_strategies(frame)
    ]
    return markdown_table(header, lines, "llrrrr")


def draw(frame: pd.DataFrame, note: str) -> Picture:
    note = f"{note} Hollow: {MARKED}."
    return pictures.dots(frame, note, label="test accuracy, %", hollow=is_off_target)


def remarks(frame: pd.DataFrame, scale: Scale) -> list[str]:
    studies = {x: scale.out / folder for x, folder in FOLDERS.items()}
    level = [f"{x.capitalize()}: {level_with_best(study)}" for x, study in studies.items()]
    return [f"\\*: {MARKED}.", *level, changes(*studies.values())]


def params(row: Row) -> str:
    return "–" if pd.isna(row["params"]) else f"{int(row['params']):,}" + "\\*" * is_off_target(row)


def level_with_best(study: Path) -> str:
    """Returns one sentence: the strategy with the highest mean, and those not significantly below it."""
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
        f"{best.partition(':')[0]} has the highest mean of {len(rows)} strategies; it is not significantly above "
        f"{names} (paired t-tests over seeds, Holm-corrected over the rows)."
    )


def changes(usual: Path, matched: Path) -> str:
    """Returns one sentence: the strategies whose accuracy changes significantly with equal parameters."""
    before, after = (accuracies(Store(study, read_only=True)) for study in (usual, matched))
    resized = {name: after[name] for name in after if name in before and after[name] != before[name]}
    n_test = next(run.data["n_test"] for run in Store(usual, read_only=True).runs())
    return (
        f"Significant changes by equal parameters, of {len(resized)} strategies that were resized: "
        f"{listed_changes(before, resized, n_test)}."
    )


def accuracies(store: Store) -> dict[str, dict[int, float]]:
    """Returns the test accuracies of each multimodal strategy by seed, by its name without the matched size."""
    found: dict[str, dict[int, float]] = {}
    for block in blocks(store).values():
        for row in block.multimodal:
            found.setdefault(row.name.partition(":")[0], {}).update(row.accuracies)
    return found


SWEEP = Sweep(
    points, side_by_side, Scale(Path("runs/main-table"), strategies=("all",)), draw, arrange=arrange, remarks=remarks,
)  # fmt: skip

if __name__ == "__main__":
    sys.exit(main(SWEEP, __doc__))
