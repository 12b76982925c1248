"""Similarity of a modality's representation to that of the same modality in other models."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int
from threadpoolctl import threadpool_limits

from fusion_bench.data.dataset import Task
from fusion_bench.diagnostics.base import Diagnostic, register_diagnostic, spaced, without_encoders
from fusion_bench.diagnostics.model import Model, RunKey
from fusion_bench.fields import Count
from fusion_bench.fusion.registry import StrategySpec
from fusion_bench.metrics.representations import cka


@register_diagnostic(
    "cka", reference="CKA: Kornblith et al. 2019, arXiv:1905.00414; unbiased: Murphy et al. 2024, arXiv:2405.01012"
)
class Cka(Diagnostic):
    """Linear CKA of each modality's features with those of the encoder alone, of other seeds, of other strategies.

    On `examples` test examples at even distances, with the unbiased estimator, of the features that `probes` reads.
    `cka_image_alone` compares a fusion model with `image-only` of the same seed, where captions shift the label with
    the image's model of the class; `cka_image_seeds` with the same strategy of other seeds, a mean over these;
    `cka_image_with_tensor` with `tensor` of the same seed, and so on for all strategies that have an image encoder.
    What is not stored is left out.

    Encoders of one seed start from the same values and see the same batches, and are more alike for that than those of
    different seeds. Nor does CKA tell which representation is better: a change that no classifier sees can lower it
    much (Davari et al. 2022, arXiv:2210.16156).
    """

    def __init__(self, *, examples: Count = 1000):
        self.examples = examples

    def is_detail(self, name: str) -> bool:
        return "_with_" in name

    def skip(self, spec: StrategySpec, task: Task) -> str | None:
        return without_encoders(spec)

    def companions(self, run: RunKey, others: Sequence[RunKey]) -> list[RunKey]:
        separate = [other for other in others if other.spec is None or without_encoders(other.spec) is None]
        return [o for o in separate if o.seed == run.seed or (o.strategy, o.target) == (run.strategy, "label")]

    def __call__(self, model: Model, indices: Int[np.ndarray, " example"]) -> dict[str, float]:
        chosen, run, found = indices[spaced(len(indices), self.examples)], model.run, {}
        others = self.companions(run, [*model.companions])
        with threadpool_limits(1):  # the products are small, and on shared cores threads wait for each other
            similar = {other: _similarities(model, other, chosen) for other in others}
        for modality in model.modalities:
            of_modality = {other: values[modality] for other, values in similar.items() if modality in values}
            alone = model.alone(modality)
            if len(model.modalities) > 1 and alone is not None and alone in of_modality:
                found[f"cka_{modality}_alone"] = of_modality[alone]
            labelled = {other: value for other, value in of_modality.items() if other.target == "label"}
            if seeds := [value for other, value in labelled.items() if other.strategy == run.strategy]:
                found[f"cka_{modality}_seeds"] = float(np.mean(seeds))
            same_seed = {other.strategy: value for other, value in labelled.items() if other.seed == run.seed}
            found |= {f"cka_{modality}_with_{strategy}": value for strategy, value in same_seed.items()}
        return found


def _similarities(model: Model, other: RunKey, rows: Int[np.ndarray, " example"]) -> dict[str, float]:
    """Returns the CKA with a companion by modality, as far as both have features that are not the same everywhere."""
    own, theirs = (_features(model, run, rows) for run in (model.run, other))
    found = {name: cka(own[name], theirs[name]) for name in own if name in theirs}
    return {name: value for name, value in found.items() if np.isfinite(value)}


def _features(
    model: Model, run: RunKey, rows: Int[np.ndarray, " example"]
) -> Mapping[str, Float[np.ndarray, "example feature"]]:
    """Returns the features of this run or a companion by modality, as far as it has them; each model is loaded once."""
    key = "features", run.id, rows.tobytes()
    if key not in model.cache:
        loaded = model.load(run)
        found = {name: loaded.features(name, rows) for name in loaded.modalities}
        model.cache[key] = {name: features for name, features in found.items() if features is not None}
    return model.cache[key]
