"""Empirical multimodally-additive projection: the accuracy that is left without an interaction of modalities."""

import numpy as np
from jaxtyping import Int

from fusion_bench.data.dataset import Task
from fusion_bench.diagnostics.base import Diagnostic, register_diagnostic, spaced
from fusion_bench.diagnostics.model import Model
from fusion_bench.fields import Count
from fusion_bench.fusion.registry import StrategySpec
from fusion_bench.metrics.classification import accuracy


@register_diagnostic("emap", reference="EMAP: Hessel and Lee, EMNLP 2020, arXiv:2010.06572")
class Emap(Diagnostic):
    """Accuracy of the additive function that is closest to a model's logits, on all pairs of some test examples.

    f̂(i) = mean_j f(x_i^1, x_j^2) + mean_j f(x_j^1, x_i^2) - mean_jk f(x_j^1, x_k^2), the projection in least squares
    onto sums f_1(x^1) + f_2(x^2). `emap_accuracy` is that of f̂, `emap_gap` the model's own on the same examples less
    that: 0 where logits are a sum over modalities. A low gap does not mean that the data have no interaction.

    The means are over `examples` test examples at even distances, so the model predicts the square of that number.
    """

    def __init__(self, *, examples: Count = 256):
        self.examples = examples

    def skip(self, spec: StrategySpec, task: Task) -> str | None:
        if spec.registration.modality is not None:
            return f"{spec.name} reads {spec.registration.modality} alone"
        return None if len(task.modalities) == 2 else "it is computed for two modalities, whose examples make all pairs"

    def __call__(self, model: Model, indices: Int[np.ndarray, " example"]) -> dict[str, float]:
        chosen = indices[spaced(len(indices), self.examples)]
        count = len(chosen)
        labels, parts, second = model.labels(chosen), model.encode(chosen), max(model.modalities)
        own = model.logits(parts)
        by_first, by_second = np.zeros(own.shape), np.zeros(own.shape)
        for shift in range(count):  # row i is the pair of examples i and i + shift
            logits = model.logits(parts, {second: np.roll(np.arange(count), -shift)})
            by_first += logits
            by_second += np.roll(logits, shift, axis=0)
        additive = (by_first + by_second - by_first.mean(0)) / count
        found = accuracy(additive, labels)
        return {"emap_accuracy": found, "emap_gap": accuracy(own, labels) - found}
