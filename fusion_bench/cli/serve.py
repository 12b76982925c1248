"""`fusion-bench serve`: a stored model behind HTTP, with a page to try it."""

import dataclasses
import importlib.util
from pathlib import Path
from typing import Annotated

from rich.console import Console
from tyro.conf import Positional, arg

from fusion_bench.cli.flags import option
from fusion_bench.errors import ConfigError, UserError
from fusion_bench.fields import Checked

NEEDED = ("prometheus_client", "python_multipart", "starlette", "uvicorn")
"""Packages of the extra `serve`."""
MAX_PORT = 65535


@dataclasses.dataclass(frozen=True)
class ServeCommand(Checked):
    """Serve a stored model over HTTP: predictions, metrics, and a page to try it. Ctrl-C ends it."""

    directory: Annotated[Positional[Path], option("DIR")]
    """The --out directory of `fusion-bench run`."""
    run: Annotated[Positional[str], option("RUN")]
    """The run: its identifier, or the beginning of it, such as concat-s0."""
    host: Annotated[str, arg(metavar="ADDRESS")] = "127.0.0.1"
    """Address to listen at. Others than this machine reach 0.0.0.0, and there is no password."""
    port: Annotated[int, option("N")] = 8000
    """Port to listen at; 0 chooses a free one."""


def run(command: ServeCommand, console: Console) -> int:
    """Returns the exit status, once a signal has ended the server."""
    if not 0 <= command.port <= MAX_PORT:
        raise ConfigError("port", command.port, f"it must be at least 0 and at most {MAX_PORT}")
    if any(importlib.util.find_spec(name) is None for name in NEEDED):
        raise UserError("serve needs more packages: pip install 'fusion-bench-jax[serve]'")
    from fusion_bench.deploy.serve.guard import LOOPBACK
    from fusion_bench.deploy.serve.server import bind

    with bind(command.host, command.port) as bound:  # before the model is loaded: it may be in use
        from fusion_bench.training import backend

        backend.start()
        from fusion_bench.deploy.model import load_classifier
        from fusion_bench.deploy.serve.app import make_app
        from fusion_bench.deploy.serve.limits import Limits
        from fusion_bench.deploy.serve.server import serve

        classifier = load_classifier(command.directory, command.run)
        limits = Limits()
        is_local = command.host in ("localhost", "::1") or command.host.startswith("127.")
        name = f"[{command.host}]" if ":" in command.host else command.host
        app = make_app(classifier, limits, tuple(dict.fromkeys((*LOOPBACK, name))) if is_local else None)
        where = f"http://{name}:{bound.getsockname()[1]}"
        serve(app, bound, limits, lambda: print(f"{classifier.run.id} is served at {where}", flush=True))
    return 0
