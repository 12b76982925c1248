"""fusion_bench: a benchmark of multimodal fusion strategies in JAX."""

from pathlib import Path
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
    from fusion_bench.store.loaded import LoadedRun
    from fusion_bench.study.study import Study

__all__ = [
    "BenchmarkConfig", "CheckpointConfig", "Choice", "ConfigError", "DataConfig", "MeasurementConfig",
    "ModelConfig", "StrategySpec", "TrainingConfig", "UserError", "load_run", "run",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Imports what needs Flax when it is asked for."""
    if name == "StrategySpec":
        from fusion_bench.fusion.registry import StrategySpec

        return StrategySpec
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def run(config: BenchmarkConfig | None = None) -> "pandas.DataFrame":
    """Trains every run of a study that is not complete yet, and returns its table.

    The table is also written to `config.out` as table.csv and table.md.

    Args:
      config: the study; the default one if None.

    Raises:
      UserError: the configuration, the data or the output directory are not as they should be.
    """
    return run_and_tabulate(config or BenchmarkConfig())[1]


def run_and_tabulate(config: BenchmarkConfig) -> "tuple[Study, pandas.DataFrame]":
    """As `run`; returns the study too, with the runs that failed."""
    from rich.console import Console

    from fusion_bench.report.render import write_tables
    from fusion_bench.report.table import table
    from fusion_bench.study.progress import make_display
    from fusion_bench.study.study import run_study

    with make_display(Console(stderr=True)) as display:
        study = run_study(config, display)
    frame = table(study.store)
    write_tables(study.store, frame)
    return study, frame


def load_run(directory: Path | str, identifier: str) -> "LoadedRun":
    """Returns a trained model with its tokenizer, from the folder of its run alone.

    Args:
      directory: of a study.
      identifier: the run's, or the beginning of it, where that is of one run only: "concat-s0".

    Raises:
      UserError: there is no such run, it has no model, or it is damaged.
    """
    from fusion_bench.store import loaded

    return loaded.load_run(directory, identifier)
