"""The words of captions."""

import dataclasses
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion_bench.data.captions.lexicon import NEUTRAL, Lexicon, lexicon_for
from fusion_bench.data.sources import digits, shapes
from fusion_bench.data.sources.base import sources

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FIVE = ("sea urchin", "Sea-Urchin", "", "coarse", "日本")
CASES = {"cifar10": CIFAR10, "shapes": shapes.CLASS_NAMES, "digits": digits.CLASS_NAMES, "generic": FIVE}


def groups_by_name(class_names: tuple[str, ...], partition: str) -> set[frozenset[str]]:
    groups = lexicon_for(class_names).partitions[partition]
    return {frozenset(class_names[c] for c in classes) for classes in groups.values()}


@pytest.mark.parametrize("class_names", CASES.values(), ids=CASES)
def test_words_are_single_tokens_of_one_meaning(class_names: tuple[str, ...]) -> None:
    from fusion_bench.data.captions.templates import TEMPLATE_WORDS

    lexicon = lexicon_for(class_names)
    words = [*itertools.chain(*lexicon.nouns, *lexicon.partitions.values()), *NEUTRAL, *lexicon.shifts]
    assert len(set(words)) == len(words)
    assert not TEMPLATE_WORDS & set(words)
    assert len(lexicon.nouns) == len(lexicon.shifts) == len(class_names)
    assert min(map(len, lexicon.nouns)) >= 6


def test_partitions_of_cifar10() -> None:
    animals = frozenset({"bird", "cat", "deer", "dog", "frog", "horse"})
    assert groups_by_name(CIFAR10, "coarse") == {animals, frozenset(CIFAR10) - animals}
    second = frozenset({"dog", "truck", "horse", "bird"})
    assert groups_by_name(CIFAR10, "contrast") == {second, frozenset(CIFAR10) - second}
    assert groups_by_name(CIFAR10, "pairs") == {
        frozenset({"cat", "dog"}),
        frozenset({"automobile", "truck"}),
        frozenset({"deer", "horse"}),
        frozenset({"airplane", "bird"}),
        frozenset({"frog", "ship"}),
    }


def test_the_written_lexicons_name_their_classes() -> None:
    written = [source.class_names for source in sources().values() if source.words is not None]
    assert {CIFAR10, shapes.CLASS_NAMES, digits.CLASS_NAMES} <= set(written)
    for class_names in written:
        assert tuple(nouns[0] for nouns in lexicon_for(class_names).nouns) == class_names


@pytest.mark.parametrize("class_names", [CIFAR10, shapes.CLASS_NAMES, digits.CLASS_NAMES, tuple("abcdefghij")])
def test_contrast_crosses_coarse_with_the_same_sizes(class_names: tuple[str, ...]) -> None:
    coarse, contrast = groups_by_name(class_names, "coarse"), groups_by_name(class_names, "contrast")
    assert sorted(map(len, coarse)) == sorted(map(len, contrast)) == [4, 6]
    assert all(a & b for a in coarse for b in contrast)
    assert sorted(map(len, groups_by_name(class_names, "pairs"))) == [2] * 5


def test_shifts_are_figures_where_numbers_name_the_classes() -> None:
    assert lexicon_for(CIFAR10).shifts[:3] == ("zero", "one", "two")
    assert lexicon_for(digits.CLASS_NAMES).shifts == tuple("0123456789")


def test_a_known_dataset_is_found_in_any_order() -> None:
    backwards = CIFAR10[::-1]
    assert lexicon_for(backwards).nouns == lexicon_for(CIFAR10).nouns[::-1]
    for partition in ("coarse", "contrast", "pairs"):
        assert groups_by_name(backwards, partition) == groups_by_name(CIFAR10, partition)


def test_generic_nouns_come_from_the_class_name() -> None:
    assert lexicon_for(("cat", "Red Fox")).nouns[1] == tuple(f"red_fox_{i}" for i in range(1, 7))


@given(st.lists(st.text(max_size=6), min_size=2, max_size=12))
def test_any_class_names_have_a_lexicon(class_names: list[str]) -> None:
    assert lexicon_for(class_names).num_classes == len(class_names)


def small_lexicon() -> Lexicon:
    nouns = tuple(tuple(f"{stem}{i}" for i in range(6)) for stem in "ab")
    return Lexicon(nouns, {"coarse": {"ga": (0,), "gb": (1,)}})


def renamed(word: str) -> dict[str, dict]:
    """A partition with this word for a group."""
    return {"partitions": {"coarse": {word: (0,), "gb": (1,)}}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nouns": small_lexicon().nouns[:1]}, "two classes"),
        ({"nouns": (small_lexicon().nouns[0], ("b0",))}, "6 nouns"),
        (renamed("a0"), "'a0' stands twice"),
        (renamed("zero"), "'zero' stands twice"),
        (renamed("item"), "'item' stands twice"),
        (renamed("photo"), "'photo' is a word of the caption templates"),
        (renamed("Item"), "not one word"),
        (renamed("two words"), "not one word"),
        ({"partitions": {"coarse": {"ga": (0,)}}}, "exactly one group"),
        ({"partitions": {"coarse": {"ga": (0, 1), "gb": (1,)}}}, "exactly one group"),
    ],
)
def test_a_broken_lexicon_is_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(small_lexicon(), **change)
