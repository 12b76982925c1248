"""Diagnostics of stored runs: each is computed once, and stored beside the run."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from fusion_bench.config import Choice, DataConfig
from fusion_bench.data.batches import to_device
from fusion_bench.data.dataset import Dataset
from fusion_bench.data.load import load_dataset
from fusion_bench.diagnostics.base import Model, diagnostics
from fusion_bench.errors import UserError
from fusion_bench.fusion.registry import StrategySpec
from fusion_bench.store import Run, Store
from fusion_bench.store.diagnosed import has_values, write_values
from fusion_bench.store.loaded import load_model
from fusion_bench.study.provenance import describe_environment


class Diagnosed(NamedTuple):
    """The outcome of `diagnose`.

    Attributes:
      computed: number of values that were computed now, one a run and diagnostic.
      kept: number that were stored already.
      skipped: one line for each strategy that a diagnostic does not apply to.
    """

    computed: int
    kept: int
    skipped: list[str]


def diagnose(
    store: Store,
    choices: Sequence[Choice],
    *,
    data: DataConfig | None = None,
    note: Callable[[str], None] = lambda line: None,
) -> Diagnosed:
    """Applies diagnostics to the models of all complete runs that learn the label, on the test split.

    Args:
      store: of the runs.
      choices: the diagnostics, with their options.
      data: where the data are on this machine (`data_dir`, `cache_dir`, and files); as the runs name them if None.
      note: is called with a line for each run.

    Raises:
      UserError: a diagnostic is unknown, the data are missing, or are not those that a run was trained on.
    """
    resolved = [(diagnostics.find(choice.name), diagnostics.resolve(choice)) for choice in choices]
    computed = kept = 0
    skipped: dict[str, None] = {}
    for fingerprint, runs in _by_dataset(store).items():
        dataset = _load(runs[0], data or DataConfig())
        if dataset.fingerprint != fingerprint:
            raise UserError(f"{runs[0].id} was trained on other data than those that are found here")
        on_device = to_device(dataset)
        for run in runs:
            spec = StrategySpec(run.identity["name"], run.identity["options"])
            model = None
            for registered, choice in resolved:
                diagnostic = registered.make(**choice.options)
                if reason := diagnostic.skip(spec, dataset.task):
                    skipped[f"{registered.name}: {reason}"] = None
                elif has_values(store.directory, run.id, choice, registered.version):
                    kept += 1
                else:
                    model = model or Model(load_model(store, run), on_device)
                    values = diagnostic(model, dataset.splits["test"])
                    here = describe_environment()
                    write_values(store.directory, run.id, choice, registered.version, values, here)
                    computed += 1
                    note(f"{registered.name} of {run.strategy}, seed {run.seed}")
    return Diagnosed(computed, kept, list(skipped))


def _by_dataset(store: Store) -> dict[str, list[Run]]:
    """Returns the complete runs with a model of the label, by the fingerprint of their data."""
    found: dict[str, list[Run]] = {}
    for run in store.runs():
        has_model = run.status == "complete" and run.family != "reference"
        if has_model and run.identity["target"] == "label":
            found.setdefault(run.identity["fingerprint"], []).append(run)
    return found


def _load(run: Run, here: DataConfig) -> Dataset:
    """Loads the data of a run, from where they are on this machine."""
    stated = dict(run.identity["data"])
    for name in ("source", "captions"):  # a run records a file's name without its folder
        given = getattr(here, name)
        if Path(given).name == stated[name]:
            stated[name] = given
    return load_dataset(
        dataclasses.replace(DataConfig(**stated), data_dir=here.data_dir, cache_dir=here.cache_dir)
    )
