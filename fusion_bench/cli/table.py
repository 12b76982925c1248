"""`fusion-bench table`: prints the table of the runs in a directory."""

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from rich.console import Console
from tyro.conf import Positional

from fusion_bench.cli.choices import parse_names
from fusion_bench.cli.flags import option, word
from fusion_bench.errors import UserError
from fusion_bench.fields import Checked

if TYPE_CHECKING:
    from fusion_bench.store import Store


@dataclasses.dataclass(frozen=True)
class TableCommand(Checked):
    """Print the table of the runs in a directory."""

    directory: Annotated[Positional[Path], option("DIR")]
    """The --out directory of `fusion-bench run`."""
    format: Literal["terminal", "md", "csv", "latex"] = "terminal"
    """csv is for scripts: unrounded, every column unless --columns says which; all adds the metrics from logits."""
    columns: Annotated[tuple[str, ...] | None, word("a,b|all", parse_names), option("a,b|all", "the usual ones")] = None
    """Columns to show, comma-separated, whatever the width; all shows every one. An unknown name is answered with the
    right ones."""
    sort: Annotated[str | None, option("COLUMN", "by family")] = None
    """The column to sort by, the best value first."""
    group: Literal["family", "none"] = "family"
    """Keep the strategies of a family together, or not."""
    against: Annotated[str | None, option("STRATEGY", "the best unimodal one")] = None
    """The strategy that gains are over."""


def run(command: TableCommand, console: Console) -> int:
    """Returns the exit status."""
    from fusion_bench.report.columns import choose_columns, find_column, known_columns, needs_logits
    from fusion_bench.report.render import to_latex, to_markdown, to_rich
    from fusion_bench.report.table import arrange, table, to_csv
    from fusion_bench.store import Store

    store = Store(command.directory, read_only=True)
    details = needs_logits((*(command.columns or ()), command.sort))
    frame = table(store, against=command.against or "", details=details)
    known = known_columns(frame)
    columns = None if command.columns is None else choose_columns(command.columns, known)
    sort = find_column(command.sort, known) if command.sort else None
    frame = arrange(frame, sort, by_family=command.group == "family")
    say_damaged(store)
    if frame.empty:
        raise UserError(f"there is no complete run in {store.directory}")
    if command.format == "terminal":
        console.print(to_rich(frame, columns))
    elif command.format == "csv":
        print(to_csv(frame, None if command.columns == ("all",) else columns), end="")
    else:
        print({"latex": to_latex, "md": to_markdown}[command.format](frame, columns), end="")
    return 0


def say_damaged(store: "Store") -> None:
    """Prints a line for each run that was left out."""
    for folder, fault in store.damaged.items():
        print(f"fusion-bench: left out {folder}: {fault}", file=sys.stderr)
