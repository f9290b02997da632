"""Access control: open by default; with API keys set, requests need a valid bearer token.

Health checks are always open, and so are the page at `/try` and the schema, which BentoML's Python client reads before
it sends the key. Metrics and Swagger UI need a key as well, unless `OPEN_METRICS_AND_DOCS` is set.
"""

import hashlib
import hmac
from collections.abc import Iterable

from starlette.types import Scope

from serving.errors import Problem, RefusedError
from serving.page import is_page

ALWAYS_OPEN = frozenset({"/livez", "/readyz", "/healthz", "/schema.json"})
METRICS_AND_DOCS = ("/metrics", "/docs.json", "/static_content/")  # and Swagger UI, at "/"


class Access:
    """The keys, kept as SHA-256 digests, and which paths are open without one."""

    def __init__(self, keys: Iterable[str] = (), open_metrics_and_docs: bool = False) -> None:
        self._digests = [_digest(key.encode()) for key in keys]
        self.needs_key = bool(self._digests)  # for predictions
        self.docs_are_open = open_metrics_and_docs or not self.needs_key  # Swagger UI and metrics

    def check(self, scope: Scope) -> None:
        """Raise `RefusedError` with 401 if a request needs a key and has no valid one."""
        path = scope["path"]
        if not self.needs_key or path in ALWAYS_OPEN or is_page(path):
            return
        if self.docs_are_open and (path == "/" or path.startswith(METRICS_AND_DOCS)):
            return
        sent = [value for name, value in scope["headers"] if name == b"authorization"]
        scheme, _, token = sent[0].partition(b" ") if len(sent) == 1 else (b"", b"", b"")
        digest = _digest(token.strip())
        # Compare with every key, in constant time, so that the time taken reveals nothing about any of them.
        matches = sum([hmac.compare_digest(digest, known) for known in self._digests])
        if scheme.lower() != b"bearer" or not matches:
            raise RefusedError(Problem.NO_KEY)

    def __str__(self) -> str:
        """Describe who has access to what, without the keys."""
        if not self.needs_key:
            return "predictions, metrics and docs are open to everyone (API_KEYS is not set)"
        others = "are open" if self.docs_are_open else "need one as well"
        return f"predictions need one of {len(self._digests)} API keys; metrics and docs {others}"


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
