"""With the same error rate, drawn at random or said by people: which conclusions of the main table survive?

    python experiments/ablations/human_words.py --people FILE [--out DIR] [--data cifar10 --data-dir DIR …] [--quick]

FILE says what a person called each image, with the columns id, split, label and named: see docs/data.md. A caption
speaks of that class (`human:FILE`), or of one that is wrong equally often and at random (`default:wrong=W`). Both
studies test on examples that are drawn from the training images, as people err less on the official test images. These
are a third point: there the words of test are of another channel than those of training. Words that are drawn are wrong
as often, but they confuse all classes equally: the two differ in that, too.

Words of people need not be independent of the image given its class, which the Bayes reference takes for granted. The
assumption is tested: A is the class that image-only predicts of a test image, B the class that a person named, or what
the informative word tells of it, and C the class of the image. I(A; B | C), the mean over seeds, is compared with its
values for permutations of B within each class.

Found on CIFAR-10 (JPEG copy; tiny, 5,400 images to train, 6 epochs, 10,000 to test), 16 joins, n = 5 seeds, commit
629bed2b64: the order is nearly the same (Kendall's τ 0.95). No strategy is above the Bayes reference, and none comes
significantly nearer to it; late-posthoc is 2.1 ± 0.6 points below with said words and 2.2 ± 0.4 with drawn ones.
Independence is refuted for the class that people named, 0.059 bits against 0.051 (p < 0.001), and for the words that
say it (p = 0.02), not for drawn words (p = 0.32).
"""

import dataclasses
import itertools
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pictures
from changes import listed_changes
from scipy.stats import kendalltau
from sweep import Row, Scale, Sweep, cell, main

from fusion_bench.config import BenchmarkConfig, DataConfig
from fusion_bench.data import splits
from fusion_bench.data.captions import speaker
from fusion_bench.data.captions.spec import parse_spec
from fusion_bench.data.load import load_dataset
from fusion_bench.data.sources.base import load_raw
from fusion_bench.families import MULTIMODAL
from fusion_bench.metrics.information import conditional_independence
from fusion_bench.metrics.intervals import CONFIDENCE
from fusion_bench.report.block import blocks
from fusion_bench.report.cells import p_text, rank_text
from fusion_bench.report.listing import markdown_table
from fusion_bench.report.plots.marks import Picture
from fusion_bench.report.text import MISSING
from fusion_bench.store import Store

DRAWN, SAID, OFFICIAL = "drawn at random", "said by people", "said, official test images"
FOLDERS = {OFFICIAL: "said-official", DRAWN: "drawn", SAID: "said"}
IMAGE, REFERENCE = "image-only", "bayes-reference"
SECOND = {"word": "informative word", "named": "class named"}
PERMUTATIONS = 1000
NOTE = "Gain: over image-only, paired by seed."


@dataclasses.dataclass(frozen=True)
class PeopleScale(Scale):
    """Size of the studies, and what people said."""

    people: Path | None = None
    """File of what people called each image: see docs/data.md."""
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
    """Returns the conditional mutual information of image-only's prediction and what was said, with its test."""
    dataset = load_dataset(data)
    captions, test = dataset.captions, dataset.splits["test"]
    assert captions is not None
    assert captions.channel is not None
    assert captions.words is not None
    word_type = np.zeros(len(captions.channel.words), int)  # words that tell the same are one value
    for number, words in enumerate(captions.channel.word_types):
        word_type[words] = number
    said, values = {"word": word_type[captions.words[test]]}, {}
    if people := parse_spec(data.captions).speaker:
        said["named"] = speaker.read_named(Path(people), load_raw(data), test)[test]
    for digest, block in blocks(store).items():
        if IMAGE not in block.rows:
            continue
        predicted = np.stack([logits.argmax(1) for logits, _ in block.rows[IMAGE].tests])
        found = {
            name: conditional_independence(predicted, second, dataset.classes[test], permutations=PERMUTATIONS)
            for name, second in said.items()
        }
        values[digest, IMAGE] = {
            f"cmi_{name}_{key}": value for name, each in found.items() for key, value in each._asdict().items()
        }
    return values


def above_reference(store: Store) -> dict[str, dict[int, float]]:
    """Returns the accuracy of each multimodal strategy less that of the Bayes reference, by seed."""
    (block,) = blocks(store).values()
    reference = block.rows[REFERENCE].accuracies
    return {
        row.name: {seed: accuracy - reference[seed] for seed, accuracy in row.accuracies.items() if seed in reference}
        for row in block.multimodal
    }


def table(frame: pd.DataFrame) -> str:
    """Returns a block of rows for each point, and the test of the assumption below."""
    header = ["captions", "strategy", "test accuracy, %", "gain, points", "rank", "above the Bayes reference, points"]
    rows = frame.to_dict("records")
    lines = [
        [str(row["x"]), str(row["strategy"]), cell(row), cell(row, "gain"), rank(row), cell(row, "reference_gain")]
        for row in rows
    ]
    tested = [
        [str(row["x"]), second, f"{bits:.5f}", f"{row[f'cmi_{name}_expected']:.5f}", p_text(row[f"cmi_{name}_p_value"])]
        for row in rows
        for name, second in SECOND.items()
        if row["strategy"] == IMAGE and not pd.isna(bits := row.get(f"cmi_{name}_bits", np.nan))
    ]
    titles = ["captions", "B", "I(prediction; B given class), bits", "if independent", "p"]
    return markdown_table(header, lines, "llrrrr") + "\n" + markdown_table(titles, tested, "llrrr")


def rank(row: Row) -> str:
    return MISSING if pd.isna(row["rank"]) else rank_text(row["rank"], row["rank_low"], row["rank_high"])


def draw(frame: pd.DataFrame, note: str) -> Picture:
    return pictures.dots(frame, note, label="test accuracy, %")


def agreement(one: pd.Series, other: pd.Series) -> str:
    """Returns Kendall's τ of two orders."""
    tau: Any = kendalltau(one, other)[0]
    return MISSING if np.isnan(tau) else f"{tau:.2f}"


def remarks(frame: pd.DataFrame, scale: Scale) -> list[str]:
    trained = frame.loc[frame["family"].isin(MULTIMODAL) & (frame["n_seeds"] > 0)]
    shown = [x for x in FOLDERS if x in set(frame["x"])]
    accuracies = trained.pivot(index="strategy", columns="x", values="test_accuracy_mean")
    taus = [f"{a} and {b}: {agreement(accuracies[a], accuracies[b])}" for a, b in itertools.combinations(shown, 2)]
    lines = [NOTE, f"Kendall's τ of the order of the {len(accuracies)} multimodal rows: {', '.join(taus)}."]
    for x in shown:
        rows = trained.loc[trained["x"] == x].set_index("strategy")
        above = rows.index[(rows["reference_gain_mean"] > 0) & (rows["reference_p"] < 1 - CONFIDENCE)]
        lines.append(
            f"{x.capitalize()}: {rows['test_accuracy_mean'].idxmax()} has the highest mean; significantly above the "
            f"Bayes reference: {', '.join(above) or 'none'} (paired t-tests, Holm-corrected over the rows)."
        )
    if {DRAWN, SAID} <= {*shown}:
        drawn, said = (above_reference(Store(scale.out / FOLDERS[x], read_only=True)) for x in (DRAWN, SAID))
        listed = listed_changes(drawn, said, int(trained["n_test"].iloc[0]))
        lines.append(f"Significant changes of what is above the Bayes reference, from drawn to said words: {listed}.")
    of_people = frame.loc[frame["x"] != DRAWN].drop_duplicates("x")
    return lines + [f"{row['x'].capitalize()}: {row['data_notes']}" for row in of_people.to_dict("records")]


SWEEP = Sweep(
    points, table, PeopleScale(Path("runs/human-words"), data="cifar10", strategies=("all",)), draw, against=IMAGE,
    measures=dependence, remarks=remarks, note=NOTE,
)  # fmt: skip

if __name__ == "__main__":
    sys.exit(main(SWEEP, __doc__))
