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
from serving.http.responses import to_response

KEPT = (b"allow", b"content-range")  # headers of BentoML's and Starlette's errors that mean something to a client
REDIRECT = "bot_or_human.redirect"  # key of a scope: where a client is redirected to
NOT_FOUND = "/404"  # stands for every unknown path in logs and metrics, which would otherwise grow without bound

logger = logging.getLogger("bentoml.middleware")


class KnownPaths:
    """ASGI middleware that renames unknown paths to `NOT_FOUND`, before metrics see them.

    It strips a trailing slash from known paths, to which `AccessAndErrors` then redirects the client.
    """

    def __init__(self, app: ASGIApp, known: frozenset[str]) -> None:
        self._app = app
        self._known = known

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on under a known path or under `NOT_FOUND`."""
        if scope["type"] == "http" and scope["path"] not in self._known:
            path = scope["path"].rstrip("/")
            if path in self._known:
                query = f"?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else ""
                scope = {**scope, "path": path, "raw_path": path.encode(), REDIRECT: path + query}
            else:
                scope = {**scope, "path": NOT_FOUND, "raw_path": NOT_FOUND.encode()}
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
        refused = RefusedError(Problem.PREFLIGHT, reason=bytes(response.body).decode())
        refused.log("a preflight request")
        of_cors = {name: value for name, value in response.headers.items() if not name.startswith("content-")}
        reshaped = to_response(refused)
        reshaped.headers.update(of_cors)
        return reshaped


class AccessAndErrors:
    """ASGI middleware that checks API keys and turns errors into responses."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on requests that are allowed; answer errors."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        if REDIRECT in scope:
            return await RedirectResponse(scope[REDIRECT])(scope, receive, send)  # 307: method and body stay
        try:
            if scope["path"] == NOT_FOUND:
                raise RefusedError(Problem.NO_PATH)
            self._access.check(scope)
            return await self._app(scope, receive, _in_one_shape(scope, receive, send))
        except RefusedError as refused:
            refused.log(scope["path"])
            return await to_response(refused)(scope, receive, send)
        except Exception as fault:  # the last place where an unexpected error can get the one shape
            of_json = {"path": scope["path"], "status": 500}
            logger.exception("%s 500: %s", scope["path"], type(fault).__name__, extra=of_json)
            return await to_response(RefusedError(Problem.INTERNAL))(scope, receive, send)


def _in_one_shape(scope: Scope, receive: Receive, send: Send) -> Send:
    """Return a `send` that replaces BentoML's error responses with errors in the shape of `serving/errors.py`."""
    replaced = False

    async def reshaped(message: MutableMapping[str, Any]) -> None:
        nonlocal replaced
        if message["type"] == "http.response.start" and message["status"] >= HTTPStatus.BAD_REQUEST:
            replaced = True
            refused = RefusedError(HTTPStatus(message["status"]))
            refused.log(scope["path"])
            response = to_response(refused)
            response.raw_headers += [header for header in message["headers"] if header[0] in KEPT]
            await response(scope, receive, send)
        elif not replaced:
            await send(message)

    return reshaped
