"""A switch for export: operations that converters to other formats know, in place of those that are fast here."""

import contextlib
import contextvars
from collections.abc import Iterator

_is_portable = contextvars.ContextVar("is_portable", default=False)


def is_portable() -> bool:
    """Returns whether a layer that is traced now uses standard operations only: no choice by platform, no FFT."""
    return _is_portable.get()


@contextlib.contextmanager
def portable() -> Iterator[None]:
    """Makes `is_portable` true within. Results differ by rounding alone."""
    token = _is_portable.set(True)
    try:
        yield
    finally:
        _is_portable.reset(token)
