"""The comparison of an exported model with the stored run that it was made from."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from fusion_bench.data.dataset import ModalitySpec
from fusion_bench.deploy.model import Classifier
from fusion_bench.errors import UserError

BATCHES = (1, 7, 64)
"""Batch sizes that an exported model is run with."""
TOLERANCE = 1e-4
"""Largest difference of a logit."""

Predict = Callable[[Sequence[np.ndarray]], Float[np.ndarray, "batch class"]]
"""Logits of the arrays of `Classifier.arguments`."""


def check(classifier: Classifier, predict: Predict, what: str) -> float:
    """Returns the largest difference between the logits of an exported model and those of the run, over all batches.

    The examples are drawn: pixels and numbers with the mean and spread of the training data, texts and sequences of
    any length.

    Args:
      classifier: the run.
      predict: the exported model.
      what: its name, for messages.

    Raises:
      UserError: the difference exceeds `TOLERANCE`; the message names the batch size.
    """
    found = {}
    for size in BATCHES:
        arrays = draw(classifier, size)
        inputs = {argument.name: array for argument, array in zip(classifier.arguments, arrays, strict=True)}
        found[size] = float(np.abs(predict(arrays) - classifier.loaded.predict(inputs)).max())
    for size, difference in found.items():
        if not difference <= TOLERANCE:
            raise UserError(
                f"{what} is not exported: its logits differ by {difference:.1e} from the run's in a batch of {size}; "
                f"at most {TOLERANCE:.0e} is right"
            )
    return max(found.values())


def draw(classifier: Classifier, count: int) -> list[np.ndarray]:
    """Returns random arrays of `Classifier.arguments`, the same at every call."""
    rng = np.random.default_rng(count)
    found = []
    for name, spec in classifier.modalities.items():
        if spec.kind == "tokens":
            found.append(_draw_tokens(rng, spec, count))
            continue
        mean, std = classifier.loaded.stats[name]
        values = rng.normal(mean, std, (count, *spec.shape))
        found.append((values.clip(0, 255) if spec.dtype == "uint8" else values).astype(spec.dtype))
        if spec.kind == "sequence":
            found.append(_draw_mask(rng, count, spec.shape[0]))
            found[-2] *= found[-1][:, :, None]
    return found


def _draw_tokens(rng: np.random.Generator, spec: ModalitySpec, count: int) -> np.ndarray:
    assert spec.vocabulary_size is not None
    tokens = rng.integers(1, spec.vocabulary_size, (count, *spec.shape))
    return np.where(_draw_mask(rng, count, spec.shape[0]), tokens, 0).astype(np.int32)


def _draw_mask(rng: np.random.Generator, count: int, steps: int) -> np.ndarray:
    return np.arange(steps) < rng.integers(1, steps + 1, (count, 1))
