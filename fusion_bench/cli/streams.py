"""Standard output and error that take every character, whatever encoding a terminal or a file has."""

import codecs
import contextlib
import io
import sys
import warnings
from collections.abc import Iterator

_LOOK_ALIKES = str.maketrans(
    {
        "−": "-", "–": "-", "—": "-", "±": "+/-", "×": "x", "·": "-", "…": "...", "≥": ">=", "≤": "<=", "→": "->",
        "“": '"', "”": '"', "‘": "'", "’": "'", "\N{NO-BREAK SPACE}": " ",
    }
)  # fmt: skip


def _replace(error: UnicodeError) -> tuple[str | bytes, int]:
    """Gives for what an encoding lacks what looks like it, else its code point."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(_LOOK_ALIKES)
    return text.encode("ascii", "backslashreplace").decode("ascii"), error.end


codecs.register_error("look-alike", _replace)


@contextlib.contextmanager
def robust_streams() -> Iterator[None]:
    """Makes a block print whatever there is to print, and each warning as one line."""
    shown = warnings.formatwarning
    warnings.formatwarning = lambda message, *_: f"fusion-bench: {message}\n"
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="look-alike")
    try:
        yield
    finally:
        warnings.formatwarning = shown
