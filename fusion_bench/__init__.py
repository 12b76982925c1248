"""fusion_bench: a benchmark of multimodal fusion strategies in JAX."""

import importlib
from typing import TYPE_CHECKING, Any

from fusion_bench.config import (
    BenchmarkConfig,
    CheckpointConfig,
    Choice,
    DataConfig,
    MeasurementConfig,
    ModelConfig,
    TrainingConfig,
)  # fmt: skip
from fusion_bench.errors import ConfigError, UserError

if TYPE_CHECKING:
    import pandas

    from fusion_bench.fusion.registry import StrategySpec
    from fusion_bench.store.loaded import load_run
    from fusion_bench.study.study import Study

__all__ = [
    "BenchmarkConfig", "CheckpointConfig", "Choice", "ConfigError", "DataConfig", "MeasurementConfig",
    "ModelConfig", "StrategySpec", "TrainingConfig", "UserError", "load_run", "run",
]  # fmt: skip

_NEED_FLAX = {"StrategySpec": "fusion_bench.fusion.registry", "load_run": "fusion_bench.store.loaded"}


def __getattr__(name: str) -> Any:
    """Imports the names that need Flax on first use."""
    if name not in _NEED_FLAX:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_NEED_FLAX[name]), name)


def run(config: BenchmarkConfig | None = None) -> "pandas.DataFrame":
    """Trains the incomplete runs of a study, the default one if None, and returns its table.

    The table is also written to `config.out` as table.csv and table.md.

    Raises:
      UserError: the configuration, the data or the output directory cannot be used.
    """
    return run_and_tabulate(config or BenchmarkConfig())[1]


def run_and_tabulate(config: BenchmarkConfig) -> "tuple[Study, pandas.DataFrame]":
    """As `run`; returns the study too, with the runs that failed."""
    from rich.console import Console

    from fusion_bench.training import backend

    backend.start()
    from fusion_bench.report.render import write_tables
    from fusion_bench.report.table import table
    from fusion_bench.study.progress import make_display
    from fusion_bench.study.study import run_study

    with make_display(Console(stderr=True)) as display:
        study = run_study(config, display)
    frame = table(study.store)
    write_tables(study.store, frame)
    return study, frame
