"""The edge: every request to a prediction route is checked here, before BentoML sees it.

A request that is wrong is answered at once with a short JSON error that names the field, and leaves one line in the
log; neither holds text of a chat. A request that is right and comes alone goes on unchanged: it never waits for
company. Chats that come while others are being answered are joined, and go to BentoML's batching queue as one request
for all of them: a hop through BentoML costs more than scoring a chat, so fewer and larger hops are what makes batching
pay (see `benchmarks/README.md`). One message of a dialog becomes the chat of the dialog so far (`serving/dialogs.py`),
and goes the same ways.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from http import HTTPStatus
from typing import Any
from uuid import uuid4

from pydantic import BaseModel, RootModel, ValidationError
from pydantic_core import from_json, to_json
from starlette.responses import JSONResponse, Response

from models.chat import MessageAnswer, PlatformMessage
from serving.dialogs import Dialogs, RefusedError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

logger = logging.getLogger("bentoml.edge")
_TAGS = ("int", "str", "chat", "message")  # members of unions, which pydantic names among the fields
_SHOWN = 5  # fields named in an error; more would only repeat


class Edge:
    """ASGI middleware that checks bodies and joins chats.

    `bodies` maps a path to the type of its body, of at most `largest_body` bytes. A path in `joined` maps to one that
    takes a JSON list of such bodies, at most `largest` at once, and answers with a list. `dialogs` remembers messages.
    """

    def __init__(
        self,
        app: App,
        bodies: Mapping[str, type[BaseModel]],
        joined: Mapping[str, str],
        largest: int,
        largest_body: int,
        dialogs: Dialogs,
    ) -> None:
        self.app = app
        self._bodies = bodies
        self._joiners = {path: Joiner(app, target, largest) for path, target in joined.items()}
        self._largest_body = largest_body
        self._dialogs = dialogs
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a wrong request, or hand a right one on."""
        body_type = self._bodies.get(scope["path"]) if scope["type"] == "http" else None
        if body_type is None or scope["method"] != "POST":
            return await self.app(scope, receive, send)
        try:
            if not _is_json(scope):
                raise RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the body has to be application/json")
            body = await _read(scope, receive, self._largest_body)
            if body is None:
                return None  # the client went away
            request = _parse(body_type, body)
            self._in_flight += 1  # from here on; a body that trickles in is no company
            try:
                return await self._hand_on(request, body, scope, receive, send)
            finally:
                self._in_flight -= 1
        except RefusedError as refused:
            return await _refuse(refused, scope, receive, send)

    async def _hand_on(self, request: object, body: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        """Send a right request the way that fits it."""
        if isinstance(request, PlatformMessage):
            return await self._answer_message(request, scope, receive, send)
        joiner = await self._company(scope["path"])
        if joiner is None:
            return await self.app(scope, _replay(body, receive), send)
        status, content = await joiner.ask(scope, body)
        return await Response(content, status, media_type="application/json")(scope, receive, send)

    async def _company(self, path: str) -> "Joiner | None":
        """Return what joins requests to a path, unless this one is alone."""
        await asyncio.sleep(0)  # lets requests that arrived together count each other
        return self._joiners.get(path) if self._in_flight > 1 else None

    async def _answer_message(self, message: PlatformMessage, scope: Scope, receive: Receive, send: Send) -> None:
        """Store a message, score the chat of its dialog so far, and answer for who sent it."""
        chat = (await self._dialogs.remember(message)).model_dump_json().encode()
        joiner = await self._company(scope["path"])
        status, content = await (joiner.ask(scope, chat) if joiner else call(self.app, scope, scope["path"], chat))
        if status == HTTPStatus.OK:
            probabilities = {
                side["participant_id"]: side["is_bot_probability"] for side in from_json(content)["participants"]
            }
            answer = MessageAnswer(
                id=str(uuid4()),
                message_id=message.id,
                dialog_id=message.dialog_id,
                participant_index=message.participant_index,
                is_bot_probability=probabilities[message.participant_index],
            )
            content = answer.model_dump_json().encode()
        await Response(content, status, media_type="application/json")(scope, receive, send)


async def call(app: App, scope: Scope, path: str, body: bytes) -> tuple[int, bytes]:
    """Ask an app for the answer to a body at a path; returns status and content."""
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    status, content = HTTPStatus.INTERNAL_SERVER_ERROR.value, b""

    async def capture(message: MutableMapping[str, Any]) -> None:
        nonlocal status, content
        status = message.get("status", status)
        content += message.get("body", b"")

    async def nothing() -> MutableMapping[str, Any]:
        await asyncio.get_running_loop().create_future()  # no client behind it hangs up
        return {}

    inner = {**scope, "path": path, "raw_path": path.encode(), "headers": headers}
    await app(inner, _replay(body, nothing), capture)
    return status, content


class Joiner:
    """Sends the bodies that arrive in the same turn of the event loop as one list, and takes the answers apart."""

    def __init__(self, app: App, path: str, largest: int) -> None:
        self._app = app
        self._path = path
        self._largest = largest
        self._waiting: list[tuple[bytes, asyncio.Future[tuple[int, bytes]]]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def ask(self, scope: Scope, body: bytes) -> tuple[int, bytes]:
        """Return status and content of the answer to one body."""
        future: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        self._waiting.append((body, future))
        if len(self._waiting) == 1:
            task = asyncio.create_task(self._flush(scope))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await future

    async def _flush(self, scope: Scope) -> None:
        waiting, self._waiting = self._waiting, []
        groups = [waiting[start : start + self._largest] for start in range(0, len(waiting), self._largest)]
        await asyncio.gather(*(self._send(scope, group) for group in groups))

    async def _send(self, scope: Scope, group: list[tuple[bytes, "asyncio.Future[tuple[int, bytes]]"]]) -> None:
        status, answers = HTTPStatus.INTERNAL_SERVER_ERROR.value, None
        try:
            body = b"[" + b",".join(body for body, _ in group) + b"]"
            status, content = await call(self._app, scope, self._path, body)
            answers = [to_json(answer) for answer in from_json(content)] if status == HTTPStatus.OK else None
        finally:
            error = to_json({"error": HTTPStatus(status).phrase, "detail": []})
            for number, (_, future) in enumerate(group):
                if not future.done():
                    future.set_result((status, answers[number] if answers else error))


def _parse(body_type: type[BaseModel], body: bytes) -> Any:
    """Return the body as its type, what is inside of it if that only wraps; raises `RefusedError` naming the fields."""
    try:
        parsed = body_type.model_validate_json(body)
    except ValidationError as error:
        raise RefusedError(HTTPStatus.BAD_REQUEST, "the request is not valid", _fields(error)) from None
    return parsed.root if isinstance(parsed, RootModel) else parsed


def _is_json(scope: Scope) -> bool:
    kinds = [value for name, value in scope["headers"] if name == b"content-type"]
    return len(kinds) == 1 and kinds[0].split(b";")[0].strip().lower() == b"application/json"


async def _read(scope: Scope, receive: Receive, largest: int) -> bytes | None:
    """Read the body; returns None when the client hangs up before its end, raises `RefusedError` beyond the limit.

    Of a body that says or shows that it is too large the rest is not read.
    """
    declared = [int(value) for name, value in scope["headers"] if name == b"content-length" and value.isdigit()]
    size, chunks, more = max(declared, default=0), [], True
    while more and size <= largest:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        chunks.append(message.get("body", b""))
        size = max(size, sum(map(len, chunks)))
        more = message.get("more_body", False)
    if size > largest:
        raise RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body is larger than {largest} bytes")
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
        elif part.isidentifier() and part not in _TAGS:
            path += f".{part}" if path else part
    return path or "body"


def _message(part: Any) -> str:
    if part["type"] == "json_invalid":
        return "not valid JSON"
    if part["loc"] and part["loc"][-1] in ("int", "str"):
        return "Input should be an integer of 64 bits or a string of at most 128 characters"
    return str(part["msg"])


async def _refuse(refused: RefusedError, scope: Scope, receive: Receive, send: Send) -> None:
    named = ", ".join(dict.fromkeys(part["field"] for part in refused.detail))
    logger.warning("%s %d: %s%s", scope["path"], refused.status, refused.error, f" ({named})" if named else "")
    body = {"error": refused.error, "detail": refused.detail}
    # what is left of a body that is too large is not read: the connection cannot be used again
    headers = {"connection": "close"} if refused.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE else None
    await JSONResponse(body, refused.status, headers)(scope, receive, send)
