"""What a schema cannot say, for schemathesis: the messages of a chat have identifiers of their own."""

from typing import Any

import schemathesis


@schemathesis.hook
def before_call(_: schemathesis.HookContext, case: Any, _kwargs: dict[str, Any]) -> None:
    """Give new identifiers to the messages of a chat in which two share one."""
    body = case.body
    chats = body if isinstance(body, list) else body.get("chats", [body]) if isinstance(body, dict) else []
    for chat in chats if isinstance(chats, list) else []:
        found = chat.get("messages") if isinstance(chat, dict) else None
        messages = found if isinstance(found, list) else []
        good = [part for part in messages if _has_identifier(part)]
        if len({part["message_id"] for part in good}) < len(good):
            chat["messages"] = [
                {**part, "message_id": number} if _has_identifier(part) else part
                for number, part in enumerate(messages)
            ]


def _has_identifier(part: Any) -> bool:
    """Tell whether a message has an identifier that may be replaced by another."""
    return isinstance(part, dict) and type(part.get("message_id")) in (int, str) and len(str(part["message_id"])) <= 128
