"""Linear probes: what each encoder of a fusion model has learned, beside the same encoder trained alone."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from fusion_bench.data.dataset import Task
from fusion_bench.diagnostics.base import Diagnostic, register_diagnostic, spaced, unimodal, without_encoders
from fusion_bench.diagnostics.model import Model, RunKey
from fusion_bench.fields import Count
from fusion_bench.fusion.registry import StrategySpec
from fusion_bench.metrics.representations import Labelled, probe_accuracy


@register_diagnostic(
    "probes", reference="linear probes: Alain and Bengio 2016, arXiv:1610.01644; of fused encoders: arXiv:2203.15332"
)
class Probes(Diagnostic):
    """Test accuracy of a linear probe of each modality's encoder, and its gap to the same encoder trained alone.

    `probe_image` is the accuracy of a logistic regression on the frozen image features, fitted on `examples` training
    examples at even distances without augmentation; validation chooses the strength of its penalty. The features are
    the encoder's pooled tokens before batch normalisation. An encoder that reads several modalities has no probe.

    `probe_gap_image` is the probe of `image-only` with the same seed less that of the fusion model: positive where
    training together has taught the encoder less. It is left out where that run is not stored.

    Probes are of the label. Where captions shift the label, it cannot be read from another modality alone, so that the
    others are probed for the class that they show, and compared with a model of the class, as the Bayes reference has.
    """

    def __init__(self, *, examples: Count = 5000):
        self.examples = examples

    def skip(self, spec: StrategySpec, task: Task) -> str | None:
        return without_encoders(spec)

    def companions(self, run: RunKey, others: Sequence[RunKey]) -> list[RunKey]:
        return unimodal(run, others)

    def __call__(self, model: Model, indices: Int[np.ndarray, " example"]) -> dict[str, float]:
        found = {}
        for modality in model.modalities:
            own = self._accuracy(model, model.run, modality, indices)
            if own is None:
                continue
            found[f"probe_{modality}"] = own
            alone = model.alone(modality)
            if len(model.modalities) > 1 and alone is not None:
                of_alone = self._accuracy(model, alone, modality, indices)
                found |= {} if of_alone is None else {f"probe_gap_{modality}": of_alone - own}
        return found

    def _accuracy(self, model: Model, run: RunKey, modality: str, test: Int[np.ndarray, " example"]) -> float | None:
        """Returns the accuracy of a probe of this run or a companion, computed once; None without such an encoder."""
        key = "probe", run.id, modality, self.examples, test.tobytes()
        if key not in model.cache:
            model.cache[key] = _probe(model.load(run), modality, self.examples, test)
        return model.cache[key]


def _probe(model: Model, modality: str, examples: int, test: Int[np.ndarray, " example"]) -> float | None:
    splits, dataset = model.dataset.splits, model.dataset
    labels = {"label": dataset.labels, "class": dataset.classes}[model.target_of(modality)]
    parts = []
    train = splits["train"]
    for rows in (train[spaced(len(train), examples)], splits["validation"], test):
        features = model.features(modality, rows)
        if features is None:
            return None
        parts.append(Labelled(features, labels[rows]))
    return probe_accuracy(*parts)
