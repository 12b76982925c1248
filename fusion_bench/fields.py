"""Fields of configurations: each value is converted to its declared type and checked when a configuration is built."""

import dataclasses
import functools
import math
import os
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from fusion_bench.errors import ConfigError


class Rule(NamedTuple):
    """A condition on the values of a type: `Annotated[int, Rule("at least 1", lambda value: value >= 1)]`."""

    text: str
    holds: Callable[[Any], bool]


Count = Annotated[int, Rule("at least 1", lambda value: value >= 1)]
Natural = Annotated[int, Rule("at least 0", lambda value: value >= 0)]
Finite = Annotated[float, Rule("finite", math.isfinite)]
Positive = Annotated[float, Rule("finite and above 0", lambda value: 0 < value < math.inf)]
NonNegative = Annotated[float, Rule("finite and at least 0", lambda value: 0 <= value < math.inf)]
Probability = Annotated[float, Rule("at least 0 and at most 1", lambda value: 0 <= value <= 1)]


class Home(NamedTuple):
    """Marks a string that may be a path, in which `~` is the user's home directory, as it is in every `Path`."""


NameOrPath = Annotated[str, Home()]

_SCALARS: Mapping[type, tuple[Any, str]] = {
    bool: (bool, "True or False"),
    int: (int, "a whole number"),
    float: ((int, float), "a number"),
    str: ((str, os.PathLike), "a string"),
    Path: ((str, os.PathLike), "a path"),
}
"""By type, the types of the values that it takes, and its description."""


class Checked:
    """Base of frozen dataclasses whose values are checked, and converted where that loses nothing.

    A string becomes a path, a list a tuple, a NumPy scalar a number of Python.

    Raises:
      ConfigError: a value is not of its field's type, or breaks a `Rule` of it.
    """

    def __post_init__(self) -> None:
        for name, hint in _hints(type(self)).items():
            value = getattr(self, name)
            try:
                object.__setattr__(self, name, convert(value, hint))
            except ValueError as error:
                raise ConfigError(name, value, f"it must be {error}") from None


@functools.cache
def _hints(cls: Any) -> dict[str, Any]:
    hints = get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def convert(value: Any, hint: Any) -> Any:
    """Returns a value converted to the type.

    Raises:
      ValueError: it cannot be converted; the message continues "it must be".
    """
    if getattr(value, "ndim", None) == 0:  # of NumPy or JAX
        value = value.item()
    kind, arguments = get_origin(hint) or hint, get_args(hint)
    if kind is Annotated:
        value = convert(value, arguments[0])
        for rule in arguments[1:]:
            if isinstance(rule, Rule) and not rule.holds(value):
                raise ValueError(rule.text)
            if isinstance(rule, Home):
                value = _from_home(value)
        return value
    if kind in (Union, types.UnionType):
        return _convert_to_one(value, arguments)
    if kind is Literal:
        if isinstance(value, tuple(map(type, arguments))) and value in arguments:  # not an array of one
            return value
        raise ValueError(" or ".join(map(str, arguments)))
    if kind in _SCALARS:
        accepted, words = _SCALARS[kind]
        if isinstance(value, accepted) and isinstance(value, bool) == (kind is bool):
            return _as_scalar(value, kind, words)
        raise ValueError(words)
    if kind is tuple and isinstance(value, (list, tuple)):
        return tuple(convert(item, arguments[0]) for item in value)
    if not isinstance(value, kind):
        raise ValueError(f"a {kind.__name__}")
    if isinstance(value, Mapping):
        return {convert(name, arguments[0]): convert(item, arguments[1]) for name, item in value.items()}
    return value


def _as_scalar(value: Any, kind: Any, words: str) -> Any:
    if kind is Path:
        if not os.fspath(value):
            raise ValueError(f"{words}, not empty")
        return Path(_from_home(os.fspath(value)))
    try:
        return kind(value) + 0.0 if kind is float else kind(value)  # -0.0 is 0.0
    except OverflowError:
        raise ValueError(words) from None


def _from_home(path: str) -> str:
    """Returns a path as a shell would give it: with the home directory of a user that there is in place of `~`."""
    return os.path.expanduser(path)  # noqa: PTH111 - Path's raises where there is no such user


def _convert_to_one(value: Any, hints: tuple[Any, ...]) -> Any:
    """Returns a value converted to the first type that it fits."""
    wanted = []
    for hint in hints:
        try:
            return convert(value, hint)
        except ValueError as error:
            wanted += [str(error)] * (hint is not types.NoneType)
    raise ValueError(" or ".join(wanted))
