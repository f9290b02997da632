"""ASGI middleware: known paths, CORS, API keys, and one shape for all errors, BentoML's and Starlette's included."""

import logging
from collections.abc import Iterable, MutableMapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.errors import Problem, RefusedError
from serving.http.access import Access
from serving.http.bodies import to_response

# Errors that BentoML and Starlette respond with, and those of their headers that a client needs.
OF_OTHERS = {one.status: one for one in (Problem.NO_PATH, Problem.METHOD, Problem.RANGE, Problem.NOT_READY)}
OF_OTHERS[HTTPStatus.BAD_REQUEST] = Problem.RANGE  # what Starlette answers to a range that it cannot read
KEPT = (b"allow", b"content-range")
NOT_FOUND = "/404"  # stands for every unknown path in logs and metrics, which would otherwise grow without bound

logger = logging.getLogger("bentoml.middleware")


class KnownPaths:
    """ASGI middleware that renames unknown paths to `NOT_FOUND`, before metrics see them."""

    def __init__(self, app: ASGIApp, known: frozenset[str]) -> None:
        self._app = app
        self._known = known

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on under a known path, without the slash that may follow it, or under `NOT_FOUND`."""
        if scope["type"] == "http" and scope["path"] not in self._known:
            path = scope["path"].removesuffix("/")
            scope = {**scope, "path": path if path in self._known else NOT_FOUND}
        await self._app(scope, receive, send)


def known_paths(routes: Iterable[BaseRoute]) -> frozenset[str]:
    """Return the paths of routes, and of the files in static folders."""
    paths: set[str] = set()
    for route in routes:
        if isinstance(route, Mount) and isinstance(route.app, StaticFiles):
            paths |= {f"{route.path}/{file.name}" for file in Path(route.app.directory or "").iterdir()}
        elif isinstance(route, Route):
            paths.add(route.path)
    return frozenset(paths)


class Cors(CORSMiddleware):
    """Starlette's CORS middleware, with rejected preflight requests in the one shape."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """Return the response to a preflight request."""
        response = super().preflight_response(request_headers)
        if response.status_code < HTTPStatus.BAD_REQUEST:
            return response
        refused = RefusedError(Problem.PREFLIGHT)
        refused.log()
        return to_response(refused)


class AccessAndErrors:
    """ASGI middleware that redirects trailing slashes, checks API keys, and turns errors into responses."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on requests that are allowed; answer errors."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        path = scope["path"]
        try:
            if path == NOT_FOUND:
                raise RefusedError(Problem.NO_PATH)
            # `KnownPaths` has taken the slash off `path`; 307: method and body stay
            if scope["raw_path"] != b"/" and scope["raw_path"].endswith(b"/"):
                query = scope["query_string"].decode("latin-1")
                return await RedirectResponse(f"{path}?{query}" if query else path)(scope, receive, send)
            self._access.check(scope)
            return await self._app(scope, receive, _in_one_shape(scope, receive, send))
        except RefusedError as refused:
            refused.log(path)
            return await to_response(refused)(scope, receive, send)
        except Exception as fault:  # the last place where an unexpected error can get the one shape
            logger.exception("%s 500: %s", path, type(fault).__name__, extra={"path": path, "status": 500})
            return await to_response(RefusedError(Problem.INTERNAL))(scope, receive, send)


def _in_one_shape(scope: Scope, receive: Receive, send: Send) -> Send:
    """Return a `send` that replaces errors of BentoML and Starlette with those of `serving/errors.py`."""
    replaced = False

    async def reshaped(message: MutableMapping[str, Any]) -> None:
        nonlocal replaced
        if message["type"] == "http.response.start" and message["status"] >= HTTPStatus.BAD_REQUEST:
            replaced = True
            refused = RefusedError(OF_OTHERS.get(message["status"], Problem.INTERNAL))
            refused.log(scope["path"])
            response = to_response(refused)
            response.raw_headers += [header for header in message["headers"] if header[0] in KEPT]
            await response(scope, receive, send)
        elif not replaced:
            await send(message)

    return reshaped
