"""Flags: names, placeholders and parsers of the fields of configurations on the command line."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from tyro.conf import Fixed, Suppress, arg
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, StructConstructorSpec, StructTypeInfo

from fusion_bench.cli.choices import parse_choice, parse_choices, parse_names
from fusion_bench.cli.run import RunCommand
from fusion_bench.config import Choice, ClusterConfig, DataConfig, TrainingConfig
from fusion_bench.errors import ConfigError
from fusion_bench.speed.config import SpeedConfig


def option(metavar: str, default: str = "", **more: Any) -> Any:
    """Returns an argument with a placeholder; `default` states in the help what a default of None means."""
    return arg(metavar=metavar, help_behavior_hint=f"(default: {default})" if default else None, **more)


def word(metavar: str, parse: Callable[[str], Any]) -> Any:
    """Returns an argument whose value is parsed from one word; a tuple is shown with commas."""

    def show(value: Any) -> list[str]:
        return [",".join(map(str, value)) if isinstance(value, tuple) else str(value)]

    return PrimitiveConstructorSpec(1, metavar, lambda words: parse(words[0]), lambda value: True, show)


def parse_sizes(text: str) -> tuple[int, ...]:
    """Reads batch sizes, comma-separated."""
    words = parse_names(text)
    if not words or not all(word.isdecimal() and int(word) for word in words):
        raise ConfigError("batch_sizes", repr(text), "it must be whole numbers above 0, for example 1,8,64")
    return tuple(map(int, words))


def parse_transforms(text: str) -> Any:
    """Reads "auto", "none" or transformations, comma-separated."""
    return "auto" if text == "auto" else () if text == "none" else parse_names(text)


def parse_kinds(text: str) -> dict[str, str]:
    """Reads kinds of arrays, comma-separated: "counts=vector,ids=tokens"."""
    pairs = [item.partition("=") for item in parse_names(text)]
    if not pairs or not all(name and sign for name, sign, _ in pairs):
        raise ConfigError("kinds", repr(text), "it must be NAME=KIND, for example counts=vector")
    return {name: kind for name, _, kind in pairs}


STRATEGIES = (
    word("a,b|canonical|all", parse_choices),
    arg(help="Names, comma-separated; an option of a strategy follows a colon: tensor:width=8."),
)
Strategies = Annotated[tuple[str | Choice, ...], *STRATEGIES]
"""Type of a field that holds strategies given on the command line."""

OPTIONS: Mapping[type, Mapping[str, Any]] = {
    DataConfig: {
        "source": option("shapes|cifar10|tfds:NAME|FILE.npz", name="data"),
        "data_dir": option("DIR", "$TFDS_DATA_DIR, else TFDS's own"),
        "captions": option("NAME|FILE"),
        "train_size": option("N", "all"),
        "test_size": option("N", "all"),
        "test_from": option("test|train"),
        "cache_dir": option("DIR", "$FUSION_BENCH_CACHE_DIR, else the user's cache directory"),
        "image_size": option("N", "their own size"),
        "augment": word("auto|none|flip,translate", parse_transforms),
        "modalities": (word("a,b", parse_names), arg(help_behavior_hint="(default: all)")),
        "kinds": (
            word("NAME=KIND,NAME=KIND", parse_kinds),
            arg(
                name="kind",
                help="Kind of an array of a file that could have several kinds: counts=vector. Kinds: grid, tokens, "
                "sequence, vector, text.",
                help_behavior_hint="(optional)",
            ),
        ),
        "max_tokens": option("N"),
        "misalign": option("P"),
        "missing": option("P"),
    },
    TrainingConfig: {"remedy": (Suppress, Fixed)},
    ClusterConfig: {
        "ray_address": option("ADDRESS", "none"),
        "cpus_per_run": option("N"),
        "gpus_per_run": option("N"),
        "load_on_nodes": arg(help_behavior_hint=""),
    },
    RunCommand: {
        "strategies": STRATEGIES,
        "remedies": (
            word("a,b", parse_choices),
            arg(
                name="remedy",
                help="Remedies for imbalance between modalities in training, comma-separated; every fusion strategy is "
                "trained with each. An option follows a colon: ogm-ge:alpha=0.5.",
            ),
        ),
        "match_to": word("STRATEGY", parse_choice),
        "tune": option("N"),
        "seeds": option("N"),
        "devices": option("N|all"),
        "workers": option("N|auto"),
        "retries": option("N"),
        "out": option("DIR"),
        "dry_run": arg(help_behavior_hint=""),
        "measurement": (Suppress, Fixed),
        "checkpoint": (Suppress, Fixed),
    },
    SpeedConfig: {
        "strategies": STRATEGIES,
        "batch_sizes": word("N,N", parse_sizes),
        "repetitions": option("N"),
        "out": option("FILE.json", "speed/DEVICE.json"),
        "compare": arg(metavar="FILE.json [FILE.json ...]", help_behavior_hint="(optional)"),
        "reference": option("FILE.json", "the first one compared"),
        "figure": arg(metavar="FILE", help_behavior_hint="(optional)"),
    },
}
"""Annotations of the type of each field, by configuration."""

REGISTRY = ConstructorRegistry()
"""For `tyro.cli`: reads every configuration with its options."""


@REGISTRY.struct_rule
def _add_options(info: StructTypeInfo) -> StructConstructorSpec | None:
    if info.type not in OPTIONS:
        return None
    bare = type(info.type.__name__, (info.type,), {})  # has no options, so that tyro's own rule applies
    spec = ConstructorRegistry.get_struct_spec(dataclasses.replace(info, type=bare))
    assert isinstance(spec, StructConstructorSpec)
    fields = []
    for field in spec.fields:
        options = OPTIONS[info.type].get(field.name, ())
        for one in options if isinstance(options, tuple) else (options,):
            field = dataclasses.replace(field, type=Annotated[field.type, one])
        fields.append(field)
    return StructConstructorSpec(info.type, tuple(fields))


def flag(field: str) -> str:
    """Returns the flag that sets a field of a configuration."""
    renamed = {"source": "--data", "num": "-n", "kinds": "--kind", "remedies": "--remedy"}
    return renamed.get(field, "--" + field.replace("_", "-"))
