"""Diagnostics of stored runs, computed once and stored beside the runs."""

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fusion_bench.config import Choice, DataConfig
from fusion_bench.data.batches import DeviceData, to_device
from fusion_bench.data.dataset import Dataset
from fusion_bench.diagnostics.base import Diagnostic, Inapplicable, Result, chosen
from fusion_bench.diagnostics.model import Model, RunKey
from fusion_bench.errors import UserError
from fusion_bench.fusion.registry import REGISTRY
from fusion_bench.store import Run, Store, setting
from fusion_bench.store.diagnosed import has_values, read_own, read_values, write_compared, write_values
from fusion_bench.store.loaded import load_data, load_model, strategy_of
from fusion_bench.study.provenance import describe_environment
from fusion_bench.training.backend import memory_told


class Diagnosed(NamedTuple):
    """Result of `diagnose`.

    Attributes:
      computed: number of results that were computed.
      kept: number of results that were stored already.
      skipped: one line for each strategy that a diagnostic does not apply to.
      failed: one line for each model that cannot be read, of a run or of one that it is compared with, for data that a
        diagnostic reads, and for each set of data that is missing or not that which its runs were trained on.
      names: of the values of each diagnostic, by its label, without those that are details.
    """

    computed: int
    kept: int
    skipped: list[str]
    failed: list[str]
    names: dict[str, list[str]]


def diagnose(
    store: Store,
    choices: Sequence[Choice],
    *,
    places: DataConfig = DataConfig(),
    further: Mapping[str, Path] = {},
    note: Callable[[str], None] = lambda line: None,
) -> Diagnosed:
    """Applies diagnostics to the models of all complete runs that learn the label, on the test split.

    Then it compares the values of all runs of each setting, also of those that were stored before.

    `places` has the paths of the data on this machine, as a run records only the names of its files; `further` has
    those of data that only a diagnostic reads, by its name; `note` is called with a line for each result.

    Raises:
      UserError: a diagnostic is unknown.
    """
    resolved = chosen(choices)
    computed = kept = 0
    skipped: dict[str, None] = {}
    names: dict[Choice, set[str]] = {choice: set() for choice in resolved}
    failed: dict[str, None] = {}
    for runs in _by_dataset(store).values():
        try:
            dataset = load_data(runs[0], places)
        except UserError as error:
            failed[str(error) if runs[0].id in str(error) else f"{runs[0].id}: {error}"] = None
            continue
        settings = _settings(runs)
        make_model = functools.partial(_model, store, settings, dataset, to_device(dataset), {}, further)
        for run in runs:
            if run.identity["target"] != "label":
                continue
            try:
                spec, model = strategy_of(run), None
            except UserError as error:
                failed[str(error)] = None
                continue
            for choice, registered in resolved.items():
                diagnostic = registered.make(**choice.options)
                if reason := diagnostic.skip(spec, dataset.task):
                    skipped[f"{registered.name}: {reason}"] = None
                    continue
                others = [other for other in settings[run.id] if other.id != run.id]
                read = sorted(other.id for other in diagnostic.companions(_key(run), others))
                stored = store.directory, run.id, registered.label(choice.options), choice, registered.version, read
                if has_values(*stored):
                    kept += 1
                    continue
                try:
                    with memory_told(f"{registered.name} of {run.id}"):
                        model = model or make_model(run)
                        values = diagnostic(model, dataset.splits["test"])
                except Inapplicable as reason:
                    skipped[f"{registered.name}: {reason}"] = None
                    continue
                except UserError as error:
                    failed[str(error)] = None
                    continue
                write_values(*stored, values, describe_environment())
                computed += 1
                note(f"{registered.name} of {run.strategy}, seed {run.seed}")
        for choice, registered in resolved.items():
            diagnostic, label = registered.make(**choice.options), registered.label(choice.options)
            _compare(store, runs, diagnostic, label)
            values = {name for run in runs for name in read_values(store.directory, run.id, label)}
            names[choice] |= {name for name in values if not diagnostic.is_detail(name)}
    printed = {resolved[choice].label(choice.options): sorted(found) for choice, found in names.items() if found}
    return Diagnosed(computed, kept, list(skipped), list(failed), printed)


def _compare(store: Store, runs: Sequence[Run], diagnostic: Diagnostic, label: str) -> None:
    """Stores what a diagnostic's values of all runs of a setting tell of each run."""
    settings: dict[str, list[tuple[Run, Result]]] = {}
    for run in runs:
        if values := read_own(store.directory, run.id, label):
            of_setting = settings.setdefault(json.dumps(setting(run), sort_keys=True), [])
            of_setting.append((run, Result(run.strategy, run.modality, run.seed, values)))
    for of_setting in settings.values():
        compared = diagnostic.compare([result for _, result in of_setting])
        for (run, _), values in zip(of_setting, compared, strict=True):
            write_compared(store.directory, run.id, label, values)


def _model(
    store: Store,
    settings: Mapping[str, Mapping[RunKey, Run]],
    dataset: Dataset,
    data: DeviceData,
    cache: dict[Any, Any],
    further: Mapping[str, Path],
    run: Run,
) -> Model:
    """Returns the model of a run, with the others of its setting; raises UserError if it cannot be read."""
    load = functools.partial(_model, store, settings, dataset, data, cache, further)
    companions = {key: functools.partial(load, other) for key, other in settings[run.id].items() if key.id != run.id}
    stored, module = store.predictions(run.id), load_model(store, run)
    key = _key(run)
    return Model(module, dataset, data, stored=stored, run=key, companions=companions, cache=cache, files=further)


def _settings(runs: Sequence[Run]) -> dict[str, dict[RunKey, Run]]:
    """Returns all runs of the setting of each run, by its id; those whose strategy is not installed are left out."""
    found: dict[str, dict[RunKey, Run]] = {}
    for run in runs:
        if REGISTRY.match(run.identity["name"]) is not None:
            found.setdefault(json.dumps(setting(run), sort_keys=True), {})[_key(run)] = run
    return {run.id: of_setting for of_setting in found.values() for run in of_setting.values()}


def _key(run: Run) -> RunKey:
    return RunKey(run.id, run.strategy, run.seed, run.identity["target"], strategy_of(run))


def _by_dataset(store: Store) -> dict[str, list[Run]]:
    """Returns the complete runs with a model, of the label or the class, by the fingerprint of their data."""
    found: dict[str, list[Run]] = {}
    for run in store.runs():
        has_model = run.status == "complete" and run.family != "reference"
        if has_model and run.identity["target"] in ("label", "class"):
            found.setdefault(run.identity["fingerprint"], []).append(run)
    return found
