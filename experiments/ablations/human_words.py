"""With the same error rate, drawn at random or said by people: which conclusions of the main table survive?

    python experiments/ablations/human_words.py --people FILE [--out DIR] [--data cifar10 --data-dir DIR …] [--quick]

FILE says what a person called each image, with the columns id, split, label and named: see docs/data.md. A caption
speaks of that class (`human:FILE`), or of one that is wrong equally often and at random (`default:wrong=W`). Both
studies test on examples that are drawn from the training images, as people err less on the official test images. These
are a third point: there the words of test are of another channel than those of training.

Words of people need not be independent of the image given its class, which the Bayes reference takes for granted. The
assumption is tested: A is the class that image-only predicts of a test image, B what the informative word tells, C the
class of the image. I(A; B | C) is compared with its values for permutations of A within each class.
"""

import dataclasses
import itertools
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pictures
from scipy.stats import kendalltau
from sweep import Row, Scale, Sweep, cell, main

from fusion_bench.config import BenchmarkConfig, DataConfig
from fusion_bench.data import splits
from fusion_bench.data.captions import speaker
from fusion_bench.data.load import load_dataset
from fusion_bench.data.sources.base import load_raw
from fusion_bench.families import MULTIMODAL
from fusion_bench.metrics.information import conditional_independence
from fusion_bench.metrics.intervals import t_interval
from fusion_bench.report.block import blocks
from fusion_bench.report.cells import p_text, rank_text
from fusion_bench.report.listing import markdown_table
from fusion_bench.report.plots.marks import Picture
from fusion_bench.report.text import MISSING
from fusion_bench.report.text import points as in_points
from fusion_bench.store import Store

DRAWN, SAID, OFFICIAL = "drawn at random", "said by people", "said, official test images"
FOLDERS = {OFFICIAL: "said-official", DRAWN: "drawn", SAID: "said"}
IMAGE = "image-only"
PERMUTATIONS = 1000
NOTE = "Gain: over image-only, paired by seed."


@dataclasses.dataclass(frozen=True)
class PeopleScale(Scale):
    """Size of the studies, and what people said."""

    people: Path | None = None
    """CSV of what people called each image."""
    test_size: int = 10_000
    """Number of test examples."""


def points(scale: PeopleScale) -> dict[str, BenchmarkConfig]:
    if scale.people is None:
        raise SystemExit("what people said is needed: --people FILE")
    found = {}
    for x, folder in FOLDERS.items():
        study = scale.study(folder, captions=f"human:{scale.people}")
        size, test_from = study.data.test_size or scale.test_size, "test" if x == OFFICIAL else "train"
        data = dataclasses.replace(study.data, test_size=size, test_from=test_from)
        if x == DRAWN:
            data = dataclasses.replace(data, captions=f"default:wrong={error_rate(data, scale.people):.4f}")
        found[x] = dataclasses.replace(study, data=data)
    return found


def error_rate(data: DataConfig, people: Path) -> float:
    """Returns the fraction of the training examples of a configuration of which people name another class."""
    raw = load_raw(data)
    train = splits.split(raw, data)["train"]
    return speaker.error_rate(speaker.read_named(people, raw, train)[train], raw.labels[train])


def dependence(store: Store, data: DataConfig) -> dict[tuple[str, str], Mapping[str, float]]:
    """Returns the conditional mutual information of prediction and word of image-only, and the largest p over seeds."""
    dataset = load_dataset(data)
    captions, test = dataset.captions, dataset.splits["test"]
    assert captions is not None
    assert captions.channel is not None
    assert captions.words is not None
    tells = np.zeros(len(captions.channel.words), int)  # words that tell the same are one value
    for number, words in enumerate(captions.channel.word_types):
        tells[words] = number
    told, classes, values = tells[captions.words[test]], dataset.classes[test], {}
    for digest, block in blocks(store).items():
        tests = block.rows[IMAGE].tests if IMAGE in block.rows else []
        found = [
            conditional_independence(logits.argmax(1), told, classes, permutations=PERMUTATIONS, seed=seed)
            for seed, (logits, _) in enumerate(tests)
        ]
        if found:
            mean, width = t_interval([each.bits for each in found])
            expected, p = np.mean([each.expected for each in found]), max(each.p_value for each in found)
            values[digest, IMAGE] = {"cmi_mean": mean, "cmi_ci95": width, "cmi_expected": expected, "cmi_p": p}
    return values


def table(frame: pd.DataFrame) -> str:
    """Returns a block of rows for each point, and the test of the assumption below."""
    header = ["captions", "strategy", "test accuracy, %", "gain, points", "rank", "above the Bayes reference, points"]
    rows = frame.to_dict("records")
    lines = [
        [str(row["x"]), str(row["strategy"]), cell(row), cell(row, "gain"), rank(row), cell(row, "reference_gain")]
        for row in rows
    ]
    tested = [
        [
            str(row["x"]),
            f"{row['cmi_mean']:.5f} ± {row['cmi_ci95']:.5f}",
            f"{row['cmi_expected']:.5f}",
            p_text(row["cmi_p"]),
        ]
        for row in rows
        if row["strategy"] == IMAGE and "cmi_mean" in row
    ]
    titles = ["captions", "I(prediction; word given class), bits", "if independent", "p, the largest over seeds"]
    return markdown_table(header, lines, "llrrrr") + "\n" + markdown_table(titles, tested, "lrrr")


def rank(row: Row) -> str:
    return MISSING if pd.isna(row["rank"]) else rank_text(row["rank"], row["rank_low"], row["rank_high"])


def draw(frame: pd.DataFrame, note: str) -> Picture:
    return pictures.dots(frame, note, label="test accuracy, %")


def remarks(frame: pd.DataFrame, scale: Scale) -> list[str]:
    trained = frame.loc[frame["family"].isin(MULTIMODAL) & (frame["n_seeds"] > 0)]
    columns = {
        of: trained.pivot(index="strategy", columns="x", values=f"{of}_mean")
        for of in ("test_accuracy", "reference_gain")
    }
    shown = [x for x in FOLDERS if x in set(frame["x"])]
    accuracies = columns["test_accuracy"]
    taus = [
        f"{a} and {b}: {tau:.2f}"
        for a, b in itertools.combinations(shown, 2)
        for tau, _ in [kendalltau(accuracies[a], accuracies[b])]
    ]
    lines = [NOTE, f"Kendall's τ of the order of the {len(accuracies)} multimodal rows: {', '.join(taus)}."]
    for x in shown:
        rows = trained.loc[trained["x"] == x].set_index("strategy")
        best, furthest = rows["test_accuracy_mean"].idxmax(), rows["reference_gain_mean"].idxmax()
        above = in_points(*rows.loc[furthest, ["reference_gain_mean", "reference_gain_ci95"]])
        lines.append(
            f"{x.capitalize()}: {best} has the highest mean; the furthest up against the Bayes reference is "
            f"{furthest}, {above} points."
        )
    if {DRAWN, SAID} <= {*shown}:
        rise = (columns["reference_gain"][SAID] - columns["reference_gain"][DRAWN]).sort_values()
        lines.append(
            "Against the Bayes reference, words of people rather than drawn ones help "
            f"{rise.index[-1]} most ({in_points(rise.iloc[-1], np.nan)} points) and "
            f"{rise.index[0]} least ({in_points(rise.iloc[0], np.nan)})."
        )
    told = frame.loc[frame["x"] != DRAWN].drop_duplicates("x")
    return lines + [f"{row['x'].capitalize()}: {row['data_notes']}" for row in told.to_dict("records")]


SWEEP = Sweep(
    points, table, PeopleScale(Path("runs/human-words"), data="cifar10", strategies=("all",)), draw, against=IMAGE,
    measures=dependence, remarks=remarks, note=NOTE,
)  # fmt: skip

if __name__ == "__main__":
    sys.exit(main(SWEEP, __doc__))
