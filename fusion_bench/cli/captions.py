"""`fusion-bench captions`: samples and figures of a caption channel, or all captions of a dataset as a file."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text
from tyro.conf import Positional, arg

from fusion_bench import files
from fusion_bench.cli.flags import OPTIONS, option
from fusion_bench.config import DataConfig
from fusion_bench.errors import UserError
from fusion_bench.fields import Checked, Count, NameOrPath, Natural

if TYPE_CHECKING:
    from fusion_bench.data.captions.channel import Channel


@dataclasses.dataclass(frozen=True)
class CaptionsCommand(Checked):
    """Show samples of a caption channel, its information in bits, and its accuracy ceilings."""

    name: Annotated[Positional[str], option("NAME")]
    """A caption channel of `fusion-bench list`; an option follows a colon: half:named=0.2. human:FILE counts its words
    in the data."""
    num: Annotated[Count, option("N", aliases=["-n"])] = 10
    """Number of samples to print."""
    data: Annotated[NameOrPath, option("shapes|cifar10|tfds:NAME|FILE.npz")] = "shapes"
    """Source of the classes that the captions are about."""
    data_dir: Annotated[Path | None, OPTIONS[DataConfig]["data_dir"]] = None
    """Directory of prepared TFDS data, for --export, --figure and human:FILE."""
    test_size: Annotated[Count | None, OPTIONS[DataConfig]["test_size"]] = None
    """Number of test examples, for --test-from train."""
    test_from: Annotated[Literal["test", "train"], OPTIONS[DataConfig]["test_from"]] = "test"
    """Split from which the test examples are drawn; with train, human:FILE needs no rows of the test split."""
    data_seed: Natural = 0
    """Seed of the captions."""
    figure: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="(optional)")] = None
    """Draw N test images with their captions in FILE.svg and FILE.png."""
    export: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="(optional)")] = None
    """Write all captions to a .csv, .tsv, .jsonl or .parquet file with the columns id, split, caption, y, k, t."""


_PARTS = {
    "redundant": "bits that a perfect image tells too (redundant)",
    "unique_first": "bits of a perfect image alone (unique)",
    "unique_second": "bits of the caption alone (unique)",
    "synergistic": "bits of both together alone (synergistic)",
}
"""What is printed for each part of `Decomposition`."""
_CONFUSIONS = 3
"""Other names of a class that are printed."""


def run(command: CaptionsCommand, console: Console) -> int:
    """Returns the exit status."""
    from fusion_bench.data.captions.channel import make_channel, preview
    from fusion_bench.data.captions.spec import parse_spec
    from fusion_bench.data.sources.base import class_names

    if command.export is not None:
        return _export_captions(command, command.export, console)
    if command.figure is not None:
        return _draw_examples(command, command.figure, console)
    counted: list[Any] = []
    if parse_spec(command.name).speaker is None:
        names = class_names(DataConfig(command.data, command.data_dir))
        channel = make_channel(command.name, names)
    else:
        from fusion_bench.data.load import load_dataset  # which imports JAX

        dataset = load_dataset(_data(command))
        assert dataset.captions is not None
        assert dataset.captions.channel is not None
        names, channel = dataset.class_names, dataset.captions.channel
        counted = ["", _named(channel, names), "", Text(" ".join(dataset.notes)), ""]
    samples = Table("caption", "class y", "word w", "shift k", "target t", box=None, pad_edge=False)
    for cells in preview(channel, names, command.num, command.data_seed):
        samples.add_row(*map(Text, cells))
    figures = Table(box=None, show_header=False, pad_edge=False)
    figures.add_row("bits about the target", f"{channel.bits:.3f}")
    figures.add_row("bits about the target, given the class (interaction)", f"{channel.interaction_bits:.3f}")
    for part, bits in {} if channel.decomposition is None else channel.decomposition._asdict().items():
        figures.add_row(_PARTS[part], f"{bits:.3f}")
    figures.add_row("text-only ceiling", f"{channel.text_only_ceiling:.4f}")
    figures.add_row("image-only ceiling", f"{channel.image_only_ceiling:.4f}")
    console.print(samples, *counted, "", figures, sep="\n")
    return 0


def _named(channel: "Channel", class_names: Sequence[str]) -> Table:
    """Returns a table of P(y' | y): the probability of the right name, and the most frequent wrong ones."""
    shown = Table("class y", "named so", "and else, most often", box=None, pad_edge=False)
    for y, row in enumerate(channel.naming_probabilities):
        others = [named for named in row.argsort(kind="stable")[::-1].tolist() if named != y][:_CONFUSIONS]
        said = ", ".join(f"{class_names[named]} {100 * row[named]:.1f} %" for named in others)
        shown.add_row(*map(Text, (class_names[y], f"{100 * row[y]:.1f} %", said)))
    return shown


def _data(command: CaptionsCommand) -> DataConfig:
    return DataConfig(
        command.data,
        command.data_dir,
        command.name,
        data_seed=command.data_seed,
        test_size=command.test_size,
        test_from=command.test_from,
    )


def _draw_examples(command: CaptionsCommand, path: Path, console: Console) -> int:
    from fusion_bench.data.load import load_dataset
    from fusion_bench.report.plots import examples, fonts, matplotlib
    from fusion_bench.study.examples import by_turns, examples_of

    dataset = load_dataset(_data(command))
    shown = examples_of(dataset, by_turns(dataset, command.num))
    if not shown:
        raise UserError(f"{dataset.name} has no colour images with captions to show")
    picture = examples.picture(shown, dataset.name)
    with files.explained(f"{path} cannot be written"):
        matplotlib.write(picture, path)
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
        raise UserError(f"{command.data} brings its own text, so there are no captions to export")
    parts = {"splits": dataset.splits, "classes": dataset.classes, "targets": dataset.labels}
    export_captions(path, captions.texts, **parts, shifts=captions.shifts)
    console.out(f"{len(captions.texts):,} captions written to {path}")
    return 0
