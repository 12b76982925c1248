"""Installed fonts for the characters that the usual font of figures lacks."""

import contextlib
import dataclasses
import functools
import logging
import unicodedata
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

from fusion_bench.report.plots.marks import Picture

USUAL = "DejaVu Sans"
"""The font of figures; matplotlib brings it."""


def families(texts: Iterable[str]) -> tuple[list[str], str]:
    """Returns the usual font and those that have what it lacks, and the characters that no installed font has."""
    characters = {character for character in set("".join(texts)) if character.isprintable()}
    missing = {character for character in characters if ord(character) not in _glyphs(font_manager.findfont(USUAL))}
    found = [USUAL]
    if missing:
        _add_recent_fonts()
    for font in font_manager.fontManager.ttflist if missing else ():
        is_text = font.style == "normal" and not font.name.startswith("Last Resort")  # which has a box for everything
        if is_text and (has := {each for each in missing if ord(each) in _glyphs(font.fname)}):
            found.append(font.name)
            missing -= has
    return found, "".join(sorted(missing))


def lacking(pictures: Iterable[Picture]) -> list[str]:
    """Returns a line about the characters of pictures that no installed font has, if there are any."""
    _, missing = families(text for picture in pictures for text in texts_of(picture))
    names = [f"U+{ord(character):04X} {unicodedata.name(character, '')}".strip() for character in missing]
    more = f" and {len(names) - 3} others" if len(names) > 3 else ""
    return [f"characters of figures that no installed font has: {', '.join(names[:3])}{more}"] if names else []


def texts_of(part: Any) -> Iterator[str]:
    """Yields what is written in a picture, or in a part of it; texts for hovering are on the page alone."""
    if isinstance(part, str):
        yield part
    elif isinstance(part, Mapping):
        yield from texts_of([*part, *part.values()])
    elif isinstance(part, list | tuple):
        for each in part:
            yield from texts_of(each)
    elif dataclasses.is_dataclass(part):
        yield from texts_of([getattr(part, field.name) for field in dataclasses.fields(part) if field.name != "hover"])


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps matplotlib from telling of glyphs and weights that a font lacks; `lacking` says it once."""
    logger = logging.getLogger("matplotlib.font_manager")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font")
            yield
    finally:
        logger.setLevel(level)


@functools.cache
def _add_recent_fonts() -> None:
    """Adds fonts that were installed after matplotlib made its list, which it keeps on disk."""
    listed = {font.fname for font in font_manager.fontManager.ttflist}
    for path in sorted({*font_manager.findSystemFonts()} - listed):
        with contextlib.suppress(Exception):  # a font that matplotlib cannot read; it skips those too
            font_manager.fontManager.addfont(path)


@functools.cache
def _glyphs(path: str) -> frozenset[int]:
    """The code points that a font file has."""
    try:
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError):  # removed since matplotlib listed it, or not readable
        return frozenset()
