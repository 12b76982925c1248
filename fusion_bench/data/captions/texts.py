"""Text modalities: from the strings of each example to tokens of one length."""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fusion_bench.config import DataConfig, TokenizerKind
from fusion_bench.data.captions.tokenizer import UNKNOWN, choose_kind, pad, token_ids, train_tokenizer
from fusion_bench.data.dataset import Alternatives, Modality
from fusion_bench.errors import UserError

if TYPE_CHECKING:
    import tokenizers

TOLD_UNKNOWN = 0.1
"""The part of unknown tokens above which a reader of a result is told."""
_PIECES: Mapping[TokenizerKind, str] = {"word": "words", "bpe": "parts of words", "characters": "characters"}
_REASONS: Mapping[TokenizerKind, str] = {
    "bpe": "it has no spaces between words, or hardly a word occurs twice",
    "characters": "it has no spaces between words",
}
_PRINTED = re.compile(
    r"""\[\s*['"].*['"]\s*,?\s*\]|\(\s*['"].*['"]\s*,(\s*['"].*['"])?\s*\)|\{\s*['"].*\}|b'.*'|b".*\"""", re.DOTALL
)
"""A list, a tuple, a dictionary or bytes as Python prints them."""


class Tokenized(NamedTuple):
    """A text modality in tokens, what made them, and sentences that a reader of a result must know."""

    modality: Modality
    tokenizer: "tokenizers.Tokenizer"
    notes: tuple[str, ...]


def tokenize(
    name: str, texts: Sequence[tuple[str, ...]], splits: Mapping[Any, np.ndarray], config: DataConfig
) -> Tokenized:
    """Turns the texts of each example into tokens, with a tokenizer that has seen the training texts alone.

    The longest training text sets the length, up to `config.max_tokens`. An example outside the splits may have none.

    Raises:
      UserError: most texts are values as Python prints them.
    """
    training = [text for i in splits["train"] for text in texts[i]]
    refuse_printed(f"the texts of {name}", training, "a text is a string of its own")
    kind: TokenizerKind = choose_kind(training) if config.tokenizer == "auto" else config.tokenizer
    tokenizer = train_tokenizer(training, kind)
    counts = np.array([max(1, len(each)) for each in texts], np.int32)
    firsts = np.cumsum(counts, dtype=np.int32) - counts
    rows = token_ids(tokenizer, [text for each in texts for text in each or ("",)])

    def rows_of(examples: np.ndarray) -> list[list[int]]:
        return [row for i in examples for row in rows[firsts[i] : firsts[i] + counts[i]]]

    of_split = {split: rows_of(examples) for split, examples in splits.items()}
    length = min(max(map(len, of_split["train"])), config.max_tokens)
    values = pad(rows, length)
    several = counts.max() > 1
    modality = Modality(
        "tokens",
        values[firsts] if several else values,
        tokenizer.get_vocab_size(),
        alternatives=Alternatives(values, firsts, counts) if several else None,
    )
    notes = []
    if config.tokenizer == "auto" and kind != "word":
        notes.append(f"{name} is read in {_PIECES[kind]}, as {_REASONS[kind]}.")
    if several:
        notes.append(f"{name} has up to {counts.max()} texts an example: an epoch draws one, a test reads the first.")
    used = [row for rows_ in of_split.values() for row in rows_]
    if cut := sum(len(row) > config.max_tokens for row in used):
        notes.append(f"{name}: {cut:,} of {len(used):,} texts are cut at {config.max_tokens} tokens (max_tokens).")
    share = _unknown_share([row[:length] for split in of_split if split != "train" for row in of_split[split]])
    if share > TOLD_UNKNOWN:
        way_out = "; the tokenizer bpe reads words in parts" if kind == "word" else ""
        notes.append(
            f"{name}: {share:.0%} of the {_PIECES[kind]} of validation and test texts are unknown, "
            f"as no training text has them{way_out}."
        )
    return Tokenized(modality, tokenizer, tuple(notes))


def refuse_printed(what: str, texts: Sequence[str], right: str) -> None:
    """Raises UserError if most texts are lists, dictionaries or bytes as Python prints them, and shows one."""
    printed = [text for text in texts if _PRINTED.fullmatch(text.strip())]
    if 2 * len(printed) > len(texts):
        shown = " ".join(printed[0].split())[:30]
        raise UserError(f"{what} are values as Python prints them ({shown} …); {right}")


def _unknown_share(rows: Sequence[Sequence[int]]) -> float:
    tokens = np.fromiter((token for row in rows for token in row), np.int64)
    return float(np.mean(tokens == UNKNOWN)) if len(tokens) else 0.0
