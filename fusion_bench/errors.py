"""Errors that the user can mend: one line each, what was wrong and what would be right."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A request that cannot be met as given. The command line prints it as one line and exits with status 2."""


class DiskFull(UserError):
    """A result that cannot be stored for lack of space; others may fit. The command line exits with status 1."""


def unknown_name(kind: str, name: str, choices: Iterable[str]) -> UserError:
    """Returns the error for a name that is not among `choices`, with the nearest right ones.

    Args:
      kind: what the name should have named, for example "strategy".
      name: what was given.
      choices: all right names.
    """
    choices = list(choices)
    near = difflib.get_close_matches(name, choices, n=3, cutoff=0.5)
    if near:
        return UserError(f"unknown {kind} {name!r}; did you mean {' or '.join(near)}?")
    return UserError(f"unknown {kind} {name!r}; choose from {', '.join(choices)}")
