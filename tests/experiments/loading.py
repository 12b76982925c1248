"""Experiments as modules."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
ABLATIONS = sorted(path.stem for path in (EXPERIMENTS / "ablations").glob("*.py") if "SWEEP = " in path.read_text())


def load(name: str) -> ModuleType:
    """Returns an experiment's module, which finds its neighbours as when it is run."""
    (path,) = EXPERIMENTS.rglob(f"{name}.py")
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
