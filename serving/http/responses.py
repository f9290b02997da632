"""The response that an error becomes."""

from starlette.responses import JSONResponse

from serving.errors import RefusedError


def to_response(refused: RefusedError) -> JSONResponse:
    """Return the response to a rejected request."""
    return JSONResponse({"error": refused.error, "detail": refused.detail}, refused.status, refused.headers)
