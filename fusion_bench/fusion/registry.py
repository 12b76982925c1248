"""The strategies by name. A file in a family's folder registers its layer or class; nothing else has to know of it.

A strategy of another package is registered in a module that the package names as an entry point.
"""

import dataclasses
import functools
import inspect
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Literal, TypeVar

from flax import nnx

from fusion_bench.config import Choice, as_choice
from fusion_bench.data.dataset import Task
from fusion_bench.entry_points import import_registrations
from fusion_bench.errors import UserError, unknown_name
from fusion_bench.families import MULTIMODAL
from fusion_bench.fusion.base import FeatureFusion, PosthocFusion, Strategy, TokenFusion
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.options import check_options, value_type

Module = TypeVar("Module", bound=nnx.Module)
FAMILIES = ("unimodal", *MULTIMODAL)
DEFAULT_MODALITIES = ("image", "text")
RESERVED = ("all", "canonical", "bayes-reference")
"""Names that stand for something else, on the command line or in a table."""
_NAME = r"(\{modality\}-)?[a-z0-9]+(-[a-z0-9]+)*"
_NO_OPTIONS = ("modality", "dtype", "rngs")
ENTRY_POINTS = "fusion_bench.strategies"
"""The group of entry points by which other packages name the modules that register their strategies."""


@dataclasses.dataclass(frozen=True)
class Registration:
    """One registered strategy.

    Attributes:
      name: as on the command line.
      family: where it joins.
      reference: the paper it comes from, or what it is.
      make: the operator, a Flax layer called with the features' widths and options; or a class of strategies.
      canonical: whether it is one of the set that is run by default.
      modality: the only one that it reads; None for a fusion strategy.
      baseline: ending of the names of the unimodal strategies that it is compared with: "only", or "token-only" where
        that is the joint transformer on one modality.
      pairs_only: whether it is defined for two modalities alone.
      size: the option, if there is one of that name, that sets the size of its joint part to match others in cost.
      reads: whether an operator joins pooled features or tokens; None for a class of strategies.
      version: of its results, kept by hand: raise it when they change.
    """

    name: str
    family: str
    reference: str
    make: type[nnx.Module]
    canonical: bool = False
    modality: str | None = None
    baseline: str = "only"
    pairs_only: bool = False
    size: str = "out_features"
    reads: Literal["features", "tokens"] | None = None
    version: int = 1

    @property
    def summary(self) -> str:
        """First line of the class's docstring."""
        return (inspect.getdoc(self.make) or "").partition("\n")[0]

    @property
    def strategy(self) -> type[Strategy]:
        """The class of strategies: for an operator, the one that it is put into."""
        if issubclass(self.make, Strategy):
            return self.make
        return TokenFusion if self.reads == "tokens" else FeatureFusion

    @property
    def is_posthoc(self) -> bool:
        return issubclass(self.make, PosthocFusion)

    @property
    def options(self) -> Mapping[str, inspect.Parameter]:
        """The strategy's own options: the keyword-only arguments of its layer or class."""
        # of __init__: Flax's metaclass hides the class's own signature
        parameters = inspect.signature(self.make.__init__).parameters.values()
        return {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in _NO_OPTIONS}

    def joins(self, modalities: Collection[str]) -> bool:
        """Returns whether it is defined for so many modalities."""
        return len(modalities) == 2 or not self.pairs_only

    def check(self, modalities: Collection[str]) -> None:
        """Raises UserError if it is not defined for so many modalities."""
        if not self.joins(modalities):
            raise UserError(f"{self.name} joins two modalities; these are {', '.join(sorted(modalities))}")

    def build(self, blueprint: Blueprint, options: Mapping[str, Any]) -> Strategy:
        """Returns the strategy's module for the blueprint's task.

        Raises:
          UserError: it cannot join these modalities, or an option does not suit it.
        """
        self.check(blueprint.modalities)
        if not issubclass(self.make, Strategy):
            return self.strategy(blueprint, make_operator=functools.partial(self.make, **options))
        if self.modality is not None:
            options = {**options, "modality": self.modality}
        return self.make(blueprint, **options)


_REGISTRY: dict[str, Registration] = {}


def register(
    name: str,
    *,
    family: str,
    reference: str,
    canonical: bool = False,
    baseline: str = "only",
    pairs_only: bool = False,
    size: str = "out_features",
    reads: Literal["features", "tokens"] = "features",
    version: int = 1,
) -> Callable[[type[Module]], type[Module]]:
    """Decorates the layer by which a strategy joins features or tokens, or a whole class of strategies.

    A layer is built as `layer(in_features, dtype=..., rngs=..., **options)` from the width of each modality's
    features, has the width of its result in `out_features`, and is called with features, or with tokens and masks, by
    modality. The options of a layer or class are its other keyword-only arguments.

    The arguments are the attributes of `Registration`. A name with "{modality}" in it stands for one strategy for each
    modality of the data, whose class takes the keyword `modality`.

    Raises:
      ValueError: the name cannot be one or is taken, there is no such family, or an option has no default of a kind
        that the command line can read.
      TypeError: what is decorated is neither a Flax layer nor a class of strategies.
    """
    if family not in FAMILIES:
        raise ValueError(f"strategy {name!r} is of the family {family!r}; choose from {', '.join(FAMILIES)}")
    if not re.fullmatch(_NAME, name) or name in RESERVED:
        raise ValueError(f"a strategy cannot be called {name!r}; use small letters, digits and hyphens")

    def decorate(cls: type[Any]) -> type[Any]:
        if not (isinstance(cls, type) and issubclass(cls, nnx.Module)):
            raise TypeError(f"strategy {name!r} should be a Flax layer or a subclass of Strategy, and is {cls!r}")
        for taken in _REGISTRY.values():
            if taken.make is not cls and _may_be_the_same(taken.name, name):
                raise ValueError(f"strategy {name!r} is registered twice: {taken.make} and {cls}")
        registration = Registration(
            name, family, reference, cls, canonical,
            baseline=baseline, pairs_only=pairs_only, size=size, version=version,
            reads=None if issubclass(cls, Strategy) else reads,
        )  # fmt: skip
        for option in registration.options.values():
            if value_type(option) is None:
                raise ValueError(
                    f"option {option.name} of strategy {name!r} needs a default that is a number, a word, "
                    f"true or false, not {option.default!r}"
                )
        _REGISTRY[name] = registration
        return cls

    return decorate


def _may_be_the_same(name: str, other: str) -> bool:
    """Returns whether two names, of which either may stand for one of each modality, are one for some modality."""
    modality = re.escape("{modality}")
    return any(
        re.fullmatch(re.escape(a).replace(modality, "[a-z0-9_]+"), b.format(modality="x"))
        for a, b in ((name, other), (other, name))
    )


@functools.cache
def _import_families() -> None:
    """Imports every file of every family's folder and what other packages name, so that each registers itself."""
    import_registrations("fusion_bench.fusion", ENTRY_POINTS, _REGISTRY)


def strategies(modalities: Iterable[str] = DEFAULT_MODALITIES) -> dict[str, Registration]:
    """Returns every strategy for data with these modalities, by name, in the order of the families."""
    _import_families()
    found = []
    for registration in _REGISTRY.values():
        if "{modality}" not in registration.name:
            found.append(registration)
            continue
        for modality in modalities:
            name = registration.name.format(modality=modality)
            found.append(dataclasses.replace(registration, name=name, modality=modality))
    found.sort(key=lambda r: (FAMILIES.index(r.family), not r.canonical))
    return {registration.name: registration for registration in found}


def find(name: str) -> Registration:
    """Returns the strategy of a name; "image-only" is "{modality}-only" of the modality "image".

    Raises:
      UserError: there is none.
    """
    _import_families()
    if name in _REGISTRY:
        return _REGISTRY[name]
    modality, _, rest = name.partition("-")  # the name of a modality has no hyphen
    template = _REGISTRY.get(f"{{modality}}-{rest}")
    if template is None:
        raise unknown_name("strategy", name, strategies())
    return dataclasses.replace(template, name=name, modality=modality)


class StrategySpec(Choice):
    """A strategy with its options: `StrategySpec("tensor", {"width": 8})`."""

    @property
    def registration(self) -> Registration:
        return find(self.name)

    @property
    def label(self) -> str:
        """The name with the options that differ from the defaults, as on the command line."""
        defaults = self.registration.options
        chosen = {k: v for k, v in sorted(self.options.items()) if v != defaults[k].default}
        return str(Choice(self.name, chosen))

    @property
    def resolved_options(self) -> dict[str, Any]:
        """All options, with their defaults."""
        defaults = {name: p.default for name, p in self.registration.options.items()}
        return {**defaults, **self.options}

    def build(self, blueprint: Blueprint) -> Strategy:
        return self.registration.build(blueprint, self.options)


def resolve(asked: Iterable[str | Choice], task: Task) -> tuple[StrategySpec, ...]:
    """Returns the strategies that are asked for, each once; "canonical" and "all" stand for sets of them.

    Args:
      asked: names, or names with options.
      task: its modalities decide which unimodal baselines there are.

    Raises:
      UserError: a name, an option or a value is not right.
    """
    known = strategies(task.modalities)
    chosen: dict[str, StrategySpec] = {}
    for choice in map(as_choice, asked):
        name = choice.name
        if name in ("canonical", "all"):
            if choice.options:
                raise UserError(f"{name} stands for several strategies and takes no option")
            group = [
                StrategySpec(r.name)
                for r in known.values()
                if (r.canonical or name == "all") and r.joins(task.modalities)
            ]
        elif name in known:
            known[name].check(task.modalities)
            group = [StrategySpec(name, check_options(name, known[name].options, choice.options))]
        else:
            raise unknown_name("strategy", name, [*known, "canonical", "all"])
        chosen.update({spec.label: spec for spec in group})
    if not chosen:
        raise UserError("no strategy is named; choose from " + ", ".join([*known, "canonical", "all"]))
    return tuple(chosen.values())


def left_out(asked: Iterable[str | Choice], task: Task) -> tuple[str, ...]:
    """Returns what "all" leaves out of a list of strategies, because it is not defined for the task's modalities."""
    has_all = any(as_choice(item).name == "all" for item in asked)
    return tuple(name for name, r in strategies(task.modalities).items() if has_all and not r.joins(task.modalities))
