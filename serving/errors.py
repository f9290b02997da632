"""Errors, all in one shape: `{"error": "…", "detail": [{"field": "…", "message": "…"}]}`.

Whatever cannot answer a request raises `RefusedError`. `AccessAndErrors` (`serving/http/middleware.py`) turns it into
the response and, except for 429, one line in the log; neither contains text of a chat.
"""

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus

RETRY_AFTER = 1  # seconds

logger = logging.getLogger("bentoml.errors")
_HEADERS: Mapping[HTTPStatus, Mapping[str, str]] = {
    HTTPStatus.UNAUTHORIZED: {"WWW-Authenticate": "Bearer"},
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: {"Accept": "application/json", "Accept-Encoding": "gzip"},
    HTTPStatus.TOO_MANY_REQUESTS: {"Retry-After": str(RETRY_AFTER)},
    HTTPStatus.SERVICE_UNAVAILABLE: {"Retry-After": str(RETRY_AFTER)},
}


class RefusedError(Exception):
    """A request that is rejected: the status, one sentence, and the invalid fields."""

    def __init__(self, status: HTTPStatus, error: str | None = None, detail: Sequence[Mapping[str, str]] = ()) -> None:
        super().__init__(error or status.phrase)
        self.status = status
        self.error = error or status.phrase
        self.detail = list(detail)

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of the response that belong to the status."""
        return _HEADERS.get(self.status, {})

    def log(self, path: str) -> None:
        """Log one line with the names of the fields. Status 429 is logged elsewhere, once a second for all of them."""
        if self.status == HTTPStatus.TOO_MANY_REQUESTS:
            return
        named = ", ".join(dict.fromkeys(part["field"] for part in self.detail))
        logger.warning("%s %d: %s%s", path, self.status, self.error, f" ({named})" if named else "")


def no_answer() -> RefusedError:
    """Return the error of a request that was not, or would not be, answered before its timeout."""
    return RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, "no answer in time; try again")
