"""Swagger UI and the OpenAPI specification: a page that loads nothing from other hosts, and all errors documented.

BentoML's own page contains an analytics tag and loads badges, and its specification lacks the errors of
`serving/errors.py`. The assets of Swagger UI are those that come with BentoML.
"""

import hashlib
from base64 import b64encode
from collections.abc import Iterable
from typing import Any, get_type_hints

from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse
from starlette.routing import Route

from models.chat import EXAMPLE_CHAT
from serving.errors import Problem
from serving.http.access import HEALTH
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

_OF_PREDICTIONS = (400, 401, 408, 409, 413, 415, 429, 500, 503)
_OF_BENTOML = {  # BentoML's own routes: what they tell, and their error
    "/livez": ("The process is alive.", None),
    "/readyz": ("Chats can be scored and messages stored.", 503),
    "/healthz": ("The older name of `/livez`.", None),
    "/metrics": ("Prometheus metrics.", 401),
}
_REFERENCE = "#/components/schemas/{model}"


class Fault(BaseModel):
    """An invalid field."""

    field: str = Field(description='Path of the field, such as "messages[0].text", or "body" for the whole body.')
    message: str = Field(description="What is wrong with the field.")


class Error(BaseModel):
    """The body of every error."""

    error: str = Field(description="What is wrong, in one sentence.")
    detail: list[Fault] = Field(description="The first invalid fields; empty for other errors.")


def swagger_routes(service: Any, needs_key: bool) -> list[Route]:
    """Return the routes of Swagger UI at `/` and of the specification at `/docs.json`, which is built once, here."""
    document = specification(service, needs_key)

    async def page(_: Request) -> HTMLResponse:
        return HTMLResponse(_PAGE, headers=_HEADERS)

    async def docs(_: Request) -> JSONResponse:
        return JSONResponse(document)

    return [Route("/", page), Route("/docs.json", docs)]


def specification(service: Any, needs_key: bool) -> dict[str, Any]:
    """Return the OpenAPI specification of a service, from the types of its API methods."""
    paths: dict[str, Any] = {}
    types: set[type[BaseModel]] = {Error}
    for path, (body, method) in api_methods(service).items():
        answer = get_type_hints(method)["return"]
        types |= {body, answer}
        errors = [status for status in _OF_PREDICTIONS if status != 409 or path == "/predict"]
        paths[path] = {
            "post": {
                "tags": ["Predictions"],
                "description": method.__doc__,
                "requestBody": {"required": True, "content": _json(body)},
                "responses": _responses(_json(answer), errors, needs_key),
            }
        }
    paths["/predict"]["post"]["requestBody"]["content"]["application/json"]["examples"] = {
        "a chat": {"value": EXAMPLE_CHAT},
        "a message of a dialog": {"value": EXAMPLE_MESSAGE},
    }
    text = {"text/plain": {"schema": {"type": "string"}}}
    for path, (description, status) in _OF_BENTOML.items():
        responses = _responses(text, [status] if status else [], needs_key)
        paths[path] = {"get": {"tags": ["Infrastructure"], "description": description, "responses": responses}}
        if path in HEALTH:
            paths[path]["get"]["security"] = []  # open even where the rest needs a key
    _, schemas = models_json_schema([(kind, "validation") for kind in types], ref_template=_REFERENCE)
    of_request = schemas["$defs"]["ChatOrMessage"]
    of_request["anyOf"] = of_request.pop("oneOf")  # a body that matches both is a chat
    version = service.bento.tag.version if service.bento else "development"
    key = {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}} if needs_key else {}
    return {
        "openapi": "3.0.3",  # in 3.1, 1.0 would be an integer
        "info": {"title": service.name, "version": version, "description": DESCRIPTION},
        "servers": [{"url": "."}],
        "paths": paths,
        "components": {"schemas": schemas["$defs"], **key},
        "security": [{"key": []}] if needs_key else [],
    }


def _json(kind: type[BaseModel]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": _REFERENCE.format(model=kind.__name__)}}}


def _responses(content: dict[str, Any], errors: Iterable[int], needs_key: bool) -> dict[str, Any]:
    causes = {status: [problem.cause for problem in Problem if problem.status == status] for status in errors}
    return {"200": {"description": "Successful Response", "content": content}} | {
        str(status): {"description": "; ".join(cause), "content": _json(Error)}
        for status, cause in causes.items()
        if needs_key or status != 401
    }
