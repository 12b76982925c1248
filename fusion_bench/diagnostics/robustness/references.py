"""What the robustness of a model is compared with: unimodal models, all models of its setting, an ideal reader."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy.special import softmax

from fusion_bench.diagnostics.base import Result
from fusion_bench.diagnostics.model import Model
from fusion_bench.metrics.calibration import fit_temperature
from fusion_bench.metrics.classification import accuracy
from fusion_bench.metrics.robustness import effective_robustness, retention


def class_probabilities(model: Model, rows: Int[np.ndarray, " example"]) -> Float[np.ndarray, "example class"] | None:
    """Returns p(y | x) of the unimodal model of the class with the same seed; None if it is not stored.

    The model of the modality that captions are about, calibrated by temperature on validation data.

    Args:
      model: any of the same seed.
      rows: of examples among the test examples.
    """
    dataset = model.dataset
    captions = dataset.captions
    if captions is None or captions.channel is None or captions.about is None:
        return None
    of_class = model.companion(f"{captions.about}-only", "class" if captions.channel.spec.shift > 0 else "label")
    if of_class is None:
        return None
    held_out = dataset.classes[dataset.splits["validation"]]
    temperature = fit_temperature(of_class.stored["validation_logits"], held_out)
    return softmax(of_class.stored["test_logits"][rows].astype(np.float64) / temperature, axis=1)


def retentions(
    model: Model, shift: str, modality: str, found: float, rows: Int[np.ndarray, " example"]
) -> dict[str, float]:
    """Returns the retention of a fusion model against each unimodal one that does not read the shifted modality.

    Such a model's accuracy under the shift is the one without it: on the same examples, from its stored logits. That
    against the shifted modality's own model follows in `compared`.

    Args:
      model: the fusion model.
      shift: name of the shift.
      modality: the one that is shifted.
      found: accuracy of the model under the shift.
      rows: of the examples among the test examples.
    """
    values = {}
    for other in model.modalities:
        alone = None if other == modality else model.companion(f"{other}-only")
        if alone is not None:
            of_other = accuracy(alone.stored["test_logits"][rows], alone.stored["test_labels"][rows])
            values[f"retention_{shift}_{other}"] = retention(found, of_other)
    return _finite(values)


def compared(results: Sequence[Result], shift: str, clean: str, examples: int) -> list[dict[str, float]]:
    """Returns the retention against the shifted modality's own model, and effective robustness, of each run.

    The model is that of the same seed. Runs without these values, which do not read the modality, are not among the
    results.

    Args:
      results: of one setting.
      shift: name of the shift; `accuracy_SHIFT` is the accuracy under it, without which nothing is compared.
      clean: name of the accuracy without it, on the same examples.
      examples: number of these, at most.
    """
    if any(f"accuracy_{shift}" not in result.values for result in results):
        return [{} for _ in results]
    shifted, name = (
        np.array([result.values[f"accuracy_{shift}"] for result in results]),
        f"effective_robustness_{shift}",
    )
    alone = {r.seed: r for r in results if r.modality is not None and r.strategy == f"{r.modality}-only"}
    fit = effective_robustness(np.array([result.values[clean] for result in results]), shifted, examples)
    found: list[dict[str, float]] = []
    for row, result in enumerate(results):
        values: dict[str, float] = {}
        if result.modality is None and result.seed in alone:
            own = alone[result.seed]
            values[f"retention_{shift}_{own.modality}"] = retention(shifted[row], own.values[f"accuracy_{shift}"])
        if fit is not None:
            values |= {name: float(fit.values[row]), f"{name}_r2": fit.r_squared}
        found.append(_finite(values))
    return found


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items() if np.isfinite(value)}
