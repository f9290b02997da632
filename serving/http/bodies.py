"""Request bodies: read with a limit, unpacked, validated, and described by field where they are wrong."""

import json
import zlib
from typing import Any

from pydantic import BaseModel, ValidationError
from starlette.types import Receive, Scope

from models.chat import CHAT, MESSAGE
from serving.errors import Problem, RefusedError

BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # RFC 8259 8.1 allows a parser to ignore it


async def read_body(scope: Scope, receive: Receive, max_bytes: int) -> bytes:
    """Read the body of a request; unpacks gzip.

    Raises `RefusedError`: 415 for any type but JSON and any coding but gzip, 413 above `max_bytes` (packed and
    unpacked; the rest is not read), 400 if the client disconnects or the packed data are damaged.
    """
    headers: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        headers[name] = value if name not in headers else headers[name] + b", " + value
    if headers.get(b"content-type", b"").split(b";")[0].strip().lower() != b"application/json":
        raise RefusedError(Problem.NOT_JSON)
    coding = headers.get(b"content-encoding", b"identity").strip().lower()
    if coding not in (b"identity", b"gzip", b"x-gzip", b""):
        raise RefusedError(Problem.CODING)
    declared = headers.get(b"content-length", b"")
    size, body, more = int(declared) if declared.isdigit() else 0, bytearray(), True
    while more and size <= max_bytes:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RefusedError(Problem.CUT_OFF)
        body += message.get("body", b"")
        size = max(size, len(body))
        more = message.get("more_body", False)
    if size > max_bytes:
        raise RefusedError(Problem.BODY_TOO_LARGE, limit=max_bytes)
    return _unpack(body, max_bytes) if b"gzip" in coding else bytes(body)


def _unpack(body: bytearray, max_bytes: int) -> bytes:
    """Unpack gzip of one member (many small ones could take forever), never more than one byte above the limit."""
    unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        unpacked = unpacker.decompress(body, max_bytes + 1)
    except zlib.error:
        raise RefusedError(Problem.BAD_GZIP) from None
    if len(unpacked) > max_bytes:
        raise RefusedError(Problem.BODY_TOO_LARGE, limit=max_bytes)
    if not unpacker.eof or unpacker.unused_data:
        raise RefusedError(Problem.BAD_GZIP)
    return unpacked


def parse_body(body_type: type[BaseModel], body: bytes) -> BaseModel:
    """Validate a body as its type; raises `RefusedError` with 400 that names the invalid fields."""
    body = body.removeprefix(BYTE_ORDER_MARK)
    try:
        return body_type.model_validate_json(body)
    except ValidationError as error:
        invalid = error
    if any(hint in invalid.errors()[0]["msg"] for hint in ("surrogate", "hex escape")):
        # pydantic rejects a lone surrogate as invalid JSON, which it is not. With Python's parser the error names the
        # field, and one in a field that nobody reads is no error.
        try:
            return body_type.model_validate(json.loads(body))
        except ValidationError as error:
            invalid = error
        except (ValueError, RecursionError):
            pass
    raise RefusedError(Problem.INVALID, _fields(invalid))


def _fields(error: ValidationError) -> list[dict[str, str]]:
    """Return the invalid fields, without anything that was sent."""
    fields: dict[str, str] = {}
    for part in error.errors(include_url=False, include_context=False, include_input=False):
        fields.setdefault(_path(part["loc"]), _message(part))
    return [{"field": field, "message": message} for field, message in fields.items()]


def _path(location: tuple[int | str, ...]) -> str:
    """Write a location as `messages[1].text`, without the tag that pydantic puts in front."""
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part not in (CHAT, MESSAGE):
            path += f".{part}" if path else part
    return path or "body"


def _message(part: Any) -> str:
    if part["type"] == "json_invalid":
        return "not valid JSON"
    return str(part["msg"])
