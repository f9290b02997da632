"""The prediction routes: read a body, validate it, let the service answer, and write the response.

A request is read, validated and answered once. BentoML's own routes would parse the body a second time and cost a task,
a timer and a context for each request (`docs/design.md`); they stay for what is not a prediction.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import bentoml
from pydantic import BaseModel
from pydantic_core import to_json
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.errors import Problem, RefusedError
from serving.http.bodies import parse_body, read_body

logger = logging.getLogger("bentoml.predictions")


class PredictionRoutes:
    """ASGI middleware that answers predictions and passes every other request on.

    `routes` maps a path to the type of its body and to the method that answers it, as the class of the service has it
    (`api_methods`); the method's first argument is the service.
    A body has at most `max_body_bytes`. At most `max_concurrency` requests are answered at a time, the others are
    rejected with 429; `timeout`, in seconds, is for one request, body included. `None`: no limit.
    """

    def __init__(
        self,
        app: ASGIApp,
        routes: Mapping[str, tuple[type[BaseModel], Callable[[Any, Any], Awaitable[BaseModel]]]],
        max_body_bytes: int,
        max_concurrency: int | None = None,
        timeout: float | None = None,
    ) -> None:
        self._app = app
        self._routes = routes
        self._max_body_bytes = max_body_bytes
        self._max_concurrency = max_concurrency
        self._timeout = timeout
        self._in_flight = 0  # being answered; uploads do not count towards the limit
        self._rejected = 0  # since the last line about it in the log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request to a prediction route, pass on any other; raises `RefusedError`."""
        route = self._routes.get(scope["path"]) if scope["type"] == "http" else None
        if route is None or scope["method"] != "POST":
            return await self._app(scope, receive, send)
        body_type, method = route
        self._check_in_flight()
        body = None
        try:
            async with asyncio.timeout(self._timeout):
                body = await read_body(scope, receive, self._max_body_bytes)
                self._check_in_flight()  # others may have arrived while the body did
                request = parse_body(body_type, body)
                self._in_flight += 1
                try:
                    answer = await method(bentoml.get_current_service(), request)
                finally:
                    self._in_flight -= 1
        except TimeoutError:
            raise RefusedError(Problem.BODY_TIMEOUT if body is None else Problem.TIMEOUT) from None
        content = to_json(answer)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        return await send({"type": "http.response.body", "body": content})

    def _check_in_flight(self) -> None:
        """Raise `RefusedError` with 429 above the limit. Rejections are counted, for one line a second in the log."""
        if self._max_concurrency is None or self._in_flight < self._max_concurrency:
            return
        if not self._rejected:
            asyncio.get_running_loop().call_later(1, self._log_rejected)
        self._rejected += 1
        raise RefusedError(Problem.OVERLOADED)

    def _log_rejected(self) -> None:
        logger.warning("429: %s (%d in a second)", Problem.OVERLOADED.text, self._rejected)
        self._rejected = 0
