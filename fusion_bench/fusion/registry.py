"""The strategies by name. A file in a family's folder registers its layer or class."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeVar

from flax import nnx

from fusion_bench.axis import NAME, Axis, Registered
from fusion_bench.config import Choice, as_choice
from fusion_bench.data.dataset import Task
from fusion_bench.errors import UserError, unknown_name
from fusion_bench.families import MULTIMODAL
from fusion_bench.fusion.base import FeatureFusion, PosthocFusion, Strategy, TokenFusion
from fusion_bench.fusion.blueprint import Blueprint

Module = TypeVar("Module", bound=nnx.Module)
FAMILIES = ("unimodal", *MULTIMODAL)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Registration(Registered):
    """One registered strategy; `make` is its operator, a Flax layer, or a class of strategies.

    Attributes:
      family: "unimodal", "early", "intermediate", "tensor" or "late".
      canonical: whether it belongs to the default set.
      modality: the one that a unimodal strategy reads; None for a fusion strategy.
      baseline: ending of the names of the unimodal strategies that it is compared with: "only", or "token-only" for
        the joint transformer on one modality.
      pairs_only: whether it is defined for two modalities only.
      needs_grid: whether it fuses inside a CNN, and so needs a grid.
      size: name of the option that scales its fusion module, to match others in cost; it may lack that option.
      reads: whether an operator takes pooled features or tokens; None for a class of strategies.
    """

    family: str
    canonical: bool = False
    modality: str | None = None
    baseline: str = "only"
    pairs_only: bool = False
    needs_grid: bool = False
    size: str = "out_features"
    reads: Literal["features", "tokens"] | None = None

    @property
    def strategy(self) -> type[Strategy]:
        """The class of strategies, for an operator the one that contains it."""
        return {"tokens": TokenFusion, "features": FeatureFusion, None: self.make}[self.reads]

    @property
    def is_posthoc(self) -> bool:
        return issubclass(self.make, PosthocFusion)

    @property
    def options(self) -> Mapping[str, inspect.Parameter]:
        return {name: p for name, p in super().options.items() if name not in ("modality", "dtype", "rngs")}

    def skip(self, task: Task) -> str | None:
        """Returns the reason why it is not defined for a task's modalities, or None if it is."""
        if self.pairs_only and len(task.modalities) != 2:
            return f"it joins two modalities; these are {', '.join(sorted(task.modalities))}"
        if self.needs_grid and all(spec.kind != "grid" for spec in task.modalities.values()):
            return "it joins inside a CNN and needs a grid modality, such as an image; these data have none"
        return None

    def check(self, task: Task) -> None:
        """Raises UserError if it is not defined for a task's modalities."""
        if (reason := self.skip(task)) is not None:
            raise UserError(f"{self.name}: {reason}")

    def build(self, blueprint: Blueprint, options: Mapping[str, Any]) -> Strategy:
        """Returns the module; raises UserError if it cannot join these modalities, or an option is invalid."""
        self.check(blueprint.task)
        if self.reads is not None:
            return self.strategy(blueprint, make_operator=functools.partial(self.make, **options))
        if self.modality is not None:
            options = {**options, "modality": self.modality}
        return self.make(blueprint, **options)


REGISTRY: Axis[Registration] = Axis(
    "strategy",
    "fusion_bench.fusion",
    "fusion_bench.strategies",
    # names with another meaning on the command line or in a table are excluded
    names=r"(?!(all|canonical|bayes-reference)$)(\{modality\}-)?" + NAME,
    order=lambda registration: (FAMILIES.index(registration.family), not registration.canonical),
)


def register(
    name: str,
    *,
    reference: str,
    family: str | None = None,
    canonical: bool = False,
    baseline: str = "only",
    pairs_only: bool = False,
    needs_grid: bool = False,
    size: str = "out_features",
    reads: Literal["features", "tokens"] = "features",
    version: int = 1,
) -> Callable[[type[Module]], type[Module]]:
    """Decorates a fusion operator for features or tokens, or a whole class of strategies.

    A layer is built as `layer(in_features, dtype=..., rngs=..., **options)` from the width of each modality's
    features, has the width of its result in `out_features`, and is called with features, or with tokens and masks, by
    modality. The options of a layer or class are its other keyword-only arguments.

    The arguments are the attributes of `Registration`; the family is by default the folder of the file. A name with
    "{modality}" in it stands for one strategy per modality of the data; its class takes the keyword `modality`.

    Raises:
      ValueError: as `Axis.register`, or there is no such family.
      TypeError: what is decorated is neither a Flax layer nor a class of strategies.
    """

    def decorate(make: type[Any]) -> type[Any]:
        if not (isinstance(make, type) and issubclass(make, nnx.Module)):
            raise TypeError(f"strategy {name!r} should be a Flax layer or a subclass of Strategy, and is {make!r}")
        joins = family or make.__module__.rpartition(".")[0].rpartition(".")[2]
        if joins not in FAMILIES:
            raise ValueError(f"strategy {name!r} is of the family {joins!r}; choose from {', '.join(FAMILIES)}")
        registration = Registration(
            name, reference, make, version, family=joins, canonical=canonical, baseline=baseline,
            pairs_only=pairs_only, needs_grid=needs_grid, size=size,
            reads=None if issubclass(make, Strategy) else reads,
        )  # fmt: skip
        return REGISTRY.register(registration)

    return decorate


def strategies(modalities: Iterable[str] = ("image", "text")) -> dict[str, Registration]:
    """Returns every strategy for data with these modalities, by name, in the order of the families."""
    found = {}
    for registration in REGISTRY.registered().values():
        of_each = modalities if "{modality}" in registration.name else [None]
        for modality in of_each:
            name = registration.name.format(modality=modality)
            found[name] = dataclasses.replace(registration, name=name, modality=modality)
    return found


def find(name: str) -> Registration:
    """Returns the strategy of a name or raises UserError; "image-only" is "{modality}-only" of the modality "image"."""
    found = REGISTRY.match(name)
    if found is None:
        raise unknown_name("strategy", name, strategies())
    if found.name == name:
        return found
    return dataclasses.replace(found, name=name, modality=name.partition("-")[0])  # modalities have no hyphen


class StrategySpec(Choice):
    """A strategy with its options: `StrategySpec("tensor", {"width": 8})`."""

    @property
    def registration(self) -> Registration:
        return find(self.name)

    @property
    def label(self) -> str:
        """The name with the options that differ from the defaults, as on the command line."""
        return self.registration.label(self.options)

    @property
    def resolved_options(self) -> dict[str, Any]:
        """All options, with their defaults."""
        return self.registration.resolve(self.options)

    def build(self, blueprint: Blueprint) -> Strategy:
        return self.registration.build(blueprint, self.options)


def resolve(asked: Iterable[str | Choice], task: Task) -> tuple[StrategySpec, ...]:
    """Returns the strategies that are asked for, each once; "canonical" and "all" stand for sets of them.

    Raises:
      UserError: a name, an option or a value is wrong.
    """
    known = strategies(task.modalities)
    names = [*known, "canonical", "all"]
    chosen: dict[str, StrategySpec] = {}
    for choice in map(as_choice, asked):
        name = choice.name
        if name not in names:
            raise unknown_name("strategy", name, names)
        if name in known:
            known[name].check(task)
            group = [StrategySpec(name, known[name].convert(choice.options))]
        elif choice.options:
            raise UserError(f"{name} stands for several strategies and takes no option")
        else:
            joining = [r for r in known.values() if r.skip(task) is None]
            group = [StrategySpec(r.name) for r in joining if r.canonical or name == "all"]
        chosen.update({spec.label: spec for spec in group})
    if not chosen:
        raise UserError(f"no strategy is named; choose from {', '.join(names)}")
    return tuple(chosen.values())


def left_out(asked: Iterable[str | Choice], task: Task) -> dict[str, str]:
    """Returns the reason for each strategy that "canonical" or "all" leaves out, by name."""
    names = {as_choice(item).name for item in asked}
    reasons = {name: registration.skip(task) for name, registration in strategies(task.modalities).items()}
    is_asked = {name: "all" in names or (r.canonical and "canonical" in names) for name, r in strategies().items()}
    return {name: reason for name, reason in reasons.items() if reason is not None and is_asked[name]}
