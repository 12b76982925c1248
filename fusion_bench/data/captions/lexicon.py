"""The words of captions: nouns of each class, named groups of classes, neutral words, shift words."""

import collections
import dataclasses
import re
from collections.abc import Mapping, Sequence

from fusion_bench.data.captions.templates import TEMPLATE_WORDS
from fusion_bench.data.sources.base import ClassWords, sources

MIN_NOUNS = 6
"""Nouns a class, at least: a text encoder has to learn what a class is called, not one word."""

NEUTRAL = ("thing", "object", "item", "subject", "motif", "sight", "curiosity", "specimen")
NUMBERS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Group:
    """Some of the classes, and the one word that names them together."""

    word: str
    classes: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Lexicon:
    """The words of a dataset's captions: lower case, single, distinct, none of them a word of the templates.

    Attributes:
      nouns: of each class, six or more.
      partitions: by name; each puts every class into exactly one of its groups.
      neutral: words that fit every class.
      shifts: the word for each shift k = 0 .. num_classes - 1.

    Raises:
      ValueError: a rule above is broken.
    """

    nouns: tuple[tuple[str, ...], ...]
    partitions: Mapping[str, tuple[Group, ...]]
    neutral: tuple[str, ...] = NEUTRAL
    shifts: tuple[str, ...] = NUMBERS[:10]

    def __post_init__(self) -> None:
        if self.num_classes < 2:
            raise ValueError("a lexicon needs two classes or more")
        if any(len(nouns) < MIN_NOUNS for nouns in self.nouns):
            raise ValueError(f"a lexicon needs {MIN_NOUNS} nouns or more for every class")
        if not self.neutral:
            raise ValueError("a lexicon needs a neutral word or more")
        if len(self.shifts) != self.num_classes:
            raise ValueError(f"{len(self.shifts)} shift words for {self.num_classes} classes; there must be one each")
        for name, groups in self.partitions.items():
            if sorted(c for group in groups for c in group.classes) != list(range(self.num_classes)):
                raise ValueError(f"partition {name!r} must put every class into exactly one group")
        words = [word for nouns in self.nouns for word in nouns]
        words += [group.word for groups in self.partitions.values() for group in groups]
        words += [*self.neutral, *self.shifts]
        if len(set(words)) < len(words):
            twice = collections.Counter(words).most_common(1)[0][0]
            raise ValueError(f"{twice!r} stands twice in the lexicon")
        for word in words:
            if not re.fullmatch(r"[a-z0-9_]+", word):
                raise ValueError(f"{word!r} is not one word of a-z, 0-9 and _")
            if word in TEMPLATE_WORDS:
                raise ValueError(f"{word!r} is a word of the caption templates")

    @property
    def num_classes(self) -> int:
        return len(self.nouns)


def lexicon_for(class_names: Sequence[str]) -> Lexicon:
    """Returns the lexicon of some classes: one that a source brings for them, in any order, else a generic one."""
    for source in sources().values():
        if source.words is not None and sorted(class_names) == sorted(source.words.nouns):
            return _written(class_names, source.words)
    return _generic(class_names)


def _written(class_names: Sequence[str], words: ClassWords) -> Lexicon:
    index = {name: i for i, name in enumerate(class_names)}
    return Lexicon(
        nouns=tuple(words.nouns[name] for name in class_names),
        partitions={
            name: tuple(Group(word, tuple(sorted(index[c] for c in group))) for word, group in groups.items())
            for name, groups in words.partitions.items()
        },
        shifts=_shift_words(len(class_names)),
    )


def _generic(class_names: Sequence[str]) -> Lexicon:
    """Returns a lexicon of made words ("cat_1" .. "cat_6") with partitions like those of the written ones.

    They are two groups as 6 to 4, two of the same sizes that cross them, and neighbours in pairs.
    """
    num_classes = len(class_names)
    first = round(0.6 * num_classes)
    in_order = list(range(num_classes))
    evens_first = in_order[::2] + in_order[1::2]
    partitions = {
        "coarse": (in_order[:first], in_order[first:]),
        "contrast": (evens_first[:first], evens_first[first:]),
        "pairs": [in_order[i : i + 2] for i in range(0, num_classes, 2)],
    }
    stems = _distinct_stems(class_names, taken=partitions)
    return Lexicon(
        nouns=tuple(tuple(f"{stem}_{i}" for i in range(1, MIN_NOUNS + 1)) for stem in stems),
        partitions={
            name: tuple(Group(f"{name}_{i}", tuple(sorted(group))) for i, group in enumerate(groups, start=1))
            for name, groups in partitions.items()
        },
        shifts=_shift_words(num_classes),
    )


def _distinct_stems(class_names: Sequence[str], taken: Mapping[str, object]) -> list[str]:
    """Returns one word for each class name; no two are equal, and none is the stem of a group's word."""
    stems: list[str] = []
    for i, name in enumerate(class_names):
        stem = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or "class"
        while stem in stems or stem in taken:
            stem = f"{stem}_class{i}"
        stems.append(stem)
    return stems


def _shift_words(num_classes: int) -> tuple[str, ...]:
    return tuple(NUMBERS[k] if k < len(NUMBERS) else str(k) for k in range(num_classes))
