"""Swagger UI and the OpenAPI specification: a page that loads nothing from other hosts, and all errors of predictions.

BentoML's own page contains an analytics tag and loads badges, and its specification lacks the errors of
`serving/errors.py`. It describes the predictions; health and metrics are in the README. The assets of Swagger UI are
those that come with BentoML.
"""

import hashlib
from base64 import b64encode
from collections.abc import Sequence
from typing import Any, get_type_hints

from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse
from starlette.routing import Route

from models.chat import EXAMPLE_CHAT
from serving.errors import Problem
from serving.http.access import Access
from serving.http.bentoml_app import api_methods
from serving.page.policy import headers
from serving.schemas import EXAMPLE_MESSAGE

DESCRIPTION = """Send a chat, get each participant's probability of being a bot.
Write or paste a chat on [the page to try it](try), or open `/predict` here, choose "Try it out" and "Execute"."""

_SCRIPT = """
window.onload = () => SwaggerUIBundle({
  url: "docs.json", dom_id: "#swagger-ui", deepLinking: true,
  presets: [SwaggerUIBundle.presets.apis],
});
"""
_PAGE = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Bot or human</title>
<link rel="icon" href="static_content/favicon-light-32x32.png">
<link rel="stylesheet" href="static_content/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="static_content/swagger-ui-bundle.js"></script>
<script>{_SCRIPT}</script>
</body>
</html>
"""
_HEADERS = headers(
    script=f"'sha256-{b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()}'",
    style="'unsafe-inline'",  # Swagger UI writes styles into its elements
)

_OF_PREDICTIONS = (
    Problem.INVALID,
    Problem.BAD_GZIP,
    Problem.BODY_TIMEOUT,
    Problem.BODY_TOO_LARGE,
    Problem.NOT_JSON,
    Problem.CODING,
    Problem.OVERLOADED,
    Problem.INTERNAL,
    Problem.TIMEOUT,
)
_OF_MESSAGES = (Problem.UNSTORABLE, Problem.CONFLICT, Problem.DIALOG_FULL, Problem.STORE_DOWN)
_REFERENCE = "#/components/schemas/{model}"


class Fault(BaseModel):
    """An invalid field."""

    field: str = Field(description='Path of the field, such as "messages[0].text", or "body" for the whole body.')
    message: str = Field(description="What is wrong with the field.")


class Error(BaseModel):
    """The body of every error."""

    error: str = Field(description="What is wrong, in one sentence.")
    detail: list[Fault] = Field(description="The first invalid fields; empty for other errors.")


def swagger_routes(service: Any, access: Access) -> list[Route]:
    """Return the routes of Swagger UI at `/` and of the specification at `/docs.json`, which is built once, here."""
    document = specification(service, access)

    async def page(_: Request) -> HTMLResponse:
        return HTMLResponse(_PAGE, headers=_HEADERS)

    async def docs(_: Request) -> JSONResponse:
        return JSONResponse(document)

    return [Route("/", page), Route("/docs.json", docs)]


def specification(service: Any, access: Access) -> dict[str, Any]:
    """Return the OpenAPI specification of a service, from the types of its API methods."""
    paths: dict[str, Any] = {}
    types: set[type[BaseModel]] = {Error}
    for path, (body, method) in api_methods(service).items():
        answer = get_type_hints(method)["return"]
        types |= {body, answer}
        problems = _OF_PREDICTIONS + (_OF_MESSAGES if path == "/predict" else ())
        problems += (Problem.NO_KEY,) if access.needs_key else ()
        paths[path] = {
            "post": {
                "description": method.__doc__,
                "requestBody": {"required": True, "content": _json(body)},
                "responses": _responses(answer, problems),
            }
        }
    paths["/predict"]["post"]["requestBody"]["content"]["application/json"]["examples"] = {
        "a chat": {"value": EXAMPLE_CHAT},
        "a message of a dialog": {"value": EXAMPLE_MESSAGE},
    }
    _, schemas = models_json_schema([(kind, "validation") for kind in types], ref_template=_REFERENCE)
    of_request = schemas["$defs"]["ChatOrMessage"]
    of_request["anyOf"] = of_request.pop("oneOf")  # a body that matches both is a chat
    version = service.bento.tag.version if service.bento else "development"
    key = {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}} if access.needs_key else {}
    return {
        "openapi": "3.0.3",  # in 3.1, 1.0 would be an integer
        "info": {"title": service.name, "version": version, "description": DESCRIPTION},
        "servers": [{"url": "."}],
        "paths": paths,
        "components": {"schemas": schemas["$defs"], **key},
        "security": [{"key": []}] if access.needs_key else [],
    }


def _json(kind: type[BaseModel]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": _REFERENCE.format(model=kind.__name__)}}}


def _responses(answer: type[BaseModel], problems: Sequence[Problem]) -> dict[str, Any]:
    causes: dict[int, list[str]] = {200: ["The answer"]}
    for problem in sorted(problems, key=lambda problem: problem.status):
        causes.setdefault(problem.status, []).append(problem.cause)
    return {
        str(status): {"description": "; ".join(of_status), "content": _json(answer if status == 200 else Error)}
        for status, of_status in causes.items()
    }
