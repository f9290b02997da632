"""Who may ask: everyone, or with `API_KEYS` those who send one of the keys as a bearer token.

Health, and the page at `/try`, which holds no secret, are open to everyone. What else is not a prediction (metrics,
Swagger UI and its specification) needs a key, too, unless `OPEN_METRICS_AND_DOCS` says otherwise.
"""

import hashlib
import hmac
import os
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Self

from bentoml.exceptions import BentoMLConfigException

from serving.environment import read_list, read_switch
from serving.errors import RefusedError, Scope
from serving.page import is_page

HEALTH = frozenset({"/livez", "/readyz", "/healthz"})
METRICS_AND_DOCS = ("/metrics", "/docs.json", "/schema.json", "/static_content/")  # and Swagger UI, at "/"


@dataclass(frozen=True)
class Access:
    """The keys, as SHA-256 digests (no key: everyone may ask), and whether metrics and docs go without."""

    digests: tuple[bytes, ...] = ()
    open_metrics_and_docs: bool = False

    @classmethod
    def from_environment(cls) -> Self:
        """Read `API_KEYS`, or the file that `API_KEYS_FILE` names; raises BentoMLConfigException if it holds no key."""
        file = os.environ.get("API_KEYS_FILE")
        if file:
            try:
                text = Path(file).read_text(encoding="utf-8")
            except (OSError, ValueError) as error:
                raise BentoMLConfigException(f"API_KEYS_FILE: {file} cannot be read: {error}") from None
            keys = text.replace(",", "\n").split()
        else:
            keys = read_list("API_KEYS")
        if not keys and (file or os.environ.get("API_KEYS")):
            raise BentoMLConfigException("API_KEYS: there is no key in it; leave it out to let everyone in")
        return cls(tuple(_digest(key.encode()) for key in keys), read_switch("OPEN_METRICS_AND_DOCS"))

    def check(self, scope: Scope) -> None:
        """Raise `RefusedError` with 401 where a request needs a key and brings none that is right."""
        path = scope["path"]
        if not self.digests or path in HEALTH or is_page(path):
            return
        if self.open_metrics_and_docs and (path == "/" or path.startswith(METRICS_AND_DOCS)):
            return
        sent = [value for name, value in scope["headers"] if name == b"authorization"]
        scheme, _, token = sent[0].partition(b" ") if len(sent) == 1 else (b"", b"", b"")
        digest = _digest(token.strip())
        # all keys are compared, in constant time, so that how long it takes tells nothing about any of them
        matches = sum([hmac.compare_digest(digest, known) for known in self.digests])
        if scheme.lower() != b"bearer" or not matches:
            raise RefusedError(HTTPStatus.UNAUTHORIZED, "an API key is needed: Authorization: Bearer <key>")

    def __str__(self) -> str:
        """Say who may ask for what, without the keys."""
        if not self.digests:
            return "predictions, metrics and docs are open to everyone (API_KEYS is not set)"
        others = "are open" if self.open_metrics_and_docs else "need one, too"
        return f"predictions need one of {len(self.digests)} API keys; metrics and docs {others}"


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
