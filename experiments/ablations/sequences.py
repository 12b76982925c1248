"""Which strategies learn a label that needs the order of one modality and the value of another?

    python experiments/ablations/sequences.py [--out DIR] [--seeds 3] [--quick]

Three modalities, as in studies of sentiment: the vectors of 6 to 12 words (a sequence), features of a voice (a vector)
and an image. The data come from a formula, and --data is not read. Four fair coins are drawn for an example, of which

    text    shows whether word A is before word B, and a level that all words share
    audio   shows whether its first feature is positive
    image   shows whether it is light
    label   = 4 (order xor positive) + 2 light + level

and all else is noise with bounds, so that each coin can be read without an error and every ceiling below is exact. One
modality alone is right in an eighth or a quarter of the examples, what the modalities say one by one in a half. A sum
of scores, one of the order and one of the value, can be right in three of their four cases, though no sum has a lower
cross-entropy than guessing; for more a strategy must join them. In the control the words of each example are shuffled.
"""

import dataclasses
import itertools
import math
import sys
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
import pandas as pd
from sweep import Row, Scale, Sweep, cell, main, rows_of_strategies

from fusion_bench.config import BenchmarkConfig, DataConfig
from fusion_bench.data.dataset import Modality, RawDataset
from fusion_bench.data.sources.base import register_source, sources
from fusion_bench.report.listing import markdown_table
from fusion_bench.report.text import percent

TRAIN, TEST = 3000, 2000
WORDS, SHORTEST, FEATURES, SIDE = 12, 6, 8, 8
CHANCE = 1 / 8
SHOWN = {"text": ("order", "level"), "audio": ("positive",), "image": ("light",)}
"""The coins that a modality shows."""
COINS = ("order", "positive", "light", "level")
ONE_BY_ONE = ("light", "level")
"""The coins that tell of the label without another one."""
SUM_OF_SCORES = 3 / 4


def label(order, positive, light, level):
    """Returns the label of coins, which are 0 or 1, or arrays of them."""
    return 4 * (order ^ positive) + 2 * light + level


def ceiling(shown: Collection[str]) -> float:
    """Returns the best accuracy from these coins alone: Σ_z max_t P(z, t) over their values z."""
    frequencies: Counter[tuple[tuple[int, ...], int]] = Counter()
    for values in itertools.product((0, 1), repeat=len(COINS)):
        seen = tuple(value for name, value in zip(COINS, values, strict=True) if name in shown)
        frequencies[seen, label(*values)] += 1
    best = {seen: max(n for (other, _), n in frequencies.items() if other == seen) for seen, _ in frequencies}
    return sum(best.values()) / 2 ** len(COINS)


def draw(shuffled: bool) -> RawDataset:
    """Returns the data; if they are shuffled, each example's words stand in a random order."""
    rng, count = np.random.default_rng(0), TRAIN + TEST
    coins = dict(zip(COINS, rng.integers(0, 2, (len(COINS), count)), strict=True))

    mask = np.arange(WORDS) < rng.integers(SHORTEST, WORDS + 1, count)[:, None]
    words = rng.uniform(-0.5, 0.5, (count, WORDS, FEATURES))
    words[:, :, 2] += 1.5 * coins["level"][:, None] - 0.75
    places = np.where(mask, rng.random(mask.shape), 2).argsort(1)[:, :2]  # two of the words that are there
    first, second = places.min(1), places.max(1)
    words[np.arange(count), first, 1 - coins["order"]] += 2
    words[np.arange(count), second, coins["order"]] += 2
    if shuffled:
        order = np.where(mask, rng.random(mask.shape), 2).argsort(1)
        words = np.take_along_axis(words, order[:, :, None], axis=1)

    voice = rng.uniform(-1, 1, (count, FEATURES))
    voice[:, 0] = rng.uniform(0.25, 1, count) * (2 * coins["positive"] - 1)
    image = rng.integers(80, 121, (count, SIDE, SIDE, 3)) + 50 * coins["light"][:, None, None, None]
    return RawDataset(
        name="sequences",
        modalities={
            "text": Modality("sequence", words.astype(np.float32), mask=mask),
            "audio": Modality("vector", voice.astype(np.float32)),
            "image": Modality("grid", image.astype(np.uint8)),
        },
        labels=label(**coins).astype(np.int32),
        class_names=tuple(f"class {number}" for number in range(8)),
        split=np.where(np.arange(count) < TRAIN, "train", "test"),
        description=f"three modalities from a formula, words {'shuffled' if shuffled else 'in order'}",
    )


def load_ordered(config: DataConfig) -> RawDataset:
    return draw(shuffled=False)


def load_shuffled(config: DataConfig) -> RawDataset:
    return draw(shuffled=True)


SOURCES: dict[str, Callable[[DataConfig], RawDataset]] = {"ordered": load_ordered, "shuffled": load_shuffled}


def points(scale: Scale) -> dict[str, BenchmarkConfig]:
    studies = {}
    for name, load in SOURCES.items():
        if f"sequences-{name}" not in sources():
            register_source(f"sequences-{name}", summary=f"the formula of {Path(__file__).name}")(load)
        studies[name] = dataclasses.replace(scale, data=f"sequences-{name}").study(name, captions="none")
    return studies


def table(frame: pd.DataFrame) -> str:
    header = ["strategy", "family", "in order, %", "shuffled, %", "does it join order and value?"]
    lines = [
        (name, str(rows["ordered"]["family"]), cell(rows["ordered"]), cell(rows["shuffled"]), verdict(rows["ordered"]))
        for name, rows in rows_of_strategies(frame)
    ]
    return markdown_table(header, lines, "llrrl")


def verdict(row: Row) -> str:
    """Returns whether an accuracy, with its interval, is above that of a sum of scores, or of no interaction."""
    low, without = row["test_accuracy_mean"] - row["test_accuracy_ci95"], ceiling(ONE_BY_ONE)
    if low > SUM_OF_SCORES:
        return "yes"
    return "in part" if low > without + three_deviations(without, row["n_test"]) else "not shown"


def three_deviations(accuracy: float, count: int) -> float:
    """Returns three standard deviations of an accuracy on so many examples."""
    return 3 * math.sqrt(accuracy * (1 - accuracy) / count)


def remarks(frame: pd.DataFrame, scale: Scale) -> list[str]:
    alone = ", ".join(f"{name} {percent(ceiling(coins))}" for name, coins in SHOWN.items())
    without, control = ceiling(ONE_BY_ONE), ceiling([coin for coin in COINS if coin != "order"])
    n_test = int(frame.iloc[0]["n_test"])
    return [
        f"Exact ceilings, %: {alone}; what the modalities say one by one {percent(without)}; all of them "
        f"{percent(ceiling(COINS))}, shuffled {percent(control)}. Chance is {percent(CHANCE)}.",
        f"Yes: the whole interval is above {percent(SUM_OF_SCORES)} %, the most of a sum of scores. In part: above "
        f"{percent(without + three_deviations(without, n_test))} %, three deviations of {n_test:,} examples above "
        f"{percent(without)} %.",
        "`early-channel` and `mid-channel` lay the mean of the words over the image, in which their order is lost.",
    ]


SWEEP = Sweep(
    points, table, Scale(Path("runs/sequences"), "sequences", epochs=10, seeds=3, strategies=("all",)), remarks=remarks
)

if __name__ == "__main__":
    sys.exit(main(SWEEP, __doc__))
