"""Captions of which a reader knows only a part: words are dropped, or come from a channel that it has not learned.

The rest of a caption is independent of the class, of w and of k. So an ideal reader decides by what is known of (w, k),
where -1 stands for a part that is not: see `Channel.bayes_scores`.
"""

import itertools
import re
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float, Int

from fusion_bench.data.captions.channel import Channel

_STREAM = 0xD709  # keeps these draws apart from those of splits and captions, which have the same seed


def drop_words(
    texts: Sequence[str], fraction: float, *, examples: Int[np.ndarray, " example"], seed: int = 0
) -> tuple[str, ...]:
    """Returns texts in which each word is left out with a probability, independently.

    A word is a run of letters, digits and "_", of any length; punctuation stays. What is dropped depends on the seed
    and the example alone, and what a smaller fraction drops, a larger one drops too.
    """
    return tuple(
        _drop(text, fraction, np.random.default_rng([seed, _STREAM, example]))
        for text, example in zip(texts, examples.tolist(), strict=True)
    )


def _drop(text: str, fraction: float, generator: np.random.Generator) -> str:
    return re.sub(r"\w+", lambda word: "" if generator.random() < fraction else word[0], text)


def text_ceiling_without_words(channel: Channel, fraction: float) -> float:
    """Returns the best accuracy from a caption whose words are dropped with a probability q, exactly.

    Both w and k survive with probability 1 - q, independently: Σ_S P_q(S) Σ_s max_t P(s, t), over the parts S of (w, k)
    that survive and their values s. A channel that shifts states each k, also zero, so that a dropped k is unknown.
    """
    joint, targets = channel.prior[:, None] * channel.word_probabilities, _target_probabilities(channel)
    of_word, of_shift = (joint.T @ targets).max(1).sum(), channel.prior.max()  # given k, t is a bijection of y
    ceilings = (channel.text_only_ceiling, of_word, of_shift, (channel.prior @ targets).max())
    return min(1.0, sum(p * c for (p, _, _), c in zip(_survivors(fraction), ceilings, strict=True)))


def bayes_accuracy_without_words(
    channel: Channel,
    fraction: float,
    class_probabilities: Float[np.ndarray, "example class"],
    words: Int[np.ndarray, " example"],
    shifts: Int[np.ndarray, " example"],
    targets: Int[np.ndarray, " example"],
) -> float:
    """Returns the accuracy of the Bayes decision given p(y | x) and captions whose words are dropped.

    It is the expectation over what is dropped, exactly: the mean of the accuracies with and without w and k, weighted
    by the probabilities that they survive.
    """
    found = 0.0
    for probability, has_word, has_shift in _survivors(fraction):
        known = (np.where(has, part, -1) for has, part in ((has_word, words), (has_shift, shifts)))
        found += probability * (channel.bayes_scores(class_probabilities, *known).argmax(1) == targets).mean()
    return float(found)


def read_by(
    reader: Channel, writer: Channel, words: Int[np.ndarray, " example"], shifts: Int[np.ndarray, " example"]
) -> tuple[Int[np.ndarray, " example"], Int[np.ndarray, " example"]]:
    """Returns the words and shifts of one channel's captions as those of a reader who knows another channel alone.

    What the reader's channel never says is -1, as if it were not in the caption: a word or a shift of probability 0 for
    every class, and the shift of a caption that has no word for it where the reader's channel always has one.
    """
    said = {word: i for i, word in enumerate(reader.words) if reader.word_probabilities[:, i].any()}
    as_read = np.array([said.get(word, -1) for word in writer.words])
    if reader.spec.shift == 0:
        return as_read[words], np.zeros_like(shifts)
    return as_read[words], shifts if writer.spec.shift > 0 else np.full_like(shifts, -1)


def _survivors(fraction: float) -> Iterator[tuple[float, bool, bool]]:
    """Yields the probability of each outcome: whether w survives, and whether k does."""
    for has_word, has_shift in itertools.product((True, False), repeat=2):
        yield (
            float(np.prod([fraction if not has else 1 - fraction for has in (has_word, has_shift)])),
            has_word,
            has_shift,
        )


def _target_probabilities(channel: Channel) -> Float[np.ndarray, "class target"]:
    """P(t | y)."""
    y, t = np.ogrid[: channel.num_classes, : channel.num_classes]
    return channel.shift_probabilities[(t - y) % channel.num_classes]
