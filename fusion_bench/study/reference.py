"""The Bayes reference: the best possible use of a given image model and the exact caption channel."""

import numpy as np
from jaxtyping import Float, Int
from scipy.special import softmax

from fusion_bench.data.dataset import Captions
from fusion_bench.metrics.calibration import fit_temperature


def bayes_logits(
    captions: Captions,
    indices: Int[np.ndarray, " example"],
    class_logits: Float[np.ndarray, "example class"],
    validation_logits: Float[np.ndarray, "held_out class"],
    validation_classes: Int[np.ndarray, " held_out"],
) -> Float[np.ndarray, "example target"]:
    """Returns log Σ_y p(y | x) P(w, k, t | y) for each target t, p calibrated by temperature on validation data.

    Given the class, a caption is independent of the image, unless it speaks of what people said. So this is the
    log-posterior of the target, up to a constant, if p(y | x) is the true posterior of the class. With words of people
    it is a reference only, and a model may exceed it.

    Args:
      captions: drawn from a channel.
      indices: the examples, into the whole dataset.
      class_logits: an image model's scores of the class y for these examples.
      validation_logits: the same model's on validation data.
      validation_classes: the class y of the validation data.
    """
    assert captions.channel is not None
    assert captions.words is not None
    assert captions.shifts is not None
    temperature = fit_temperature(validation_logits, validation_classes)
    probabilities = softmax(class_logits.astype(np.float64) / temperature, axis=1)
    scores = captions.channel.bayes_scores(probabilities, captions.words[indices], captions.shifts[indices])
    return np.log(np.maximum(scores, np.finfo(np.float64).tiny)).astype(np.float32)
