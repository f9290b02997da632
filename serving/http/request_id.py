"""The id of a request: the client's `X-Request-ID`, or a new one; it is in the response and in the log."""

import re
from collections.abc import Iterable, MutableMapping
from typing import Any
from uuid import uuid4

from starlette.types import ASGIApp, Receive, Scope, Send

from serving.log import set_request_id

HEADER = "X-Request-ID"
_NAME = HEADER.lower().encode()
_USABLE = re.compile(rb"[A-Za-z0-9_.:/+=@-]{1,128}")


class RequestId:
    """ASGI middleware that gives each request an id, and its response the same."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        request_id = id_of(scope["headers"])
        set_request_id(request_id)

        async def send_id(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), header_of(request_id)]
            await send(message)

        return await self._app(scope, receive, send_id)


def id_of(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Return the id that a client has sent, or a new one in place of one that could break a line of the log."""
    sent = [value for name, value in headers if name == _NAME]
    return sent[0].decode() if len(sent) == 1 and _USABLE.fullmatch(sent[0]) else uuid4().hex


def header_of(request_id: str) -> tuple[bytes, bytes]:
    """Return the header of a response."""
    return _NAME, request_id.encode()
