"""Ceilings of damaged pairs: against every outcome of the definitions, one by one, and against samples."""

import collections
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion_bench.data.captions.ceilings import misaligned_ceilings, misaligned_table, missing_ceiling
from fusion_bench.data.captions.channel import Channel, make_channel, sample
from fusion_bench.data.captions.lexicon import lexicon_for
from fusion_bench.data.captions.spec import PRESETS, ChannelSpec
from fusion_bench.data.damage import misaligned_rows, missing_modalities

NAMES = tuple(f"c{i}" for i in range(4))
SKEWED = np.array([0.55, 0.25, 0.15, 0.05])


def outcomes(channel: Channel, probability: float) -> tuple[dict, dict]:
    """P(y, w, k, t) of aligned and of misaligned pairs, by walking through two independent examples."""
    aligned: dict[tuple, float] = collections.defaultdict(float)
    for y, w, k in itertools.product(range(channel.num_classes), range(len(channel.words)), range(channel.num_classes)):
        p = channel.prior[y] * channel.word_probabilities[y, w] * channel.shift_probabilities[k]
        if p:
            aligned[y, w, k, (y + k) % channel.num_classes] += p
    captions, shown = collections.defaultdict(float), collections.defaultdict(float)
    for (y, w, k, t), p in aligned.items():
        captions[w, k] += p
        shown[y, t] += p
    mixed = collections.defaultdict(float, {outcome: (1 - probability) * p for outcome, p in aligned.items()})
    for (y, t), (w, k) in itertools.product(shown, captions):
        mixed[y, w, k, t] += probability * shown[y, t] * captions[w, k]
    return aligned, mixed


def decided(aligned, mixed, *, sees_class: bool) -> tuple[float, float]:
    """Accuracy of the decision that is optimal by `mixed`, on `aligned` and on `mixed`, ties divided evenly."""
    groups: dict[tuple, dict[str, dict[int, float]]] = collections.defaultdict(
        lambda: {"aligned": collections.defaultdict(float), "mixed": collections.defaultdict(float)}
    )
    for name, table in (("aligned", aligned), ("mixed", mixed)):
        for (y, w, k, t), p in table.items():
            groups[(y, w, k) if sees_class else (w, k)][name][t] += p
    on_aligned = on_mixed = 0.0
    for group in groups.values():
        best = max(group["mixed"].values())
        chosen = [t for t, p in group["mixed"].items() if p >= best * (1 - 1e-9)]
        on_aligned += sum(group["aligned"][t] for t in chosen) / len(chosen)
        on_mixed += best
    return on_aligned, on_mixed


def expected_ceilings(channel: Channel, probability: float) -> tuple[float, ...]:
    tables = outcomes(channel, probability)
    text_only, with_class = (decided(*tables, sees_class=sees_class) for sees_class in (False, True))
    return text_only[0], with_class[0], text_only[1], with_class[1]


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("prior", [np.full(4, 0.25), SKEWED], ids=["uniform", "skewed"])
def test_ceilings_of_misaligned_pairs_are_sums_over_all_outcomes(name, prior):
    channel = make_channel(name, NAMES, prior)
    for probability in (0.0, 0.2, 0.7, 1.0):
        expected = expected_ceilings(channel, probability)
        assert misaligned_ceilings(channel, probability) == pytest.approx(expected, abs=1e-9), probability


@st.composite
def parameters(draw: st.DrawFn) -> tuple[ChannelSpec, list[float]]:
    size, named = draw(st.integers(2, 4)), draw(st.floats(0, 1))
    spec = ChannelSpec(
        "any",
        named=named,
        grouped=draw(st.floats(0, 1)) * (1 - named),
        partition=draw(st.sampled_from(["coarse", "pairs"])),
        wrong=draw(st.floats(0, 1)),
        shift=draw(st.floats(0, 1)),
    )
    return spec, draw(st.lists(st.floats(0.01, 1), min_size=size, max_size=size))


@settings(max_examples=25)
@given(parameters(), st.floats(0, 1))
def test_the_table_of_misaligned_pairs_and_what_is_best_on_them(
    drawn: tuple[ChannelSpec, list[float]], probability: float
) -> None:
    spec, weights = drawn
    channel = Channel(spec, lexicon_for(NAMES[: len(weights)]), np.array(weights) / sum(weights))
    table = misaligned_table(channel, probability)
    aligned, mixed = outcomes(channel, probability)
    assert np.allclose(table.sum(axis=(1, 2, 3)), 1)
    for (y, w, k, t), p in np.ndenumerate(channel.prior[:, None, None, None] * table):
        assert p == pytest.approx(mixed[y, w, k, t], abs=1e-12)
    found = misaligned_ceilings(channel, probability)
    # ties within roundings are decided in many ways, of which all are best on misaligned pairs
    assert found.text_only_misaligned == pytest.approx(decided(aligned, mixed, sees_class=False)[1], abs=1e-9)
    assert found.with_class_misaligned == pytest.approx(decided(aligned, mixed, sees_class=True)[1], abs=1e-9)
    assert found.text_only <= channel.text_only_ceiling + 1e-9
    assert found.text_only_misaligned <= found.with_class_misaligned + 1e-9


def test_without_misalignment_they_are_those_of_the_channel():
    channel = make_channel("mixed", NAMES, SKEWED)
    ceiling = channel.text_only_ceiling
    assert misaligned_ceilings(channel, 0.0) == pytest.approx((ceiling, 1, ceiling, 1))
    np.testing.assert_allclose(misaligned_table(channel, 0.0), channel.table, atol=1e-15)


def test_closed_forms():
    """Ten balanced classes."""
    names = tuple(f"c{i}" for i in range(10))
    # text names the class: a misaligned one is right by chance, and still the best guess
    assert misaligned_ceilings(make_channel("clean", names), 0.3) == pytest.approx((1, 1, 0.7 + 0.03, 1))
    # nothing but the pair tells the target
    assert misaligned_ceilings(make_channel("synergy", names), 0.3) == pytest.approx((0.1, 1, 0.1, 0.7 + 0.03))
    # of unrelated pairs nothing is learned but that most targets are not shifted
    assert misaligned_ceilings(make_channel("mixed", names), 1.0) == pytest.approx((0.1, 0.73, 0.1, 0.73))
    # with four words in a hundred about a rare class, the frequent one is the better guess where most pairs are wrong
    rare = make_channel("clean", ("often", "rarely"), np.array([0.96, 0.04]))
    assert misaligned_ceilings(rare, 0.6) == pytest.approx((0.96, 1, 0.96, 1))


def test_many_classes_take_no_large_table():
    channel = make_channel("mixed", [f"c{i}" for i in range(120)])
    found = misaligned_ceilings(channel, 0.3)
    assert found.text_only == pytest.approx(channel.text_only_ceiling)
    assert found.text_only_misaligned == pytest.approx(0.7 * channel.text_only_ceiling + 0.3 / 120)


@pytest.mark.parametrize(("name", "prior"), [("default", SKEWED), ("mixed", SKEWED), ("synergy", np.full(4, 0.25))])
def test_samples_have_these_ceilings(name, prior):
    """Decisions by the table, on pairs that were drawn and then misaligned."""
    count, probability = 20_000, 0.6
    channel = make_channel(name, NAMES, prior)
    classes = np.random.default_rng(0).choice(4, count, p=prior)
    drawn = sample(channel, classes, seed=0)
    rows = misaligned_rows(count, np.arange(count), probability, seed=0)
    table = misaligned_table(channel, probability)
    by_text, by_both = np.einsum("y,ywkt->wkt", prior, table).argmax(-1), table.argmax(-1)
    found = misaligned_ceilings(channel, probability)
    for name, taken in (("", np.arange(count)), ("_misaligned", rows)):
        words, shifts = drawn.words[taken], drawn.shifts[taken]
        for kind, decision in (("text_only", by_text[words, shifts]), ("with_class", by_both[classes, words, shifts])):
            expected = getattr(found, kind + name)
            noise = 4 * math.sqrt(max(expected * (1 - expected), 1e-9) / count)
            assert (decision == drawn.targets).mean() == pytest.approx(expected, abs=noise), kind + name


@pytest.mark.parametrize("name", ["default", "mixed", "synergy"])
@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_the_ceiling_with_missing_modalities(name, probability):
    """Over every way in which two modalities are missing, and in draws."""
    channel = make_channel(name, NAMES, SKEWED)
    ceilings = {
        (False, False): 1.0,
        (True, False): channel.text_only_ceiling,  # the image is missing
        (False, True): channel.image_only_ceiling,
        (True, True): (channel.text_only_ceiling + channel.image_only_ceiling) / 2,  # one is kept
    }
    expected = 0.0
    for image, text in itertools.product((False, True), repeat=2):
        chances = [probability if missing else 1 - probability for missing in (image, text)]
        expected += chances[0] * chances[1] * ceilings[image, text]
    assert missing_ceiling(channel, probability) == pytest.approx(expected)

    count = 20_000
    classes = np.random.default_rng(0).choice(4, count, p=SKEWED)
    drawn = sample(channel, classes, seed=0)
    gone = missing_modalities(["image", "text"], count, np.arange(count), probability, seed=0)
    joint = SKEWED[:, None, None, None] * channel.table
    by_text, by_image = joint.sum(0).argmax(-1)[drawn.words, drawn.shifts], joint.sum((1, 2)).argmax(-1)[classes]
    decision = np.where(gone["image"], by_text, np.where(gone["text"], by_image, drawn.targets))
    noise = 4 * math.sqrt(max(expected * (1 - expected), 1e-9) / count)
    assert (decision == drawn.targets).mean() == pytest.approx(expected, abs=noise)
