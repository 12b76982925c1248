"""An axis of the benchmark: classes registered by name, a file each, with options on the command line.

Remedies and diagnostics are such axes. A file in the axis's folder registers its class; nothing else has to know of it.
A class of another package is registered in a module that the package names as an entry point.
"""

import dataclasses
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from fusion_bench.config import Choice
from fusion_bench.entry_points import import_registrations
from fusion_bench.errors import unknown_name
from fusion_bench.options import check_options, value_type

T = TypeVar("T")
Class = TypeVar("Class", bound=type)


@dataclasses.dataclass(frozen=True)
class Registered(Generic[T]):
    """One registered class.

    Attributes:
      name: as on the command line.
      reference: the paper it comes from, or what it is.
      make: the class; its options are keyword-only arguments with defaults.
      version: kept by hand; bumped when its results change.
    """

    name: str
    reference: str
    make: type[T]
    version: int = 1

    @property
    def summary(self) -> str:
        """First line of the class's docstring."""
        return (inspect.getdoc(self.make) or "").partition("\n")[0]

    @property
    def options(self) -> Mapping[str, inspect.Parameter]:
        """Keyword-only arguments of the class."""
        parameters = inspect.signature(self.make).parameters.values()
        return {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY}

    def label(self, options: Mapping[str, Any]) -> str:
        """Returns the name with the options that differ from the defaults: "ogm-ge:alpha=0.5"."""
        changed = [f"{k}={v}" for k, v in sorted(options.items()) if v != self.options[k].default]
        return ":".join([self.name, *changed])

    def resolve(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Returns all options, with their defaults; raises UserError for one that is not right."""
        defaults = {name: option.default for name, option in self.options.items()}
        return defaults | check_options(self.name, self.options, options)


class Axis(Generic[T]):
    """The registry of one axis.

    Args:
      kind: what its members are called, in the singular: "remedy".
      package: the folder of its files, as in an import statement.
      group: of entry points, by which other packages name the modules that register theirs.
    """

    def __init__(self, kind: str, package: str, group: str):
        self.kind = kind
        self._package = package
        self._group = group
        self._known: dict[str, Registered[T]] = {}
        self._is_imported = False

    def register(self, name: str, *, reference: str, version: int = 1) -> Callable[[Class], Class]:
        """Decorates a class; the arguments are the attributes of `Registered`.

        Raises:
          ValueError: the name cannot be one or is taken, or an option has no default that a command line can read.
        """
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
            raise ValueError(f"a {self.kind} cannot be called {name!r}; use small letters, digits and hyphens")

        def decorate(make: Class) -> Class:
            if name in self._known and self._known[name].make is not make:
                raise ValueError(f"{self.kind} {name!r} is registered twice: {self._known[name].make} and {make}")
            registered = Registered(name, reference, make, version)
            for option in registered.options.values():
                if value_type(option) is None:
                    raise ValueError(
                        f"option {option.name} of {self.kind} {name!r} needs a default that is a number, a word, "
                        f"true or false, not {option.default!r}"
                    )
            self._known[name] = registered
            return make

        return decorate

    def registered(self) -> dict[str, Registered[T]]:
        """Returns every member by name, in alphabetical order."""
        if not self._is_imported:
            import_registrations(self._package, self._group, self._known)
            self._is_imported = True
        return dict(sorted(self._known.items()))

    def find(self, name: str) -> Registered[T]:
        """Returns the member of a name; raises UserError if there is none."""
        known = self.registered()
        if name not in known:
            raise unknown_name(self.kind, name, known)
        return known[name]

    def resolve(self, choice: Choice) -> Choice:
        """Returns the choice with all its options, as it is recorded; raises UserError if it is not right."""
        return Choice(choice.name, self.find(choice.name).resolve(choice.options))

    def make(self, choice: Choice) -> T:
        """Returns the member that a choice asks for; raises UserError if it is not right."""
        return self.find(choice.name).make(**self.resolve(choice).options)
