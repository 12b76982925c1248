"""Options of registered classes: their keyword-only arguments, whose defaults say what values they take."""

import inspect
from collections.abc import Mapping
from typing import Any

from fusion_bench.errors import UserError, unknown_name
from fusion_bench.fields import Count, Finite, Natural, convert


def value_type(option: inspect.Parameter) -> Any:
    """Returns the type of an option's values, by its default; None if no command line could give one.

    A whole number is at least 1, unless the option is annotated with `Natural`.
    """
    if option.annotation in (Natural, "Natural"):
        return Natural
    return {int: Count, float: Finite, str: str, bool: bool}.get(type(option.default))


def check_options(owner: str, known: Mapping[str, inspect.Parameter], given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the given options of `owner`, with values of the types of their defaults.

    Raises:
      UserError: an option is not among the known ones, or does not take the value.
    """
    checked = {}
    for name, value in given.items():
        if not known:
            raise UserError(f"{owner} has no options, got {name!r}")
        if name not in known:
            raise unknown_name(f"option of {owner}", name, known)
        default = known[name].default
        try:
            checked[name] = default if value == default else convert(value, value_type(known[name]))
        except ValueError as error:
            line = f"option {name} of {owner} is {value!r}; it must be {error}, for example {default}"
            raise UserError(line) from None
    return checked
