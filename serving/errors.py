"""The vocabulary of errors. All have one shape: `{"error": "…", "detail": [{"field": "…", "message": "…"}]}`.

Whatever cannot answer a request raises `RefusedError`. `AccessAndErrors` (`serving/http/middleware.py`) turns it into
the response and, except for 429, one line in the log. What does not get that far is answered in the same way by `Cors`
and `serving/http/connections.py`. Neither a response nor the log contains text of a chat.
"""

import logging
from collections.abc import Mapping, Sequence
from enum import Enum
from http import HTTPStatus

TIMEOUT_SECONDS = 6  # for one request, body included
MAX_HEAD_BYTES = 65_536  # request line and headers; also chunk extensions and trailers

logger = logging.getLogger("bentoml.errors")


class Problem(Enum):
    """What keeps a request from being answered: the status, the text of the error, and what leads to it.

    This is the one place for all three. The third is shown in Swagger UI and in the table of `docs/reference.md`, which
    `tests/test_errors.py` compares with this class. Whoever raises the error fills in what the text has in braces.
    """

    INVALID = 400, "the request is not valid", "malformed JSON, bad UTF-8, or a missing, invalid or too long field"
    BAD_GZIP = 400, "the body is not valid gzip of one member", "damaged gzip, or gzip of several members"
    CUT_OFF = (
        400,
        "the connection or the body ended too early",
        "half of a body; only in the log, because the client is gone",
    )
    UNSTORABLE = 400, "the store of dialogs cannot hold this message", "characters that the store's encoding lacks"
    NOT_HTTP = 400, "the request is not valid HTTP", "something that is not HTTP, or two `Host` headers"
    PREFLIGHT = (
        400,
        "the origin, method or header is not allowed",
        "a CORS preflight that `CORS_ORIGINS` does not cover",
    )
    NO_KEY = 401, "an API key is required: Authorization: Bearer <key>", "no API key or a wrong one where one is needed"
    NO_PATH = 404, "no such path", "an unknown path"
    METHOD = 405, "Method Not Allowed", "a method that the route does not have"
    BODY_TIMEOUT = (
        408,
        "the body was not received in time",
        f"a body that takes longer than {TIMEOUT_SECONDS} seconds to arrive",
    )
    CONFLICT = 409, "the message is stored with other content", "the `id` of a stored message with other content"
    BODY_TOO_LARGE = 413, "the body is larger than {limit} bytes", "a body over `MAX_BODY_BYTES`, packed or unpacked"
    DIALOG_FULL = 413, "the dialog is full: {limit}", "a message of a dialog that has reached its limits"
    NOT_JSON = 415, "the body must be application/json", "any type but `application/json`"
    CODING = 415, "the Content-Encoding must be gzip or identity", "any other `Content-Encoding`"
    RANGE = 416, "Range Not Satisfiable", "a range that a static file does not have, or that cannot be read"
    OVERLOADED = 429, "too many requests in flight; try again", "more predictions at a time than `MAX_CONCURRENCY`"
    HEAD_TOO_LARGE = (
        431,
        "the head is larger than {limit} bytes",
        f"more than {MAX_HEAD_BYTES // 1024} KB of request line and headers",
    )
    INTERNAL = 500, "Internal Server Error", "a fault of the service, with a traceback in its log"
    TRANSFER_CODING = 501, "the only transfer coding is chunked", "a `Transfer-Encoding` other than `chunked`"
    TIMEOUT = 503, "no answer in time; try again", f"a request that takes longer than {TIMEOUT_SECONDS} seconds"
    STORE_DOWN = 503, "the store of dialogs does not answer; try again", "a message while the store is down"
    NOT_READY = (
        503,
        "Service Unavailable",
        "`/readyz` while chats cannot be scored or messages cannot be stored, and during shutdown",
    )

    def __init__(self, status: int, text: str, cause: str) -> None:
        self.status = HTTPStatus(status)
        self.text = text
        self.cause = cause


# of responses, by their status
_HEADERS: Mapping[int, Mapping[str, str]] = {
    401: {"WWW-Authenticate": "Bearer"},
    415: {"Accept": "application/json", "Accept-Encoding": "gzip"},
    429: {"Retry-After": "1"},
    503: {"Retry-After": "1"},
}


class RefusedError(Exception):
    """A request that gets an error: the status, one sentence, and the invalid fields."""

    def __init__(self, problem: Problem, detail: Sequence[Mapping[str, str]] = (), **values: object) -> None:
        self.status, self.error = problem.status, problem.text.format(**values)
        self.detail = list(detail)
        self.headers = _HEADERS.get(self.status, {})
        super().__init__(self.error)

    def log(self, path: str | None = None) -> None:
        """Log one line with the path, if it is known, and the names of the fields.

        Status 429 is logged elsewhere, once a second for all of them.
        """
        if self.status == HTTPStatus.TOO_MANY_REQUESTS:
            return
        named = ", ".join(dict.fromkeys(part["field"] for part in self.detail))
        fields = f" ({named})" if named else ""
        of_json = {"path": path, "status": self.status}
        logger.warning("%s %d: %s%s", path or "a request", self.status, self.error, fields, extra=of_json)
