"""Contents of the report for each setting: the rows of its table, and the logits and curves of its runs."""

import dataclasses
import re
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from fusion_bench.errors import UserError
from fusion_bench.families import MULTIMODAL
from fusion_bench.metrics.intervals import t_interval
from fusion_bench.report.block import Block, blocks
from fusion_bench.report.notes import best_of, heading
from fusion_bench.store import Store
from fusion_bench.store.examples import Example, read_examples


@dataclasses.dataclass(frozen=True)
class Findings:
    """Contents of the report for one setting.

    Attributes:
      name: slug of its folder and its section.
      title: one line.
      rows: its rows of the table.
      block: its runs.
      tests: test logits and labels of each seed, by strategy.
      curves: validation accuracy of each trained strategy, one row per epoch and one column per seed.
      omitted: one line for everything that could not be read.
      examples: of the test set, if it has images with captions.
    """

    name: str
    title: str
    rows: pd.DataFrame
    block: Block
    tests: dict[str, list[tuple[np.ndarray, np.ndarray]]]
    curves: dict[str, pd.DataFrame]
    omitted: list[str]
    examples: list[Example]

    @property
    def measured(self) -> pd.DataFrame:
        """The rows of strategies that have a result."""
        return self._with_result(*MULTIMODAL, "unimodal")

    @property
    def lines(self) -> list[dict[Hashable, Any]]:
        """The Bayes reference and the ceilings, as rows of the table; they are drawn as lines."""
        return self._with_result("reference", "ceiling").to_dict("records")

    def _with_result(self, *families: str) -> pd.DataFrame:
        keep: Any = self.rows["family"].isin(families) & self.rows["test_accuracy_mean"].notna()
        return self.rows.loc[keep].reset_index(drop=True)

    def values(self, name: str, rows: pd.DataFrame | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Returns the mean of a diagnostic's value over seeds and half its interval, of each row; NaN for none.

        The rows are by default those that have a result.
        """
        rows = self.measured if rows is None else rows
        missing = np.full(len(rows), np.nan)
        mean, width = (
            rows[key].to_numpy(float) if (key := f"{name}_{part}") in rows else missing for part in ("mean", "ci95")
        )
        return mean, width

    def diagnosed(self, pattern: str) -> list[re.Match[str]]:
        """Returns the names of diagnostics' values that match a regular expression, in the order of the table."""
        names = [str(key).removesuffix("_mean") for key in self.rows if str(key).endswith("_mean")]
        return [match for name in names if (match := re.fullmatch(pattern, name))]

    @property
    def families(self) -> dict[str, str]:
        return dict(zip(self.rows["strategy"], self.rows["family"], strict=True))

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(map(str, self.block.data["class_names"]))

    @property
    def best(self) -> str:
        """The strategy that gains are measured against."""
        return best_of(self.rows)

    @property
    def leaders(self) -> list[str]:
        """The best strategy of each family on validation, unimodal first.

        Post-hoc strategies are fitted on validation data, so a trained strategy of the family takes precedence.
        """
        rows = self.measured
        is_trained = rows["strategy"].isin([*self.curves])
        keep = rows["family"].isin(MULTIMODAL) & (is_trained | ~rows["family"].isin(rows.loc[is_trained, "family"]))
        ranked = rows.loc[keep].dropna(subset="validation_accuracy_mean").groupby("family", sort=False)
        best = [max(zip(g["validation_accuracy_mean"], g["strategy"], strict=True))[1] for _, g in ranked]
        own = [name for name in [self.best] if name in set(rows["strategy"])]
        return [*dict.fromkeys([*own, *best])]

    def seeds_text(self, strategies: Iterable[str]) -> str:
        """Returns the number of seeds of these strategies as text: "n = 3 seeds", "n = 2 to 3 seeds"."""
        counts = self.rows.loc[self.rows["strategy"].isin([*strategies]), "n_seeds"]
        known = [int(count) for count in counts if count > 0] or [0]
        number = " to ".join(map(str, dict.fromkeys((min(known), max(known)))))
        return f"n = {number} seed{'s' * (max(known) != 1)}"


def find(store: Store, frame: pd.DataFrame) -> list[Findings]:
    """Returns the findings of each setting, in the order of the table."""
    settings, groups = blocks(store), frame.groupby("setting", sort=False)
    return [_findings(settings[str(digest)], rows.reset_index(drop=True)) for digest, rows in groups]


def _findings(block: Block, rows: pd.DataFrame) -> Findings:
    name = re.sub(r"[^a-z0-9]+", "-", f"{block.data['captions']}-{block.digest}".lower()).strip("-")
    fingerprint = str(block.runs[0].identity.get("fingerprint", ""))
    examples = read_examples(block.store.directory, fingerprint)
    found = Findings(name, heading(rows), rows, block, {}, {}, [], examples)
    for strategy in rows["strategy"]:
        row = block.rows[strategy]
        try:
            if any("train_seconds" in run.cost for run in row.complete):
                curves = [block.store.curve(r.id).set_index("epoch")["validation_accuracy"] for r in row.complete]
                found.curves[strategy] = pd.concat(curves, axis=1).sort_index()
        except (UserError, KeyError) as error:
            found.omitted.append(f"learning curve of {strategy}: {error}")
        try:
            if row.complete:
                found.tests[strategy] = row.tests
        except (UserError, KeyError) as error:
            found.omitted.append(f"predictions of {strategy}: {error}")
    return found


def mean_interval(
    samples: Float[np.ndarray, "seed point"] | Sequence[np.ndarray],
) -> tuple[Float[np.ndarray, " point"], Float[np.ndarray, " point"]]:
    """Returns the mean over seeds and half the width of its 95 % interval, at each point; NaN is left out."""
    intervals = [t_interval(column[~np.isnan(column)]) for column in np.asarray(samples).T]
    mean, half_width = np.reshape(intervals, (-1, 2)).T
    return mean, half_width
