"""Uncertainty as a detector of errors, and weights of modalities that may be damaged."""

from typing import Annotated

import numpy as np
from jaxtyping import Bool, Float, Int

from fusion_bench.data.corruptions import CHANNELS, CORRUPTIONS, corrupt
from fusion_bench.data.dataset import Task
from fusion_bench.diagnostics.base import Diagnostic, register_diagnostic, spaced
from fusion_bench.diagnostics.model import Decisions, Model
from fusion_bench.diagnostics.robustness.corruptions import image_of
from fusion_bench.fields import Count, Rule
from fusion_bench.fusion.registry import StrategySpec

Severity = Annotated[int, Rule("1 to 5", lambda value: 1 <= value <= 5)]


@register_diagnostic(
    "uncertainty", reference="Hendrycks and Gimpel 2017, arXiv:1610.02136; weights: Zhang et al. 2023, arXiv:2306.02050"
)
class Uncertainty(Diagnostic):
    """Detection of a model's errors by its uncertainty, and the weights of a damaged modality.

    `error_auroc_clean` is the area under the ROC curve of the uncertainty as a detector of wrong decisions: the
    probability that a wrong decision is more uncertain than a right one; 0.5 is chance. The uncertainty is 1 - the
    highest probability, or the strategy's own: `tmc` has that of its opinion, `qmf` its energy.
    `confidence_auroc_clean` is always by the highest probability, for comparison.

    Strategies that weigh modalities example by example have further values. `weight_image_clean` is the mean weight of
    the image over the sum of all weights, and `right_auroc_image_clean` the area under the ROC curve of that weight as
    a detector of examples whose image alone is classified correctly. Where `dynmm` skips a modality its weight is zero,
    and a weight below zero, as `qmf` may have, counts as zero.

    `_corrupted` in place of `_clean`: with corrupted images, at `severity` and averaged over the corruptions of
    `corruptions`. `weight_shift_image` is the weight under corruption less that without: a promise that is kept makes
    it negative. Values on `examples` test examples at even distances.
    """

    def __init__(self, *, examples: Count = 2000, severity: Severity = 5):
        self.examples, self.severity = examples, severity

    def skip(self, spec: StrategySpec, task: Task) -> str | None:
        if not task.images:
            return "there are no images of 8 bits"
        return None if spec.registration.modality is None else f"{spec.name} has one modality"

    def __call__(self, model: Model, indices: Int[np.ndarray, " example"]) -> dict[str, float]:
        modality = image_of(model)
        examples = indices[spaced(len(indices), self.examples)]
        parts, labels = model.encode(examples), model.labels(examples)
        found = _values(model.decisions(parts), labels, "clean")
        original = model.dataset.modalities[modality].values[examples]
        if original.shape[-1] in CHANNELS:
            damaged = []
            for name in CORRUPTIONS:
                images = corrupt(original, name, self.severity, examples=examples)
                decided = model.decisions({**parts, modality: model.encode_values(modality, images)})
                damaged.append(_values(decided, labels, "corrupted"))
            found |= {key: float(np.mean([values[key] for values in damaged])) for key in damaged[0]}
            if f"weight_{modality}_clean" in found:
                change = found[f"weight_{modality}_corrupted"] - found[f"weight_{modality}_clean"]
                found[f"weight_shift_{modality}"] = change
        return {name: value for name, value in found.items() if np.isfinite(value)}


def _values(decided: Decisions, labels: Int[np.ndarray, " example"], state: str) -> dict[str, float]:
    wrong = decided.logits.argmax(1) != labels
    confidence = np.exp(decided.logits - np.logaddexp.reduce(decided.logits, axis=1, keepdims=True)).max(1)
    found = {
        f"error_auroc_{state}": _auroc(wrong, decided.uncertainty),
        f"confidence_auroc_{state}": _auroc(wrong, -confidence),
    }
    weights = {name: np.maximum(each, 0) for name, each in decided.weights.items()}
    total = np.maximum(sum(weights.values()), 1e-12)
    for name, each in weights.items():
        share = each / total
        found[f"weight_{name}_{state}"] = float(share.mean())
        is_right = decided.unimodal_logits[name].argmax(1) == labels
        found[f"right_auroc_{name}_{state}"] = _auroc(is_right, share)
    return found


def _auroc(positive: Bool[np.ndarray, " example"], score: Float[np.ndarray, " example"]) -> float:
    """Returns the area under the ROC curve; NaN where all examples are of one kind."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(positive, score)) if 0 < positive.sum() < len(positive) else float("nan")
