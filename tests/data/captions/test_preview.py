"""A caption channel at a glance."""

import pytest

from fusion_bench.data.captions.preview import preview
from fusion_bench.errors import UserError

CLASS_NAMES = ("cat", "dog", "red fox")


def test_a_preview_has_captions_and_figures() -> None:
    seen = preview("synergy", CLASS_NAMES, count=30)
    assert len(seen.examples) == 30
    assert seen.channel.text_only_ceiling == pytest.approx(1 / 3)
    assert {example.class_name for example in seen.examples} == set(CLASS_NAMES)
    for example in seen.examples:
        assert example.word in example.caption
        shifted = (CLASS_NAMES.index(example.class_name) + example.shift) % 3
        assert example.target_name == CLASS_NAMES[shifted]
    assert preview("synergy", CLASS_NAMES, count=30).examples == seen.examples
    assert preview("synergy", CLASS_NAMES, count=30, seed=1).examples != seen.examples


def test_an_unknown_channel_is_refused() -> None:
    with pytest.raises(UserError, match="unknown caption channel"):
        preview("nothing", CLASS_NAMES)
