"""The runs of one setting, and what they make of each row of the table."""

import dataclasses
import functools
import hashlib
import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool

from fusion_bench.errors import unknown_name
from fusion_bench.families import MULTIMODAL
from fusion_bench.metrics import significance
from fusion_bench.metrics.intervals import (
    CONFIDENCE,
    Interval,
    deviation_on_grid,
    paired_differences,
    paired_interval,
)
from fusion_bench.store import Run, Store, setting
from fusion_bench.store.diagnosed import read_values

BySeed = Mapping[int, float]
_IN_HEADING = {
    *("data.captions", "data.train_size", "data.test_size", "model.encoder", "training.epochs"),
    *("match.quantity", "match.to", "match.target"),
}


class Comparisons(NamedTuple):
    """Tests over the seeds of one setting.

    Attributes:
      gain_p: Holm-corrected p-value of each gain.
      reference_p: Holm-corrected p-value of each multimodal strategy's difference from the reference.
      ranks: by mean accuracy, with the lowest and the highest that the seeds allow for.
      ties: the best multimodal strategy of those with the most seeds, and all not significantly different from it.
    """

    gain_p: dict[str, float]
    reference_p: dict[str, float]
    ranks: dict[str, tuple[int, int, int]]
    ties: set[str]


@dataclasses.dataclass(frozen=True, eq=False)
class Block:
    """The runs of one setting.

    Attributes:
      digest: of all that they share.
      setting: what they share, with dotted names.
      differs: what tells it from other settings.
      runs: one for each strategy and seed, complete or failed.
      costs: of each strategy, the run that measured its costs; it is no seed.
      against: the strategy that gains are over; the best unimodal one if empty, or if this setting lacks it.
    """

    store: Store
    digest: str
    setting: Mapping[str, Any]
    differs: str
    runs: list[Run]
    costs: Mapping[str, Run]
    against: str

    @property
    def data(self) -> Mapping[str, Any]:
        return self.runs[0].data

    @property
    def resolution(self) -> float:
        """Of accuracies: one test example."""
        return 1 / self.data["n_test"]

    @functools.cached_property
    def rows(self) -> dict[str, "Row"]:
        """A row for each strategy, and for the ceiling of each modality."""
        groups: dict[str, list[Run]] = {}
        for run in self.runs:
            groups.setdefault(run.strategy, []).append(run)
        rows = [Row(self, name, runs[0].family, _kind(runs[0]), runs) for name, runs in groups.items()]
        for modality, ceiling in (("captions", "text"), ("class", "image")):
            name = self.data.get(f"{modality}_modality")
            if name in self.data.get("modalities", ()):
                exact = self.data[f"{ceiling}_only_ceiling"]
                rows.append(Row(self, f"ceiling: {name} only", "ceiling", "", [], exact))
        return {row.name: row for row in rows}

    @functools.cached_property
    def best(self) -> str:
        """The strategy that gains are over."""
        return self.against if self.against in self.rows else best_unimodal(self.runs)

    @functools.cached_property
    def reference(self) -> str:
        return next((row.name for row in self.rows.values() if row.family == "reference"), "")

    @functools.cached_property
    def compared(self) -> Comparisons:
        trained = {
            row.name: row.accuracies for row in self.rows.values() if row.runs and row.name != self.reference
        }
        joined = {row.name: row.accuracies for row in self.rows.values() if row.family in MULTIMODAL}
        others = {name: by_seed for name, by_seed in trained.items() if name != self.best}
        most = max(map(len, joined.values()), default=0)
        ties = set()
        if most > 1:
            means = {
                n: statistics.fmean(by_seed.values()) for n, by_seed in joined.items() if len(by_seed) == most
            }
            best = max(means, key=lambda name: means[name])
            # Uncorrected: a correction over thirty strategies would let almost everything tie.
            ties = {
                n for n, p in self._p_values(joined, best).items() if joined[n] and not p < 1 - CONFIDENCE
            }
        return Comparisons(
            significance.holm(self._p_values(others, self.best)),
            significance.holm(self._p_values(joined, self.reference)),
            significance.ranks(trained, self.resolution),
            ties,
        )

    def _p_values(self, values: Mapping[str, BySeed], other: str) -> dict[str, float]:
        return p_values(values, self.rows[other].accuracies if other in self.rows else {}, self.resolution)


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """One row: a strategy with its runs, or a ceiling without any.

    Attributes:
      kind: the unimodal strategies that it is compared with, as in `best_unimodal`; of a unimodal one its own.
    """

    block: Block
    name: str
    family: str
    kind: str
    runs: list[Run]
    ceiling: float = math.nan

    @functools.cached_property
    def complete(self) -> list[Run]:
        return [run for run in self.runs if run.status == "complete"]

    @functools.cached_property
    def accuracies(self) -> BySeed:
        """Test accuracy by seed."""
        return {run.seed: run.metrics["test_accuracy"] for run in self.complete}

    @property
    def baseline(self) -> str:
        """The best unimodal strategy of its kind of encoder, where that is not the usual one; else ""."""
        is_own = self.family != "unimodal" and self.kind not in ("", "only")
        return best_unimodal(self.block.runs, self.kind) if is_own else ""

    def over(self, other: str) -> Interval:
        """Returns the paired difference of accuracy from another strategy; NaN from itself."""
        known = other in self.block.rows and other != self.name
        others = self.block.rows[other].accuracies if known else {}
        return paired_interval(self.accuracies, others, self.block.resolution)

    @functools.cached_property
    def power(self) -> list[tuple[float, int | None]]:
        """The gain that is detected, and the seeds to detect one point: without and with Holm's correction."""
        gain_p, best = self.block.compared.gain_p, self.block.best
        differences = paired_differences(self.accuracies, self.block.rows[best].accuracies) if best else []
        if self.name not in gain_p or len(differences) < 2:
            return [(math.nan, None)] * 2
        deviation, n = deviation_on_grid(differences, self.block.resolution), len(differences)
        return [
            (
                significance.detectable_difference(deviation, n, tests),
                significance.seeds_to_detect(0.01, deviation, tests),
            )
            for tests in (1, max(sum(not math.isnan(p) for p in gain_p.values()), 1))
        ]

    def cost(self, name: str) -> float:
        """Returns the median over seeds of a cost, or its only measurement; NaN if there is none."""
        measured = [self.block.costs[self.name]] if self.name in self.block.costs else []
        found = [_median(run.cost.get(name) for run in runs) for runs in (self.complete, measured)]
        return next((value for value in found if not math.isnan(value)), math.nan)

    def values(self, name: str) -> list[float]:
        """Returns the values of a diagnostic, one for each seed that has it."""
        stored = (read_values(self.block.store.directory, run.id) for run in self.complete)
        return [values[name] for values in stored if name in values]

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
    def correct(self) -> Bool[np.ndarray, "seed image"]:
        return np.stack([logits.argmax(axis=1) == labels for logits, labels in self.tests])


def blocks(store: Store, against: str = "") -> dict[str, Block]:
    """Returns the runs of each setting, by a digest of all that they share.

    Models trained on the class instead of the label only serve the reference, and are left out. Of several runs of one
    strategy and seed, as after a change of its operator, the latest counts.

    Args:
      store: its runs.
      against: the strategy that gains are over; the best unimodal one if empty.

    Raises:
      UserError: no run is of `against`.
    """
    found: dict[tuple[str, str], dict[tuple[str, int], Run]] = {}
    for run in store.runs():
        digest = hashlib.sha256(json.dumps(setting(run), sort_keys=True).encode()).hexdigest()[:8]
        runs, key = (
            found.setdefault((run.identity.get("target", "label"), digest), {}),
            (run.strategy, run.seed),
        )
        runs[key] = max(runs.get(key, run), run, key=lambda run: run.environment.get("started", ""))
    by_setting = {digest: [*runs.values()] for (target, digest), runs in found.items() if target == "label"}
    known = {run.strategy for runs in by_setting.values() for run in runs}
    if against and against not in known:
        raise unknown_name("strategy", against, sorted(known))
    settings = {digest: _flat(setting(runs[0])) for digest, runs in by_setting.items()}
    varied = _varied([*settings.values()])
    return {
        digest: Block(
            store, digest, settings[digest], _differs(settings[digest], varied, runs[0].data.get("name", "")), runs,
            {run.strategy: run for run in found.get(("cost", digest), {}).values() if run.status == "complete"}, against,
        )
        for digest, runs in by_setting.items()
    }  # fmt: skip


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
    if run.modality is None:
        return run.baseline
    return run.strategy.partition(":")[0].removeprefix(f"{run.modality}-")


def p_values(values: Mapping[str, BySeed], other: BySeed, resolution: float) -> dict[str, float]:
    """Returns the uncorrected p-value of each strategy's paired difference from another one."""
    return {
        name: significance.paired_p_value(paired_differences(own, other), resolution)
        for name, own in values.items()
    }


def _median(values: Iterable[float | None]) -> float:
    found = [value for value in values if value is not None]
    return float(statistics.median(found)) if found else math.nan


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns a nested mapping as one with dotted names."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        found |= (
            _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
        )
    return found


def _varied(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the names in which settings differ, without those that a heading tells anyway."""
    names = {name for each in settings for name in each if any(o.get(name) != each[name] for o in settings)}
    return sorted(names if names == {"fingerprint"} else names - _IN_HEADING - {"fingerprint"})


def _differs(own: Mapping[str, Any], varied: Sequence[str], dataset: str) -> str:
    told = [name for name in varied if own.get(name) not in (None, dataset)]
    return ", ".join(f"{name.rpartition('.')[2]} {str(own[name])[:24]}" for name in told)
