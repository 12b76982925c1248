"""Remedies by name. A file in this folder registers its class; nothing else has to know of it.

@register_remedy("mine", reference="a paper")
class Mine(Remedy): ...
"""

import dataclasses
import functools
import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import optax
from jaxtyping import Array, Float, Int

from fusion_bench.config import Choice
from fusion_bench.errors import UserError, unknown_name
from fusion_bench.fusion.interface import Outputs, Strategy
from fusion_bench.fusion.registry import Registration, StrategySpec

ModalityOf = Callable[[tuple[str | int, ...]], str | None]
"""`Strategy.modality_of`: the modality that owns the parameter at a path, None for a joint part."""


class Remedy:
    """Base of all remedies. Subclasses take options as keyword-only arguments with defaults, and override some methods.

    Attributes:
      needs_unimodal_logits: whether the optimiser is given the class scores of each modality alone.
    """

    needs_unimodal_logits: ClassVar[bool] = False

    def skip(self, strategy: Registration) -> str | None:
        """Returns the reason why the remedy does not apply to a strategy; None where it does."""
        if strategy.modality is not None:
            return f"{strategy.name} has one modality"
        if strategy.is_posthoc:
            return f"{strategy.name} trains nothing itself"
        if self.needs_unimodal_logits and strategy.make.unimodal_logits is Strategy.unimodal_logits:
            return f"{strategy.name} has no separate encoder of each modality"
        return None

    def loss(
        self, loss: Float[Array, ""], outputs: Outputs, labels: Int[Array, " batch"]
    ) -> Float[Array, ""]:
        """Returns the objective: the strategy's loss, and the terms that the remedy adds to it."""
        return loss

    def wrap(
        self, optimizer: optax.GradientTransformationExtraArgs, modality_of: ModalityOf
    ) -> optax.GradientTransformationExtraArgs:
        """Returns the optimiser with the remedy's transformation before or after it.

        Its `update` is given these extra arguments in every step:
          unimodal_logits: of the batch, float32 [batch, class] for each modality; empty unless they are needed.
          labels: of the batch, int32 [batch].
          epoch: counted from 0, int32 [].
          key: of the step.
        """
        return optimizer


def map_owned(function: Callable[[str, str, Array], Array], tree: Any, modality_of: ModalityOf) -> Any:
    """Returns a tree with `function(modality, path, leaf)` where a leaf belongs to a modality, and the joint parts."""

    def apply(path: tuple[Any, ...], leaf: Array) -> Array:
        names = tuple(entry.key for entry in path if isinstance(entry, jax.tree_util.DictKey))
        modality = modality_of(names)
        return leaf if modality is None else function(modality, "/".join(map(str, names)), leaf)

    return jax.tree_util.tree_map_with_path(apply, tree)


@dataclasses.dataclass(frozen=True)
class RegisteredRemedy:
    """One registered remedy.

    Attributes:
      name: as on the command line.
      reference: the paper it comes from, or what it is.
      make: the class, called with options.
    """

    name: str
    reference: str
    make: type[Remedy]

    @property
    def summary(self) -> str:
        """First line of the class's docstring."""
        return (inspect.getdoc(self.make) or "").partition("\n")[0]

    @property
    def options(self) -> Mapping[str, inspect.Parameter]:
        """Keyword-only arguments of the class."""
        parameters = inspect.signature(self.make).parameters.values()
        return {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY}

    def resolve(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Returns all options, with their defaults.

        Raises:
          UserError: there is no such option, or its value is of another type than its default.
        """
        resolved = {name: option.default for name, option in self.options.items()}
        for name, value in options.items():
            if not resolved:
                raise UserError(f"remedy {self.name!r} has no options, got {name!r}")
            if name not in resolved:
                raise unknown_name(f"option of {self.name}", name, resolved)
            kind = type(resolved[name])
            value = float(value) if kind is float and not isinstance(value, bool | str) else value
            if type(value) is not kind:
                raise UserError(
                    f"option {name} of {self.name} is {value!r}; it must be of type {kind.__name__}"
                )
            resolved[name] = value
        return resolved


_REGISTRY: dict[str, RegisteredRemedy] = {}


def register_remedy(name: str, *, reference: str) -> Callable[[type[Remedy]], type[Remedy]]:
    """Decorates the class of a remedy.

    Args:
      name: as on the command line.
      reference: the paper it comes from.

    Raises:
      ValueError: the name cannot be one or is taken, or an option has no default that the command line can read.
    """
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise ValueError(f"a remedy cannot be called {name!r}; use small letters, digits and hyphens")

    def decorate(make: type[Remedy]) -> type[Remedy]:
        if name in _REGISTRY and _REGISTRY[name].make is not make:
            raise ValueError(f"remedy {name!r} is registered twice: {_REGISTRY[name].make} and {make}")
        registered = RegisteredRemedy(name, reference, make)
        for option in registered.options.values():
            if type(option.default) not in (int, float, str, bool):
                raise ValueError(
                    f"option {option.name} of remedy {name!r} needs a default that is a number, a word, "
                    f"true or false, not {option.default!r}"
                )
        _REGISTRY[name] = registered
        return make

    return decorate


@functools.cache
def _import_remedies() -> None:
    package = importlib.import_module("fusion_bench.training.remedies")
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)


def remedies() -> dict[str, RegisteredRemedy]:
    """Returns every remedy by name, `none` first."""
    _import_remedies()
    return {name: _REGISTRY[name] for name in sorted(_REGISTRY, key=lambda name: (name != "none", name))}


def resolve_remedy(choice: Choice) -> Choice:
    """Returns the choice with all its options, as a run records it.

    Raises:
      UserError: there is no such remedy or option, or a value is of another type than the default.
    """
    known = remedies()
    if choice.name not in known:
        raise unknown_name("remedy", choice.name, known)
    return Choice(choice.name, known[choice.name].resolve(choice.options))


def make_remedy(choice: Choice) -> Remedy:
    """Returns the remedy.

    Raises:
      UserError: as `resolve_remedy` does, or a value is out of range.
    """
    resolved = resolve_remedy(choice)
    return remedies()[resolved.name].make(**resolved.options)


class Assignment(NamedTuple):
    """The remedies of a study.

    Attributes:
      remedies: by the label of each strategy that is trained.
      skipped: one line for each strategy that is left out, by its label.
    """

    remedies: dict[str, Choice]
    skipped: dict[str, str]


def assign_remedy(specs: Iterable[StrategySpec], choice: Choice) -> Assignment:
    """Returns the remedy with which each strategy is trained, and why others are left out.

    Unimodal baselines are trained without a remedy, so that they are the same runs in every study.

    Raises:
      UserError: as `make_remedy` does.
    """
    remedy, resolved = make_remedy(choice), resolve_remedy(choice)
    assigned, skipped = {}, {}
    for spec in specs:
        reason = remedy.skip(spec.registration)
        if spec.registration.modality is not None:
            assigned[spec.label] = Choice("none")
        elif reason is None:
            assigned[spec.label] = resolved
        else:
            skipped[spec.label] = f"{spec.label} is left out with the remedy {choice.name}: {reason}"
    return Assignment(assigned, skipped)
