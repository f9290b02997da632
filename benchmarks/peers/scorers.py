"""What stands behind each server: the plain scikit-learn pipeline, or the classifier of this project."""

from collections.abc import Callable, Sequence

from benchmarks.chats import draw_chats
from benchmarks.plain import PlainPipeline
from models.chat import Chat, Participant, Prediction
from models.classifier import Classifier

Scorer = Callable[[Sequence[Chat]], list[Prediction]]


def load(name: str) -> Scorer:
    """Return the scorer of that name, "plain" or "classifier"."""
    if name == "classifier":
        return Classifier.load().predict
    pipeline = PlainPipeline([Chat.model_validate(body) for body in draw_chats(400, seed=2)])

    def predict(chats: Sequence[Chat]) -> list[Prediction]:
        probabilities = iter(pipeline.predict(chats).tolist())
        return [
            Prediction.model_construct(
                chat_id=chat.chat_id,
                participants=[
                    Participant.model_construct(
                        participant_id=participant, is_bot_probability=next(probabilities), confidence="low"
                    )
                    for participant in dict.fromkeys(message.participant_id for message in chat.messages)
                ],
                model_version="plain",
            )
            for chat in chats
        ]

    return predict
