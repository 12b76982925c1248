"""Caption channels: text about an image that carries an amount of information known exactly.

A caption has one informative word w and, where the channel shifts, a shift word k; all else in it is drawn
independently. Given the image's class y, of C classes:

    y' = y with probability 1 - wrong, else one of the other classes, uniformly; or what a speaker named, see speaker.py
    w  = a noun of y' with probability `named`, its group's word with probability `grouped`, else neutral
    k  = uniform in 0 .. C - 1 with probability `shift`, else 0
    t  = (y + k) mod C, the target

So (w, k) is a sufficient statistic of the caption, and every figure follows from the table P(w, k, t | y).
"""

import dataclasses
import functools
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Float64, Int, Int32

from fusion_bench import errors
from fusion_bench.data.captions.lexicon import NEUTRAL, Lexicon, lexicon_for
from fusion_bench.data.captions.spec import ChannelSpec, parse_spec
from fusion_bench.data.captions.templates import render
from fusion_bench.metrics.information import Decomposition, decompose

# Separate random streams, as split and templates are drawn with the same seed.
_STREAM, _PREVIEW_STREAM, _NEUTRAL_STREAM = 0xCA97, 0x94E7, 0x4E07
MAX_TABLE = 10_000_000
"""Entries of a channel's table, at most, to decompose its information."""


@dataclasses.dataclass(frozen=True, eq=False)
class Channel:
    """A channel over the classes of one lexicon: its exact table, its information and its ceilings.

    Attributes:
      spec: the parameters.
      lexicon: the words.
      prior: P(y), the probability of each class.
      confusion: P(y' | y), the probability that a speaker names each class; None without one, where `wrong` gives it.

    Raises:
      UserError: the lexicon lacks the channel's partition, or the prior is no distribution over the classes.
      ValueError: there is a speaker without a confusion, or the reverse.
    """

    spec: ChannelSpec
    lexicon: Lexicon
    prior: Float64[np.ndarray, " class"]
    confusion: Float64[np.ndarray, "class named"] | None = None

    def __post_init__(self) -> None:
        partition, prior = self.spec.partition, self.prior
        if partition is not None and partition not in self.lexicon.partitions:
            raise errors.unknown_name("partition", partition, self.lexicon.partitions)
        if prior.shape != (self.num_classes,) or (prior < 0).any() or not np.isclose(prior.sum(), 1):
            raise errors.UserError(f"a prior has {self.num_classes} probabilities that sum to 1, not {prior}")
        if (self.spec.speaker is None) != (self.confusion is None):
            raise ValueError(f"{self.spec.name}: a channel has a confusion if and only if it has a speaker")

    @property
    def num_classes(self) -> int:
        return self.lexicon.num_classes

    @functools.cached_property
    def words(self) -> tuple[str, ...]:
        """The informative words: nouns class by class, words of the partition's groups, neutral words."""
        return (*itertools.chain(*self.lexicon.nouns), *self._groups, *NEUTRAL)

    @property
    def naming_probabilities(self) -> Float64[np.ndarray, "class named"]:
        """P(y' | y)."""
        if self.confusion is not None:
            return self.confusion
        mixing = np.full((self.num_classes,) * 2, self.spec.wrong / (self.num_classes - 1))
        np.fill_diagonal(mixing, 1 - self.spec.wrong)
        return mixing

    @functools.cached_property
    def words_of_named(self) -> Float64[np.ndarray, "named word"]:
        """P(w | y')."""
        position = {word: i for i, word in enumerate(self.words)}
        right = np.zeros((self.num_classes, len(self.words)))
        for y, nouns in enumerate(self.lexicon.nouns):
            right[y, [position[noun] for noun in nouns]] = self.spec.named / len(nouns)
        for word, classes in self._groups.items():
            right[list(classes), position[word]] = self.spec.grouped
        right[:, -len(NEUTRAL) :] = max(0.0, 1 - self.spec.named - self.spec.grouped) / len(NEUTRAL)
        return right

    @functools.cached_property
    def word_probabilities(self) -> Float64[np.ndarray, "class word"]:
        """P(w | y), the same for every k."""
        return self.naming_probabilities @ self.words_of_named

    @functools.cached_property
    def word_types(self) -> tuple[Int[np.ndarray, " word"], ...]:
        """The indices of the words that occur, by what they tell: P(w | y) is equal within a type."""
        columns = self.word_probabilities.T
        occurs = np.flatnonzero(columns.any(1))
        _, types = np.unique(columns[occurs].round(12), axis=0, return_inverse=True)
        return tuple(occurs[types.reshape(-1) == number] for number in range(types.max() + 1))

    @functools.cached_property
    def shift_probabilities(self) -> Float64[np.ndarray, " shift"]:
        """P(k), the same for every y and w."""
        probabilities = np.full(self.num_classes, self.spec.shift / self.num_classes)
        probabilities[0] += 1 - self.spec.shift
        return probabilities

    @functools.cached_property
    def table(self) -> Float64[np.ndarray, "class word shift target"]:
        """The channel itself, P(w, k, t | y). Its size grows as C^4; the properties below do not need it."""
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

        Proportional to P(t | x, w, k), if given the class a caption is independent of the image, as it is without a
        speaker. A word or a shift of -1 is not known, and summed over.
        """
        # the only class that gives each t, given k
        y = (np.arange(self.num_classes) - shifts[:, None]) % self.num_classes
        scores = class_probabilities * np.where(words < 0, 1.0, self.word_probabilities[:, words]).T
        known = np.take_along_axis(scores, y, axis=1) * self.shift_probabilities[shifts, None]
        return np.where(shifts[:, None] < 0, scores @ self._target_probabilities, known)

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
        return self.prior[:, None] * self.word_probabilities

    @property
    def bits(self) -> float:
        """I(caption; t) = H(t) - H(t | w, k), where H(t | w, k) = H(y | w); in bits."""
        entropy_of_target = _entropy(self.prior @ self._target_probabilities)
        return max(0.0, entropy_of_target - (_entropy(self._joint) - _entropy(self._joint.sum(axis=0))))

    @property
    def interaction_bits(self) -> float:
        """I(caption; t | y) = H(t | y), since t is a function of y and the caption; in bits."""
        entropies = np.array([_entropy(row) for row in self._target_probabilities])
        return float(self.prior @ entropies)

    @functools.cached_property
    def decomposition(self) -> Decomposition | None:
        """What a perfect image and the caption tell of the target, in bits; None if the table is too large."""
        if len(self.words) * self.num_classes**3 > MAX_TABLE:
            return None
        joint = self.prior[:, None, None, None] * self.table  # [class, word, shift, target]
        return decompose(joint.reshape(self.num_classes, -1, self.num_classes))

    @property
    def text_only_ceiling(self) -> float:
        """The best accuracy from the caption alone: sum_{w,k} max_t P(w, k, t) = sum_w max_y P(y, w)."""
        return min(1.0, float(self._joint.max(axis=0).sum()))  # sums round

    @property
    def image_only_ceiling(self) -> float:
        """The best accuracy of a perfect image classifier without the caption: sum_y max_t P(y, t)."""
        return min(1.0, float(self.prior @ self._target_probabilities.max(axis=1)))

    @property
    def _groups(self) -> Mapping[str, tuple[int, ...]]:
        return {} if self.spec.partition is None else self.lexicon.partitions[self.spec.partition]


def make_channel(
    spec: str | ChannelSpec,
    class_names: Sequence[str],
    prior: Float64[np.ndarray, " class"] | None = None,
    confusion: Float64[np.ndarray, "class named"] | None = None,
) -> Channel:
    """Returns the channel of a name, such as "half" or "half:named=0.2", or of parameters; see `parse_spec`.

    The prior P(y) of the classes is uniform if None. The confusion is that of the speaker, if the channel has one.

    Raises:
      UserError: there is no such preset or option, or a value is not of its type.
    """
    uniform = np.full(len(class_names), 1 / len(class_names))
    parsed = parse_spec(spec) if isinstance(spec, str) else spec
    return Channel(parsed, lexicon_for(class_names), uniform if prior is None else prior, confusion)


@dataclasses.dataclass(frozen=True, eq=False)
class Sample:
    """Draws of a channel for each example.

    Attributes:
      words: index of the informative word w in `Channel.words`.
      shifts: the shift k.
      targets: the target t.
      texts: the caption; a shift word is in it wherever the channel can shift.
    """

    words: Int32[np.ndarray, " example"]
    shifts: Int32[np.ndarray, " example"]
    targets: Int32[np.ndarray, " example"]
    texts: tuple[str, ...]


def sample(
    channel: Channel, classes: Int[np.ndarray, " example"], seed: int, named: Int[np.ndarray, " example"] | None = None
) -> Sample:
    """Draws a word, a shift and so a target for examples of the given classes, and writes their captions.

    With `named`, the class y' that each caption speaks of is given, else it is drawn too. The uniform numbers and the
    sentences are the same in both cases: those of a seed and a position. Where y' is not one of the classes, w is -1.

    Raises:
      ValueError: a class is not in 0 .. num_classes - 1.
    """
    if len(classes) and (classes.min() < 0 or classes.max() >= channel.num_classes):
        raise ValueError(f"classes must be in 0..{channel.num_classes - 1}, not {classes.min()}..{classes.max()}")
    generator = np.random.Generator(np.random.PCG64([seed, _STREAM]))
    uniform_word, uniform_shift = generator.random((2, len(classes)))
    words = np.full(len(classes), -1, np.int32)
    given = channel.word_probabilities if named is None else channel.words_of_named
    for y, probabilities in enumerate(given):
        of_class = (classes if named is None else named) == y
        words[of_class] = _quantile(probabilities, uniform_word[of_class])
    shifts = _quantile(channel.shift_probabilities, uniform_shift).astype(np.int32)
    targets = ((classes + shifts) % channel.num_classes).astype(np.int32)
    return Sample(words, shifts, targets, write(channel, words, shifts, seed))


def write(
    channel: Channel, words: Int[np.ndarray, " text"], shifts: Int[np.ndarray, " text"], seed: int
) -> tuple[str, ...]:
    """Returns a caption for each informative word and shift, in sentences drawn with the seed."""
    numbers = channel.lexicon.shifts
    stated = [numbers[k] for k in shifts.tolist()] if channel.spec.shift > 0 else None
    return render([channel.words[w] for w in words.tolist()], seed, stated)


def sample_neutral(channel: Channel, count: int, seed: int) -> tuple[str, ...] | None:
    """Returns captions that say nothing: a neutral word, and a shift drawn from P(k); None if the channel has none."""
    first = len(channel.words) - len(NEUTRAL)
    if not channel.word_probabilities[:, first:].any():
        return None
    generator = np.random.Generator(np.random.PCG64([seed, _NEUTRAL_STREAM]))
    shifts = _quantile(channel.shift_probabilities, generator.random(count))
    return write(channel, generator.integers(first, len(channel.words), count), shifts, seed)


def preview(channel: Channel, class_names: Sequence[str], count: int, seed: int) -> list[tuple[str, ...]]:
    """Returns examples of uniformly drawn classes: caption, class y, word w, shift k and target t."""
    generator = np.random.Generator(np.random.PCG64([seed, _PREVIEW_STREAM]))
    classes = generator.integers(channel.num_classes, size=count)
    drawn = sample(channel, classes, seed)
    facts = zip(drawn.texts, classes, drawn.words, drawn.shifts, drawn.targets, strict=True)
    return [(text, class_names[int(y)], channel.words[w], str(k), class_names[int(t)]) for text, y, w, k, t in facts]


def _quantile(probabilities: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Inverts the distribution function at numbers in [0, 1); never gives an outcome of probability 0."""
    cumulative = np.cumsum(probabilities)
    return np.searchsorted(cumulative / cumulative[-1], uniform, side="right")


def _entropy(probabilities: np.ndarray) -> float:
    """H in bits of a distribution of any shape; 0 log 0 = 0."""
    positive = probabilities[probabilities > 0]
    return float(-(positive * np.log2(positive)).sum())
