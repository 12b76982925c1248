"""Sources by name. A file in this folder registers a function; nothing else has to know of it.

    @register_source("mine", summary="what it is, in one line", class_names=("left", "right"))
    def load(config: DataConfig) -> RawDataset: ...

A source of another package is registered in a module that the package names as an entry point.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from fusion_bench.config import DataConfig
from fusion_bench.data.dataset import RawDataset
from fusion_bench.entry_points import import_registrations
from fusion_bench.errors import ConfigError, unknown_name

ENTRY_POINTS = "fusion_bench.sources"
"""The group of entry points by which other packages name the modules that register their sources."""

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


@dataclasses.dataclass(frozen=True)
class Source:
    """One registered source.

    Attributes:
      name: as on the command line; a word in capitals stands for any text, as in "FILE.npz" and "tfds:NAME".
      summary: one line.
      make: reads or makes the data that a configuration asks for; raises UserError if they are missing or damaged.
      class_names: by label, where they are known before the data are read.
      words: for captions about these classes; without them, words are made from the classes' names.
      options: the fields of `DataConfig` that only this source and others that name them can read.
    """

    name: str
    summary: str
    make: Load
    class_names: tuple[str, ...] = ()
    words: ClassWords | None = None
    options: tuple[str, ...] = ()

    @property
    def is_pattern(self) -> bool:
        return self.name != self.name.lower()

    def matches(self, name: str) -> bool:
        """Returns whether `name` asks for this source."""
        return re.fullmatch(re.sub("[A-Z]+", ".+", re.escape(self.name)), name) is not None


_REGISTRY: dict[str, Source] = {}


def register_source(
    name: str,
    *,
    summary: str,
    class_names: tuple[str, ...] = (),
    words: ClassWords | None = None,
    options: tuple[str, ...] = (),
) -> Callable[[Load], Load]:
    """Decorates the function that gives a source's data; the arguments are the attributes of `Source`.

    Raises:
      ValueError: the name is taken, or an option is no field of `DataConfig`.
    """
    unknown = set(options) - {field.name for field in dataclasses.fields(DataConfig)}
    if unknown:
        raise ValueError(f"source {name!r} reads {min(unknown)}, which is no field of DataConfig")

    def decorate(make: Load) -> Load:
        if name in _REGISTRY and _REGISTRY[name].make is not make:
            raise ValueError(f"source {name!r} is registered twice: {_REGISTRY[name].make} and {make}")
        _REGISTRY[name] = Source(name, summary, make, class_names, words, options)
        return make

    return decorate


@functools.cache
def _import_sources() -> None:
    import_registrations("fusion_bench.data.sources", ENTRY_POINTS, _REGISTRY)


def sources() -> Mapping[str, Source]:
    """Returns every source by name: the default, other names, and what stands for many."""
    _import_sources()
    order = sorted(_REGISTRY.values(), key=lambda s: (s.is_pattern, s.name != DataConfig.source, s.name))
    return {source.name: source for source in order}


def find_source(name: str) -> Source:
    """Returns the source that a name or a file asks for.

    Raises:
      UserError: there is none.
    """
    known = sources()
    for source in known.values():
        if source.matches(name):
            return source
    raise unknown_name("data source", name, known)


def recorded_name(name: str) -> str:
    """Returns a source's name without the folder of a file, which tells where the data are and not what."""
    return Path(name).name if find_source(name).name.startswith("FILE") else name


def load_raw(config: DataConfig) -> RawDataset:
    """Returns the modalities and labels of `config.source`, before captions and splits.

    Raises:
      UserError: there is no such source, its data are missing or damaged, or it does not read an option that is set.
    """
    source = find_source(config.source)
    for option in {option for other in sources().values() for option in other.options}:
        if option not in source.options and getattr(config, option) != getattr(DataConfig, option):
            owners = " and ".join(name for name, other in sources().items() if option in other.options)
            raise ConfigError(option, getattr(config, option), f"it is an option of {owners} alone")
    return source.make(config)


def class_names(config: DataConfig) -> tuple[str, ...]:
    """Returns the classes of `config.source`; data are read only where the classes are known from nothing else."""
    return find_source(config.source).class_names or load_raw(config).class_names
