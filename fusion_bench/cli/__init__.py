"""The command line, one file per command. A command imports JAX and pandas only when it runs, so `--help` is quick."""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Union

import tyro
from rich.console import Console
from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes, subcommand

from fusion_bench.cli import captions, diagnose, export, flags, list, merge, predict, report, run, serve, speed, table
from fusion_bench.cli.streams import robust_streams
from fusion_bench.errors import ConfigError, DiskFull, UserError
from fusion_bench.speed.config import SpeedConfig

_COMMANDS: Mapping[str, tuple[type, Callable[[Any, Console], int]]] = {
    "run": (run.RunCommand, run.run),
    "table": (table.TableCommand, table.run),
    "merge": (merge.MergeCommand, merge.run),
    "speed": (SpeedConfig, speed.run),
    "report": (report.ReportCommand, report.run),
    "diagnose": (diagnose.DiagnoseCommand, diagnose.run),
    "predict": (predict.PredictCommand, predict.run),
    "export": (export.ExportCommand, export.run),
    "serve": (serve.ServeCommand, serve.run),
    "captions": (captions.CaptionsCommand, captions.run),
    "list": (list.ListCommand, list.run),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command and exits: 0 if all went well, 1 if a run failed, 2 if the request was wrong."""
    with robust_streams():
        sys.exit(_run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    forms = tuple(Annotated[form, subcommand(name)] for name, (form, _) in _COMMANDS.items())
    try:
        command: Any = tyro.cli(
            Union[forms],  # type: ignore[arg-type]  # noqa: UP007
            prog="fusion-bench",
            description="Compare fusion strategies for multimodal classifiers: accuracy, statistics and cost.",
            args=arguments,
            config=(OmitArgPrefixes, FlagCreatePairsOff),
            registry=flags.REGISTRY,
        )
        status = dict(_COMMANDS.values())[type(command)](command, Console(highlight=False))
    except UserError as error:
        message = error.named(flags.flag(error.field)) if isinstance(error, ConfigError) else error
        print(f"fusion-bench: {message}", file=sys.stderr)
        status = 1 if isinstance(error, DiskFull) else 2
    except KeyboardInterrupt:
        print("fusion-bench: interrupted; the same command continues where it stopped", file=sys.stderr)
        status = 130
    return status
