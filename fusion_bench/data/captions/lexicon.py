"""The words of captions: nouns of each class, named groups of classes, neutral words, shift words."""

import collections
import dataclasses
import itertools
import re
from collections.abc import Mapping, Sequence

from fusion_bench.data.captions.templates import TEMPLATE_WORDS
from fusion_bench.data.sources.base import sources

MIN_NOUNS = 6
"""Nouns a class, at least: a text encoder has to learn what a class is called, not one word."""

NEUTRAL = ("thing", "object", "item", "subject", "motif", "sight", "curiosity", "specimen")
NUMBERS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Lexicon:
    """The words of a dataset's captions: lower case, single, distinct, none of them a word of the templates.

    Attributes:
      nouns: of each class, six or more.
      partitions: by name; each maps the word of a group to its classes, and has every class in exactly one group.

    Raises:
      ValueError: a rule above is broken.
    """

    nouns: tuple[tuple[str, ...], ...]
    partitions: Mapping[str, Mapping[str, tuple[int, ...]]]

    def __post_init__(self) -> None:
        if self.num_classes < 2:
            raise ValueError("a lexicon needs two classes or more")
        if any(len(nouns) < MIN_NOUNS for nouns in self.nouns):
            raise ValueError(f"a lexicon needs {MIN_NOUNS} nouns or more for every class")
        for name, groups in self.partitions.items():
            if sorted(itertools.chain(*groups.values())) != list(range(self.num_classes)):
                raise ValueError(f"partition {name!r} must put every class into exactly one group")
        words = collections.Counter(itertools.chain(*self.nouns, *self.partitions.values(), NEUTRAL, self.shifts))
        for word, count in words.items():
            if count > 1:
                raise ValueError(f"{word!r} stands twice in the lexicon")
            if not re.fullmatch(r"[a-z0-9_]+", word):
                raise ValueError(f"{word!r} is not one word of a-z, 0-9 and _")
            if word in TEMPLATE_WORDS:
                raise ValueError(f"{word!r} is a word of the caption templates")

    @property
    def num_classes(self) -> int:
        return len(self.nouns)

    @property
    def shifts(self) -> tuple[str, ...]:
        """The word for each shift k = 0 .. num_classes - 1, in figures where numbers are nouns of the classes."""
        letters = () if set(NUMBERS) & set(itertools.chain(*self.nouns)) else NUMBERS
        return tuple(letters[k] if k < len(letters) else str(k) for k in range(self.num_classes))


def lexicon_for(class_names: Sequence[str]) -> Lexicon:
    """Returns the lexicon that a source has for these classes, in any order; else a generic one."""
    for source in sources().values():
        words = source.words
        if words is not None and sorted(class_names) == sorted(words.nouns):
            partitions = {
                name: {word: tuple(sorted(map(class_names.index, group))) for word, group in groups.items()}
                for name, groups in words.partitions.items()
            }
            return Lexicon(tuple(words.nouns[name] for name in class_names), partitions)
    return _generic(class_names)


def _generic(class_names: Sequence[str]) -> Lexicon:
    """Returns a lexicon of made words ("cat_1" .. "cat_6") with partitions like those of the written ones.

    The partitions: two groups in the ratio 6 to 4, two groups of these sizes that cut across them, and pairs.
    """
    in_order = list(range(len(class_names)))
    evens_first = in_order[::2] + in_order[1::2]
    first = round(0.6 * len(class_names))
    partitions = {
        "coarse": [in_order[:first], in_order[first:]],
        "contrast": [evens_first[:first], evens_first[first:]],
        "pairs": [in_order[i : i + 2] for i in in_order[::2]],
    }
    stems: list[str] = []  # one word for each class name; no two are equal, and none is the stem of a group's word
    for i, name in enumerate(class_names):
        stem = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or "class"
        while stem in stems or stem in partitions:
            stem = f"{stem}_class{i}"
        stems.append(stem)
    return Lexicon(
        nouns=tuple(tuple(f"{stem}_{i}" for i in range(1, MIN_NOUNS + 1)) for stem in stems),
        partitions={
            name: {f"{name}_{i}": tuple(sorted(group)) for i, group in enumerate(groups, start=1)}
            for name, groups in partitions.items()
        },
    )
