"""The runs of one setting, and the statistics of each row of its table."""

import dataclasses
import functools
import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from fusion_bench import files
from fusion_bench.errors import unknown_name
from fusion_bench.families import MULTIMODAL
from fusion_bench.metrics import intervals, significance
from fusion_bench.store import Run, Store, setting
from fusion_bench.store.diagnosed import read_values

_IN_HEADING = {
    *("data.captions", "data.train_size", "data.test_size", "data.misalign", "data.missing"),
    *("model.encoder", "training.epochs"),
    *("match.quantity", "match.to", "match.target"),
}


@dataclasses.dataclass(frozen=True, eq=False)
class Block:
    """The runs of one setting.

    Attributes:
      digest: of the setting.
      setting: the configuration that the runs share, with dotted names.
      differs: the values that differ from those of other settings.
      runs: one for each strategy and seed, complete or failed.
      costs: the run that measured the costs of each strategy, by strategy.
      against: the strategy that gains are measured against; the best unimodal one if empty or absent here.
      diagnostic: label of the only diagnostic whose values count; "*" for all.
    """

    store: Store
    digest: str
    setting: Mapping[str, Any]
    differs: str
    runs: list[Run]
    costs: Mapping[str, Run]
    against: str
    diagnostic: str = "*"

    @property
    def data(self) -> Mapping[str, Any]:
        return self.runs[0].data

    @property
    def resolution(self) -> float:
        """Smallest difference between two accuracies: one test example."""
        return 1 / self.data["n_test"]

    @functools.cached_property
    def rows(self) -> dict[str, "Row"]:
        """A row for each strategy, and for the ceiling of each modality."""
        groups: dict[str, list[Run]] = {}
        for run in self.runs:
            groups.setdefault(run.strategy, []).append(run)
        rows = [Row(self, name, runs[0].family, runs) for name, runs in groups.items()]
        for modality, ceiling in (("captions", "text"), ("class", "image")):
            name = self.data.get(f"{modality}_modality")
            if name in self.data.get("modalities", ()):
                rows.append(Row(self, f"ceiling: {name} only", "ceiling", [], self.data[f"{ceiling}_only_ceiling"]))
        return {row.name: row for row in rows}

    @functools.cached_property
    def best(self) -> str:
        """The strategy that gains are measured against."""
        return self.against if self.against in self.rows else best_unimodal(self.runs)

    @functools.cached_property
    def reference(self) -> str:
        return next((row.name for row in self.rows.values() if row.family == "reference"), "")

    @property
    def trained(self) -> list["Row"]:
        """The rows without the Bayes reference and the ceilings."""
        return [row for row in self.rows.values() if row.family not in ("reference", "ceiling")]

    @property
    def multimodal(self) -> list["Row"]:
        return [row for row in self.rows.values() if row.family in MULTIMODAL]

    @functools.cached_property
    def gain_p(self) -> dict[str, float]:
        """Holm-corrected p-value of each gain."""
        return significance.holm({r.name: r.p_value(self.best) for r in self.trained if r.name != self.best})

    @functools.cached_property
    def reference_p(self) -> dict[str, float]:
        """Holm-corrected p-value of each multimodal strategy's difference from the reference."""
        return significance.holm({row.name: row.p_value(self.reference) for row in self.multimodal})

    @functools.cached_property
    def ranks(self) -> dict[str, tuple[int, int, int]]:
        """Rank by mean accuracy, with the ends of its 95 % confidence interval."""
        return significance.ranks({row.name: row.accuracies for row in self.trained}, self.resolution)

    @functools.cached_property
    def ties(self) -> set[str]:
        """The best multimodal strategy among those with the most seeds, and all not significantly different from it.

        The tests are uncorrected: after a correction over thirty strategies almost all would tie.
        """
        rows = [row for row in self.multimodal if row.accuracies]
        most = max((len(row.accuracies) for row in rows), default=0)
        if most < 2:
            return set()
        full = [row for row in rows if len(row.accuracies) == most]
        best = max(full, key=lambda row: statistics.fmean(row.accuracies.values())).name
        return {row.name for row in rows if not row.p_value(best) < 1 - intervals.CONFIDENCE}


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """One row: a strategy with its runs, or a ceiling without any."""

    block: Block
    name: str
    family: str
    runs: list[Run]
    ceiling: float = math.nan

    @property
    def kind(self) -> str:
        """Ending of the names of the unimodal strategies that it is compared with, as in `best_unimodal`."""
        return _kind(self.runs[0]) if self.runs else ""

    @functools.cached_property
    def complete(self) -> list[Run]:
        return [run for run in self.runs if run.status == "complete"]

    @functools.cached_property
    def accuracies(self) -> dict[int, float]:
        """Test accuracy by seed."""
        return {run.seed: run.metrics["test_accuracy"] for run in self.complete}

    @property
    def baseline(self) -> str:
        """The best unimodal strategy with its kind of encoder; "" if that is the usual kind."""
        is_own = self.family != "unimodal" and self.kind not in ("", "only")
        return best_unimodal(self.block.runs, self.kind) if is_own else ""

    def _differences(self, other: str) -> list[float]:
        others = self.block.rows[other].accuracies if other in self.block.rows and other != self.name else {}
        return intervals.paired_differences(self.accuracies, others)

    def over(self, other: str) -> intervals.Interval:
        """Returns the difference of accuracy from another strategy, paired by seed; NaN from itself."""
        return intervals.t_interval(self._differences(other), self.block.resolution)

    def p_value(self, other: str) -> float:
        """Returns the uncorrected p-value of this difference."""
        return significance.paired_p_value(self._differences(other), self.block.resolution)

    @functools.cached_property
    def power(self) -> list[tuple[float, int | None]]:
        """The detectable gain, and the number of seeds to detect one point; without and with Holm's correction."""
        differences = self._differences(self.block.best)
        if self.name not in self.block.gain_p or len(differences) < 2:
            return [(math.nan, None)] * 2
        std, n = intervals.std_on_grid(differences, self.block.resolution), len(differences)
        all_tests = max(sum(not math.isnan(p) for p in self.block.gain_p.values()), 1)
        return [
            (significance.detectable_difference(std, n, tests), significance.seeds_to_detect(0.01, std, tests))
            for tests in (1, all_tests)
        ]

    def cost(self, name: str) -> float:
        """Returns the median of a cost over seeds, or its single measurement; NaN if there is none."""
        found = _median(run.cost.get(name) for run in self.complete)
        measured = self.block.costs.get(self.name)
        return _median([measured.cost.get(name)]) if math.isnan(found) and measured else found

    @functools.cached_property
    def diagnosed(self) -> list[dict[str, float]]:
        """Values of diagnostics, by name, of each seed."""
        block = self.block
        return [read_values(block.store.directory, run.id, block.diagnostic) for run in self.complete]

    def trained_with(self, name: str) -> float:
        """Returns a hyperparameter of training; NaN if seeds differ in it, or if nothing was trained."""
        found = {run.identity["training"].get(name) for run in self.complete if "train_seconds" in run.cost}
        return _median(found) if len(found) == 1 else math.nan

    @functools.cached_property
    def tests(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Test logits and labels of each seed."""
        stored = [self.block.store.predictions(run.id) for run in self.complete]
        return [(predictions["test_logits"], predictions["test_labels"]) for predictions in stored]

    @functools.cached_property
    def correct(self) -> Float[np.ndarray, " image"]:
        """Fraction of the seeds that classify each test image correctly."""
        return np.mean([logits.argmax(axis=1) == labels for logits, labels in self.tests], axis=0)


def blocks(store: Store, against: str = "", diagnostic: str = "*") -> dict[str, Block]:
    """Returns the runs of each setting, by its digest; `against` and `diagnostic` as in `Block`.

    Models of the class instead of the label serve only the Bayes reference, and are left out. Of several runs of one
    strategy and seed, as of two versions, the latest counts.

    Raises:
      UserError: there is no run of `against`.
    """
    found: dict[tuple[str, str], dict[tuple[str, int], Run]] = {}
    for run in store.runs():
        digest = files.digest_text(json.dumps(setting(run), sort_keys=True))[:8]
        runs = found.setdefault((run.identity.get("target", "label"), digest), {})
        older = runs.get((run.strategy, run.seed), run)
        runs[run.strategy, run.seed] = max(older, run, key=lambda run: run.environment.get("started", ""))
    by_setting = {digest: [*runs.values()] for (target, digest), runs in found.items() if target == "label"}
    known = {run.strategy for runs in by_setting.values() for run in runs}
    if against and against not in known:
        raise unknown_name("strategy", against, sorted(known))
    shared = {digest: pd.json_normalize(setting(runs[0])).to_dict("records")[0] for digest, runs in by_setting.items()}
    varied = _varied([*shared.values()])
    made = {}
    for digest, runs in by_setting.items():
        costs = {run.strategy: run for run in found.get(("cost", digest), {}).values()}
        values = {name: shared[digest].get(name) for name in varied}
        stated = {name: value for name, value in values.items() if value not in (None, runs[0].data.get("name", ""))}
        differs = ", ".join(f"{name.rpartition('.')[2]} {str(value)[:24]}" for name, value in stated.items())
        made[digest] = Block(store, digest, shared[digest], differs, runs, costs, against, diagnostic)
    return made


def best_unimodal(runs: Iterable[Run], kind: str = "only") -> str:
    """Returns the strategy "MODALITY-KIND" with the highest mean validation accuracy; "" if there is none.

    Args:
      runs: of one setting.
      kind: "only", or "token-only" for joint transformers on one modality.
    """
    accuracies: dict[str, list[float]] = {}
    for run in runs:
        if run.status == "complete" and run.modality is not None and _kind(run) == kind:
            accuracies.setdefault(run.strategy, []).append(run.metrics["validation_accuracy"])
    return max(accuracies, key=lambda strategy: statistics.fmean(accuracies[strategy]), default="")


def _kind(run: Run) -> str:
    return run.baseline if run.modality is None else run.identity["name"].removeprefix(f"{run.modality}-")


def _median(values: Iterable[float | None]) -> float:
    found = [value for value in values if value is not None]
    return float(statistics.median(found)) if found else math.nan


def _varied(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the names of the values that differ between settings, without those that the heading states."""
    names = {name for each in settings for name in each if any(o.get(name) != each[name] for o in settings)}
    return sorted(names if names == {"fingerprint"} else names - _IN_HEADING - {"fingerprint"})
