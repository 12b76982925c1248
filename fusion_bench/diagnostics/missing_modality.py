"""Accuracy with missing modalities, and the contributions of modalities that follow from it."""

import itertools
from collections.abc import Iterator
from typing import Any, Literal

import jax
import numpy as np
from jaxtyping import Int, Int32

from fusion_bench.data.captions.channel import sample_neutral
from fusion_bench.data.dataset import Task
from fusion_bench.diagnostics.base import Diagnostic, Inapplicable, register_diagnostic
from fusion_bench.diagnostics.model import Model, Parts, take
from fusion_bench.diagnostics.texts import captions_of, tokens_of
from fusion_bench.fields import Count
from fusion_bench.fusion.registry import StrategySpec
from fusion_bench.metrics.classification import accuracy
from fusion_bench.metrics.coalitions import cooperation, shapley_values


@register_diagnostic(
    "missing-modality",
    reference="perceptual score: Gat et al. 2021, arXiv:2110.14375; SHAPE: Hu, Li and Zhou 2022, arXiv:2205.00302",
    version=4,
)
class MissingModality(Diagnostic):
    """Test accuracy for every set of missing modalities, each replaced by a baseline.

    `accuracy_without_text` is V(S) for S = all modalities but the text, over all test examples. With the baseline
    `marginal`, a missing modality is taken from another test example, by a permutation without fixed points; the value
    is the mean over permutations, and `accuracy_without_text_std` their standard deviation. A strategy that does not
    encode its modalities separately computes the whole model for each, and has `costly_permutations` instead. About one
    such example in C has the right label all the same: `accuracy_without_text_other_label` is the accuracy where it has
    another one.

    With `zero` a modality is zero after standardisation: a grid's or vector's mean, or a text without words or a
    sequence without steps, which the model has seen in training only if `DataConfig.missing` is above 0. With `neutral`
    a caption says nothing: its word is neutral, its shift drawn at random. Only the text can be missing then, and only
    for channels with neutral captions. The names of these values end in `_zero` and `_neutral`, as values of different
    baselines are not comparable.

    From these follow, without further predictions: the Shapley value of each modality (`shapley_text`), which add up to
    V(all) - V(∅), where V(∅) is the accuracy of the most frequent class; `cooperation`, V(all) - V(∅) - Σ_m (V(m) -
    V(∅)); and `perceptual_score_text`, (V(all) - V(all but the text)) / V(all). With `neutral` only the last.

    If each modality is missing independently with a fixed probability, the expected accuracy is the mixture
    Σ_S P(S) V(S), so other rates need not be measured.
    """

    def __init__(
        self,
        *,
        baseline: Literal["marginal", "zero", "neutral"] = "marginal",
        permutations: Count = 5,
        costly_permutations: Count = 2,
    ):
        self.baseline, self.permutations, self.costly_permutations = baseline, permutations, costly_permutations

    def is_detail(self, name: str) -> bool:
        return not name.startswith(("accuracy_without", "shapley")) or name.endswith(("_std", "_other_label"))

    def skip(self, spec: StrategySpec, task: Task) -> str | None:
        modality = spec.registration.modality
        return None if modality is None else f"{spec.name} reads {modality} alone"

    def __call__(self, model: Model, indices: Int[np.ndarray, " example"]) -> dict[str, float]:
        labels, parts = model.labels(indices), model.encode(indices)
        everything, end = frozenset(model.modalities), "" if self.baseline == "marginal" else f"_{self.baseline}"
        values = {
            frozenset(): float(np.bincount(labels).max() / len(labels)),
            everything: accuracy(model.logits(parts), labels),
        }
        found = {}
        sets = [(_neutral_text(model),)] if self.baseline == "neutral" else _missing_sets(model.modalities)
        for missing in sets:
            measured, among_others = [], []
            for inputs in self._inputs(model, parts, missing):
                is_right = model.logits(*inputs).argmax(1) == labels
                measured.append(is_right.mean())
                if self.baseline == "marginal":
                    of_others = [labels[rows] != labels for rows in inputs[1].values()]
                    among_others.append(is_right[np.all(of_others, axis=0)])
            name = f"accuracy_without_{'_and_'.join(missing)}"
            found[f"{name}{end}"] = values[everything - {*missing}] = float(np.mean(measured))
            if len(measured) > 1:
                found[f"{name}_std"] = float(np.std(measured, ddof=1))
            if sum(map(len, among_others)):
                found[f"{name}_other_label"] = float(np.concatenate(among_others).mean())
        if self.baseline != "neutral":
            found |= {f"shapley_{name}{end}": value for name, value in shapley_values(values).items()}
            found[f"cooperation{end}"] = cooperation(values)
        for name in sorted(everything):
            if everything - {name} in values and values[everything] > 0:
                lost = values[everything] - values[everything - {name}]
                found[f"perceptual_score_{name}{end}"] = lost / values[everything]
        return found

    def _inputs(self, model: Model, parts: Parts, missing: tuple[str, ...]) -> Iterator[tuple[Any, ...]]:
        """Yields the arguments of `Model.logits` with the baseline in the place of missing modalities."""
        count = len(jax.tree.leaves(parts)[0])
        if self.baseline == "marginal":
            for number in range(self.permutations if model.is_separable else self.costly_permutations):
                yield parts, {m: derangement(count, number, m) for m in missing}
        elif self.baseline == "zero":
            yield ({**parts, **{m: take(model.zero(m), np.zeros(count, int)) for m in missing}},)
        else:
            texts = model.encode_values(missing[0], _neutral_tokens(model, count))
            yield ({**parts, missing[0]: texts},)


def _neutral_text(model: Model) -> str:
    """Returns the modality of the captions; raises Inapplicable unless their channel has captions that say nothing."""
    captions = captions_of(model)
    if captions.channel is None or sample_neutral(captions.channel, 1, 0) is None:
        raise Inapplicable("its captions have no neutral word")
    return captions.modality


def _neutral_tokens(model: Model, count: int) -> Int32[np.ndarray, "example token"]:
    """Returns the tokens of captions that say nothing, the same for all models."""
    captions, key = captions_of(model), ("neutral", count)
    if key not in model.cache:
        assert captions.channel is not None
        texts = sample_neutral(captions.channel, count, captions.seed or 0)
        model.cache[key] = tokens_of(model, captions, texts or ())
    return model.cache[key]


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
