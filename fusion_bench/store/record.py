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
    """The record of one run, in values that JSON can hold.

    Attributes:
      id: `run_id(identity)`.
      status: a failed run has a `reason`, and its `metrics` and `cost` may be empty.
      strategy: its label, for example "tensor:width=8".
      family: "unimodal", "early", "intermediate", "tensor", "late" or "reference".
      seed: decides initialisation, batch order and augmentation.
      identity: everything that can change the result: strategy (its label), name, options and version; engine, the
        version of all other code; seed, data, model, training (what the model was really trained with), fingerprint,
        platform, packages, devices; target: "label", "class" for a model that serves only the Bayes reference, "tuning"
        for a tuning trial, "cost" for measurements; members, the runs that it depends on; match (quantity, to, target)
        where widths were chosen; tune, the number of tuning trials; numerics, the options of JAX and XLA that change
        results, if they differ from the defaults.
      data: name, description, notes, captions, reading (options by which texts and arrays were read), num_classes,
        class_names, n_train, n_validation, n_test; inputs: of each modality kind, shape, vocabulary_size, augment,
        dtype, mean and std by channel; from a caption channel also captions_modality, class_modality (the one that
        shows the class; None if several could), bits, interaction_bits, text_only_ceiling and image_only_ceiling, which
        are those of these modalities. Of damaged training data misaligned_modalities, and from a caption channel
        misaligned_ceilings (as in `ceilings.Misaligned`) and missing_ceiling.
      metrics: test_accuracy, test_loss, validation_accuracy, validation_loss (losses in nats) and epoch; empty for the
        target "cost".
      cost: of a training, params, train_seconds, train_flops and inference_flops; for the target "cost", compile_s,
        train_examples_per_s, inference_examples_per_s, latency_s and others, as far as they were measured.
      environment: version, commit, command, device and others; plugins, the packages that brought strategy, remedy or
        source.
      baseline: ending of the names of the unimodal strategies that it is compared with: "only" or "token-only".
      modality: the one that a unimodal strategy reads; None for a fusion strategy.
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
    """Raised when a run's files do not match their recorded digests, or its record cannot be read."""


def file_name(label: str) -> str:
    """Returns a row's name in the form of the ids of its runs: "concat+ogm-ge" becomes "concat-ogm-ge"."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", label)[:80].lstrip(".")


def run_id(identity: Mapping[str, Any]) -> str:
    """Returns "STRATEGY-sSEED-DIGEST", or "STRATEGY-cost-DIGEST" for costs, which is unique to the identity.

    The digest is the first ten hexadecimal digits of the SHA-256 of the identity's JSON; the strategy is as in
    `file_name`.

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
    """Returns the setting of a run, which all runs of one table share: its identity without strategy and seed."""
    shared = {key: value for key, value in run.identity.items() if key not in _NOT_SETTING}
    if "training" in shared:
        own = {"remedy", *(("learning_rate", "weight_decay") if "tune" in shared else ())}
        shared["training"] = {key: value for key, value in shared["training"].items() if key not in own}
    return shared


def write_record(folder: Path, run: Run, files: Sequence[str]) -> None:
    """Writes a run's record, with a digest of each of the folder's `files`, and one of its own.

    NaN and infinite numbers become null.
    """
    digests = {name: contents.digest(folder / name) for name in files}
    written = json.dumps({**dataclasses.asdict(run), "files": digests})
    record = json.loads(written, parse_constant=lambda name: None)
    record["digest"] = _digest(record)
    text = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False)
    (folder / FILE).write_bytes(contents.encode(text + "\n"))


def read_record(folder: Path) -> Run:
    """Reads a run's record, and checks the digests of the record and of the files that it names.

    The contents of folders are checked by `check_digest` only.

    Raises:
      Damaged: the record cannot be read, or a digest differs.
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
    """Checks the digest of the contents of one of a run's folders.

    Raises:
      OSError: the run cannot be read.
      ValueError: the digest differs.
    """
    digest = json.loads((folder / FILE).read_text(encoding="utf-8"))["files"].get(name)
    if digest is not None and digest != contents.digest(folder / name):
        raise ValueError(f"it {_CHANGED}")


def _digest(record: Mapping[str, Any]) -> str:
    """Returns the digest of a record without its own."""
    return contents.digest_text(json.dumps(record, sort_keys=True))
