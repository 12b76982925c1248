"""`fusion-bench captions`: samples and figures of a caption channel, or all captions of a dataset as a file."""

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

from rich.console import Console
from rich.table import Table
from rich.text import Text
from tyro.conf import Positional, arg

from fusion_bench.cli.flags import OPTIONS, option
from fusion_bench.config import DataConfig
from fusion_bench.errors import UserError
from fusion_bench.fields import Checked, Count, NameOrPath, Natural


@dataclasses.dataclass(frozen=True)
class CaptionsCommand(Checked):
    """Show what a caption channel says, the bits that it carries and the ceilings that follow."""

    name: Annotated[Positional[str], option("NAME")]
    """A caption channel; see `fusion-bench list`."""
    num: Annotated[Count, option("N", aliases=["-n"])] = 10
    """Number of samples to print."""
    data: Annotated[NameOrPath, option("shapes|cifar10|tfds:NAME|FILE.npz")] = "shapes"
    """Whose classes the captions are about."""
    data_dir: Annotated[Path | None, OPTIONS[DataConfig]["data_dir"]] = None
    """For --export and --figure: a prepared TFDS directory."""
    data_seed: Natural = 0
    """Seeds the captions."""
    figure: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="(optional)")] = None
    """Write test images with their captions as FILE.svg and FILE.png, -n of them."""
    export: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="(optional)")] = None
    """Write the captions of all examples as .csv, .tsv, .jsonl or .parquet: id, split, caption, y, k, t."""


def run(command: CaptionsCommand, console: Console) -> int:
    """Returns the exit status."""
    from fusion_bench.data.captions.channel import make_channel, preview
    from fusion_bench.data.sources.base import class_names

    if command.export is not None:
        return _export_captions(command, command.export, console)
    if command.figure is not None:
        return _draw_examples(command, command.figure, console)
    names = class_names(DataConfig(command.data, command.data_dir))
    channel = make_channel(command.name, names)
    samples = Table("caption", "class y", "word w", "shift k", "target t", box=None, pad_edge=False)
    for cells in preview(channel, names, command.num, command.data_seed):
        samples.add_row(*map(Text, cells))
    figures = Table(box=None, show_header=False, pad_edge=False)
    figures.add_row("bits about the target", f"{channel.bits:.3f}")
    figures.add_row("interaction bits, given the class", f"{channel.interaction_bits:.3f}")
    figures.add_row("text-only ceiling", f"{channel.text_only_ceiling:.4f}")
    figures.add_row("image-only ceiling", f"{channel.image_only_ceiling:.4f}")
    console.print(samples, "", figures)
    return 0


def _data(command: CaptionsCommand) -> DataConfig:
    return DataConfig(command.data, command.data_dir, command.name, data_seed=command.data_seed)


def _draw_examples(command: CaptionsCommand, path: Path, console: Console) -> int:
    from fusion_bench.data.load import load_dataset
    from fusion_bench.report.plots import examples, fonts, matplotlib
    from fusion_bench.study.examples import by_turns, examples_of

    dataset = load_dataset(_data(command))
    shown = examples_of(dataset, by_turns(dataset, command.num))
    if not shown:
        raise UserError(f"{dataset.name} has no colour images with captions to show")
    picture = examples.picture(shown, dataset.name)
    try:
        matplotlib.write(picture, path)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}") from error
    for line in fonts.lacking([picture]):
        print(f"fusion-bench: left out: {line}", file=sys.stderr)
    console.out(f"{len(picture.panels)} examples drawn in {path}.svg and {path}.png")
    return 0


def _export_captions(command: CaptionsCommand, path: Path, console: Console) -> int:
    from fusion_bench.data.captions.files import export_captions
    from fusion_bench.data.load import load_dataset

    dataset = load_dataset(_data(command))
    captions = dataset.captions
    if captions is None:
        raise UserError(f"{command.data} has a text of its own; there are no captions to export")
    parts = {"splits": dataset.splits, "classes": dataset.classes, "targets": dataset.labels}
    export_captions(path, captions.texts, **parts, shifts=captions.shifts)
    console.out(f"{len(captions.texts):,} captions written to {path}")
    return 0
