"""Bodies: those of requests are read with a limit, unpacked and validated by field; those of errors are made."""

import zlib

from pydantic import BaseModel
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope

from models.validation import InvalidChatError, validate_json
from serving.errors import Problem, RefusedError


async def read_body(scope: Scope, receive: Receive, max_bytes: int) -> bytes:
    """Read the body of a request; unpacks gzip.

    Raises `RefusedError`: 415 for any type but JSON and any coding but gzip, 413 above `max_bytes` (packed and
    unpacked; the rest is not read), 400 if the client disconnects or the packed data are damaged.
    """
    headers = dict(scope["headers"])
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
    try:
        return validate_json(body_type, body, root="body")
    except InvalidChatError as error:
        raise RefusedError(Problem.INVALID, error.detail) from None


def to_response(refused: RefusedError) -> JSONResponse:
    """Return the response to a rejected request."""
    return JSONResponse({"error": refused.error, "detail": refused.detail}, refused.status, refused.headers)
