"""`fusion-bench report`: writes figures and a page from the runs in a directory."""

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

from rich.console import Console
from tyro.conf import Positional

from fusion_bench.cli.flags import option
from fusion_bench.cli.table import say_damaged
from fusion_bench.fields import Checked


@dataclasses.dataclass(frozen=True)
class ReportCommand(Checked):
    """Write figures (PNG, SVG) and one page with interactive charts of the runs in a directory."""

    directory: Annotated[Positional[Path], option("DIR")]
    """The --out directory of `fusion-bench run`; the report goes to DIR/report."""
    against: Annotated[str | None, option("STRATEGY", "the best unimodal one")] = None
    """The strategy that gains are measured against."""


def run(command: ReportCommand, console: Console) -> int:
    """Returns the exit status."""
    from fusion_bench.report.page import write_report
    from fusion_bench.store import Store

    store = Store(command.directory, read_only=True)
    page, omitted = write_report(store, against=command.against or "")
    say_damaged(store)
    for line in omitted:
        print(f"fusion-bench: left out: {line}", file=sys.stderr)
    console.out(f"written to {page}, {page.stat().st_size / 1e6:.1f} MB; figures beside it")
    return 0
