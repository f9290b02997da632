import pytest
from pydantic import ValidationError

from models.chat import Chat, Message
from tests.conftest import CURL_CHAT


@pytest.mark.parametrize("identifier", [0, -3, 2**62, "0", "a b", ""])
def test_identifiers_keep_their_value_and_type(identifier: int | str) -> None:
    message = Message.model_validate({"message_id": identifier, "text": "hi", "participant_id": identifier})
    assert message.participant_id == identifier
    assert type(message.participant_id) is type(identifier)


@pytest.mark.parametrize("identifier", [1.0, True, None, [1], {}])
def test_identifiers_are_integers_or_strings(identifier: object) -> None:
    with pytest.raises(ValidationError):
        Chat.model_validate({**CURL_CHAT, "chat_id": identifier})
