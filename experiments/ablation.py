"""What the ablations share: the size of a study on the command line, its short form, and a sweep's table."""

import dataclasses
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.markdown import Markdown

import fusion_bench
from fusion_bench.cli.flags import Strategies
from fusion_bench.config import BenchmarkConfig, DataConfig, EncoderSize, Match, ModelConfig, TrainingConfig
from fusion_bench.families import MULTIMODAL
from fusion_bench.report.table import table
from fusion_bench.report.text import MISSING, percent, points
from fusion_bench.store import Store

CEILING = "ceiling"


@dataclasses.dataclass(frozen=True)
class Scale:
    """How large the studies of an ablation are. Runs that are complete in --out are not repeated."""

    out: Path = Path("runs/ablation")
    """Where runs, table and figure go."""
    data: str = "shapes"
    """shapes, cifar10, or a file."""
    data_dir: Path | None = None
    """A prepared TFDS directory."""
    train_size: int | None = None
    """Keep only so many examples for training and validation."""
    encoder: EncoderSize = "tiny"
    """Size of every encoder."""
    epochs: int = 4
    """Passes over the training examples."""
    seeds: int = 5
    """Number of seeds."""
    strategies: Strategies = ("canonical",)
    """As in `fusion-bench run`."""
    quick: bool = False
    """A few strategies on a few images, in seconds: it shows that this runs, nothing more."""

    def config(self, name: str, *, captions: str = "default", match: Match = "none", **changes: Any) -> BenchmarkConfig:
        """Returns the study of one point of an ablation.

        Args:
          name: of the point; its runs go to the folder of this name.
          captions: the channel.
          match: what strategies are matched in.
          changes: other values of the fields above, or of `TrainingConfig`.
        """
        scale = dataclasses.replace(self, **{k: v for k, v in changes.items() if hasattr(self, k)})
        training = {k: v for k, v in changes.items() if not hasattr(self, k)}
        if self.quick:
            scale = dataclasses.replace(
                scale, train_size=min(scale.train_size or 300, 300), encoder="micro", epochs=1, seeds=2
            )
        return BenchmarkConfig(
            data=DataConfig(
                scale.data, scale.data_dir, captions, train_size=scale.train_size, test_size=100 if self.quick else None
            ),
            model=ModelConfig(encoder=scale.encoder),
            training=TrainingConfig(epochs=scale.epochs, **training),
            strategies=scale.strategies,
            match=match,
            seeds=scale.seeds,
            workers=1 if self.quick else "auto",
            out=self.out / name,
        )


def rows_of(config: BenchmarkConfig, against: str = "") -> list[dict[Hashable, Any]]:
    """Runs a study and returns the rows of its table, with gains over `against` or the best unimodal strategy."""
    frame = fusion_bench.run(config)
    if against:
        frame = table(Store(config.out, read_only=True), against=against)
    return frame.to_dict("records")


def sweep(studies: Mapping[Any, BenchmarkConfig], against: str = "") -> pd.DataFrame:
    """Runs the study of every point and returns all rows of all tables, with the point in the column `x`."""
    return pd.DataFrame([{"x": x, **row} for x, study in studies.items() for row in rows_of(study, against)])


def cell(row: Mapping[Hashable, Any], of: str = "test_accuracy") -> str:
    """Returns a mean with its interval, in percent or points."""
    show = points if of == "gain" else percent
    return show(row[f"{of}_mean"], row[f"{of}_ci95"])


def to_markdown(frame: pd.DataFrame, label: str, of: str = "test_accuracy") -> str:
    """Returns a table of the strategies by the points of a sweep, without what is never measured.

    Args:
      frame: from `sweep`.
      label: what the points are, above the first column.
      of: "test_accuracy" or "gain".
    """
    columns = list(dict.fromkeys(frame["x"]))
    lines = [f"| {label} | " + " | ".join(map(str, columns)) + " |", "| --- |" + " --: |" * len(columns)]
    for strategy, group in frame.groupby("strategy", sort=False):
        cells = {row["x"]: cell(row, of) for row in group.to_dict("records")}
        if set(cells.values()) != {MISSING}:
            lines.append(f"| {strategy} | " + " | ".join(cells.get(x, MISSING) for x in columns) + " |")
    return "\n".join(lines) + "\n"


def rank_correlation(frame: pd.DataFrame) -> str:
    """Returns one line: how far the multimodal strategies are in the order of the last point at each other one."""
    from scipy.stats import kendalltau

    joined = frame[frame["family"].isin(MULTIMODAL)]
    means = joined.pivot(index="strategy", columns="x", values="test_accuracy_mean")
    *others, last = dict.fromkeys(frame["x"])
    agreement = {other: kendalltau(means[other], means[last]) for other in others}
    taus = ", ".join(f"{other}: {tau:.2f}" for other, (tau, _) in agreement.items())
    return f"Kendall's τ with the order of the {len(means)} multimodal rows at {last}: {taus}."


def provenance(frame: pd.DataFrame) -> str:
    """Returns one line: data, n, what ± means, device, commit; of what differs between points, the range."""
    trained = frame.loc[frame["n_seeds"] > 0].to_dict("records")

    def told(column: str) -> str:
        values = sorted(int(row[column]) for row in trained)
        return " to ".join(f"{value:,}" for value in dict.fromkeys((values[0], values[-1])))

    def named(column: str) -> str:
        return ", ".join(dict.fromkeys(str(row[column]) for row in trained))

    captions = {row["captions"] for row in trained}
    return (
        f"{named('dataset')}, {f'{captions.pop()} captions, ' if len(captions) == 1 else ''}{named('encoder')} "
        f"encoders, {told('n_train')} images to train, {told('epochs')} epochs, {told('n_test')} images to test; "
        f"mean ± 95 % interval over n = {told('n_seeds')} seeds (Student's t). "
        f"Made on {named('device')}, commit {named('commit')}."
    )


def write(out: Path, frame: pd.DataFrame, text: str) -> int:
    """Writes table.csv and table.md, shows the latter, and returns the exit status: 1 if a run failed."""
    out.mkdir(parents=True, exist_ok=True)
    frame.to_csv(out / "table.csv", index=False, float_format="%.6g")
    (out / "table.md").write_text(text, encoding="utf-8")
    console = Console()
    console.print(Markdown(text))
    failed = frame.loc[frame["n_failed"] > 0].to_dict("records")
    for row in failed:
        console.print(f"failed: {row['strategy']} at {row['x']}, {row['failures']}", style="red", markup=False)
    console.print(f"written to {out}", style="dim")
    return 1 if failed else 0
