"""`fusion-bench run`: trains the missing runs of a study and prints its table."""

import dataclasses

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fusion_bench.config import BenchmarkConfig


@dataclasses.dataclass(frozen=True)
class RunCommand(BenchmarkConfig):
    """Train and measure strategies with several seeds, and print their table."""

    dry_run: bool = False
    """Print the stages of the study with the number of complete runs; train nothing."""


def run(command: RunCommand, console: Console) -> int:
    """Returns the exit status: 1 if a run has failed."""
    import fusion_bench
    from fusion_bench.report.render import to_rich

    if command.dry_run:
        return _show_plan(command, console)
    study, frame = fusion_bench.run_and_tabulate(command)
    console.print(to_rich(frame))
    console.out(f"written to {command.out}/table.csv and table.md", style="dim")
    return 1 if study.failed else 0


def _show_plan(config: BenchmarkConfig, console: Console) -> int:
    from fusion_bench.training import backend

    backend.start()
    from fusion_bench.study.progress import make_display
    from fusion_bench.study.study import plan_study

    with make_display(Console(stderr=True)) as display:
        planned = plan_study(config, display)
    listing = Table("stage", "job", "runs", "complete", box=None, pad_edge=False)
    for stage, done in planned:
        for name, states in _grouped(stage.jobs, done).items():
            listing.add_row(stage.kind, Text(name), str(len(states)), str(sum(states)))
    console.print(listing)
    states = [state for _, done in planned for state in done]
    console.out(f"{len(states)} runs, {sum(states)} of them complete in {config.out}")
    return 0


def _grouped(jobs, done) -> dict[str, list[bool]]:
    """Returns which jobs are complete, in groups that differ only by seed, by the group's description."""
    groups: dict[str, list[bool]] = {}
    for job, is_done in zip(jobs, done, strict=True):
        rate = job.training.learning_rate
        purpose = {"tune": f"trial with learning rate {rate:g}", "measure": "costs", "train": f"learning rate {rate:g}"}
        parts = [job.label, purpose.get(job.kind, ""), "learns the class" if job.target == "class" else ""]
        groups.setdefault(", ".join(filter(None, parts)), []).append(is_done)
    return groups
