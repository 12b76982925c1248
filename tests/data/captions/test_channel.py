"""Caption channels: figures against the generative story told by loops, samples against the table."""

import collections
import dataclasses
import math
import re
from collections.abc import Mapping

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion_bench.data.captions.channel import Channel, _quantile, make_channel, preview, sample
from fusion_bench.data.captions.lexicon import NEUTRAL, lexicon_for
from fusion_bench.data.captions.spec import PRESETS, ChannelSpec
from fusion_bench.errors import UserError

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def tell_the_story(channel: Channel) -> dict[tuple[int, str, int, int], float]:
    """P(w, k, t | y) as {(y, w, k, t): probability}, by walking through every choice of the definition."""
    spec, lexicon, num_classes = channel.spec, channel.lexicon, channel.num_classes
    story: dict[tuple[int, str, int, int], float] = collections.defaultdict(float)
    for y in range(num_classes):
        for told in range(num_classes):
            p_told = 1 - spec.wrong if told == y else spec.wrong / (num_classes - 1)
            words = [(noun, spec.named / len(lexicon.nouns[told])) for noun in lexicon.nouns[told]]
            if spec.partition is not None:
                groups = lexicon.partitions[spec.partition]
                words += [(word, spec.grouped) for word, classes in groups.items() if told in classes]
            rest = 1 - spec.named - spec.grouped
            words += [(word, rest / len(NEUTRAL)) for word in NEUTRAL]
            for word, p_word in words:
                for k in range(num_classes):
                    p_k = spec.shift / num_classes + (1 - spec.shift if k == 0 else 0)
                    story[y, word, k, (y + k) % num_classes] += p_told * p_word * p_k
    return story


def mutual_information(joint: Mapping[tuple, float]) -> float:
    """I(a; b) in bits of {(a, b): probability}."""
    p_a, p_b = collections.defaultdict(float), collections.defaultdict(float)
    for (a, b), p in joint.items():
        p_a[a] += p
        p_b[b] += p
    return sum(p * math.log2(p / (p_a[a] * p_b[b])) for (a, b), p in joint.items() if p > 1e-15)


def figures_by_loops(channel: Channel, prior: np.ndarray) -> tuple[float, float, float, float]:
    """Bits, interaction bits, text-only and image-only ceiling as defined, over every (y, w, k, t)."""
    caption_target, class_target = collections.defaultdict(float), collections.defaultdict(float)
    of_class = collections.defaultdict(lambda: collections.defaultdict(float))
    for (y, word, k, t), p in tell_the_story(channel).items():
        caption_target[(word, k), t] += float(prior[y]) * p
        class_target[y, t] += float(prior[y]) * p
        of_class[y][(word, k), t] += p
    best_of_caption, best_of_class = collections.defaultdict(float), collections.defaultdict(float)
    for (caption, _), p in caption_target.items():
        best_of_caption[caption] = max(best_of_caption[caption], p)
    for (y, _), p in class_target.items():
        best_of_class[y] = max(best_of_class[y], p)
    interaction = sum(float(prior[y]) * mutual_information(joint) for y, joint in of_class.items())
    return (mutual_information(caption_target), interaction, sum(best_of_caption.values()), sum(best_of_class.values()))


def figures(channel: Channel) -> tuple[float, float, float, float]:
    return channel.bits, channel.interaction_bits, channel.text_only_ceiling, channel.image_only_ceiling


VALUES = {  # bits, interaction bits, text-only ceiling, image-only ceiling
    "default": (1.216, 0, 0.4467, 1),
    "clean": (math.log2(10), 0, 1, 1),
    "neutral": (0, 0, 0.1, 1),
    "half": (1.661, 0, 0.55, 1),
    "noisy": (1.083, 0, 0.60, 1),
    "coarse": (0.971, 0, 0.20, 1),
    "contrast": (0.971, 0, 0.20, 1),
    "pairs": (2.322, 0, 0.50, 1),
    "synergy": (0, 3.322, 0.10, 0.10),
    "mixed": (1.216, 1.697, 0.4467, 0.73),
}


def test_there_are_these_ten_presets() -> None:
    assert set(PRESETS) == set(VALUES)
    assert all(spec.name == name and spec.summary for name, spec in PRESETS.items())


@pytest.mark.parametrize("name", VALUES)
def test_presets_have_the_published_figures(name: str) -> None:
    channel = make_channel(name, CIFAR10)
    bits, interaction_bits, *ceilings = figures(channel)
    assert (bits, interaction_bits) == pytest.approx(VALUES[name][:2], abs=5e-4)
    assert tuple(ceilings) == pytest.approx(VALUES[name][2:], abs=5e-5)
    assert figures(channel) == pytest.approx(figures_by_loops(channel, np.full(10, 0.1)), abs=1e-9)


@pytest.mark.parametrize("name", VALUES)
def test_the_table_is_the_generative_story(name: str) -> None:
    channel = make_channel(name, CIFAR10)
    expected = np.zeros_like(channel.table)
    for (y, word, k, t), p in tell_the_story(channel).items():
        expected[y, channel.words.index(word), k, t] = p
    assert channel.table.dtype == np.float64
    np.testing.assert_allclose(channel.table, expected, rtol=0, atol=1e-14)


@st.composite
def parameters(draw: st.DrawFn) -> tuple[ChannelSpec, list[float]]:
    num_classes = draw(st.integers(2, 5))
    named = draw(st.floats(0, 1))
    spec = ChannelSpec(
        "any",
        named=named,
        grouped=draw(st.floats(0, 1)) * (1 - named),
        partition=draw(st.sampled_from(["coarse", "contrast", "pairs"])),
        wrong=draw(st.floats(0, 1)),
        shift=draw(st.floats(0, 1)),
    )
    return spec, draw(st.lists(st.floats(0.01, 1), min_size=num_classes, max_size=num_classes))


def channel_of(spec: ChannelSpec, weights: list[float]) -> Channel:
    class_names = [f"c{i}" for i in range(len(weights))]
    return Channel(spec, lexicon_for(class_names), np.array(weights) / sum(weights))


@settings(max_examples=40)
@given(parameters())
def test_figures_of_any_channel(drawn: tuple[ChannelSpec, list[float]]) -> None:
    channel = channel_of(*drawn)
    np.testing.assert_allclose(channel.table.sum(axis=(1, 2, 3)), 1)
    assert (channel.table >= 0).all()
    bits, interaction_bits, *ceilings = figures(channel)
    limit = math.log2(channel.num_classes) + 1e-9
    assert 0 <= bits <= limit
    assert -1e-12 <= interaction_bits <= limit
    assert all(1 / channel.num_classes - 1e-12 <= ceiling <= 1 for ceiling in ceilings)
    assert figures(channel) == pytest.approx(figures_by_loops(channel, channel.prior), abs=1e-9)


@settings(max_examples=20)
@given(parameters(), st.integers(0, 2**31))
def test_bayes_scores_are_sums_over_the_table(drawn: tuple[ChannelSpec, list[float]], seed: int) -> None:
    channel = channel_of(*drawn)
    rng = np.random.default_rng(seed)
    words = rng.integers(len(channel.words), size=7)
    shifts = rng.integers(channel.num_classes, size=7)
    likelihood = np.stack([channel.table[:, w, k] for w, k in zip(words, shifts, strict=True)])
    image_model = rng.dirichlet(np.ones(channel.num_classes), size=7)
    scores = channel.bayes_scores(image_model, words, shifts)
    np.testing.assert_allclose(scores, np.einsum("ny,nyt->nt", image_model, likelihood), atol=1e-15)


@pytest.mark.parametrize(("name", "classes"), [("clean", 12), ("neutral", 20), ("pairs", 20)])
def test_a_ceiling_does_not_exceed_one_by_a_rounding(name: str, classes: int) -> None:
    channel = make_channel(name, [f"c{i}" for i in range(classes)])
    assert max(channel.text_only_ceiling, channel.image_only_ceiling) == 1.0


# redundant, unique to a perfect image, unique to the caption, synergistic; closed forms where nothing or all is shifted
DECOMPOSED = {
    "default": (1.216, 2.106, 0, 0),
    "half": (1.661, 1.661, 0, 0),
    "neutral": (0, 3.322, 0, 0),
    "synergy": (0, 0, 0, 3.322),
    "synergy:shift=0.5": (0, 0.903, 0, 2.419),
    "mixed": (1.080, 0.545, 0.137, 1.561),
}


@pytest.mark.parametrize("name", DECOMPOSED)
def test_information_is_decomposed(name: str) -> None:
    channel = make_channel(name, CIFAR10)
    found = channel.decomposition
    assert found is not None
    np.testing.assert_allclose(found, DECOMPOSED[name], atol=1e-3)
    assert found.redundant + found.unique_second == pytest.approx(channel.bits, abs=1e-9)
    assert found.unique_second + found.synergistic == pytest.approx(channel.interaction_bits, abs=1e-9)


def test_many_classes_need_no_table() -> None:
    channel = make_channel("mixed", [f"c{i}" for i in range(300)])
    assert channel.decomposition is None
    assert channel.image_only_ceiling == pytest.approx(0.7 + 0.3 / 300)
    assert channel.bits > 0


def test_image_and_caption_together_decide() -> None:
    classes = np.arange(2000) % 10
    for name in ("synergy", "default"):
        channel = make_channel(name, CIFAR10)
        drawn = sample(channel, classes, seed=1)
        scores = channel.bayes_scores(np.eye(10)[classes], drawn.words, drawn.shifts)
        np.testing.assert_array_equal(scores.argmax(axis=1), drawn.targets)


@pytest.mark.parametrize("name", ["default", "half", "noisy", "synergy", "mixed"])
def test_samples_follow_the_table(name: str) -> None:
    channel = make_channel(name, CIFAR10)
    classes = np.arange(60_000) % 10
    drawn = sample(channel, classes, seed=0)
    counts = np.zeros(channel.table.shape)
    np.add.at(counts, (classes, drawn.words, drawn.shifts, drawn.targets), 1)
    expected = channel.table * 6_000
    assert counts[channel.table == 0].sum() == 0
    rare = (expected > 0) & (expected < 5)  # pooled, as the chi-square approximation asks
    usual = expected >= 5
    observed, wanted = [*counts[usual], counts[rare].sum()], [*expected[usual], expected[rare].sum()]
    if wanted[-1] == 0:
        observed, wanted = observed[:-1], wanted[:-1]
    statistic = sum((o - e) ** 2 / e for o, e in zip(observed, wanted, strict=True))
    assert scipy.stats.chi2.sf(statistic, df=len(wanted) - 10) > 1e-3


def test_samples_depend_on_the_seed_alone() -> None:
    channel = make_channel("mixed", CIFAR10)
    classes = np.arange(1000) % 10
    first, again, other = (sample(channel, classes, seed) for seed in (3, 3, 4))
    for field in ("words", "shifts", "targets"):
        np.testing.assert_array_equal(getattr(first, field), getattr(again, field))
        assert getattr(first, field).dtype == np.int32
        assert (getattr(first, field) != getattr(other, field)).any()
    np.testing.assert_array_equal(first.targets, (classes + first.shifts) % 10)
    # PCG64 is the same on every machine, and so is what it draws.
    assert sample(channel, classes, 0).words[:4].tolist() == [79, 80, 78, 25]


def test_nothing_impossible_is_drawn_at_the_ends_of_the_unit_interval() -> None:
    uniform = np.array([0, np.nextafter(0.5, 0), 0.5, np.nextafter(1, 0)])
    assert _quantile(np.array([0, 0.5, 0.5, 0]), uniform).tolist() == [1, 1, 2, 2]


def test_text_has_a_shift_word_only_where_the_channel_shifts() -> None:
    classes = np.arange(500) % 10
    for name, shifting in {"mixed": True, "synergy": True, "default": False}.items():
        channel = make_channel(name, CIFAR10)
        drawn = sample(channel, classes, seed=0)
        for text, w, k in zip(drawn.texts, drawn.words, drawn.shifts, strict=True):
            words = set(re.findall(r"\w+", text.lower()))
            assert channel.words[w] in words
            told = words & set(channel.lexicon.shifts)
            assert told == ({channel.lexicon.shifts[k]} if shifting else set())


@pytest.mark.parametrize("classes", [[0, 10], [-1, 0]])
def test_unknown_classes_are_refused(classes: list[int]) -> None:
    with pytest.raises(ValueError, match=r"classes must be in 0\.\.9"):
        sample(make_channel("default", CIFAR10), np.array(classes), 0)


def test_an_unknown_preset_is_answered_with_near_ones() -> None:
    with pytest.raises(UserError, match="unknown caption channel 'sinergy'; did you mean synergy"):
        make_channel("sinergy", CIFAR10)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"wrong": 1.5}, r"wrong is 1\.5"),
        ({"shift": math.nan}, "shift is nan"),
        ({"named": 0.8}, r"named \+ grouped is"),
        ({"partition": None}, "needs the name of a partition"),
    ],
)
def test_an_impossible_channel_is_refused(change: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        dataclasses.replace(PRESETS["default"], **change)


def test_a_channel_must_fit_its_classes() -> None:
    with pytest.raises(UserError, match="unknown partition 'pears'; did you mean pairs"):
        Channel(ChannelSpec("mine", grouped=1.0, partition="pears"), lexicon_for(CIFAR10), np.full(10, 0.1))
    for prior in (np.full(3, 1 / 3), np.full(10, 0.2), np.array([-0.1, 1.1, *[0.0] * 8])):
        with pytest.raises(UserError, match="10 probabilities that sum to 1"):
            Channel(PRESETS["default"], lexicon_for(CIFAR10), prior)


def test_a_channel_may_differ_from_its_preset():
    channel = make_channel("half:named=0.2:wrong=0.1", CIFAR10)
    assert channel.spec == dataclasses.replace(PRESETS["half"], name="half:named=0.2:wrong=0.1", named=0.2, wrong=0.1)
    # a fifth of the words name a class, nine tenths of them the right one; otherwise a guess
    assert channel.text_only_ceiling == pytest.approx(0.2 * 0.9 + 0.8 * 0.1)
    assert make_channel("neutral:grouped=1:partition=pairs", CIFAR10).bits == pytest.approx(math.log2(5))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("half:nmed=0.2", "unknown option of the channel half 'nmed'; did you mean named"),
        ("half:named", "named of the channel half is a probability, not ''"),
        ("half:named=2", "named is 2.0, not in 0..1"),
        ("half:named=nan", "named is nan, not in 0..1"),
        ("half:grouped=0.5", "grouped > 0 needs the name of a partition"),
        ("half:grouped=0.5:partition=triples", "unknown partition 'triples'"),
        ("sinergy:shift=0.5", "unknown caption channel 'sinergy'"),
    ],
)
def test_what_a_channel_cannot_be(name, message):
    with pytest.raises(UserError, match=re.escape(message)):
        make_channel(name, CIFAR10)


def test_a_preview_has_captions_of_every_class() -> None:
    names = ("cat", "dog", "red fox")
    channel = make_channel("synergy", names)
    shown = preview(channel, names, 30, 0)
    assert len(shown) == 30
    assert {class_name for _, class_name, *_ in shown} == set(names)
    for caption, class_name, word, shift, target_name in shown:
        assert word in caption
        assert target_name == names[(names.index(class_name) + int(shift)) % 3]
    assert preview(channel, names, 30, 0) == shown != preview(channel, names, 30, 1)
