"""The page to try a chat, at `/try`: plain HTML, CSS and JavaScript modules, served as they lie in this folder.

They hold no secret, so they are open to everyone, also where requests need a key: a browser cannot send one when it
opens a page. The page asks `/predict_batch` and `/explain`, which store nothing.
"""

from collections.abc import Mapping
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serving.page.policy import headers

PATH = "/try"
FOLDER = Path(__file__).parent
_PAGE = "try.html"
_TYPES: Mapping[str, str] = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_HEADERS: Mapping[str, str] = {
    # the browser refuses to make markup or code of a string, whatever the scripts do
    **headers(more="require-trusted-types-for 'script'; trusted-types 'none'"),
    "Cache-Control": "no-cache",
}


def routes() -> list[Route]:
    """Return the routes of the page, at `PATH`, and of its files below; reads them once."""
    return [_route(file) for file in sorted(FOLDER.iterdir()) if file.suffix in _TYPES]


def is_page(path: str) -> bool:
    """Tell whether a path is that of the page or of one of its files."""
    return path == PATH or path.startswith(f"{PATH}/")


def _route(file: Path) -> Route:
    content, kind = file.read_bytes(), _TYPES[file.suffix]

    async def answer(_: Request) -> Response:
        return Response(content, media_type=kind, headers=_HEADERS)

    return Route(PATH if file.name == _PAGE else f"{PATH}/{file.name}", answer)
