"""Words to token ids."""

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion_bench.data.captions import tokenizer as tokenizers
from fusion_bench.data.dataset import PAD
from fusion_bench.errors import UserError

TEXTS = ["The cat, the DOG!", "the cat", "zebra apple"]


def test_ids_go_by_frequency_then_alphabet() -> None:
    vocabulary = tokenizers.train_tokenizer(TEXTS).get_vocab()
    words = ["[PAD]", "[UNK]", "the", "cat", "!", ",", "apple", "dog", "zebra"]
    assert sorted(vocabulary, key=vocabulary.__getitem__) == words
    assert sorted(vocabulary.values()) == list(range(len(words)))


def test_ids_do_not_depend_on_the_order_of_texts() -> None:
    texts = [f"word{i} word{i % 7}" for i in range(500)]
    first = tokenizers.train_tokenizer(texts).to_str()
    for seed in range(3):
        random.Random(seed).shuffle(texts)
        assert tokenizers.train_tokenizer(texts).to_str() == first


def test_encode_pads_cuts_and_marks_unknown_words() -> None:
    tokenizer = tokenizers.train_tokenizer(TEXTS)
    ids = tokenizers.encode(tokenizer, ["The cat", "the unheard-of CAT"])
    np.testing.assert_array_equal(ids, [[2, 3, 0, 0, 0], [2, 1, 1, 1, 3]])
    np.testing.assert_array_equal(tokenizers.encode(tokenizer, ["the cat the", "dog"], 2), [[2, 3], [7, 0]])
    np.testing.assert_array_equal(tokenizers.encode(tokenizer, ["cat"], length=3), [[3, 0, 0]])
    assert ids.dtype == np.int32


@given(st.lists(st.text(max_size=30), min_size=1, max_size=8), st.integers(1, 5) | st.none())
def test_every_text_has_a_token_and_padding_only_after_it(texts: list[str], length: int | None) -> None:
    ids = tokenizers.encode(tokenizers.train_tokenizer(TEXTS), texts, length)
    assert ids.shape[0] == len(texts)
    assert length is None or ids.shape[1] == length
    assert (ids[:, 0] != PAD).all()
    assert (np.diff((ids == PAD).astype(int), axis=1) >= 0).all()


@pytest.mark.parametrize("text", ["", "   ", "[PAD]", "[PAD] [PAD]"])
def test_no_text_is_padding(text: str) -> None:
    tokenizer = tokenizers.train_tokenizer([*TEXTS, "[PAD]"])
    assert (tokenizers.encode(tokenizer, [text]) != PAD).all()


def test_no_texts_give_an_empty_array() -> None:
    tokenizer = tokenizers.train_tokenizer(TEXTS)
    assert tokenizers.encode(tokenizer, []).shape == (0, 1)
    assert tokenizers.encode(tokenizer, [], length=4).shape == (0, 4)


def test_a_saved_tokenizer_is_the_same(tmp_path: Path) -> None:
    tokenizer = tokenizers.train_tokenizer(TEXTS)
    (tmp_path / "tokenizer.json").write_text(tokenizer.to_str())
    again = tokenizers.load_tokenizer(tmp_path / "tokenizer.json")
    texts = [*TEXTS, "the unheard-of", ""]
    np.testing.assert_array_equal(tokenizers.encode(again, texts), tokenizers.encode(tokenizer, texts))


def test_what_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        tokenizers.load_tokenizer(tmp_path / "none.json")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(UserError, match="is not a tokenizer's JSON"):
        tokenizers.load_tokenizer(tmp_path / "broken.json")
