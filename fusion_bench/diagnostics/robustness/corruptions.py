"""Accuracy and calibration on corrupted images."""

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
from jaxtyping import Int

from fusion_bench.data.cifar10_c import open_cifar10_c
from fusion_bench.data.corruptions import CHANNELS, CORRUPTIONS, SEVERITIES, corrupt
from fusion_bench.data.dataset import Task
from fusion_bench.diagnostics.base import Diagnostic, Inapplicable, Result, register_diagnostic, spaced, unimodal
from fusion_bench.diagnostics.model import Model, RunKey
from fusion_bench.diagnostics.robustness.references import compared, retentions
from fusion_bench.fields import Count
from fusion_bench.fusion.registry import StrategySpec
from fusion_bench.metrics.calibration import fit_temperature
from fusion_bench.metrics.classification import METRICS
from fusion_bench.metrics.robustness import mean_over_severities

CIFAR10_C = "cifar10-c"
"""The diagnostic of the published files, and their name among a model's further files."""
MEASURED = ("accuracy", "ece", "nll", "brier")
FOR_VALIDATION = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
"""Corruptions of CIFAR-10-C beside the fifteen of the benchmark; they are not part of its mean."""
CACHED_BYTES = 2**29
"""Size of the corrupted images that are kept for the next model, at most."""

Images = Callable[[str, int], np.ndarray]
"""Corrupted images by name and severity."""
Values = dict[str, list[float]]


class ImageShift(Diagnostic):
    """Base of what is measured on corrupted images."""

    shift = ""
    clean = ""
    prefix = ""

    def __init__(self, *, examples: Count = 2000):
        self.examples = examples

    def companions(self, run: RunKey, others: Sequence[RunKey]) -> list[RunKey]:
        return unimodal(run, others)

    def skip(self, spec: StrategySpec, task: Task) -> str | None:
        if not task.images:
            return "there are no images of 8 bits"
        modality = spec.registration.modality
        return None if modality is None or modality in task.images else f"{spec.name} reads {modality} alone"

    def is_detail(self, name: str) -> bool:
        shown = [f"{metric}_{part}" for metric in ("accuracy", "ece") for part in (self.clean, self.shift)]
        return name not in shown and not name.startswith(("retention", "effective_robustness"))

    def compare(self, results: Sequence[Result]) -> list[dict[str, float]]:
        return compared(results, self.shift, f"accuracy_{self.clean}", self.examples)

    def measure(
        self,
        model: Model,
        modality: str,
        examples: np.ndarray,
        rows: np.ndarray,
        names: Collection[str],
        images: Images,
    ) -> dict[str, float]:
        """Returns every metric for each corruption and severity, the means of each corruption, and those of all.

        Probabilities are calibrated by the temperature that fits clean validation data.
        """
        parts, labels = model.encode(examples), model.labels(examples)
        temperature = fit_temperature(model.stored["validation_logits"], model.stored["validation_labels"])

        def measured(part: Mapping[str, object]) -> dict[str, float]:
            logits = model.logits({**parts, **part}) / temperature
            return {metric: METRICS[metric](logits, labels) for metric in MEASURED}

        found = {f"{metric}_{self.clean}": value for metric, value in measured({}).items()}
        means: Values = {metric: [] for metric in MEASURED}
        for name in names:
            at = [measured({modality: model.encode_values(modality, images(name, s))}) for s in SEVERITIES]
            found |= {f"accuracy_{self.prefix}{name}_{s}": v["accuracy"] for s, v in zip(SEVERITIES, at, strict=True)}
            for metric in MEASURED:
                mean = mean_over_severities([values[metric] for values in at])
                found[f"{metric}_{self.prefix}{name}"] = mean
                means[metric] += [mean] * (name not in FOR_VALIDATION)
        found |= {f"{metric}_{self.shift}": float(np.mean(values)) for metric, values in means.items() if values}
        if len(model.modalities) > 1 and f"accuracy_{self.shift}" in found:
            found |= retentions(model, self.shift, modality, found[f"accuracy_{self.shift}"], rows)
        return found


@register_diagnostic(
    "corruptions", reference="Hendrycks and Dietterich 2019, arXiv:1903.12261; Taori et al. 2020, arXiv:2007.00644"
)
class Corruptions(ImageShift):
    """Accuracy and calibration on corrupted images: eight corruptions of CIFAR-10-C at its five severities.

    Gaussian, shot and impulse noise, defocus blur, contrast, brightness, pixelate and JPEG compression, of grey and RGB
    images of any size, with the parameters of CIFAR-10-C. The draws depend on the example, the corruption and the
    severity alone, so that all models see the same images. The captions stay as they are.

    `accuracy_contrast_3` is the accuracy at severity 3, `accuracy_contrast` its mean over severities,
    `accuracy_corrupted` the mean over all corruptions, and `accuracy_clean` that without any, on the same `examples`
    test examples at even distances. `ece_`, `nll_` and `brier_` are means over severities too, of probabilities that
    are calibrated by temperature on clean validation data (Ovadia et al. 2019, arXiv:1906.02530).

    `retention_corrupted_image` is `accuracy_corrupted` over that of the model `image-only` of the same seed, under the
    same corruptions; `retention_corrupted_text` is relative to `text-only`, which no corruption changes.
    `effective_robustness_corrupted` is `accuracy_corrupted` less what `accuracy_clean` lets expect, by a logit-linear
    fit to all models of the setting that read images, of which there must be ten; `_r2` is the fit's R². It changes if
    runs are added, and is computed anew each time.
    """

    shift, clean = "corrupted", "clean"

    def __call__(self, model: Model, indices: Int[np.ndarray, " example"]) -> dict[str, float]:
        modality, rows = image_of(model), spaced(len(indices), self.examples)
        examples, original = indices[rows], model.dataset.modalities[modality].values[indices[rows]]
        if original.shape[-1] not in CHANNELS:
            raise Inapplicable(f"{modality} has {original.shape[-1]} channels; corruptions are defined for 1 and 3")
        is_kept = original.nbytes * len(CORRUPTIONS) * len(SEVERITIES) <= CACHED_BYTES

        def images(name: str, severity: int) -> np.ndarray:
            key = "corruptions", modality, name, severity, examples.tobytes()
            found = model.cache.get(key)
            if found is None:
                found = corrupt(original, name, severity, examples=examples)
            if is_kept:
                model.cache[key] = found
            return found

        return self.measure(model, modality, examples, rows, CORRUPTIONS, images)


@register_diagnostic(CIFAR10_C, reference="Hendrycks and Dietterich 2019, arXiv:1903.12261")
class PublishedCorruptions(ImageShift):
    """Accuracy and calibration on the published images of CIFAR-10-C, from the directory given by --cifar10-c.

    The directory has labels.npy and one .npy for each corruption; those that are there are measured. Images are paired
    with captions by the original order of the test images, and labels.npy must agree with the dataset's.

    The values are those of `corruptions`, with cifar10_c in their names: `accuracy_cifar10_c_fog_3`,
    `accuracy_cifar10_c_fog`, `accuracy_cifar10_c`, `accuracy_cifar10_c_clean`. The mean over all is over the fifteen
    corruptions of the benchmark, without speckle noise, Gaussian blur, spatter and saturate, which it has for
    validation.
    """

    shift, clean, prefix = "cifar10_c", "cifar10_c_clean", "cifar10_c_"

    def __call__(self, model: Model, indices: Int[np.ndarray, " example"]) -> dict[str, float]:
        if CIFAR10_C not in model.files:
            raise Inapplicable("it needs the directory of CIFAR-10-C, --cifar10-c DIR")
        modality, rows = image_of(model), spaced(len(indices), self.examples)
        published, examples = open_cifar10_c(model.files[CIFAR10_C]), indices[rows]
        of_files = published.rows(model.dataset, examples)

        def images(name: str, severity: int) -> np.ndarray:
            return published.images(name, severity, of_files)

        return self.measure(model, modality, examples, rows, published.names, images)


def image_of(model: Model) -> str:
    """Returns the image that is corrupted: the one that captions are about, else the only one.

    Raises:
      Inapplicable: there are several, or the model does not read it.
    """
    images, captions = model.dataset.task.images, model.dataset.captions
    about = None if captions is None else captions.about
    found = [name for name in images if name == about] or [*images]
    if len(found) > 1:
        raise Inapplicable(f"there are several images, {', '.join(images)}, and captions are about none of them")
    if found[0] not in model.modalities:
        raise Inapplicable(f"the model reads {model.modalities[0]} alone, and {found[0]} is corrupted")
    return found[0]
