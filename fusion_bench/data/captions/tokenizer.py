"""Words to token ids: a word-level vocabulary of the training captions."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int32

from fusion_bench import errors
from fusion_bench.data.dataset import PAD

if TYPE_CHECKING:
    import tokenizers

UNKNOWN = 1
"""The token id of a word that is not in the vocabulary."""

PAD_TOKEN, UNKNOWN_TOKEN = "[PAD]", "[UNK]"
MAX_WORDS = 30_000
"""Size of the vocabulary, at most; rarer words are unknown."""


def train_tokenizer(texts: Iterable[str]) -> "tokenizers.Tokenizer":
    """Returns a tokenizer that knows the words of `texts`, in lower case and apart from punctuation.

    Ids go by frequency, then alphabet, so equal texts give equal ids. Give it the training captions only.
    """
    from tokenizers import Tokenizer, models, trainers

    # The special tokens join the vocabulary afterwards, as plain words: were they registered with the library
    # it would find "[PAD]" inside a caption too, and no caption may contain padding.
    counting = _with_rules(Tokenizer(models.WordLevel()))
    trainer = trainers.WordLevelTrainer(vocab_size=MAX_WORDS, special_tokens=[], show_progress=False)
    counting.train_from_iterator(texts, trainer)
    words = sorted(counting.get_vocab(), key=counting.get_vocab().__getitem__)
    vocabulary = {word: i for i, word in enumerate([PAD_TOKEN, UNKNOWN_TOKEN, *words])}
    return _with_rules(Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN_TOKEN)))


def encode(
    tokenizer: "tokenizers.Tokenizer", texts: Sequence[str], length: int | None = None
) -> Int32[np.ndarray, "example token"]:
    """Returns the token ids of each text, padded with `PAD` after its end.

    A text without any word becomes one unknown token, so that no mask is empty. `length` is 1 or more; longer texts are
    cut. None is that of the longest text.
    """
    rows = [encoding.ids or [UNKNOWN] for encoding in tokenizer.encode_batch_fast(list(texts))]
    if length is None:
        length = max(map(len, rows), default=1)
    counts = np.fromiter(map(len, rows), np.int64, len(rows))
    out = np.full((len(rows), length), PAD, np.int32)
    out[np.arange(length) < counts[:, None]] = [token for row in rows for token in row[:length]]
    return out


def load_tokenizer(path: Path) -> "tokenizers.Tokenizer":
    """Reads a tokenizer from its JSON.

    Raises:
      UserError: the file is missing or is not a tokenizer.
    """
    from tokenizers import Tokenizer

    if not path.is_file():
        raise errors.UserError(f"{path}: no such file; it should be a tokenizer's JSON")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing more specific
        raise errors.UserError(f"{path} is not a tokenizer's JSON: {error}") from error


def _with_rules(tokenizer: "tokenizers.Tokenizer") -> "tokenizers.Tokenizer":
    from tokenizers import normalizers, pre_tokenizers

    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer
