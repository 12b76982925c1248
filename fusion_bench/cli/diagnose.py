"""`fusion-bench diagnose`: applies diagnostics to the stored models of a directory."""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.console import Console
from tyro.conf import Positional, arg

from fusion_bench.cli import table
from fusion_bench.cli.choices import parse_choices
from fusion_bench.cli.flags import option, word
from fusion_bench.config import Choice, DataConfig, as_choice
from fusion_bench.fields import Checked, NameOrPath

if TYPE_CHECKING:
    from fusion_bench.store import Store

DEFAULT = ("missing-modality", "emap", "pid")


@dataclasses.dataclass(frozen=True)
class DiagnoseCommand(Checked):
    """Apply diagnostics to the stored models of a directory; nothing is trained."""

    directory: Annotated[Positional[Path], option("DIR")]
    """The --out directory of `fusion-bench run`. Values are stored in DIR/diagnostics and are columns of the table."""
    names: Annotated[tuple[str | Choice, ...], word("a,b", parse_choices), arg(name="with")] = DEFAULT
    """Diagnostics, comma-separated; an option follows a colon: missing-modality:baseline=zero."""
    data_dir: Annotated[Path | None, option("DIR", "$TFDS_DATA_DIR, else TFDS's own")] = None
    """Directory of prepared TFDS data."""
    source: Annotated[NameOrPath, option("FILE.npz", "none", name="data")] = ""
    """Path of the data file that the runs were trained on; a run records only the file's name."""
    captions: Annotated[NameOrPath, option("FILE", "none")] = ""
    """Path of the file of captions, or of what people said, that the runs were trained on."""
    cifar10_c: Annotated[Path | None, option("DIR", "none")] = None
    """Directory of CIFAR-10-C: labels.npy and a file for each corruption. It adds the diagnostic cifar10-c."""
    cache_dir: Annotated[Path | None, option("DIR", "$FUSION_BENCH_CACHE_DIR, else the user's cache directory")] = None
    """Directory in which decoded images are cached."""


def run(command: DiagnoseCommand, console: Console) -> int:
    """Returns the exit status."""
    from fusion_bench.training import backend

    backend.start()
    from fusion_bench.data.cifar10_c import open_cifar10_c
    from fusion_bench.diagnostics.robustness.corruptions import CIFAR10_C
    from fusion_bench.store import Store
    from fusion_bench.store.diagnosed import write_csv
    from fusion_bench.study.diagnose import diagnose

    store = Store(command.directory, read_only=True)
    choices = [as_choice(name) for name in command.names]
    places = DataConfig(command.source, command.data_dir, command.captions, cache_dir=command.cache_dir)
    further: dict[str, Path] = {}
    if command.cifar10_c is not None:
        further[CIFAR10_C] = open_cifar10_c(command.cifar10_c).directory  # refused before anything is computed
        choices.append(Choice(CIFAR10_C))
    done = diagnose(store, choices, places=places, further=further, note=console.out)
    table.say_damaged(store)
    for line in (*(f"skipped: {line}" for line in done.skipped), *done.failed):
        print(f"fusion-bench: {line}", file=sys.stderr)
    print_values(store, done.names, console)
    path = write_csv(store.directory, sorted(store.runs(), key=lambda run: (run.strategy, run.seed)))
    console.out(f"{done.computed} computed, {done.kept} already stored; all values are in {path}", style="dim")
    return 1 if done.failed else 0


def print_values(store: "Store", names: Mapping[str, Sequence[str]], console: Console) -> None:
    """Prints a table for the values of each diagnostic, of the strategies that have some; notes below the last."""
    from fusion_bench.report.columns import choose_columns, known_columns
    from fusion_bench.report.render import to_rich
    from fusion_bench.report.table import arrange
    from fusion_bench.report.table import table as make_table

    for label, of_one in names.items():
        frame = arrange(make_table(store, diagnostic=label), None)
        rows = frame.loc[frame[[f"{name}_mean" for name in of_one]].notna().any(axis=1)].reset_index(drop=True)
        columns = choose_columns(("accuracy", *of_one), known_columns(frame))
        console.print(to_rich(rows, columns, title=label, has_notes=label == [*names][-1]))
