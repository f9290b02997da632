"""What a schema cannot say, for schemathesis: the messages of a chat have identifiers of their own."""

from typing import Any

import schemathesis


@schemathesis.hook
def before_call(_: schemathesis.HookContext, case: Any, _kwargs: dict[str, Any]) -> None:
    """Give numbers to the messages of a chat that is valid but for two with the same identifier."""
    if not case.meta.generation.mode.is_positive:
        return
    for chat in case.body.get("chats", [case.body]):
        messages = chat.get("messages", [])
        if len({message["message_id"] for message in messages}) < len(messages):
            for number, message in enumerate(messages):
                message["message_id"] = number
