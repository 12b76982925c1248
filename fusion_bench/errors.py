"""Errors that the user can correct: one line each, what is wrong and what would be right."""

import difflib
from collections.abc import Iterable
from typing import Any


class UserError(Exception):
    """A request that cannot be met as given. The command line prints it as one line and exits with status 2."""


class ConfigError(UserError):
    """A value that a field of a configuration cannot have; `rule` says what would be right."""

    def __init__(self, field: str, value: Any, rule: str):
        super().__init__(field, value, rule)
        self.field, self.value, self.rule = field, value, rule

    def __str__(self) -> str:
        return self.named(self.field)

    def named(self, name: str) -> str:
        """Returns the message with another name of the field, for example a flag."""
        values = self.value if isinstance(self.value, tuple) else (self.value,)
        shown = ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)
        return f"{name} is {shown}; {self.rule}"


class DiskFull(UserError):
    """A result that cannot be stored for lack of space; others may fit. The command line exits with status 1."""


class OutOfMemory(UserError):
    """A computation that takes more memory than there is; others may fit."""


def cause(error: BaseException) -> str:
    """Returns an error's first line, short enough for a message of one line."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return (text.strip() or type(error).__name__).splitlines()[0][:160]


def unknown_name(kind: str, name: str, choices: Iterable[str]) -> UserError:
    """Returns the error for a name of no `kind`, for example "strategy", with the nearest right ones of all choices."""
    choices = list(choices)
    near = difflib.get_close_matches(name, choices, n=3, cutoff=0.5)
    if near:
        return UserError(f"unknown {kind} {name!r}; did you mean {' or '.join(near)}?")
    return UserError(f"unknown {kind} {name!r}; choose from {', '.join(choices)}")
