"""The page to try a chat, at `/try`: plain HTML, CSS and JavaScript modules, served as they are in this folder.

They hold no secret, so they are open to everyone, also where requests need a key: a browser cannot send one when it
opens a page. The page asks `/predict_batch` and `/explain`, which store nothing. What it says about the model that is
served (such as how often it is right), its texts (`texts/`), its examples and the scripts of the challenge (`chats/`),
in each language, are a module of their own, `/try/data.js`, which is made at the start.

`vendor/` holds two libraries as they were published on npm: Preact 11.2.0 (MIT) and htm 3.1.1 (Apache 2.0).
"""

import gzip
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any, get_args

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from models.chat import Confidence
from models.weights import METRICS, Rules, read_artifact
from serving.page.policy import headers

PATH = "/try"
FOLDER = Path(__file__).parent
_PAGE = "try.html"
_TYPES: Mapping[str, str] = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".mjs": "text/javascript",
}
_HEADERS: Mapping[str, str] = {
    # the browser refuses to turn strings into markup or code, whatever the scripts do
    **headers(more="require-trusted-types-for 'script'; trusted-types 'none'"),
    "Cache-Control": "no-cache",
    "Vary": "Accept-Encoding",
}


def files() -> list[Path]:
    """Return the files that make up the page."""
    return sorted(file for file in FOLDER.rglob("*") if file.suffix in _TYPES)


def routes(model: Path, *, needs_key: bool, docs_are_open: bool) -> list[Route]:
    """Return the routes of the page, at `PATH`, and of its files below; reads them, and the model, once."""
    metrics = json.loads((model / METRICS).read_text(encoding="utf-8"))
    facts = {**describe(metrics, read_artifact(model)[0].rules), "needsKey": needs_key, "docsAreOpen": docs_are_open}
    data = {"MODEL": facts, "TEXTS": in_languages("texts"), "CHATS": in_languages("chats")}
    module = "".join(
        f"export const {name} = {json.dumps(value, ensure_ascii=False)};\n" for name, value in data.items()
    )
    paths = {file: f"{PATH}/{file.relative_to(FOLDER).as_posix()}" for file in files()}
    contents = {path: (file.read_bytes(), file.suffix) for file, path in paths.items()}
    contents[f"{PATH}/data.js"] = module.encode(), ".js"
    html, kind = contents.pop(f"{PATH}/{_PAGE}")
    # the browser fetches all of them at once, instead of finding them one import after the other
    modules = "".join(f'<link rel="modulepreload" href="{path[1:]}">\n' for path in contents if path.endswith("js"))
    contents[PATH] = html.replace(b"<!-- modules -->\n", modules.encode()), kind
    return [_route(path, *content) for path, content in contents.items()]


def in_languages(folder: str) -> dict[str, Any]:
    """Return what the JSON files of a folder hold, by language: the page's `texts`, or the `chats` written for it."""
    return {
        file.stem: json.loads(file.read_text(encoding="utf-8")) for file in sorted((FOLDER / folder).glob("*.json"))
    }


def is_page(path: str) -> bool:
    """Tell whether a path is that of the page or of one of its files."""
    return path == PATH or path.startswith(f"{PATH}/")


def describe(metrics: dict[str, Any], rules: Rules) -> dict[str, Any]:
    """Return what the page says about the model with these metrics and rules.

    `accuracy` holds for each confidence the share of right answers in the cross-validated running dialogs; it lacks a
    confidence that was not measured. `share` is that of bots in the training data, `chats` the number of its chats;
    `fewMessages` and `knownLetters` are the limits of a high confidence.
    """
    data = metrics["trained_on"]
    measured = [
        row["confidence"]
        for row in metrics["measured"]
        if row["how"] == "streamed, all messages" and "cross-validat" in row["on"]
    ]
    accuracy = {}
    for level in get_args(Confidence):
        known = [row[level] for row in measured if level in row and row[level]["answers"]]
        if known:
            accuracy[level] = fmean([of["accuracy"] for of in known], [of["answers"] for of in known])
    return {
        "chats": sum(part["chats"] for part in data),
        "share": sum(part["bots"] for part in data) / sum(part["participants"] for part in data),
        "fewMessages": rules.few_messages,
        "knownLetters": rules.known_letters,
        "accuracy": accuracy,
    }


def _route(path: str, content: bytes, suffix: str) -> Route:
    packed = gzip.compress(content, mtime=0)
    tag = f'W/"{hashlib.sha256(content).hexdigest()[:20]}"'
    sent = {**_HEADERS, "ETag": tag}

    async def answer(request: Request) -> Response:
        if request.headers.get("If-None-Match") == tag:
            return Response(status_code=304, headers=sent)
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            return Response(packed, media_type=_TYPES[suffix], headers={**sent, "Content-Encoding": "gzip"})
        return Response(content, media_type=_TYPES[suffix], headers=sent)

    return Route(path, answer)
