"""An axis of the benchmark: its strategies, sources, remedies or diagnostics, each registered by name.

A file in the axis's folder registers its class or function, and nothing else is edited. Another package registers its
own in a module that it names as an entry point.
"""

import dataclasses
import importlib
import importlib.metadata
import inspect
import pkgutil
import re
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Generic, Literal, TypeVar, get_origin

from fusion_bench.config import Choice
from fusion_bench.errors import UserError, cause, unknown_name
from fusion_bench.fields import Count, Finite, Natural, convert

NAME = "[a-z0-9]+(-[a-z0-9]+)*"


@dataclasses.dataclass(frozen=True)
class Registered:
    """One registered class or function.

    Attributes:
      name: as on the command line; "{modality}" in it stands for a word, capitals for any text.
      reference: the paper it comes from, or a few words.
      make: the class or function; options of a class are its keyword-only arguments, with defaults.
      version: of its results, kept by hand; raise it when they change.
    """

    name: str
    reference: str
    make: Any
    version: int = 1

    @property
    def summary(self) -> str:
        """First line of the class's docstring."""
        return (inspect.getdoc(self.make) or "").partition("\n")[0]

    @property
    def description(self) -> str:
        """The class's docstring below its first line."""
        return (inspect.getdoc(self.make) or "").partition("\n")[2].strip()

    @property
    def options(self) -> Mapping[str, inspect.Parameter]:
        # of __init__: Flax's metaclass hides the class's own signature
        parameters = inspect.signature(self.make.__init__).parameters.values()
        return {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY}

    def matches(self, name: str) -> bool:
        """Returns whether `name` is its name, or fits its pattern."""
        pattern = re.sub("[A-Z]+", ".+", re.escape(self.name)).replace(r"\{modality\}", r"\w+")
        flags = re.IGNORECASE if "." in self.name else 0  # an ending may be in capitals
        return name == self.name or re.fullmatch(pattern, name, flags) is not None

    def convert(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the given options, with values of the types of their defaults.

        Raises:
          UserError: there is no such option, or the value is not one of its type.
        """
        known, converted = self.options, {}
        for name, value in options.items():
            if not known:
                raise UserError(f"{self.name} has no options, got {name!r}")
            if name not in known:
                raise unknown_name(f"option of {self.name}", name, known)
            default = known[name].default
            try:
                converted[name] = default if value == default else convert(value, _value_type(known[name]))
            except ValueError as error:
                line = f"option {name} of {self.name} is {value!r}; it must be {error}, for example {default}"
                raise UserError(line) from None
        return converted

    def resolve(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Returns all options, with their defaults; raises UserError as `convert`."""
        return {name: option.default for name, option in self.options.items()} | self.convert(options)

    def label(self, options: Mapping[str, Any]) -> str:
        """Returns the name with the options that differ from the defaults: "ogm-ge:alpha=0.5"."""
        known = self.options
        changed = {k: v for k, v in sorted(self.convert(options).items()) if v != known[k].default}
        return str(Choice(self.name, changed))


def _value_type(option: inspect.Parameter) -> Any:
    """Returns the type of an option's values, by its default; None if no command line could give one.

    A whole number is at least 1, unless the option is annotated otherwise, with `Natural` for example.
    """
    annotation = Natural if option.annotation == "Natural" else option.annotation
    if get_origin(annotation) in (Annotated, Literal):
        return annotation
    return {int: Count, float: Finite, str: str, bool: bool}.get(type(option.default))


Member = TypeVar("Member", bound=Registered)


class Axis(Generic[Member]):
    """Everything that is registered on one axis.

    Args:
      kind: a word for its members: "remedy".
      package: the folder of its files, as in an import statement.
      group: of entry points.
      names: regular expression of valid names.
      order: key by which members are sorted in every list.

    Attributes:
      known: the members imported so far, by name.
    """

    def __init__(
        self,
        kind: str,
        package: str,
        group: str,
        *,
        names: str = NAME,
        order: Callable[[Member], Any] = lambda member: member.name,
    ):
        self.kind, self._package, self._group, self._names, self._order = kind, package, group, names, order
        self.known: dict[str, Member] = {}
        self._is_imported = False

    def register(self, member: Member) -> Any:
        """Adds a member; returns its class or function.

        Raises:
          ValueError: the name cannot be one or is taken, or an option has no default that a command line can read.
        """
        name = member.name
        if not re.fullmatch(self._names, name):
            raise ValueError(f"a {self.kind} cannot be called {name!r}; use small letters, digits and hyphens")
        for other in self.known.values():
            if other.make is not member.make and (other.matches(name) or member.matches(other.name)):
                raise ValueError(f"{self.kind} {name!r} is registered twice: {other.make} and {member.make}")
        for option in member.options.values():
            if _value_type(option) is None:
                raise ValueError(
                    f"option {option.name} of {self.kind} {name!r} needs a default that is a number, a word, "
                    f"true or false, not {option.default!r}"
                )
        self.known[name] = member
        return member.make

    def of_script(self) -> tuple[Member, ...]:
        """Returns the members that a script or notebook has registered; other processes cannot import them."""
        return tuple(member for member in self.known.values() if member.make.__module__ == "__main__")

    def registered(self) -> dict[str, Member]:
        """Returns every member by name, in order; the first call imports them.

        Warns:
          UserWarning: an entry point cannot be loaded.
        """
        if not self._is_imported:
            self._import()
            self._is_imported = True
        return {member.name: member for member in sorted(self.known.values(), key=self._order)}

    def _import(self) -> None:
        """Imports every file below the package, and the module of each entry point of the group.

        If the module of another package fails, it registers nothing, and everything else stays usable.
        """
        for module in pkgutil.walk_packages(importlib.import_module(self._package).__path__, f"{self._package}."):
            importlib.import_module(module.name)
        for entry_point in sorted(importlib.metadata.entry_points(group=self._group)):
            try:
                entry_point.load()
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # of any kind, sys.exit too: the code is not ours
                for name, member in list(self.known.items()):
                    if member.make.__module__ not in sys.modules:  # it failed after the registration
                        del self.known[name]
                owner = f" of {entry_point.dist.name} {entry_point.dist.version}" if entry_point.dist else ""
                warnings.warn(
                    f"entry point {entry_point.name!r}{owner} in {self._group}, {entry_point.value}, "
                    f"cannot be loaded: {type(error).__name__}: {cause(error)}",
                    stacklevel=3,
                )

    def owner(self, member: Member) -> str:
        """Returns the package that brings a member by an entry point, with its version; empty for others."""
        package = getattr(member.make, "__module__", "").partition(".")[0]
        for entry_point in importlib.metadata.entry_points(group=self._group):
            if entry_point.dist and entry_point.module.partition(".")[0] == package:
                return f"{entry_point.dist.name} {entry_point.dist.version}"
        return ""

    def match(self, name: str) -> Member | None:
        """Returns the member that matches a name, if there is one."""
        return self.known.get(name) or next((m for m in self.registered().values() if m.matches(name)), None)

    def find(self, name: str) -> Member:
        """Returns the member that matches a name; raises UserError if there is none."""
        found = self.match(name)
        if found is None:
            raise unknown_name(self.kind, name, self.registered())
        return found

    def resolve(self, choice: Choice) -> Choice:
        """Returns the choice with all options of its member, as it is recorded; raises UserError if it is wrong."""
        return Choice(choice.name, self.find(choice.name).resolve(choice.options))

    def make(self, choice: Choice) -> Any:
        """Returns an instance of the chosen member; raises UserError if the choice is wrong."""
        return self.find(choice.name).make(**self.resolve(choice).options)
