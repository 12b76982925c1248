"""`fusion-bench merge`: copies the runs of several directories into one."""

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

from rich.console import Console
from tyro.conf import Positional, arg

from fusion_bench.cli.flags import option
from fusion_bench.errors import UserError
from fusion_bench.fields import Checked


@dataclasses.dataclass(frozen=True)
class MergeCommand(Checked):
    """Copy the complete runs of several directories into one, and write its table."""

    directories: Annotated[Positional[tuple[Path, ...]], arg(metavar="DIR [DIR ...]", help_behavior_hint="")]
    """The --out directories of `fusion-bench run`, from this machine or others; of equal runs the first is kept."""
    out: Annotated[Path, option("DIR")]
    """Directory of the merged runs and their table."""


def run(command: MergeCommand, console: Console) -> int:
    """Returns the exit status: 1 if a run is damaged, or differs from another one with the same id."""
    from fusion_bench.report.render import write_tables
    from fusion_bench.report.table import table
    from fusion_bench.store import merge

    if not command.directories:
        raise UserError("no directory is given; name the directories to merge")
    merged = merge(command.directories, command.out)
    for kind, lines in (("left out", merged.damaged), ("conflict", merged.conflicts)):
        for line in lines:
            print(f"fusion-bench: {kind}: {line}", file=sys.stderr)
    write_tables(merged.store, table(merged.store))
    counts = f"{merged.copied} copied, {merged.known} already there, {merged.failed} failed and left out"
    console.out(f"runs: {counts}; written to {command.out}")
    return 1 if merged.conflicts or merged.damaged else 0
