"""Validate what comes from outside. Errors of a chat name the invalid fields and repeat nothing that was sent."""

import argparse
import json
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # RFC 8259 8.1 allows a parser to ignore it

Model = TypeVar("Model", bound=BaseModel)
Location = tuple[int | str, ...]


class InvalidChatError(ValueError):
    """A chat is not valid; `detail` names each invalid field, as in `messages[0].text`, and what is wrong with it."""

    def __init__(self, error: ValidationError, root: str, within: Location = ()) -> None:
        fields: dict[str, str] = {}
        for part in error.errors(include_url=False, include_context=False, include_input=False):
            message = "not valid JSON" if part["type"] == "json_invalid" else part["msg"]
            fields.setdefault(_path((*within, *part["loc"])) or root, message)
        self.detail = [{"field": field, "message": message} for field, message in fields.items()]
        super().__init__("; ".join(f"{field}: {message}" for field, message in fields.items()))


def _path(location: Location) -> str:
    """Write a location as `messages[1].text`, without the tag of a union's member, which is in angle brackets."""
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif not part.startswith("<"):
            path += f".{part}" if path else part
    return path


def check_share(share: float) -> float:
    """Return an expected share of bots; raises ValueError."""
    if not 0 < share < 1:
        raise ValueError(f"the expected share of bots has to be between 0 and 1, not {share:g}")
    return share


def share_argument(text: str) -> float:
    """Return an expected share of bots given on the command line, for `argparse`."""
    try:
        return check_share(float(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def validate(kind: type[Model], value: Any, within: Location = ()) -> Model:
    """Return a value as a model of this kind; raises `InvalidChatError`, whose fields are `within` a location."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise InvalidChatError(error, "chat", within) from None


def validate_json(kind: type[Model], content: bytes, root: str = "chat") -> Model:
    """Return JSON as a model of this kind; raises `InvalidChatError`, in which `root` is the name of the whole."""
    content = content.removeprefix(BYTE_ORDER_MARK)
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        invalid = error
    if any(hint in invalid.errors()[0]["msg"] for hint in ("surrogate", "hex escape")):
        # pydantic rejects a lone surrogate as invalid JSON, which it is not. With Python's parser the error names the
        # field, and one in a field that nobody reads is no error.
        try:
            return kind.model_validate(json.loads(content))
        except ValidationError as error:
            invalid = error
        except (ValueError, RecursionError):
            pass
    raise InvalidChatError(invalid, root)
