"""The record of a run, and the file that holds it."""

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from fusion_bench import files as contents
from fusion_bench.errors import cause

FILE = "run.json"
_CHANGED = "was changed after it was written"
_NOT_SETTING = ("strategy", "name", "options", "version", "seed", "target", "members")


@dataclasses.dataclass(frozen=True)
class Run:
    """The record of one run; every value is one that JSON can hold.

    Attributes:
      id: `run_id(identity)`.
      status: "failed" where training diverged; then `reason` says how, and `metrics` and `cost` may be empty.
      strategy: its label, for example "tensor:width=8".
      family: "unimodal", "early", "intermediate", "tensor", "late" or "reference".
      seed: decides initialisation, batch order and augmentation.
      identity: everything that can change the result: strategy (its label), name, options and version; engine, the
        version of all other code; seed, data, model, training (what the model was really trained with), fingerprint,
        platform, packages, devices; target: "label", "class" for a model that only serves the Bayes reference, "tuning"
        for one that only tries a setting, "cost" for measurements; members, the runs that it is made of; match
        (quantity, to, target) where widths were chosen; tune, the number of settings that were tried; numerics, the
        settings of JAX and XLA that change results, where they are not the usual ones.
      data: name, description, notes, captions, num_classes, class_names, n_train, n_validation, n_test; inputs: of each
        modality kind, shape, vocabulary_size, augment, mean and std by channel; from a caption channel also
        captions_modality, class_modality (the one that shows the class; None if several could), bits, interaction_bits,
        text_only_ceiling and image_only_ceiling, which are those of these modalities.
      metrics: test_accuracy, test_loss, validation_accuracy, validation_loss (losses in nats) and epoch; none of a run
        with the target "cost".
      cost: of a training, params, train_seconds, train_flops and inference_flops; of the run with the target "cost",
        compile_s, train_examples_per_s, inference_examples_per_s, latency_s and others; without what was not measured.
      environment: version, commit, command, device and others; plugins, the packages that brought strategy, remedy or
        source.
      baseline: the unimodal strategies that it is fairly compared with, by the ending of their names: "only"
        or "token-only".
      modality: the only one that it reads; None for a fusion strategy.
      reason: why it failed.
    """

    id: str
    status: Literal["complete", "failed"]
    strategy: str
    family: str
    seed: int
    identity: dict[str, Any]
    data: dict[str, Any]
    metrics: dict[str, Any]
    cost: dict[str, Any]
    environment: dict[str, Any]
    baseline: str = "only"
    modality: str | None = None
    reason: str = ""


class Damaged(Exception):
    """A run's folder is not as it was written; says what is wrong."""


def file_name(label: str) -> str:
    """Returns the name of a row as it stands in the ids of its runs: "concat+ogm-ge" is "concat-ogm-ge"."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", label)[:80].lstrip(".")


def run_id(identity: Mapping[str, Any]) -> str:
    """Returns "STRATEGY-sSEED-DIGEST", "STRATEGY-cost-DIGEST" for costs: the same for equal identities, else another.

    The digest is the first ten hexadecimal digits of the SHA-256 of the identity's JSON; the strategy is written
    without what a file name should not have.

    Raises:
      TypeError: a value is not one that JSON can hold.
      ValueError: a number is infinite or NaN.
    """
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"), allow_nan=False)
    digest = contents.digest_text(text)[:10]
    name = file_name(identity["strategy"])
    middle = "cost" if identity.get("target") == "cost" else f"s{identity['seed']}"
    return f"{name}-{middle}-{digest}"


def setting(run: Run) -> dict[str, Any]:
    """Returns what the runs of one table share: the identity without what differs between its rows and seeds."""
    shared = {key: value for key, value in run.identity.items() if key not in _NOT_SETTING}
    if "training" in shared:
        own = {"remedy", *(("learning_rate", "weight_decay") if "tune" in shared else ())}
        shared["training"] = {key: value for key, value in shared["training"].items() if key not in own}
    return shared


def write_record(folder: Path, run: Run, files: Sequence[str]) -> None:
    """Writes a run's record, with a digest of each of the folder's `files`, and one of its own.

    Numbers that JSON has no name for become null.
    """
    digests = {name: contents.digest(folder / name) for name in files}
    written = json.dumps({**dataclasses.asdict(run), "files": digests})
    record = json.loads(written, parse_constant=lambda name: None)
    record["digest"] = _digest(record)
    text = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False)
    (folder / FILE).write_bytes(contents.encode(text + "\n"))


def read_record(folder: Path) -> Run:
    """Reads a run's record and checks that it and the files that it names are as they were written.

    Folders are not looked into; `check_digest` does that.

    Raises:
      Damaged: they are not.
    """
    names = {field.name for field in dataclasses.fields(Run)}
    try:
        record = json.loads((folder / FILE).read_text(encoding="utf-8"))
        run = Run(**{name: value for name, value in record.items() if name in names})
        if not run.id == run_id(run.identity) == folder.name:
            raise Damaged(f"{FILE} is of another run")
        target = run.identity.get("target")
        if run.status == "complete" and target != "cost":
            float(run.metrics["validation_accuracy" if target == "tuning" else "test_accuracy"])
        digests = dict(record["files"])
        is_changed = record.pop("digest") != _digest(record)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Damaged(f"{FILE}: {cause(error)}") from error
    for name, digest in digests.items():
        path = folder / name
        try:
            if not path.exists():
                raise Damaged(f"{name} is missing")
            if path.is_file() and digest != contents.digest(path):
                raise Damaged(f"{name} {_CHANGED}")
        except OSError as error:
            raise Damaged(f"{name}: {cause(error)}") from error
    if is_changed:
        raise Damaged(f"{FILE} {_CHANGED}")
    return run


def check_digest(folder: Path, name: str) -> None:
    """Checks that what is in one of a run's folders is as it was written.

    Raises:
      OSError: the run cannot be read.
      ValueError: it is not.
    """
    digest = json.loads((folder / FILE).read_text(encoding="utf-8"))["files"].get(name)
    if digest is not None and digest != contents.digest(folder / name):
        raise ValueError(f"it {_CHANGED}")


def _digest(record: Mapping[str, Any]) -> str:
    """Returns the digest of a record without its own."""
    return contents.digest_text(json.dumps(record, sort_keys=True))
