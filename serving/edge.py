"""The edge: every request to a prediction route is checked here, before BentoML sees it.

A request that is wrong is answered at once with a short JSON error that names the field, and leaves one line in the
log; neither holds text of a chat. A request that is right goes on unchanged. A chat that comes while others are being
answered goes to BentoML's batching queue instead of straight to the scorer: that is where adaptive batching pays,
while a chat that comes alone never waits for company.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, ValidationError
from starlette.responses import JSONResponse

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

logger = logging.getLogger("bentoml.edge")
_SHOWN = 5  # fields named in an error; more would only repeat


class Edge:
    """ASGI middleware that checks bodies and chooses the way of a chat.

    `bodies` maps a path to the type of its body, `queued` a path to the path of its batched twin.
    """

    def __init__(self, app: App, bodies: Mapping[str, type[BaseModel]], queued: Mapping[str, str]) -> None:
        self.app = app
        self._bodies = bodies
        self._queued = queued
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a wrong request, or hand a right one on."""
        body_type = self._bodies.get(scope["path"]) if scope["type"] == "http" else None
        if body_type is None or scope["method"] != "POST":
            return await self.app(scope, receive, send)
        if not _is_json(scope):
            return await _refuse(
                scope, receive, send, HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the body has to be application/json"
            )
        body = await _read(receive)
        if body is None:
            return None  # the client went away
        try:
            body_type.model_validate_json(body)
        except ValidationError as error:
            return await _refuse(
                scope, receive, send, HTTPStatus.BAD_REQUEST, "the request is not valid", _fields(error)
            )
        self._in_flight += 1
        try:
            await asyncio.sleep(0)  # lets requests that arrived together count each other
            if self._in_flight > 1 and scope["path"] in self._queued:
                path = self._queued[scope["path"]]
                scope = {**scope, "path": path, "raw_path": path.encode()}
            await self.app(scope, _replay(body, receive), send)
        finally:
            self._in_flight -= 1


def _is_json(scope: Scope) -> bool:
    kinds = [value for name, value in scope["headers"] if name == b"content-type"]
    return len(kinds) == 1 and kinds[0].split(b";")[0].strip().lower() == b"application/json"


async def _read(receive: Receive) -> bytes | None:
    """Read the whole body; returns None when the client hangs up before its end."""
    chunks = []
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        chunks.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(chunks)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives the body once more and then what the client does next."""
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def again() -> MutableMapping[str, Any]:
        return next(messages, None) or await receive()

    return again


def _fields(error: ValidationError) -> list[dict[str, str]]:
    """Name the first wrong fields, each with what is wrong and nothing of what was sent."""
    named: dict[str, str] = {}
    for part in error.errors(include_url=False, include_context=False, include_input=False):
        named.setdefault(_path(part["loc"]), _message(part))
    return [{"field": field, "message": message} for field, message in list(named.items())[:_SHOWN]]


def _path(location: tuple[int | str, ...]) -> str:
    """Write a location as `messages[1].text`; members of a union, which pydantic adds, are left out."""
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part.isidentifier() and part not in ("int", "str"):
            path += f".{part}" if path else part
    return path or "body"


def _message(part: Any) -> str:
    if part["type"] == "json_invalid":
        return "not valid JSON"
    if part["loc"] and part["loc"][-1] in ("int", "str"):
        return "Input should be an integer or a string"
    return str(part["msg"])


async def _refuse(
    scope: Scope,
    receive: Receive,
    send: Send,
    status: HTTPStatus,
    error: str,
    detail: list[dict[str, str]] | None = None,
) -> None:
    named = ", ".join(dict.fromkeys(part["field"] for part in detail or []))
    logger.warning("%s %d: %s%s", scope["path"], status, error, f" ({named})" if named else "")
    await JSONResponse({"error": error, "detail": detail or []}, status_code=status)(scope, receive, send)
