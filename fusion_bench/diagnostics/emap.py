"""Empirical multimodally-additive projection: the accuracy that is left without an interaction of modalities."""

import numpy as np
from jaxtyping import Float, Float64, Int

from fusion_bench.data.dataset import Task
from fusion_bench.diagnostics.base import Diagnostic, register_diagnostic, spaced
from fusion_bench.diagnostics.model import Model
from fusion_bench.fields import Count
from fusion_bench.fusion.registry import StrategySpec
from fusion_bench.metrics.classification import accuracy

LOGITS = 25_000_000
"""Logits of all combinations, at most."""


@register_diagnostic("emap", reference="EMAP: Hessel and Lee, EMNLP 2020, arXiv:2010.06572", version=2)
class Emap(Diagnostic):
    """Accuracy of the additive function that is closest to a model's logits, on all combinations of some test examples.

    For M modalities f̂(x) = Σ_m E[f | x^m] - (M - 1) E[f], the projection in least squares onto sums Σ_m f_m(x^m), where
    means are over all combinations of the examples' modalities. `emap_accuracy` is that of f̂, `emap_gap` the model's
    own on the same examples less that: 0 where logits are a sum over modalities. A low gap does not mean that the data
    have no interaction.

    The means are over `examples` test examples at even distances, so the model predicts the square of that number; for
    more than two modalities or more than 100 classes it is fewer, so that the logits fit into memory. A strategy that
    encodes each modality separately does so once for each example. Any other computes the whole model for every
    combination, and has `costly_examples` instead.
    """

    def __init__(self, *, examples: Count = 500, costly_examples: Count = 100):
        self.examples, self.costly_examples = examples, costly_examples

    def is_detail(self, name: str) -> bool:
        return name == "emap_accuracy"

    def skip(self, spec: StrategySpec, task: Task) -> str | None:
        modality = spec.registration.modality
        return None if modality is None else f"{spec.name} reads {modality} alone"

    def __call__(self, model: Model, indices: Int[np.ndarray, " example"]) -> dict[str, float]:
        of_two = self.examples if model.is_separable else self.costly_examples
        combinations = min(of_two**2, LOGITS // model.dataset.num_classes)
        count = int(combinations ** (1 / len(model.modalities)) + 1e-9)
        chosen = indices[spaced(len(indices), max(2, count))]
        labels, every = model.labels(chosen), np.arange(len(chosen))
        logits = model.grid(model.encode(chosen))
        own = logits[(every,) * len(model.modalities)]
        found = accuracy(additive(logits), labels)
        return {"emap_accuracy": found, "emap_gap": accuracy(own, labels) - found}


def additive(logits: Float[np.ndarray, "*combination class"]) -> Float64[np.ndarray, "example class"]:
    """Returns f̂ of each example, from the logits of all combinations: an axis of all examples for each modality."""
    axes = tuple(range(logits.ndim - 1))
    alone = [logits.mean(tuple(other for other in axes if other != axis), dtype=np.float64) for axis in axes]
    return np.sum(alone, axis=0) - (len(axes) - 1) * logits.mean(axes, dtype=np.float64)
