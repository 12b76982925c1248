"""Caption channels: text about an image that carries an amount of information known exactly.

A caption has one informative word w and, where the channel shifts, a shift word k; all else in it is drawn
independently. Given the image's class y, of C classes:

    y' = y with probability 1 - wrong, else one of the other classes, uniformly
    w  = a noun of y' with probability `named`, its group's word with probability `grouped`, else neutral
    k  = uniform in 0 .. C - 1 with probability `shift`, else 0
    t  = (y + k) mod C, the target

So (w, k) is a sufficient statistic of the caption, and every figure follows from the table P(w, k, t | y).
"""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float64, Int, Int32

from fusion_bench import errors
from fusion_bench.data.captions.lexicon import Group, Lexicon, lexicon_for
from fusion_bench.data.captions.presets import ChannelSpec, parse_channel
from fusion_bench.data.captions.templates import render

_STREAM = 0xCA97  # Keeps these draws apart from the split's and the templates', which have the same seed.


@dataclasses.dataclass(frozen=True, eq=False)
class Channel:
    """A channel over the classes of one lexicon: its exact table, and what follows without any training.

    Attributes:
      spec: the parameters.
      lexicon: the words.
      prior: probability of each class; uniform if None.

    Raises:
      UserError: the lexicon lacks the channel's partition, or the prior is no distribution over the classes.
    """

    spec: ChannelSpec
    lexicon: Lexicon
    prior: Float64[np.ndarray, " class"] | None = None

    def __post_init__(self) -> None:
        if self.spec.partition is not None and self.spec.partition not in self.lexicon.partitions:
            raise errors.unknown_name("partition", self.spec.partition, self.lexicon.partitions)
        if self.prior is not None:
            prior = np.asarray(self.prior, np.float64)
            if prior.shape != (self.num_classes,) or (prior < 0).any() or not np.isclose(prior.sum(), 1):
                raise errors.UserError(f"a prior has {self.num_classes} probabilities that sum to 1, not {self.prior}")

    @property
    def num_classes(self) -> int:
        return self.lexicon.num_classes

    @functools.cached_property
    def class_probabilities(self) -> Float64[np.ndarray, " class"]:
        """The prior P(y)."""
        if self.prior is None:
            return np.full(self.num_classes, 1 / self.num_classes)
        return np.asarray(self.prior, np.float64)

    @functools.cached_property
    def words(self) -> tuple[str, ...]:
        """The informative words: nouns class by class, words of the partition's groups, neutral words."""
        nouns = [noun for nouns in self.lexicon.nouns for noun in nouns]
        return (*nouns, *(group.word for group in self._groups), *self.lexicon.neutral)

    @functools.cached_property
    def word_probabilities(self) -> Float64[np.ndarray, "class word"]:
        """P(w | y), the same for every k."""
        position = {word: i for i, word in enumerate(self.words)}
        right = np.zeros((self.num_classes, len(self.words)))  # P(w | y')
        for y, nouns in enumerate(self.lexicon.nouns):
            right[y, [position[noun] for noun in nouns]] = self.spec.named / len(nouns)
        for group in self._groups:
            right[list(group.classes), position[group.word]] = self.spec.grouped
        neutral = [position[word] for word in self.lexicon.neutral]
        right[:, neutral] = max(0.0, 1 - self.spec.named - self.spec.grouped) / len(neutral)
        mixing = np.full((self.num_classes,) * 2, self.spec.wrong / (self.num_classes - 1))  # P(y' | y)
        np.fill_diagonal(mixing, 1 - self.spec.wrong)
        return mixing @ right

    @functools.cached_property
    def shift_probabilities(self) -> Float64[np.ndarray, " shift"]:
        """P(k), the same for every y and w."""
        probabilities = np.full(self.num_classes, self.spec.shift / self.num_classes)
        probabilities[0] += 1 - self.spec.shift
        return probabilities

    @functools.cached_property
    def table(self) -> Float64[np.ndarray, "class word shift target"]:
        """The channel itself, P(w, k, t | y). Grows as C^4; nothing below needs it in full."""
        y, k = np.ogrid[: self.num_classes, : self.num_classes]
        table = np.zeros((self.num_classes, len(self.words), self.num_classes, self.num_classes))
        table[y, :, k, (y + k) % self.num_classes] = (
            self.word_probabilities[:, None, :] * self.shift_probabilities[None, :, None]
        )
        return table

    def bayes_scores(
        self,
        class_probabilities: Float[np.ndarray, "example class"],
        words: Int[np.ndarray, " example"],
        shifts: Int[np.ndarray, " example"],
    ) -> Float64[np.ndarray, "example target"]:
        """Returns sum_y p(y | x) P(w, k, t | y), whose argmax over t is the Bayes decision given p(y | x).

        Proportional to P(t | x, w, k), because given the class a caption is independent of the image.
        """
        # the only class that goes with each t, given k
        y = (np.arange(self.num_classes) - shifts[:, None]) % self.num_classes
        scores = class_probabilities * self.word_probabilities[:, words].T
        return np.take_along_axis(scores, y, axis=1) * self.shift_probabilities[shifts, None]

    # Given k, t is a bijection of y, and k is independent of (y, w). So P(w, k, t) = P(k) P(y, w), y = t - k,
    # and sums over (w, k, t) become sums over (y, w).

    @functools.cached_property
    def _target_probabilities(self) -> Float64[np.ndarray, "class target"]:
        """P(t | y)."""
        y, t = np.ogrid[: self.num_classes, : self.num_classes]
        return self.shift_probabilities[(t - y) % self.num_classes]

    @functools.cached_property
    def _joint(self) -> Float64[np.ndarray, "class word"]:
        """P(y, w)."""
        return self.class_probabilities[:, None] * self.word_probabilities

    @property
    def bits(self) -> float:
        """I(caption; t) = H(t) - H(t | w, k), where H(t | w, k) = H(y | w); in bits."""
        entropy_of_target = _entropy(self.class_probabilities @ self._target_probabilities)
        return max(0.0, entropy_of_target - (_entropy(self._joint) - _entropy(self._joint.sum(axis=0))))

    @property
    def interaction_bits(self) -> float:
        """I(caption; t | y) = H(t | y), since t is a function of y and the caption; in bits."""
        entropies = np.array([_entropy(row) for row in self._target_probabilities])
        return float(self.class_probabilities @ entropies)

    @property
    def text_only_ceiling(self) -> float:
        """The best accuracy from the caption alone: sum_{w,k} max_t P(w, k, t) = sum_w max_y P(y, w)."""
        return float(self._joint.max(axis=0).sum())

    @property
    def image_only_ceiling(self) -> float:
        """The best accuracy of a perfect image classifier without the caption: sum_y max_t P(y, t)."""
        return float(self.class_probabilities @ self._target_probabilities.max(axis=1))

    @property
    def _groups(self) -> tuple[Group, ...]:
        return () if self.spec.partition is None else self.lexicon.partitions[self.spec.partition]


def make_channel(name: str, class_names: Sequence[str], prior: Float64[np.ndarray, " class"] | None = None) -> Channel:
    """Returns a channel over the classes of a dataset.

    Args:
      name: of a preset, with what is to differ from it: "half", or "half:named=0.2".
      class_names: the classes.
      prior: probability of each class; uniform if None.

    Raises:
      UserError: there is no preset of that name, or what is to differ cannot be read.
    """
    return Channel(parse_channel(name), lexicon_for(class_names), prior)


@dataclasses.dataclass(frozen=True, eq=False)
class Sample:
    """What a channel drew for each example.

    Attributes:
      words: index of the informative word w in `Channel.words`.
      shifts: the shift k.
      targets: the target t.
    """

    words: Int32[np.ndarray, " example"]
    shifts: Int32[np.ndarray, " example"]
    targets: Int32[np.ndarray, " example"]


def sample(channel: Channel, classes: Int[np.ndarray, " example"], seed: int) -> Sample:
    """Draws a word, a shift and so a target for examples of the given classes.

    Raises:
      ValueError: a class is not in 0 .. num_classes - 1.
    """
    if len(classes) and (classes.min() < 0 or classes.max() >= channel.num_classes):
        raise ValueError(f"classes must be in 0..{channel.num_classes - 1}, not {classes.min()}..{classes.max()}")
    generator = np.random.Generator(np.random.PCG64([seed, _STREAM]))
    uniform_word, uniform_shift = generator.random((2, len(classes)))
    words = np.zeros(len(classes), np.int32)
    for y, probabilities in enumerate(channel.word_probabilities):
        of_class = classes == y
        words[of_class] = _quantile(probabilities, uniform_word[of_class])
    shifts = _quantile(channel.shift_probabilities, uniform_shift)
    targets = (classes + shifts) % channel.num_classes
    return Sample(words, shifts.astype(np.int32), targets.astype(np.int32))


def write_captions(channel: Channel, drawn: Sample, seed: int) -> tuple[str, ...]:
    """Returns the sentence of each example; a shift word is in it wherever the channel can shift."""
    words = [channel.words[w] for w in drawn.words.tolist()]
    shifts = [channel.lexicon.shifts[k] for k in drawn.shifts.tolist()] if channel.spec.shift > 0 else None
    return render(words, seed, shifts)


def _quantile(probabilities: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Inverts the distribution function at numbers in [0, 1); never gives an outcome of probability 0."""
    cumulative = np.cumsum(probabilities)
    return np.searchsorted(cumulative / cumulative[-1], uniform, side="right")


def _entropy(probabilities: np.ndarray) -> float:
    """H in bits of a distribution of any shape; 0 log 0 = 0."""
    positive = probabilities[probabilities > 0]
    return float(-(positive * np.log2(positive)).sum())
