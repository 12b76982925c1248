"""Sentences around an informative word: a bank of templates that knows nothing of class, word or shift.

Every slot is filled independently of the informative word, so a caption has no information beyond its word and its
shift. No "a" or "an" stands directly before the word, and every adjective starts with a consonant, so no article
depends on the word.
"""

import re
from collections.abc import Sequence

import numpy as np

ADJECTIVES = (
    "small", "large", "tiny", "huge", "blurry", "bright", "dark", "pale", "faded", "grainy", "plain",
    "pretty", "strange", "familiar", "handsome", "nameless", "lonely", "quiet", "peculiar", "colourful",
)  # fmt: skip
PLACES = (
    "in the middle of the frame", "near the left edge", "near the right edge", "close to the camera",
    "in the distance", "against a plain backdrop", "under soft light", "in full sunshine", "in the shade",
    "at the bottom", "at the top", "slightly out of focus", "half in shadow", "a little off centre",
)  # fmt: skip
TIMES = (
    "yesterday", "this morning", "last week", "last summer", "on a rainy day", "at noon", "in the evening",
    "long ago", "on our holiday", "before breakfast",
)  # fmt: skip
PEOPLE = (
    "my sister", "my uncle", "a friend", "the neighbour", "our teacher", "somebody", "a stranger",
    "the photographer",
)  # fmt: skip

SENTENCES = (
    "The {word}.",
    "A {adjective} {word}.",
    "Look at this {word}!",
    "This {word} looks {adjective}.",
    "A photo of the {word}.",
    "A {adjective} photo of the {word}.",
    "The {word} is {place}.",
    "A {adjective} {word} {place}.",
    "Here is the {word} we saw {time}.",
    "There was a {adjective} {word} {place}.",
    "Nobody expected to see this {word} {place}.",
    "Can you spot the {adjective} {word}?",
    "If you look closely, the {word} is {place}.",
    "We noticed a {adjective} {word} {place} {time}.",
    "My favourite picture shows the {word} {place}.",
    "What a {adjective} {word}, said {person}.",
    "Everyone remembers that {adjective} {word}.",
    "I found this snapshot of a {adjective} {word} {time}.",
    "Taken {time}, this picture shows the {word}.",
    "Yes, this is the {adjective} {word} that {person} told us about {time}.",
    "The album begins with a {adjective} {word} {place}.",
    "Of all the pictures, the {word} {place} is the best.",
    "A {adjective} print of the {word}, made {time}.",
    "Seen {time}: the {adjective} {word}.",
    "It may well be the same {word}, {place}.",
    "A {adjective} picture from {person}, with the {word} {place}.",
    "According to {person}, this {word} was here {time}.",
    "When {person} took this picture {time}, the {word} was {place}.",
)
"""All have {word} once; the other slots are drawn from the lists above."""

SHIFT_PHRASES = (
    "{sentence} Shift by {shift}.",
    "{sentence} Then move on by {shift}.",
    "{sentence} Add {shift} to it.",
    "Shift {shift}. {sentence}",
    "Plus {shift}. {sentence}",
    "{sentence} The shift is {shift}, by the way.",
)

_SLOTS = {"adjective": ADJECTIVES, "place": PLACES, "time": TIMES, "person": PEOPLE}

TEMPLATE_WORDS = frozenset(
    word
    for text in (*SENTENCES, *SHIFT_PHRASES, *ADJECTIVES, *PLACES, *TIMES, *PEOPLE)
    for word in re.findall(r"\w+", re.sub(r"\{\w+\}", " ", text.lower()))
)
"""Every word that a caption may contain besides the informative word and the shift word."""

_STREAM = 0x7E77  # Keeps these draws apart from the channel's, which have the same seed.


def render(words: Sequence[str], seed: int, shifts: Sequence[str] | None = None) -> tuple[str, ...]:
    """Returns one sentence for each informative word.

    Template and slots depend on the seed and the position alone, never on `words` or `shifts`. `shifts` has the shift
    word of each example; None for a channel without shift.
    """
    generator = np.random.Generator(np.random.PCG64([seed, _STREAM]))

    def draw(options: tuple[str, ...]) -> list[str]:
        return [options[i] for i in generator.integers(len(options), size=len(words)).tolist()]

    sentences = draw(SENTENCES)
    slots = zip(*map(draw, _SLOTS.values()), strict=True)
    texts = [
        sentence.format(word=word, **dict(zip(_SLOTS, fillers, strict=True)))
        for word, sentence, fillers in zip(words, sentences, slots, strict=True)
    ]
    if shifts is not None:
        phrases = zip(texts, draw(SHIFT_PHRASES), shifts, strict=True)
        texts = [phrase.format(sentence=text, shift=shift) for text, phrase, shift in phrases]
    return tuple(texts)
