"""Swagger UI and the OpenAPI specification: a page that loads nothing from other hosts, and all errors documented.

BentoML's own page contains an analytics tag and loads badges, and its specification lacks the errors of
`serving/errors.py`. The assets of Swagger UI are those that come with BentoML.
"""

import hashlib
import json
from base64 import b64encode
from typing import Any

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse
from starlette.routing import Route

from models.chat import EXAMPLE_CHAT, EXAMPLE_MESSAGE
from serving.errors import Problem
from serving.http.access import HEALTH
from serving.page.policy import headers

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
    document = specification(service.openapi_spec.asdict(), needs_key)

    async def page(_: Request) -> HTMLResponse:
        return HTMLResponse(_PAGE, headers=_HEADERS)

    async def docs(_: Request) -> JSONResponse:
        return JSONResponse(document)

    return [Route("/", page), Route("/docs.json", docs)]


def specification(spec: dict[str, Any], needs_key: bool) -> dict[str, Any]:
    """Return BentoML's OpenAPI specification with the errors that the service returns."""
    spec = json.loads(json.dumps(spec).replace("IODescriptor", ""))  # BentoML's suffix of the names of types
    version = spec["info"]["version"].replace("None", "development")  # of the Bento; without one there is none
    spec["info"] = {"title": spec["info"]["title"], "version": version, "description": DESCRIPTION}
    schemas = spec["components"]["schemas"]
    for unused in ("TaskStatusResponse", "InvalidArgument", "NotFound", "InternalServerError"):
        schemas.pop(unused)
    schemas |= {kind.__name__: kind.model_json_schema(ref_template=_REFERENCE) for kind in (Fault, Error)}
    schemas["Error"].pop("$defs")
    for path, methods in spec["paths"].items():
        if "get" in methods:
            methods["get"]["responses"] = {
                "200": {
                    "description": "Successful Response",
                    "content": {"text/plain": {"schema": {"type": "string"}}},
                },
                **({"401": _error(401)} if needs_key and path == "/metrics" else {}),
                **({"503": _error(503)} if path == "/readyz" else {}),
            }
            continue
        methods["post"]["requestBody"]["required"] = True
        content = methods["post"]["requestBody"]["content"]["application/json"]
        schema = content["schema"]
        schema.pop("root_input", None)
        if "oneOf" in schema:  # a body that matches both is a chat
            schema["anyOf"] = schema.pop("oneOf")
            content["examples"] = {
                "a chat": {"value": EXAMPLE_CHAT},
                "a message of a dialog": {"value": EXAMPLE_MESSAGE},
            }
        methods["post"]["responses"] = {"200": methods["post"]["responses"]["200"]} | {
            str(status): _error(status)
            for status in _OF_PREDICTIONS
            if (needs_key or status != 401) and (path == "/predict" or status != 409)
        }
    if needs_key:
        spec["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        for path, methods in spec["paths"].items():
            if path not in HEALTH:
                next(iter(methods.values()))["security"] = [{"key": []}]
    return spec


def _error(status: int) -> dict[str, Any]:
    description = "; ".join(problem.cause for problem in Problem if problem.status == status)
    schema = {"$ref": _REFERENCE.format(model="Error")}
    return {"description": description.capitalize(), "content": {"application/json": {"schema": schema}}}
