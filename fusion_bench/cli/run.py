"""`fusion-bench run`: trains what a study lacks and prints its table."""

from rich.console import Console

from fusion_bench.config import BenchmarkConfig


def run(config: BenchmarkConfig, console: Console) -> int:
    """Returns the exit status: 1 if a run has failed."""
    import fusion_bench
    from fusion_bench.report.render import to_rich

    study, frame = fusion_bench.run_and_tabulate(config)
    console.print(to_rich(frame))
    written = f"written to {config.out}/table.csv and table.md"
    console.print(written, style="dim", highlight=False, markup=False, soft_wrap=True)
    return 1 if study.failed else 0
