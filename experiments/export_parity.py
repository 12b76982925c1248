"""Which strategies can be exported, and how exactly? ONNX and StableHLO against the stored runs.

    fusion-bench run --strategies all --seeds 1 --epochs 2 --train-size 1000 --test-size 300 --out runs/two
    fusion-bench run --strategies all --seeds 1 --epochs 2 --train-size 1000 --test-size 300 --audio --out runs/three
    python experiments/export_parity.py runs/two runs/three [--out results/DEVICE/export-parity]

Each run of a study is exported in each format, and its logits are compared with those of `load_run(...).predict` in
batches of 1, 7 and 64 examples, drawn with the mean and spread of the training data.
"""

import dataclasses
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, cast

import jax
import pandas as pd
import tyro
from rich.console import Console
from tyro.conf import Positional

from fusion_bench.deploy.export.check import TOLERANCE, Predict, check
from fusion_bench.deploy.export.litert import LiteRT
from fusion_bench.deploy.export.onnx import Session, to_onnx
from fusion_bench.deploy.export.stablehlo import Program, to_stablehlo
from fusion_bench.deploy.model import Classifier, load_classifier
from fusion_bench.errors import UserError
from fusion_bench.report.listing import Listing
from fusion_bench.store import Store
from fusion_bench.study.provenance import describe_environment

Make = Callable[[Classifier], tuple[bytes, Callable[[], Predict]]]
"""Returns a file's content, and what makes its prediction."""


def as_onnx(classifier: Classifier) -> tuple[bytes, Callable[[], Predict]]:
    content = to_onnx(classifier).SerializeToString()
    return content, lambda: Session(content)


def as_stablehlo(classifier: Classifier) -> tuple[bytes, Callable[[], Predict]]:
    content = to_stablehlo(classifier)
    return content, lambda: Program(content)


def formats(litert_python: Path | None) -> dict[str, Make]:
    """Returns the formats that are compared, by their name."""

    def as_litert(classifier: Classifier) -> tuple[bytes, Callable[[], Predict]]:
        assert litert_python is not None
        model = LiteRT(classifier, litert_python)
        return model.content, lambda: model

    made: dict[str, Make] = {"ONNX": as_onnx, "StableHLO": as_stablehlo}
    return made if litert_python is None else made | {"LiteRT": as_litert}


@dataclasses.dataclass(frozen=True)
class Config:
    """Exports every run of some studies, and compares each with its run."""

    directories: Annotated[Positional[tuple[Path, ...]], tyro.conf.arg(metavar="DIR")]
    """The --out directories of `fusion-bench run`."""
    litert_python: Path | None = None
    """Python of an environment with litert-converter and ai-edge-litert; with it LiteRT is compared too."""
    out: Path = Path("runs/export-parity")
    """Directory of table.md and table.csv."""


def measure(directory: Path, made: Mapping[str, Make]) -> Iterator[dict[str, Any]]:
    """Yields a row for each strategy of a study and each format, of the run with the first seed."""
    seen = set()
    for run in Store(directory, read_only=True).runs():
        is_model = run.status == "complete" and run.family != "reference" and run.identity["target"] == "label"
        if not is_model or run.strategy in seen:
            continue
        seen.add(run.strategy)
        classifier = load_classifier(directory, run.id)
        for name, make in made.items():
            row = {"strategy": run.strategy, "modalities": len(run.data["modalities"]), "format": name}
            start = time.perf_counter()
            try:
                content, load = make(classifier)
                row |= {"seconds": time.perf_counter() - start, "bytes": len(content)}
                row |= {"difference": check(classifier, load(), name), "fault": ""}
            except UserError as error:
                row |= {"fault": str(error)}
            yield row


def listing(frame: pd.DataFrame) -> Listing:
    """Returns the table: a row for each strategy and number of modalities."""
    rows, faults = [], []
    for key, group in frame.groupby(["strategy", "modalities"], sort=False):
        strategy, count = cast(tuple[str, int], key)
        row = [strategy, str(count)]
        for name in frame["format"].unique():
            (found,) = group.loc[group["format"] == name].to_dict("records")
            if found["fault"]:
                faults.append(f"{strategy} of {count}, {name}: {found['fault']}")
                row += ["–", "–", "–"]
            else:
                size = f"{found['bytes'] / 1000:,.0f}"
                row += [f"{found['difference']:.1e}", size, f"{found['seconds']:.1f}"]
        rows.append(row)
    environment, worst = describe_environment(), frame["difference"].max()
    notes = [
        "M modalities. |Δ|: largest difference of a logit from the run's, in batches of 1, 7 and 64 examples; at most "
        f"{TOLERANCE:.0e} is right. The largest of all is {worst:.1e}.",
        "kB: with card and tokenizers in ONNX, and without in StableHLO, which is for cpu, cuda and tpu. "
        "s: of the conversion, on a machine that did other work.",
        f"Commit {environment['commit']}, jax {jax.__version__}, {environment['device']}, {len(frame)} exports.",
        *faults,
    ]
    header = [
        "strategy",
        "M",
        *(f"{name},\n{what}" for name in frame["format"].unique() for what in ("|Δ|", "kB", "s")),
    ]
    return Listing(
        "Exported models against stored runs", header, rows, notes, "lr" + "r" * (len(header) - 2), is_whole=True
    )


def main(config: Config) -> int:
    """Measures, prints the table, and writes it; returns 1 if an export fails."""
    console, rows = Console(), []
    for directory in config.directories:
        for row in measure(directory, formats(config.litert_python)):
            rows.append(row)
            console.out(f"{row['strategy']}, {row['format']}: {row['fault'] or format(row['difference'], '.1e')}")
    frame = pd.DataFrame(rows)
    table = listing(frame)
    config.out.mkdir(parents=True, exist_ok=True)
    frame.to_csv(config.out / "table.csv", index=False, float_format="%.6g")
    (config.out / "table.md").write_text(table.to_markdown(), encoding="utf-8")
    console.print(table)
    return 1 if any(frame["fault"]) else 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Config, description=__doc__)))
