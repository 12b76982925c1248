"""Sentences: natural around any word, and silent about it."""

import re
import string
import time

import numpy as np
import pytest

from fusion_bench.data.captions.templates import ADJECTIVES, SENTENCES, SHIFT_PHRASES, TEMPLATE_WORDS, render

SLOTS = {"word", "adjective", "place", "time", "person"}


def slots(template: str) -> list[str]:
    return [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]


def test_the_bank_is_varied() -> None:
    assert len(set(SENTENCES)) == len(SENTENCES) >= 20
    assert len({len(sentence.split()) for sentence in SENTENCES}) >= 6
    assert all(slots(sentence).count("word") == 1 and set(slots(sentence)) <= SLOTS for sentence in SENTENCES)
    assert all(sorted(slots(phrase)) == ["sentence", "shift"] for phrase in SHIFT_PHRASES)
    texts = render(["thing"] * 2000, seed=0)
    assert len(set(texts)) > 500
    assert all("{" not in text and text[0].isupper() and text[-1] in ".!?" for text in texts)


def test_no_article_depends_on_the_word() -> None:
    assert not [sentence for sentence in SENTENCES if re.search(r"\ban? \{word\}", sentence, re.IGNORECASE)]
    assert not [sentence for sentence in SENTENCES if re.search(r"\ban \{", sentence, re.IGNORECASE)]
    assert not [adjective for adjective in ADJECTIVES if adjective[0] in "aeiou"]


@pytest.mark.parametrize("shifts", [None, ["zero"] * 300])
def test_sentences_do_not_depend_on_word_or_shift(shifts: list[str] | None) -> None:
    first = render(["yacht"] * 300, 5, shifts)
    words = [("ant", "octopus", "cat_1")[i % 3] for i in range(300)]
    other_shifts = None if shifts is None else [("four", "nine")[i % 2] for i in range(300)]
    second = render(words, 5, other_shifts)
    for i, (a, b) in enumerate(zip(first, second, strict=True)):
        assert a.count("yacht") == 1
        blank = b.replace(words[i], "yacht")
        if other_shifts is not None:
            assert a.count("zero") == 1
            blank = blank.replace(other_shifts[i], "zero")
        assert a == blank


def test_template_words_are_all_that_a_caption_has_besides_its_words() -> None:
    texts = render(["_w_"] * 3000, 0, ["_k_"] * 3000)
    seen = {word for text in texts for word in re.findall(r"\w+", text.lower())}
    assert seen == TEMPLATE_WORDS | {"_w_", "_k_"}


def test_every_template_is_equally_frequent() -> None:
    texts = render(["_w_"] * 28_000, 0)
    patterns = [re.sub(r"\\\{\w+\\\}", ".+", re.escape(sentence)) for sentence in SENTENCES]
    shortest = sum(re.fullmatch(patterns[0], text) is not None for text in texts)  # "The {word}."
    assert shortest >= len(texts) / len(SENTENCES) * 0.85
    openings = [sum(text.startswith(start) for text in texts) for start in ("Nobody", "According", "Everyone")]
    assert np.allclose(openings, len(texts) / len(SENTENCES), rtol=0.15)


def test_seeds_differ_and_repeat() -> None:
    words = ["thing"] * 50
    assert render(words, 1) == render(words, 1) != render(words, 2)
    assert render([], 0) == ()


def test_a_whole_dataset_is_written_in_a_moment() -> None:
    start = time.process_time()
    render(["thing"] * 60_000, 0, ["zero"] * 60_000)
    assert time.process_time() - start < 1
