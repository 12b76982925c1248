"""Captions of which only a part is known: exact figures against enumerations of the table and simulations."""

import itertools
import re

import numpy as np
import pytest

from fusion_bench.data.captions.channel import make_channel, sample
from fusion_bench.data.captions.partial import (
    bayes_accuracy_without_words,
    drop_words,
    read_by,
    text_ceiling_without_words,
)

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
UNEVEN = np.array([0.3, 0.2, 0.1, 0.1, 0.1, 0.05, 0.05, 0.05, 0.03, 0.02])
CHANNELS = [
    make_channel("default", CLASSES),
    make_channel("synergy", CLASSES),
    make_channel("mixed", CLASSES, UNEVEN),
    make_channel("mixed:named=0.1", tuple(f"thing of kind {i}" for i in range(23))),
]
HALF, SYNERGY, DEFAULT, NEUTRAL = (make_channel(name, CLASSES) for name in ("half", "synergy", "default", "neutral"))
RNG = np.random.default_rng(0)


def outcomes(fraction):
    """Yields whether w and k survive, with the probability."""
    for has_word, has_shift in itertools.product((True, False), repeat=2):
        yield has_word, has_shift, abs(fraction - has_word) * abs(fraction - has_shift)


def test_words_of_every_length_are_dropped_alike_and_punctuation_stays():
    text = "A is the dog, of cat_1 and incomprehensibilities!"
    dropped = drop_words([text] * 4000, 0.25, examples=np.arange(4000))
    for word in re.findall(r"\w+", text):
        kept = np.mean([word in re.findall(r"\w+", each) for each in dropped])
        assert kept == pytest.approx(0.75, abs=4 * np.sqrt(0.75 * 0.25 / 4000)), word
    assert all(re.sub(r"[\w ]", "", each) == ",!" for each in dropped)


def test_what_is_dropped_depends_on_seed_and_example_and_grows_with_the_fraction():
    texts, examples = ["one two three four five six seven eight"] * 50, np.arange(50)
    few, many = (drop_words(texts, fraction, examples=examples) for fraction in (0.3, 0.6))
    assert few[20:] == drop_words(texts[20:], 0.3, examples=examples[20:])
    assert len(set(few)) > 20
    assert few != drop_words(texts, 0.3, examples=examples, seed=1)
    assert all({*some.split()} < {*text.split()} for some, text in zip(many, texts, strict=True))
    assert all({*less.split()} <= {*more.split()} for less, more in zip(many, few, strict=True))
    assert drop_words(texts, 0.0, examples=examples) == tuple(texts)
    assert not "".join(drop_words(texts, 1.0, examples=examples)).strip()


@pytest.mark.parametrize("channel", CHANNELS, ids=lambda channel: f"{channel.spec.name}-{channel.num_classes}")
@pytest.mark.parametrize("fraction", [0.0, 0.25, 0.7, 1.0])
def test_the_ceiling_is_that_of_all_that_can_be_seen(channel, fraction):
    seen: dict[tuple[int, int], np.ndarray] = {}
    if channel.num_classes > 10:
        channel = make_channel("mixed", CLASSES[:4])  # the table grows as the fourth power
    table = channel.prior[:, None, None, None] * channel.table
    for y, w, k, t in zip(*np.nonzero(table), strict=True):
        for has_word, has_shift, probability in outcomes(fraction):
            key = (w if has_word else -1, k if has_shift else -1)
            seen.setdefault(key, np.zeros(channel.num_classes))[t] += probability * table[y, w, k, t]
    expected = sum(of_target.max() for of_target in seen.values())
    assert text_ceiling_without_words(channel, fraction) == pytest.approx(expected, abs=1e-12)


def test_known_values_of_the_ceiling():
    assert text_ceiling_without_words(HALF, 0.5) == pytest.approx(0.5 * 0.55 + 0.5 * 0.1)
    assert text_ceiling_without_words(HALF, 1.0) == pytest.approx(0.1)
    assert text_ceiling_without_words(SYNERGY, 0.3) == pytest.approx(0.1)


@pytest.mark.parametrize("channel", CHANNELS, ids=lambda channel: f"{channel.spec.name}-{channel.num_classes}")
def test_a_reader_of_the_words_that_are_left_reaches_the_ceiling_and_no_more(channel):
    count, fraction = 8000, 0.4
    classes = RNG.choice(channel.num_classes, count, p=channel.prior)
    drawn = sample(channel, classes, 3)
    position = {word: i for i, word in enumerate(channel.words)}
    number = {word: i for i, word in enumerate(channel.lexicon.shifts)}
    left = [re.findall(r"\w+", text.lower()) for text in drop_words(drawn.texts, fraction, examples=np.arange(count))]
    words = np.array([next((position[word] for word in text if word in position), -1) for text in left])
    shifts = np.array([next((number[word] for word in text if word in number), -1) for text in left])
    if channel.spec.shift:
        assert (shifts < 0).mean() == pytest.approx(fraction, abs=0.03)
    assert (words < 0).mean() == pytest.approx(fraction, abs=0.03)
    for known in (words[words >= 0] == drawn.words[words >= 0], shifts[shifts >= 0] == drawn.shifts[shifts >= 0]):
        assert known.all()
    prior = np.broadcast_to(channel.prior, (count, channel.num_classes))
    found = (channel.bayes_scores(prior, words, shifts).argmax(1) == drawn.targets).mean()
    ceiling = text_ceiling_without_words(channel, fraction)
    assert found == pytest.approx(ceiling, abs=4 * np.sqrt(ceiling * (1 - ceiling) / count))

    beliefs = RNG.dirichlet(np.full(channel.num_classes, 0.3), count)
    found = (channel.bayes_scores(beliefs, words, shifts).argmax(1) == drawn.targets).mean()
    expected = bayes_accuracy_without_words(channel, fraction, beliefs, drawn.words, drawn.shifts, drawn.targets)
    assert found == pytest.approx(expected, abs=4 * 0.5 / np.sqrt(count))


def test_the_bayes_accuracy_is_the_mean_over_what_is_dropped():
    channel = make_channel("mixed", CLASSES[:4])
    classes = RNG.integers(0, 4, 40)
    drawn, beliefs = sample(channel, classes, 0), RNG.dirichlet(np.ones(4), 40)
    expected = 0.0
    for row in range(40):
        for has_word, has_shift, probability in outcomes(0.3):
            scores = np.zeros(4)
            for y, k in itertools.product(range(4), range(4)):
                said = channel.word_probabilities[y, drawn.words[row]] if has_word else 1.0
                if not has_shift or k == drawn.shifts[row]:
                    scores[(y + k) % 4] += beliefs[row, y] * said * channel.shift_probabilities[k]
            expected += probability * (scores.argmax() == drawn.targets[row]) / 40
    found = bayes_accuracy_without_words(channel, 0.3, beliefs, drawn.words, drawn.shifts, drawn.targets)
    assert found == pytest.approx(expected, abs=1e-12)


def test_a_reader_of_the_same_channel_reads_everything():
    for channel in CHANNELS:
        drawn = sample(channel, np.arange(channel.num_classes).repeat(20), 0)
        for read, said in zip(
            read_by(channel, channel, drawn.words, drawn.shifts), (drawn.words, drawn.shifts), strict=True
        ):
            np.testing.assert_array_equal(read, said)


def test_words_and_shifts_that_a_reader_has_never_seen_are_not_there():
    classes = np.arange(10).repeat(30)
    drawn = sample(DEFAULT, classes, 0)
    words, _ = read_by(HALF, DEFAULT, drawn.words, drawn.shifts)
    for word, read in zip(drawn.words, words, strict=True):
        name = DEFAULT.words[word]
        assert read == (-1 if name in ("animal", "vehicle") else HALF.words.index(name))
    words, _ = read_by(NEUTRAL, HALF, *(getattr(sample(HALF, classes, 0), part) for part in ("words", "shifts")))
    assert (words < 0).any()  # nouns stand in the lexicon of `neutral`, which never says them
    assert {NEUTRAL.words[w] for w in words[words >= 0]} <= {*NEUTRAL.words[-8:]}
    drawn = sample(SYNERGY, classes, 0)
    assert not read_by(HALF, SYNERGY, drawn.words, drawn.shifts)[1].any()
    assert (read_by(SYNERGY, HALF, drawn.words, 0 * drawn.shifts)[1] == -1).all()


def test_mismatched_decisions_have_known_accuracies():
    """Of a perfect image model."""
    classes = np.arange(10).repeat(400)
    perfect = np.eye(10)[classes]

    def accuracy(reader, writer):
        drawn = sample(writer, classes, 1)
        scores = reader.bayes_scores(perfect, *read_by(reader, writer, drawn.words, drawn.shifts))
        return (scores.argmax(1) == drawn.targets).mean()

    assert accuracy(SYNERGY, SYNERGY) == 1
    assert accuracy(HALF, NEUTRAL) == 1  # nothing is said, and the image decides
    assert accuracy(HALF, SYNERGY) == pytest.approx(0.1, abs=0.02)  # takes the class for the target
    assert accuracy(SYNERGY, HALF) == pytest.approx(0.1, abs=0.02)  # any shift could be meant
    assert accuracy(make_channel("mixed", CLASSES), HALF) == 1  # no shift is the most probable one
