"""The edge: every request to a prediction route is checked here, before BentoML sees it.

A request that is wrong is refused with an error that names the field (`serving/errors.py`). A request that is right and
comes alone goes on unchanged: it never waits for company. Chats that come while others are being answered are joined,
and go to BentoML's batching queue as one request for all of them: a hop through BentoML costs more than scoring a chat,
so fewer and larger hops are what makes batching pay (see `benchmarks/README.md`). One message of a dialog becomes the
chat of the dialog so far (`serving/dialogs.py`), and goes the same ways.
"""

import asyncio
import logging
from collections.abc import Mapping, MutableMapping, Sequence
from http import HTTPStatus
from typing import Any
from uuid import uuid4

from pydantic import BaseModel, RootModel, ValidationError
from pydantic_core import from_json, to_json
from starlette.responses import Response

from models.chat import MessageAnswer, PlatformMessage
from serving.dialogs import Dialogs
from serving.errors import App, Receive, RefusedError, Scope, Send

ANSWER_SECONDS = 6  # for a body to arrive and to be answered
LARGE_BODY = 16_384  # bytes; larger bodies are not joined with others, which would wait for them, and go one by one
TOO_MANY = "too many requests at a time, try again"

logger = logging.getLogger("bentoml.edge")
_TAGS = ("int", "str", "chat", "message")  # members of unions, which pydantic names among the fields


class Edge:
    """ASGI middleware that checks bodies and joins chats.

    `bodies` maps a path to the type of its body, of at most `largest_body` bytes. A path in `joined` maps to one that
    takes a JSON list of such bodies, at most `largest` at once, and answers with a list. At most `most` requests are
    answered at a time. `dialogs` remembers messages.
    """

    def __init__(
        self,
        app: App,
        bodies: Mapping[str, type[BaseModel]],
        joined: Mapping[str, str],
        largest: int,
        largest_body: int,
        most: int,
        dialogs: Dialogs,
    ) -> None:
        self._app = app
        self._bodies = bodies
        self._joiners = {path: Joiner(app, target, largest) for path, target in joined.items()}
        self._singles = {target: path for path, target in joined.items()}
        self._large = asyncio.Lock()
        self._largest_body = largest_body
        self._most = most
        self._dialogs = dialogs
        self._in_flight = 0
        self._refused = 0  # since the last line about it in the log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request to a prediction route, hand on any other; raises `RefusedError`."""
        body_type = self._bodies.get(scope["path"]) if scope["type"] == "http" else None
        if body_type is None or scope["method"] != "POST":
            return await self._app(scope, receive, send)
        self._refuse_above_the_limit()
        body = None
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                if not _is_json(scope):
                    raise RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the body has to be application/json")
                body = await _read(scope, receive, self._largest_body)
                self._refuse_above_the_limit()  # others may have come while the body did
                request = _parse(body_type, body)
                self._in_flight += 1  # from here on; a body that trickles in is no company, and takes nobody's place
                try:
                    content = await self._answer(request, body, scope)
                finally:
                    self._in_flight -= 1
        except TimeoutError:
            if body is None:
                raise RefusedError(HTTPStatus.REQUEST_TIMEOUT, "the body did not arrive in time") from None
            raise RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, "there was no answer in time, try again") from None
        return await Response(content, media_type="application/json")(scope, receive, send)

    def _refuse_above_the_limit(self) -> None:
        """Raise `RefusedError` with 429 if no more requests are taken; the log tells of them once a second."""
        if self._in_flight < self._most:
            return
        if not self._refused:
            asyncio.get_running_loop().call_later(1, self._log_refused)
        self._refused += 1
        raise RefusedError(HTTPStatus.TOO_MANY_REQUESTS, TOO_MANY)

    def _log_refused(self) -> None:
        logger.warning("429: %s (%d in a second)", TOO_MANY, self._refused)
        self._refused = 0

    async def _answer(self, request: BaseModel | Sequence[BaseModel], body: bytes, scope: Scope) -> bytes:
        """Send a right request the way that fits it; returns the content of its answer."""
        if isinstance(request, PlatformMessage):
            return await self._answer_message(request, scope)
        return await self._ask(scope, request, body)

    async def _ask(self, scope: Scope, request: BaseModel | Sequence[BaseModel], body: bytes) -> bytes:
        """Return the answer to a request, which goes alone or joined with those that came with it."""
        await asyncio.sleep(0)  # lets requests that arrived together count each other
        path = scope["path"]
        if len(body) > LARGE_BODY:
            async with self._large:
                if not isinstance(request, Sequence):
                    return await call(self._app, scope, path, body)
                # a large list would hold up what is joined
                ones = [one.model_dump_json().encode() for one in request]
                return b"[" + b",".join([await call(self._app, scope, self._singles[path], one) for one in ones]) + b"]"
        if path in self._joiners and self._in_flight > 1 and isinstance(request, BaseModel):
            # written anew: what is not part of a chat could make the list that it joins wrong
            return await self._joiners[path].ask(scope, request.model_dump_json().encode())
        return await call(self._app, scope, path, body)

    async def _answer_message(self, message: PlatformMessage, scope: Scope) -> bytes:
        """Store a message, score the chat of its dialog so far, and answer for who sent it."""
        chat = await self._dialogs.remember(message)
        content = await self._ask(scope, chat, chat.model_dump_json().encode())
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
        return answer.model_dump_json().encode()


async def call(app: App, scope: Scope, path: str, body: bytes) -> bytes:
    """Ask an app for the answer to a body at a path; returns its content, raises `RefusedError` if it is an error."""
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    status, content = HTTPStatus.INTERNAL_SERVER_ERROR.value, b""
    request = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> MutableMapping[str, Any]:
        # no client behind it hangs up
        return next(request, None) or await asyncio.get_running_loop().create_future()

    async def capture(message: MutableMapping[str, Any]) -> None:
        nonlocal status, content
        status = message.get("status", status)
        content += message.get("body", b"")

    await app({**scope, "path": path, "raw_path": path.encode(), "headers": headers}, receive, capture)
    if status != HTTPStatus.OK:
        raise RefusedError(HTTPStatus(status))
    return content


class Joiner:
    """Sends the bodies that arrive in the same turn of the event loop as one list, and takes the answers apart."""

    def __init__(self, app: App, path: str, largest: int) -> None:
        self._app = app
        self._path = path
        self._largest = largest
        self._waiting: list[tuple[bytes, asyncio.Future[bytes]]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def ask(self, scope: Scope, body: bytes) -> bytes:
        """Return the content of the answer to one body; raises `RefusedError`, as `call` does."""
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
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

    async def _send(self, scope: Scope, group: list[tuple[bytes, "asyncio.Future[bytes]"]]) -> None:
        answers: list[bytes] = []
        refused = RefusedError(HTTPStatus.INTERNAL_SERVER_ERROR)
        try:
            body = b"[" + b",".join(body for body, _ in group) + b"]"
            answers = [to_json(answer) for answer in from_json(await call(self._app, scope, self._path, body))]
        except RefusedError as error:
            refused = error
        finally:
            for number, (_, future) in enumerate(group):
                if future.done():
                    continue
                if answers:
                    future.set_result(answers[number])
                else:
                    future.set_exception(RefusedError(refused.status, refused.error))


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


async def _read(scope: Scope, receive: Receive, largest: int) -> bytes:
    """Read the body; raises `RefusedError` beyond the limit, and when the client hangs up before the end.

    Of a body that says or shows that it is too large the rest is not read.
    """
    declared = [int(value) for name, value in scope["headers"] if name == b"content-length" and value.isdigit()]
    size, body, more = max(declared, default=0), bytearray(), True
    while more and size <= largest:
        message = await receive()
        if message["type"] == "http.disconnect":
            # nobody reads it, but BentoML holds on to a request without an answer until its timeout
            raise RefusedError(HTTPStatus.BAD_REQUEST, "the client hung up before the end of the body")
        body += message.get("body", b"")
        size = max(size, len(body))
        more = message.get("more_body", False)
    if size > largest:
        raise RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body is larger than {largest} bytes")
    return bytes(body)


def _fields(error: ValidationError) -> list[dict[str, str]]:
    """Name the wrong fields (of a list those of the first wrong item), with what is wrong and nothing that was sent."""
    named: dict[str, str] = {}
    for part in error.errors(include_url=False, include_context=False, include_input=False):
        named.setdefault(_path(part["loc"]), _message(part))
    return [{"field": field, "message": message} for field, message in named.items()]


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
