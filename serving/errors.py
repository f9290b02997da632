"""The errors, all in one shape: `{"error": "…", "detail": [{"field": "…", "message": "…"}]}`.

What is wrong with a request is raised as `RefusedError` wherever it shows, and `Gate` (`serving/gate.py`) makes the
answer and one line in the log of it. Neither holds text of a chat.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from http import HTTPStatus
from typing import Any

from starlette.responses import JSONResponse

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

RETRY_AFTER = 1  # seconds, for a client that comes when there is too much to do

logger = logging.getLogger("bentoml.errors")
_HEADERS: Mapping[HTTPStatus, Mapping[str, str]] = {
    HTTPStatus.UNAUTHORIZED: {"WWW-Authenticate": "Bearer"},
    HTTPStatus.TOO_MANY_REQUESTS: {"Retry-After": str(RETRY_AFTER)},
    HTTPStatus.SERVICE_UNAVAILABLE: {"Retry-After": str(RETRY_AFTER)},
}


class RefusedError(Exception):
    """A request that gets no answer: the status, the error, and the fields it is about."""

    def __init__(self, status: HTTPStatus, error: str | None = None, detail: Sequence[Mapping[str, str]] = ()) -> None:
        super().__init__(error or status.phrase)
        self.status = status
        self.error = error or status.phrase
        self.detail = list(detail)

    def response(self) -> JSONResponse:
        """Return the answer."""
        return JSONResponse({"error": self.error, "detail": self.detail}, self.status, _HEADERS.get(self.status))

    def log(self, path: str) -> None:
        """Leave one line in the log, with the names of the fields; too many requests would be too many lines."""
        if self.status == HTTPStatus.TOO_MANY_REQUESTS:
            return
        named = ", ".join(dict.fromkeys(part["field"] for part in self.detail))
        logger.warning("%s %d: %s%s", path, self.status, self.error, f" ({named})" if named else "")
