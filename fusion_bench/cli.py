"""The command line: a thin face over the package. Heavy imports happen in the command that needs them."""

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fusion_bench.config import BenchmarkConfig, DataConfig, Option
from fusion_bench.errors import DiskFull, UserError
from fusion_bench.speed.config import SpeedConfig

if TYPE_CHECKING:
    from fusion_bench.store import Store


@dataclasses.dataclass(frozen=True)
class TableCommand:
    """Print the table of the runs in a directory."""

    directory: Annotated[tyro.conf.Positional[Path], Option(metavar="DIR")]
    """Where `fusion-bench run` put its runs."""
    format: Literal["terminal", "md", "csv", "latex"] = "terminal"
    """csv is for scripts: unrounded, every column unless --columns says which; all adds the metrics from logits."""
    columns: Annotated[
        str | None, Option(metavar="a,b|all", help_behavior_hint="(default: the usual ones)")
    ] = None
    """Columns to show, comma-separated; all shows every one. An unknown name is answered with the right ones."""
    sort: Annotated[str | None, Option(metavar="COLUMN", help_behavior_hint="(default: by family)")] = None
    """The column to sort by, the best value first."""
    group: Literal["family", "none"] = "family"
    """Keep the strategies of a family together, or not."""
    against: Annotated[
        str | None, Option(metavar="STRATEGY", help_behavior_hint="(default: the best unimodal one)")
    ] = None
    """What gains are over."""


@dataclasses.dataclass(frozen=True)
class MergeCommand:
    """Copy the complete runs of several directories into one, and write its table."""

    directories: Annotated[
        tyro.conf.Positional[tuple[Path, ...]], Option(metavar="DIR [DIR ...]", help_behavior_hint="")
    ]
    """Where `fusion-bench run` put runs, on this machine or others; of equal runs the first is kept."""
    out: Annotated[Path, Option(metavar="DIR")]
    """Where the runs and the table go."""


@dataclasses.dataclass(frozen=True)
class ReportCommand:
    """Write figures (PNG, SVG) and one page with interactive charts of the runs in a directory."""

    directory: Annotated[tyro.conf.Positional[Path], Option(metavar="DIR")]
    """Where `fusion-bench run` put its runs; the report goes to DIR/report."""
    against: Annotated[
        str | None, Option(metavar="STRATEGY", help_behavior_hint="(default: the best unimodal one)")
    ] = None
    """What gains are over."""


@dataclasses.dataclass(frozen=True)
class CaptionsCommand:
    """Show what a caption channel says, the bits that it carries and the ceilings that follow."""

    name: Annotated[tyro.conf.Positional[str], Option(metavar="NAME")]
    """A caption channel; see `fusion-bench list`."""
    num: Annotated[int, Option(aliases=["-n"], metavar="N")] = 10
    """Number of samples to print."""
    data: Annotated[str, Option(metavar="shapes|cifar10|FILE.npz")] = "shapes"
    """Whose classes the captions are about."""
    data_dir: Annotated[
        Path | None, Option(metavar="DIR", help_behavior_hint="(default: $TFDS_DATA_DIR, else TFDS's own)")
    ] = None
    """For --export: a prepared TFDS directory."""
    data_seed: int = 0
    """Seeds the captions."""
    export: Annotated[Path | None, Option(metavar="FILE", help_behavior_hint="(optional)")] = None
    """Write the captions of all examples as CSV or Parquet: id, split, caption, y, k, t."""


@dataclasses.dataclass(frozen=True)
class ListCommand:
    """List strategies, remedies, datasets, caption channels and encoders."""

    json: Annotated[bool, Option(help_behavior_hint="")] = False
    """Print JSON, for scripts."""


Command = (
    Annotated[
        BenchmarkConfig, tyro.conf.subcommand("run", description="Train, measure and tabulate a study.")
    ]
    | Annotated[TableCommand, tyro.conf.subcommand("table")]
    | Annotated[MergeCommand, tyro.conf.subcommand("merge")]
    | Annotated[SpeedConfig, tyro.conf.subcommand("speed")]
    | Annotated[ReportCommand, tyro.conf.subcommand("report")]
    | Annotated[CaptionsCommand, tyro.conf.subcommand("captions")]
    | Annotated[ListCommand, tyro.conf.subcommand("list")]
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command and exits: 0 if all went well, 1 if not with every run, 2 if the request was not right."""
    command: Any = tyro.cli(
        Command,  # type: ignore[arg-type]  # a union is a form, not a type
        prog="fusion-bench",
        description="Which place to join modalities wins, when, and at what cost.",
        args=arguments,
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
    )
    run_command = {
        BenchmarkConfig: _run,
        TableCommand: _table,
        MergeCommand: _merge,
        ReportCommand: _report,
        SpeedConfig: _speed,
        CaptionsCommand: _captions,
        ListCommand: _list,
    }[type(command)]
    try:
        status = run_command(command, Console())
    except UserError as error:
        print(f"fusion-bench: {error}", file=sys.stderr)
        status = 1 if isinstance(error, DiskFull) else 2
    except KeyboardInterrupt:
        print(
            "fusion-bench: interrupted; the same command goes on from the last complete run", file=sys.stderr
        )
        status = 130
    sys.exit(status)


def _run(config: BenchmarkConfig, console: Console) -> int:
    import fusion_bench
    from fusion_bench.report.render import to_rich

    study, frame = fusion_bench.run_and_tabulate(config)
    console.print(to_rich(frame))
    written = f"written to {config.out}/table.csv and table.md"
    console.print(written, style="dim", highlight=False, markup=False, soft_wrap=True)
    return 1 if study.failed else 0


def _table(command: TableCommand, console: Console) -> int:
    from fusion_bench.report.columns import arrange, parse_column, parse_columns, to_csv
    from fusion_bench.report.render import to_latex, to_markdown, to_rich
    from fusion_bench.report.table import table
    from fusion_bench.store import Store

    columns = parse_columns(command.columns) if command.columns else None
    sort = parse_column(command.sort) if command.sort else None
    store = Store(command.directory, read_only=True)
    details = any(column.detail for column in (*(columns or ()), *([sort] if sort else ())))
    frame = table(store, against=command.against or "", details=details)
    frame = arrange(frame, sort, by_family=command.group == "family")
    _say_damaged(store)
    if command.format == "terminal":
        console.print(to_rich(frame, columns))
    elif command.format == "csv":
        everything = command.columns is None or command.columns.strip() == "all"
        print(to_csv(frame, None if everything else columns), end="")
    else:
        print((to_latex if command.format == "latex" else to_markdown)(frame, columns), end="")
    return 0


def _merge(command: MergeCommand, console: Console) -> int:
    from fusion_bench.report.render import write_tables
    from fusion_bench.report.table import table
    from fusion_bench.store import merge

    if not command.directories:
        raise UserError("no directory is named; give those to merge")
    merged = merge(command.directories, command.out)
    for kind, lines in (("left out", merged.damaged), ("conflict", merged.conflicts)):
        for line in lines:
            print(f"fusion-bench: {kind}: {line}", file=sys.stderr)
    write_tables(merged.store, table(merged.store))
    counts = f"{merged.copied} copied, {merged.known} there already, {merged.failed} failed and left out"
    line = f"runs: {counts}; written to {command.out}"
    console.print(line, highlight=False, markup=False, soft_wrap=True)
    return 1 if merged.conflicts or merged.damaged else 0


def _report(command: ReportCommand, console: Console) -> int:
    from fusion_bench.report.write import write_report
    from fusion_bench.store import Store

    store = Store(command.directory, read_only=True)
    page, omitted = write_report(store, against=command.against or "")
    _say_damaged(store)
    for line in omitted:
        print(f"fusion-bench: left out: {line}", file=sys.stderr)
    size = page.stat().st_size / 1e6
    written = f"written to {page}, {size:.1f} MB; figures beside it"
    console.print(written, highlight=False, markup=False, soft_wrap=True)
    return 0


def _speed(command: SpeedConfig, console: Console) -> int:
    from fusion_bench.speed.command import run

    return run(command, console)


def _say_damaged(store: "Store") -> None:
    for folder, fault in store.damaged.items():
        print(f"fusion-bench: left out {folder}: {fault}", file=sys.stderr)


def _captions(command: CaptionsCommand, console: Console) -> int:
    from fusion_bench.data.captions.preview import preview
    from fusion_bench.data.sources.base import class_names

    if command.num < 1:
        raise UserError(f"-n is {command.num}; it must be at least 1")
    if command.data_seed < 0:
        raise UserError(f"--data-seed is {command.data_seed}; it must be at least 0")
    if command.export is not None:
        return _export_captions(command, command.export, console)
    names = class_names(DataConfig(command.data, command.data_dir))
    shown = preview(command.name, names, command.num, command.data_seed)
    channel = shown.channel
    samples = Table("caption", "class y", "word w", "shift k", "target t", box=None, pad_edge=False)
    for example in shown.examples:
        cells = example.caption, example.class_name, example.word, str(example.shift), example.target_name
        samples.add_row(*map(Text, cells))
    figures = Table(box=None, show_header=False, pad_edge=False)
    figures.add_row("bits about the target", f"{channel.bits:.3f}")
    figures.add_row("interaction bits, given the class", f"{channel.interaction_bits:.3f}")
    figures.add_row("text-only ceiling", f"{channel.text_only_ceiling:.4f}")
    figures.add_row("image-only ceiling", f"{channel.image_only_ceiling:.4f}")
    console.print(samples)
    console.print()
    console.print(figures)
    return 0


def _export_captions(command: CaptionsCommand, path: Path, console: Console) -> int:
    from fusion_bench.data.captions.files import export_captions
    from fusion_bench.data.load import load_dataset

    config = DataConfig(command.data, command.data_dir, command.name, data_seed=command.data_seed)
    dataset = load_dataset(config)
    if dataset.captions is None:
        raise UserError(f"{command.data} has a text of its own; there are no captions to export")
    export_captions(
        path,
        dataset.captions.texts,
        splits=dataset.splits,
        classes=dataset.classes,
        targets=dataset.labels,
        shifts=dataset.captions.shifts,
    )
    written = f"{len(dataset.captions.texts):,} captions written to {path}"
    console.print(written, highlight=False, markup=False, soft_wrap=True)
    return 0


def _list(command: ListCommand, console: Console) -> int:
    catalogue = list_catalogue()
    if command.json:
        print(json.dumps(catalogue, indent=2, ensure_ascii=False))
        return 0
    for title, entries in catalogue.items():
        fields = [field for field in entries[0] if field in _LISTED]
        listing = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
        for field in fields:
            listing.add_column(_LISTED[field], no_wrap=field != "summary")
        for entry in entries:
            cells = [entry[field] for field in fields]
            if entry.get("options"):
                cells[-1] += "\n" + " ".join(f":{name}={value}" for name, value in entry["options"].items())
            listing.add_row(*(Text(f"{cell:.3f}" if isinstance(cell, float) else cell) for cell in cells))
        console.print(listing)
        console.print()
    return 0


_LISTED = {
    "name": "name",
    "family": "family",
    "bits": "bits",
    "interaction_bits": "interaction\nbits",
    "text_only_ceiling": "text-only\nceiling",
    "image_only_ceiling": "image-only\nceiling",
    "summary": "summary",
}
"""What the terminal's listing shows of each entry, and the heading; the rest is for scripts."""


def list_catalogue() -> dict[str, list[dict[str, Any]]]:
    """Returns everything that has a name on the command line, as JSON."""
    from fusion_bench.data.captions.channel import make_channel
    from fusion_bench.data.captions.presets import PRESETS
    from fusion_bench.data.sources.base import class_names, sources
    from fusion_bench.fusion.registry import strategies
    from fusion_bench.models.encoders import SUMMARIES
    from fusion_bench.training.remedies.base import remedies

    def described(r: Any) -> dict[str, Any]:
        options = {name: option.default for name, option in r.options.items()}
        return {"summary": r.summary, "reference": r.reference, "options": options}

    channels = {name: make_channel(name, class_names(DataConfig())) for name in PRESETS}
    return {
        "strategies": [{"name": r.name, "family": r.family, **described(r)} for r in strategies().values()],
        "remedies": [{"name": r.name, **described(r)} for r in remedies.registered().values()],
        "datasets": [{"name": name, "summary": source.summary} for name, source in sources().items()],
        "captions": [
            {
                "name": name,
                "bits": channel.bits,
                "interaction_bits": channel.interaction_bits,
                "text_only_ceiling": channel.text_only_ceiling,
                "image_only_ceiling": channel.image_only_ceiling,
                "summary": PRESETS[name].summary,
            }
            for name, channel in channels.items()
        ],
        "encoders": [{"name": name, "summary": summary} for name, summary in SUMMARIES.items()],
    }
