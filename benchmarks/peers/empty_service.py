"""A BentoML service that does nothing: the same schemas and settings, a constant answer."""

from __future__ import annotations

import bentoml

from models.chat import EXAMPLE_CHAT, Chat, Participant, Prediction
from service import TuringTestService

SETTINGS = TuringTestService.config  # type: ignore[attr-defined]
ANSWER = Prediction(
    chat_id=42,
    participants=[Participant(participant_id=index, is_bot_probability=0.5, confidence="low") for index in range(2)],
    model_version=str(EXAMPLE_CHAT["chat_id"]),
)


@bentoml.service(
    name="empty",
    # As fast as BentoML's own settings make it: OpenTelemetry's middleware would cost more than all other layers.
    tracing={"excluded_urls": ".*"},
    **{name: SETTINGS[name] for name in ("http", "traffic", "logging", "workers")},
)
class EmptyService:
    """Answers every chat with the same."""

    @bentoml.api
    async def predict(self, chat: Chat, /) -> Prediction:  # noqa: ARG002  # parsed and left alone
        """Answer."""
        return ANSWER
