"""The text form of names with options."""

import pytest

from fusion_bench.cli.choices import parse_choices
from fusion_bench.config import Choice
from fusion_bench.errors import UserError


@pytest.mark.parametrize(
    ("text", "choices", "again"),
    [
        ("concat", ("concat",), "concat"),
        (" concat , tensor,", ("concat", "tensor"), "concat,tensor"),
        ("", (), ""),
        (" , ", (), ""),
        (
            "tensor:width=8,ogm-ge:alpha=0.5",
            (Choice("tensor", {"width": 8}), Choice("ogm-ge", {"alpha": 0.5})),
            "tensor:width=8,ogm-ge:alpha=0.5",
        ),
        ("a:x=-1e-3:y=word", (Choice("a", {"x": -0.001, "y": "word"}),), "a:x=-0.001:y=word"),
        ("a:x=True:y=false", (Choice("a", {"x": True, "y": False}),), "a:x=True:y=False"),
        ("a:x:y=", (Choice("a", {"x": "", "y": ""}),), "a:x=:y="),
        ("a:x=b=c", (Choice("a", {"x": "b=c"}),), "a:x=b=c"),
    ],
)
def test_names_and_options(text, choices, again):
    found = parse_choices(text)
    assert found == choices
    assert [*map(type, found)] == [*map(type, choices)]
    for choice, expected in zip(found, choices, strict=True):
        if isinstance(choice, Choice) and isinstance(expected, Choice):
            assert [*map(type, choice.options.values())] == [*map(type, expected.options.values())]
    assert ",".join(map(str, found)) == again
    assert parse_choices(again) == found


def test_an_option_is_given_once():
    with pytest.raises(UserError, match="option width of tensor is given twice"):
        parse_choices("tensor:width=8:width=9")
