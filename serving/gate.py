"""The gate: the outermost part, through which every request and every answer goes.

It knows which paths there are (BentoML would make a metric of any path that is asked for), asks for a key where one is
needed, and gives all errors, BentoML's own too, the one shape of `serving/errors.py`.
"""

import logging
from collections.abc import Iterable, Iterator, MutableMapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from serving.access import Access
from serving.errors import App, Receive, RefusedError, Scope, Send

logger = logging.getLogger("bentoml.gate")
NOWHERE = "/404"  # stands in logs and metrics for every path that is not there


class Gate:
    """ASGI middleware around all others of the service; `access` says who may ask for what."""

    def __init__(self, app: App, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on what may pass; answer errors."""
        if scope["type"] == "lifespan":  # the start, the one moment to get in front of BentoML's metrics
            starlette = scope["app"]
            starlette.middleware_stack = KnownPaths(starlette.middleware_stack, frozenset(_paths(starlette.routes)))
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        try:
            if scope["path"] == NOWHERE:
                raise RefusedError(HTTPStatus.NOT_FOUND, "there is nothing at this path")
            self._access.check(scope)
            return await self._app(scope, receive, _in_one_shape(send, scope, receive))
        except RefusedError as refused:
            refused.log(scope["path"])
            return await refused.response()(scope, receive, send)
        except Exception as fault:  # the last place where a fault of the service can get the one shape
            logger.exception("%s 500: %s", scope["path"], type(fault).__name__)
            return await RefusedError(HTTPStatus.INTERNAL_SERVER_ERROR).response()(scope, receive, send)


class KnownPaths:
    """ASGI app that gives all paths that are not there one name, for the app inside of it."""

    def __init__(self, app: App, known: frozenset[str]) -> None:
        self._app = app
        self._known = known

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on a request."""
        if "path" in scope and scope["path"] not in self._known:
            scope = {**scope, "path": NOWHERE, "raw_path": NOWHERE.encode()}
        await self._app(scope, receive, send)


def _paths(routes: Iterable[BaseRoute]) -> Iterator[str]:
    """Yield the paths of routes, of mounted apps, and of the files in static folders."""
    for route in routes:
        if isinstance(route, Mount) and isinstance(route.app, StaticFiles):
            yield from (f"{route.path}/{file.name}" for file in Path(route.app.directory or "").iterdir())
        elif isinstance(route, Mount):
            yield from (route.path + path for path in _paths(route.routes))
        elif isinstance(route, Route):
            yield route.path


def _in_one_shape(send: Send, scope: Scope, receive: Receive) -> Send:
    """Return a `send` that puts an error in the one shape in place of one that comes from inside BentoML."""
    replaced = False

    async def reshaped(message: MutableMapping[str, Any]) -> None:
        nonlocal replaced
        if message["type"] == "http.response.start" and message["status"] >= HTTPStatus.BAD_REQUEST:
            replaced = True
            response = RefusedError(HTTPStatus(message["status"])).response()
            response.raw_headers += [header for header in message["headers"] if header[0] == b"allow"]
            await response(scope, receive, send)
        elif not replaced:
            await send(message)

    return reshaped
