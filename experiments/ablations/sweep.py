"""Sweeps: studies at several points that answer a question, run and written by one command."""

import dataclasses
import datetime
import json
import math
import shlex
import sys
import tomllib
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import tyro
from rich.console import Console
from rich.markdown import Markdown

import fusion_bench
from fusion_bench.cli.flags import Strategies
from fusion_bench.config import BenchmarkConfig, Choice, DataConfig, EncoderSize, ModelConfig, TrainingConfig, as_choice
from fusion_bench.errors import UserError
from fusion_bench.families import MULTIMODAL
from fusion_bench.metrics.significance import holm
from fusion_bench.report.block import blocks
from fusion_bench.report.cells import decimal
from fusion_bench.report.listing import markdown_table
from fusion_bench.report.plots import matplotlib
from fusion_bench.report.plots.marks import Picture
from fusion_bench.report.table import table
from fusion_bench.report.text import MISSING, percent, points
from fusion_bench.store import Store
from fusion_bench.study.diagnose import diagnose

Row = Mapping[Hashable, Any]


@dataclasses.dataclass(frozen=True)
class Scale:
    """Size of the studies of an ablation. Complete runs in --out are not repeated."""

    out: Path = Path("runs/ablation")
    """Directory of runs, table and figure."""
    data: str = "shapes"
    """shapes, cifar10, or a file."""
    data_dir: Path | None = None
    """Directory of prepared TFDS data, or of recordings."""
    train_size: int | None = None
    """Keep only this number of examples for training and validation."""
    encoder: EncoderSize = "tiny"
    """Size of every encoder."""
    epochs: int = 4
    """Passes over the training examples."""
    seeds: int = 5
    """Number of seeds."""
    strategies: Strategies = ("canonical",)
    """As in `fusion-bench run`."""
    quick: bool = False
    """Train three strategies on a few images at two points, as a smoke test."""

    def study(self, name: str, *, captions: str = "default", **changes: Any) -> BenchmarkConfig:
        """Returns the study of one point, whose runs go to the folder of this name.

        Args:
          name: of the folder.
          captions: the channel.
          changes: other values of fields of `BenchmarkConfig`.
        """
        study = BenchmarkConfig(
            data=DataConfig(
                self.data, self.data_dir, captions, train_size=self.train_size, test_size=100 if self.quick else None
            ),
            model=ModelConfig(encoder=self.encoder),
            training=TrainingConfig(epochs=self.epochs),
            strategies=self.strategies,
            seeds=self.seeds,
            workers=1 if self.quick else "auto",
            out=self.out / name,
        )
        return dataclasses.replace(study, **changes)

    def shortened(self) -> "Scale":
        """Returns the scale of `quick`."""
        size = min(self.train_size or 300, 300)
        few: Strategies = ("image-only", "sum", "late-mean")
        return dataclasses.replace(self, train_size=size, encoder="micro", epochs=1, seeds=2, strategies=few)


Measures = Mapping[tuple[str, str], Mapping[str, float]]
"""Values by setting and strategy."""


def no_remarks(frame: pd.DataFrame, scale: Scale) -> Sequence[str]:
    return ()


def no_measures(store: Store, data: DataConfig) -> Measures:
    return {}


@dataclasses.dataclass(frozen=True)
class Sweep:
    """The studies that answer a question.

    Attributes:
      points: returns the study of each point of a scale, or several that share a directory; the frame has its key in
        the column `x`.
      table: returns the Markdown of a frame.
      scale: the usual size.
      draw: returns the figure of a frame, with a note below it.
      against: the strategy that gains are measured against; the best unimodal one if empty.
      diagnostics: are applied to the models of every study; their values are columns of the frame.
      measures: returns further columns of the rows of a point, from its store and its data.
      arrange: orders and names the rows.
      remarks: returns further lines below the table.
      note: the beginning of the note below the figure.
    """

    points: Callable[[Any], Mapping[Any, BenchmarkConfig | Sequence[BenchmarkConfig]]]
    table: Callable[[pd.DataFrame], str]
    scale: Scale = Scale()
    draw: Callable[[pd.DataFrame, str], Picture] | None = None
    against: str = ""
    diagnostics: tuple[str | Choice, ...] = ()
    measures: Callable[[Store, DataConfig], Measures] = no_measures
    arrange: Callable[[pd.DataFrame], pd.DataFrame] = lambda frame: frame
    remarks: Callable[[pd.DataFrame, Scale], Sequence[str]] = no_remarks
    note: str = ""


def run(sweep: Sweep, scale: Scale, question: str) -> int:
    """Runs every study, writes table.csv, table.md, run.toml and the figure, and shows the table; 1 if a run failed."""
    studies = sweep.points(scale.shortened() if scale.quick else scale)
    if scale.quick:
        studies = dict([*studies.items()][-2:])
    frame = sweep.arrange(pd.DataFrame([{"x": x, **row} for x, point in studies.items() for row in rows(sweep, point)]))
    remarks = [*sweep.remarks(frame, scale), provenance(frame)]
    text = sweep.table(frame) + "\n" + "".join(f"- {remark}\n" for remark in remarks)
    scale.out.mkdir(parents=True, exist_ok=True)
    frame.to_csv(scale.out / "table.csv", index=False, float_format="%.6g")
    (scale.out / "table.md").write_text(text, encoding="utf-8")
    write_facts(scale.out / "run.toml", facts(frame, question))
    if sweep.draw is not None:
        matplotlib.write(sweep.draw(frame, f"{sweep.note} {remarks[-1]}".strip()), scale.out / "figure")
    console = Console()
    console.print(Markdown(text))
    failed = frame.loc[frame["n_failed"] > 0].to_dict("records")
    for row in failed:
        console.print(f"failed: {row['strategy']} at {row['x']}, {row['failures']}", style="red", markup=False)
    console.print(f"written to {scale.out}", style="dim")
    return 1 if failed else 0


def rows(sweep: Sweep, studies: BenchmarkConfig | Sequence[BenchmarkConfig]) -> list[dict[Hashable, Any]]:
    """Runs the studies of a point, applies the diagnostics, and returns the rows of their table.

    They have the effects of remedies and the measures of the sweep, too.
    """
    studies = as_sequence(studies)
    for study in studies:
        fusion_bench.run(study)
    store = Store(studies[0].out, read_only=True)
    if sweep.diagnostics:
        done = diagnose(store, [*map(as_choice, sweep.diagnostics)], places=studies[0].data)
        for line in done.failed:
            print(line, file=sys.stderr)
    further = remedy_effects(store), sweep.measures(store, studies[0].data)
    found = table(store, against=sweep.against).to_dict("records")
    keys = [(row["setting"], row["strategy"]) for row in found]
    return [{**row, **further[0].get(key, {}), **further[1].get(key, {})} for key, row in zip(keys, found, strict=True)]


def as_sequence(point: BenchmarkConfig | Sequence[BenchmarkConfig]) -> Sequence[BenchmarkConfig]:
    return [point] if isinstance(point, BenchmarkConfig) else point


def remedy_effects(store: Store) -> dict[tuple[str, str], dict[str, float]]:
    """Returns the gain of each strategy with a remedy over the same one without, by setting and label.

    `effect_mean` and `effect_ci95` are paired by seed; `effect_p` is Holm-corrected over the rows of the setting.
    """
    found = {}
    for digest, block in blocks(store).items():
        pairs = {row: row.name.partition("+")[0] for row in block.trained if "+" in row.name}
        corrected = holm({row.name: row.p_value(plain) for row, plain in pairs.items()})
        for row, plain in pairs.items():
            mean, width = row.over(plain)
            values = {"effect_mean": mean, "effect_ci95": width, "effect_p": corrected[row.name]}
            found[digest, row.name] = values
    return found


def main(sweep: Sweep, text: str | None) -> int:
    """Runs a sweep at the scale of the command line; the text is its help, and its first line the question."""
    text = text or ""
    scale = tyro.cli(type(sweep.scale), default=sweep.scale, description=text)
    try:
        return run(sweep, scale, text.partition("\n")[0])
    except UserError as error:
        print(error, file=sys.stderr)
        return 2


def facts(frame: pd.DataFrame, question: str) -> dict[str, Any]:
    """Returns the facts of run.toml, for experiments/write_results.py; the finding is added by hand."""
    trained = frame.loc[frame["n_seeds"] > 0]
    row = trained.iloc[0]
    n_train, n_test = int(trained["n_train"].max()), int(row["n_test"])
    return {
        "question": question,
        "finding": "",
        "commands": [command(sys.argv)],
        "commit": str(row["commit"]),
        "date": datetime.date.today(),
        "data": f"{row['dataset']}: {n_train:,} examples to train, {n_test:,} to test",
        "seeds": int(trained["n_seeds"].max()),
    }


def command(words: Sequence[str]) -> str:
    """Returns a command without the paths of this machine."""
    places = {"--data-dir": "DIR", "--out": "OUT", "--people": "FILE"}
    return shlex.join(
        ["python", *(places.get(before, word) for before, word in zip(["", *words], words, strict=False))]
    )


def write_facts(path: Path, fields: Mapping[str, Any]) -> None:
    """Writes TOML, with the finding and the details of an earlier file of that name."""
    earlier = tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    kept = {name: earlier[name] for name in ("finding", "details") if name in earlier}
    values = {  # strings, lists and numbers are those of JSON
        name: value.isoformat() if isinstance(value, datetime.date) else json.dumps(value, ensure_ascii=False)
        for name, value in {**fields, **kept}.items()
    }
    path.write_text("".join(f"{name} = {value}\n" for name, value in values.items()), encoding="utf-8")


def cell(row: Row, of: str = "test_accuracy") -> str:
    """Returns a mean with its interval, in percent or points; a dash where there is none."""
    show = points if of in ("gain", "reference_gain", "effect") else percent
    return show(row.get(f"{of}_mean", math.nan), row.get(f"{of}_ci95", math.nan))


def bits(row: Row, of: str) -> str:
    """Returns a mean with its interval, in bits."""
    return decimal(row.get(f"{of}_mean", math.nan), row.get(f"{of}_ci95", math.nan))


def rows_of_strategies(frame: pd.DataFrame) -> Iterator[tuple[str, dict[Any, Row]]]:
    """Yields each strategy with its row at every point."""
    for strategy, group in frame.groupby("strategy", sort=False):
        yield str(strategy), {row["x"]: row for row in group.to_dict("records")}


def by_strategy(label: str, of: str = "test_accuracy") -> Callable[[pd.DataFrame], str]:
    """Returns the writer of a table of strategies by points of a sweep, without rows that have no result.

    Args:
      label: names the points, above the first column.
      of: "test_accuracy" or "gain".
    """

    def to_markdown(frame: pd.DataFrame) -> str:
        columns = list(dict.fromkeys(frame["x"]))
        shown = []
        for strategy, rows in rows_of_strategies(frame):
            cells = {x: cell(row, of) for x, row in rows.items()}
            if set(cells.values()) != {MISSING}:
                shown.append([strategy, *(cells.get(x, MISSING) for x in columns)])
        return markdown_table([label, *map(str, columns)], shown)

    return to_markdown


def rank_correlation(frame: pd.DataFrame, scale: Scale) -> list[str]:
    """Returns one line: Kendall's τ of the order of the multimodal strategies at each point with that at the last."""
    from scipy.stats import kendalltau

    joined = frame[frame["family"].isin(MULTIMODAL)]
    means = joined.pivot(index="strategy", columns="x", values="test_accuracy_mean")
    *others, last = dict.fromkeys(frame["x"])
    agreement = {other: kendalltau(means[other], means[last]) for other in others}
    taus = ", ".join(f"{other}: {tau:.2f}" for other, (tau, _) in agreement.items())
    return [f"Kendall's τ with the order of the {len(means)} multimodal rows at {last}: {taus}."]


def provenance(frame: pd.DataFrame) -> str:
    """Returns one line: data, n, meaning of ±, device, commit; ranges of numbers that differ between points."""
    trained = frame.loc[frame["n_seeds"] > 0].to_dict("records")

    def span(column: str) -> str:
        values = sorted(int(row[column]) for row in trained)
        return " to ".join(f"{value:,}" for value in dict.fromkeys((values[0], values[-1])))

    def names(column: str) -> str:
        return ", ".join(dict.fromkeys(str(row[column]) for row in trained))

    captions = {"no" if row["captions"] == "none" else row["captions"] for row in trained}
    return (
        f"{names('dataset')}, {f'{captions.pop()} captions, ' if len(captions) == 1 else ''}{names('encoder')} "
        f"encoders, {span('n_train')} examples to train, {span('epochs')} epochs, {span('n_test')} to test; "
        f"mean ± 95 % interval over n = {span('n_seeds')} seeds (Student's t). "
        f"Made on {names('device')}, commit {names('commit')}."
    )
