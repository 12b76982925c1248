"""Exact ceilings of a channel whose training data, or whose examples, are damaged.

A misaligned pair has the image and the target of one example and the caption of another, independent one:

    P(w, k | y) is mixed with the marginal P(w, k), while t keeps its own distribution P(t | y):
    P_p(w, k, t | y) = (1 - p) P(w, k, t | y) + p P(w, k) P(t | y)

With modalities missing independently with probability p, and one at least kept, the best accuracy is the mixture of
those of the sets of modalities that are present: see `metrics.coalitions`.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from fusion_bench.data.captions.channel import Channel
from fusion_bench.metrics.coalitions import presence

_TIE = 1e-12
"""Relative difference below which two probabilities are equal."""


class Misaligned(NamedTuple):
    """Accuracies of the decisions that are optimal on pairs that are misaligned with a probability.

    An ideal learner of such pairs decides so.

    Attributes:
      text_only: of the decision from the caption alone, on aligned pairs.
      with_class: of the decision from the caption and the class, as a perfect image shows it, on aligned pairs.
      text_only_misaligned: of the first on misaligned pairs, where it is the best possible.
      with_class_misaligned: of the second on misaligned pairs, where it is the best possible.
    """

    text_only: float
    with_class: float
    text_only_misaligned: float
    with_class_misaligned: float


def misaligned_table(channel: Channel, probability: float) -> Float64[np.ndarray, "class word shift target"]:
    """Returns P_p(w, k, t | y), the table of misaligned pairs; it is as large as `Channel.table`."""
    captions = np.einsum("y,ywkt->wk", channel.prior, channel.table)
    targets = channel.table.sum(axis=(1, 2))
    return (1 - probability) * channel.table + probability * captions[None, :, :, None] * targets[:, None, None, :]


def misaligned_ceilings(channel: Channel, probability: float) -> Misaligned:
    """Returns the accuracies of the decisions that are optimal on misaligned pairs, on aligned and on misaligned ones.

    From the caption alone, t*(w, k) = argmax_t P_p(w, k, t); it is right in sum_{w,k} P(w, k, t*(w, k)) of the aligned
    pairs, and in sum_{w,k} max_t P_p(w, k, t) of the misaligned ones. With the class, the same for each y. Targets of
    equal probability are chosen with equal probability.
    """
    joint = _distinct(channel.prior[:, None] * channel.word_probabilities)
    text_only = _text_only(joint, channel.shift_probabilities, probability)
    with_class = _with_class(joint, channel.shift_probabilities, probability)
    found = np.stack([text_only, with_class]).T.ravel()
    return Misaligned(*(min(1.0, float(accuracy)) for accuracy in found))  # sums round


def _distinct(joint: Float64[np.ndarray, "class word"]) -> Float64[np.ndarray, "class distinct"]:
    """Returns P(y, w) with words that tell the same of the class, such as the nouns of one class, as one word."""
    joint = joint[:, joint.sum(axis=0) > 0]
    posteriors = (joint / joint.sum(axis=0)).round(12)
    _, group = np.unique(posteriors, axis=1, return_inverse=True)
    distinct = np.zeros((group.max() + 1, len(joint)))
    np.add.at(distinct, group.reshape(-1), joint.T)
    return distinct.T


def _text_only(
    joint: Float64[np.ndarray, "class word"], shifts: Float64[np.ndarray, " shift"], probability: float
) -> Float64[np.ndarray, "2"]:
    """Returns the accuracy from the caption alone, on aligned and on misaligned pairs."""
    words, classes = joint.sum(axis=0)[:, None], np.arange(len(joint))
    targets = joint.sum(axis=1) @ shifts[(classes - classes[:, None]) % len(joint)]
    found = np.zeros(2)
    for k in np.flatnonzero(shifts):
        aligned = shifts[k] * joint[(classes - k) % len(joint)].T  # P(w, k, t) [word, target], as y = t - k
        learned = (1 - probability) * aligned + probability * shifts[k] * words * targets
        best = learned.max(axis=1, keepdims=True)
        chosen = learned >= best * (1 - _TIE)
        found += (aligned * chosen / chosen.sum(axis=1, keepdims=True)).sum(), best.sum()
    return found


def _with_class(
    joint: Float64[np.ndarray, "class word"], shifts: Float64[np.ndarray, " shift"], probability: float
) -> Float64[np.ndarray, "2"]:
    """Returns the accuracy from the caption and the class, on aligned and on misaligned pairs.

    The right target of an aligned pair is y + k. Of all others the best is the one whose P(t | y) is the highest.
    """
    apart = probability * joint.sum(axis=1, keepdims=True) * joint.sum(axis=0)  # [class, word]
    found = np.zeros(2)
    for k in (0, 1):  # all shifts but 0 are alike
        others = np.delete(shifts, k)
        right = (1 - probability) * joint + apart * shifts[k]
        wrong = apart * others.max()
        ties = 1 + np.isclose(others, others.max(), rtol=_TIE, atol=0).sum()
        chosen = np.where(np.isclose(right, wrong, rtol=_TIE, atol=0), 1 / ties, right > wrong)
        weight = shifts[k] * (len(shifts) - 1 if k else 1)
        found += weight * np.array([(joint * chosen).sum(), np.maximum(right, wrong).sum()])
    return found


def missing_ceiling(channel: Channel, probability: float) -> float:
    """Returns the best accuracy from a perfect image and the caption, each missing with a probability, but one kept.

    Both decide the target; from one, its ceiling is the best.
    """
    ceilings = {
        frozenset({"text"}): channel.text_only_ceiling,
        frozenset({"image"}): channel.image_only_ceiling,
        frozenset({"image", "text"}): 1.0,
    }
    found = presence(("image", "text"), probability)
    return sum(found[present] * ceiling for present, ceiling in ceilings.items())
