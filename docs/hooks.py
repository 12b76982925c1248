"""Fills the reference: a section for every registered strategy, remedy and diagnostic, with typeset formulas."""

import re
from collections.abc import Iterable, Iterator
from itertools import groupby

from markdown.extensions import Extension
from markdown.inlinepatterns import SimpleTextInlineProcessor

from fusion_bench.axis import Registered
from fusion_bench.diagnostics.base import diagnostics
from fusion_bench.fusion.registry import strategies
from fusion_bench.training.remedies.base import remedies

PAGE = "reference/strategies.md"


class PlainUnderscores(Extension):
    """Disables emphasis by underscores, which begin an index in x_m."""

    def extendMarkdown(self, md) -> None:
        md.inlinePatterns.register(SimpleTextInlineProcessor("(_)", md), "underscore", 65)  # before emphasis, 60


def on_config(config):
    """Adds the extension."""
    config.markdown_extensions.append(PlainUnderscores())
    return config


def on_page_markdown(markdown: str, page, **_) -> str:
    """Appends the sections to the page of the reference."""
    if page.file.src_uri != PAGE:
        return markdown
    return "\n".join(
        [
            markdown,
            *(
                line
                for family, of in groupby(strategies().values(), lambda r: r.family)
                for line in section(family.title(), of)
            ),
            *section("Remedies", remedies.registered().values()),
            *section("Diagnostics", diagnostics.registered().values()),
        ]
    )


def section(title: str, members: Iterable[Registered]) -> Iterator[str]:
    """Yields the lines of one section, in Markdown."""
    yield f"\n## {title}"
    for member in members:
        yield f"\n### {member.name}\n\n{member.reference}\n"
        yield f"::: {member.make.__module__}.{member.make.__qualname__}\n    options:\n      heading_level: 4\n"


def on_page_content(html: str, page, **_) -> str:
    """Typesets the indices and exponents of formulas outside of code and tags."""
    if page.file.src_uri != PAGE:
        return html
    parts = re.split(r"(<(?:pre|code)\b.*?</(?:pre|code)>|<[^>]*>)", html, flags=re.DOTALL)
    return "".join(part if part.startswith("<") else set_formulas(part) for part in parts)


def set_formulas(text: str) -> str:
    """Returns HTML in which x_m and x^{r+1} have an index and an exponent; names such as `out_features` stay."""
    for mark, tag in ("_", "sub"), ("^", "sup"):
        script = rf"(?<=[^\W\d_]|[×∏Σ∇>)\]]){re.escape(mark)}(?:\{{([^}}]*)\}}|(\w)(?![^\Wᵀ]))"
        text = re.sub(script, lambda found, tag=tag: f"<{tag}>{found[1] or found[2]}</{tag}>", text)
    return text
