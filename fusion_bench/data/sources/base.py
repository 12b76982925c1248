"""Sources by name: each is a function that reads or makes the data that a configuration asks for.

    @register_source("mine", summary="what it is, in one line", class_names=("left", "right"))
    def load(config: DataConfig) -> RawDataset: ...

It raises UserError if the data are missing or damaged.
"""

import dataclasses
from collections.abc import Callable, Mapping

from fusion_bench import files
from fusion_bench.axis import Axis, Registered
from fusion_bench.config import DataConfig
from fusion_bench.data.dataset import RawDataset
from fusion_bench.errors import ConfigError

Load = Callable[[DataConfig], RawDataset]


@dataclasses.dataclass(frozen=True)
class ClassWords:
    """Words for captions about some classes, written by hand; the rules are those of `captions.lexicon.Lexicon`.

    Attributes:
      nouns: of each class, by its name.
      partitions: by name; each maps a group's word to the names of its classes.
    """

    nouns: Mapping[str, tuple[str, ...]]
    partitions: Mapping[str, Mapping[str, tuple[str, ...]]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source(Registered):
    """One registered source.

    Attributes:
      class_names: by label, where they are known before the data are read.
      words: for captions about these classes; without them, words are made from the classes' names.
      fields: the fields of `DataConfig` that it reads and most sources do not.
    """

    class_names: tuple[str, ...] = ()
    words: ClassWords | None = None
    fields: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """One-line description."""
        return self.reference


REGISTRY: Axis[Source] = Axis(
    "data source",
    "fusion_bench.data.sources",
    "fusion_bench.sources",
    names=".+",
    # the default, other names, then patterns
    order=lambda source: (source.name != source.name.lower(), source.name != DataConfig.source, source.name),
)


def register_source(
    name: str,
    *,
    summary: str,
    class_names: tuple[str, ...] = (),
    words: ClassWords | None = None,
    options: tuple[str, ...] = (),
) -> Callable[[Load], Load]:
    """Decorates the function that returns a source's data; the arguments are the attributes of `Source`.

    Raises:
      ValueError: the name is taken, or an option is no field of `DataConfig`.
    """
    unknown = set(options) - {field.name for field in dataclasses.fields(DataConfig)}
    if unknown:
        raise ValueError(f"source {name!r} reads {min(unknown)}, which is no field of DataConfig")
    return lambda load: REGISTRY.register(
        Source(name, summary, load, class_names=class_names, words=words, fields=options)
    )


def sources() -> Mapping[str, Source]:
    """Returns every source by name."""
    return REGISTRY.registered()


def recorded_name(name: str) -> str:
    """Returns a source's name without the folder of a file: where the data lie does not identify them."""
    return files.recorded_name(name) if REGISTRY.find(name).name.startswith("FILE") else name


def owner(name: str) -> str:
    """Returns the package that brings a source by an entry point, with its version; empty for others."""
    return REGISTRY.owner(REGISTRY.find(name))


def load_raw(config: DataConfig) -> RawDataset:
    """Returns the modalities and labels of `config.source`, before captions and splits.

    Raises:
      UserError: there is no such source, its data are missing or damaged, or it does not read an option that is set.
    """
    source, default = REGISTRY.find(config.source), DataConfig()
    for field in {field for other in sources().values() for field in other.fields}:
        if field not in source.fields and getattr(config, field) != getattr(default, field):
            owners = " and ".join(name for name, other in sources().items() if field in other.fields)
            raise ConfigError(field, getattr(config, field), f"it is an option of {owners} only")
    return source.make(config)


def class_names(config: DataConfig) -> tuple[str, ...]:
    """Returns the classes of `config.source`; reads the data only if the source does not declare its classes."""
    return REGISTRY.find(config.source).class_names or load_raw(config).class_names
