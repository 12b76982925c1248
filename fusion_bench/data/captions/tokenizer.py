"""Texts to token ids: a vocabulary of words, of parts of words or of characters, learned from the training texts."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int32

from fusion_bench import errors
from fusion_bench.config import TokenizerKind
from fusion_bench.data.dataset import PAD

if TYPE_CHECKING:
    import tokenizers

UNKNOWN = 1
"""The token id of a word that is not in the vocabulary."""

PAD_TOKEN, UNKNOWN_TOKEN = "[PAD]", "[UNK]"
MAX_WORDS = 30_000
"""Size of the vocabulary, at most; rarer words are unknown."""
MIN_FREQUENCY, MAX_PART = 10, 8
"""Occurrences of a part of a word, at least, and its characters, at most: without them whole sentences become parts."""
SAMPLE = 5000
"""Texts that the choice of a kind looks at, at most."""

_CHINESE_JAPANESE = (
    "\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
_THAI_LAO_BURMESE_KHMER = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"

_SURROGATE = re.compile("[\ud800-\udfff]")


def choose_kind(texts: Sequence[str]) -> TokenizerKind:
    """Returns the kind of tokenizer that texts need: words, unless they cannot be told apart, or nearly all differ.

    Characters where most letters are Chinese or Japanese. Parts of words where more than a tenth of the letters are of
    a script without spaces, or where two words in three occur once: so large a part of the words of other texts is
    expected to be unknown (Good, "The population frequencies of species", 1953).
    """
    sample = " ".join(texts[:SAMPLE]).lower()
    letters = max(1, len(re.findall(r"\w", sample)))
    if len(re.findall(f"[{_CHINESE_JAPANESE}]", sample)) > letters / 2:
        return "characters"
    if len(re.findall(f"[{_CHINESE_JAPANESE}{_THAI_LAO_BURMESE_KHMER}]", sample)) > letters / 10:
        return "bpe"
    counts = Counter(re.findall(r"\w+|[^\w\s]+", sample))
    once = sum(count == 1 for count in counts.values())
    return "bpe" if 3 * once > 2 * counts.total() else "word"


def train_tokenizer(texts: Iterable[str], kind: TokenizerKind = "word") -> "tokenizers.Tokenizer":
    """Returns a tokenizer that knows the words of `texts`, or what they consist of, in lower case.

    A word is what stands between spaces and punctuation. Its parts ("bpe") are merged from characters, the most
    frequent pair first: Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units", 2016. A
    character has its marks. Ids of words and characters go by frequency, then alphabet; equal texts give equal ids.
    Give it the training texts only.
    """
    from tokenizers import Tokenizer, models, trainers

    # The special tokens join the vocabulary afterwards, as plain words: were they registered with the library
    # it would find "[PAD]" inside a caption too, and no caption may contain padding.
    if kind == "bpe":
        learning = _with_rules(Tokenizer(models.BPE()), kind)
        trainer = trainers.BpeTrainer(
            vocab_size=MAX_WORDS,
            min_frequency=MIN_FREQUENCY,
            limit_alphabet=MAX_WORDS,
            max_token_length=MAX_PART,
            show_progress=False,
        )
    else:
        learning = _with_rules(Tokenizer(models.WordLevel()), kind)
        trainer = trainers.WordLevelTrainer(vocab_size=MAX_WORDS, special_tokens=[], show_progress=False)
    learning.train_from_iterator(map(without_surrogates, texts), trainer)
    ids = {word: i for i, word in enumerate([PAD_TOKEN, UNKNOWN_TOKEN, *vocabulary(learning)])}
    if kind == "bpe":
        merges = [tuple(pair) for pair in json.loads(learning.to_str())["model"]["merges"]]
        return _with_rules(Tokenizer(models.BPE(ids, merges, unk_token=UNKNOWN_TOKEN)), kind)
    return _with_rules(Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN_TOKEN)), kind)


def vocabulary(tokenizer: "tokenizers.Tokenizer") -> list[str]:
    """Returns the tokens by id."""
    ids = tokenizer.get_vocab()
    return sorted(ids, key=ids.__getitem__)


def encode(
    tokenizer: "tokenizers.Tokenizer", texts: Sequence[str], length: int | None = None
) -> Int32[np.ndarray, "example token"]:
    """Returns the token ids of each text, padded with `PAD` after its end.

    A text without any word becomes one unknown token, so that no mask is empty. `length` is 1 or more; longer texts are
    cut. None is that of the longest text.
    """
    return pad(token_ids(tokenizer, texts), length)


def token_ids(tokenizer: "tokenizers.Tokenizer", texts: Sequence[str]) -> list[list[int]]:
    """Returns the token ids of each text, one or more."""
    return [encoding.ids or [UNKNOWN] for encoding in tokenizer.encode_batch_fast(list(map(without_surrogates, texts)))]


def without_surrogates(text: str) -> str:
    """Returns a text with U+FFFD for each half of a character, such as a cut emoji leaves; two halves are joined."""
    if not _SURROGATE.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def pad(rows: Sequence[Sequence[int]], length: int | None = None) -> Int32[np.ndarray, "example token"]:
    """Returns rows of token ids as one array; see `encode`."""
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


def _with_rules(tokenizer: "tokenizers.Tokenizer", kind: TokenizerKind) -> "tokenizers.Tokenizer":
    """Gives a tokenizer the rules by which texts are divided. Those of words decide the results that are stored."""
    from tokenizers import Regex, normalizers, pre_tokenizers

    tokenizer.normalizer = normalizers.Lowercase()
    if kind != "word":  # a letter has one form, whatever the keyboard
        tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if kind == "characters":
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\S\p{M}*"), "removed", invert=True)
    return tokenizer
