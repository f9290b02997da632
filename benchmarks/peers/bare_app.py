"""An ASGI app that reads the body and answers with a constant: what uvicorn itself can do."""

from starlette.types import Receive, Scope, Send

CONTENT = b'{"chat_id": 42, "participants": []}'
HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(CONTENT)).encode())]


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer every request with the same."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": CONTENT})
