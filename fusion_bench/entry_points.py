"""Registrations by import: of the files of this package, and of modules that other packages name as entry points."""

import importlib
import importlib.metadata
import pkgutil
import sys
import warnings
from typing import Any


def import_registrations(package: str, group: str, registry: dict[str, Any]) -> None:
    """Imports what registers itself: every file below a package, and what each entry point of the group names.

    A module of another package that fails registers nothing, and all else stays usable.

    Args:
      package: as in an import statement.
      group: of entry points.
      registry: what the modules add to, by name; `make` of each is the class or function that was registered.

    Warns:
      UserWarning: an entry point cannot be loaded.
    """
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
        importlib.import_module(module.name)
    for entry_point in sorted(importlib.metadata.entry_points(group=group)):
        try:
            entry_point.load()
        except Exception as error:  # of any kind: the code is not ours
            for name, registration in list(registry.items()):
                if registration.make.__module__ not in sys.modules:  # it failed after the registration
                    del registry[name]
            owner = f" of {entry_point.dist.name} {entry_point.dist.version}" if entry_point.dist else ""
            warnings.warn(
                f"entry point {entry_point.name!r}{owner} in {group}, {entry_point.value}, "
                f"cannot be loaded: {type(error).__name__}: {error}",
                stacklevel=2,
            )
