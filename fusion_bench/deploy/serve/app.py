"""The application: its routes, its errors, and the files of its page."""

import contextlib
from collections.abc import AsyncIterator, Collection
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from fusion_bench.deploy import page
from fusion_bench.deploy.card import describe
from fusion_bench.deploy.model import Classifier
from fusion_bench.deploy.serve.guard import FAULT, LOOPBACK, PREDICT, Guard, as_response, refuse
from fusion_bench.deploy.serve.limits import Limits
from fusion_bench.deploy.serve.requests import OPTIONS
from fusion_bench.deploy.serve.service import Service
from fusion_bench.errors import UserError, cause


def make_app(
    classifier: Classifier,
    limits: Limits | None = None,
    hosts: Collection[str] | None = LOOPBACK,
    folder: Path = page.FOLDER,
) -> Guard:
    """Returns the application, with each batch size compiled.

    Args:
      classifier: the model.
      limits: of requests; the usual ones if None.
      hosts: accepted in the Host header; None accepts all.
      folder: of the page's files; they are read now.

    Raises:
      UserError: a modality has the name of an option.
    """
    for name in OPTIONS:
        if name in classifier.modalities:
            raise UserError(f"the run has a modality called {name}, which is an option of requests; rename it")
    service = Service(classifier, limits or Limits())
    service.predictor.warm()
    card = describe(classifier)

    async def model(request: Request) -> Response:
        return as_response(card)

    async def health(request: Request) -> Response:
        return as_response({"status": "ok", "run": classifier.run.id})

    async def metrics(request: Request) -> Response:
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    async def favicon(request: Request) -> Response:
        return Response(status_code=204)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        service.close()

    routes = [
        Route(PREDICT, service.predict, methods=["POST"]),
        Route("/health", health),
        Route("/metrics", metrics),
        Route("/model", model),
        Route("/favicon.ico", favicon),
        _file("/", folder / "index.html", page.FILES["index.html"]),
        _file("/model.js", folder / "server.js", "text/javascript"),
        *(_file(f"/{name}", folder / name, kind) for name, kind in page.FILES.items() if name != "index.html"),
    ]
    handlers = {HTTPException: _http, UserError: _wrong, ClientDisconnect: _gone, Exception: _fault}
    app = Starlette(routes=routes, exception_handlers=handlers, lifespan=lifespan)
    app.router.redirect_slashes = False  # a redirect would name any host that a request names
    return Guard(app, [route.path for route in routes], hosts, service.metrics, lambda: service.is_full)


def _file(path: str, source: Path, kind: str) -> Route:
    content = source.read_bytes()

    async def file(request: Request) -> Response:
        return Response(content, media_type=kind)

    return Route(path, file)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return refuse(error.status_code, error.detail, error.headers)


async def _wrong(request: Request, error: Exception) -> Response:
    return refuse(400, cause(error))


async def _gone(request: Request, error: Exception) -> Response:
    return refuse(400, "the client left before its body had come")


async def _fault(request: Request, error: Exception) -> Response:
    return refuse(500, FAULT)  # the guard logs it
