"""Accuracy with missing modalities, and the contributions of modalities that follow from it."""

import itertools
import math
from typing import Literal

import numpy as np
from jaxtyping import Int

from fusion_bench.data.dataset import Task
from fusion_bench.diagnostics.base import Diagnostic, register_diagnostic
from fusion_bench.diagnostics.model import Model, take
from fusion_bench.fusion.registry import StrategySpec
from fusion_bench.metrics.classification import accuracy
from fusion_bench.metrics.coalitions import cooperation, shapley_values


@register_diagnostic(
    "missing-modality",
    reference="perceptual score: Gat et al. 2021, arXiv:2110.14375; SHAPE: Hu, Li and Zhou 2022, arXiv:2205.00302",
    version=2,
)
class MissingModality(Diagnostic):
    """Test accuracy for every set of missing modalities, each replaced by a baseline.

    `accuracy_without_text` is V(S) for S = all modalities but the text, over all test examples. With the baseline
    `marginal`, a missing modality is taken from another test example, by a permutation without fixed points; the value
    is the mean over permutations, and `accuracy_without_text_std` their standard deviation. With `zero` it is zero
    after standardisation: a grid's or vector's mean, or a text without words or a sequence without steps, which the
    model has seen in training only if `DataConfig.missing` is above 0. The names of these values end in `_zero`, as
    values of different baselines are not comparable.

    From these follow, without further predictions: the Shapley value of each modality (`shapley_text`), which add up to
    V(all) - V(∅), where V(∅) is the accuracy of the most frequent class; `cooperation`, V(all) - V(∅) - Σ_m (V(m) -
    V(∅)); and `perceptual_score_text`, (V(all) - V(all but the text)) / V(all).

    If each modality is missing independently with a fixed probability, the expected accuracy is the mixture
    Σ_S P(S) V(S), so other rates need not be measured.
    """

    def __init__(self, *, baseline: Literal["marginal", "zero"] = "marginal", permutations: int = 5):
        self.is_zero = {"zero": True, "marginal": False}[baseline]
        self.permutations = permutations

    def skip(self, spec: StrategySpec, task: Task) -> str | None:
        modality = spec.registration.modality
        return None if modality is None else f"{spec.name} reads {modality} alone"

    def __call__(self, model: Model, indices: Int[np.ndarray, " example"]) -> dict[str, float]:
        labels, parts, found = model.labels(indices), model.encode(indices), {}
        everything, end = frozenset(model.modalities), "_zero" if self.is_zero else ""
        values = {
            frozenset(): float(np.bincount(labels).max() / len(labels)),
            everything: accuracy(model.logits(parts), labels),
        }
        for missing in _missing_sets(model.modalities):
            name = f"accuracy_without_{'_and_'.join(missing)}"
            if self.is_zero:
                zeros = {m: take(model.zero(m), np.zeros(len(indices), int)) for m in missing}
                found[f"{name}_zero"] = accuracy(model.logits({**parts, **zeros}), labels)
                values[everything - {*missing}] = found[f"{name}_zero"]
                continue
            accuracies = []
            for number in range(self.permutations):
                rows = {m: derangement(len(indices), number, m) for m in missing}
                accuracies.append(accuracy(model.logits(parts, rows), labels))
            found[name] = values[everything - {*missing}] = float(np.mean(accuracies))
            if self.permutations > 1:
                found[f"{name}_std"] = float(np.std(accuracies, ddof=1))
        found |= {f"shapley_{name}{end}": value for name, value in shapley_values(values).items()}
        found[f"cooperation{end}"] = cooperation(values)
        for name in sorted(everything):
            lost = values[everything] - values[everything - {name}]
            found[f"perceptual_score_{name}{end}"] = lost / values[everything] if values[everything] else math.nan
        return found


def _missing_sets(modalities: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Returns every set of modalities that leaves at least one, in alphabetical order, small sets first."""
    names = sorted(modalities)
    return [part for size in range(1, len(names)) for part in itertools.combinations(names, size)]


def derangement(count: int, number: int, modality: str) -> Int[np.ndarray, " example"]:
    """Returns a random cyclic permutation of 0 to count - 1, which leaves no example in its place if count > 1.

    It depends on its number and the modality: all strategies see the same pairs, and modalities are independent.
    """
    order = np.random.default_rng([number, *modality.encode()]).permutation(count)
    permutation = np.empty(count, np.int64)
    permutation[order] = np.roll(order, 1)
    return permutation
