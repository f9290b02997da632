"""The classifier for Python programs and notebooks: dicts or chats in, results that a notebook shows as a table out.

`from bot_or_human import Classifier`. Everything here is a thin layer over `models/classifier.py` and
`models/explain.py`; nothing is computed twice.
"""

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Self, overload

from pydantic import PrivateAttr

from . import chat as types
from . import classifier, explain
from .chat import Chat
from .tables import explanation_table, prediction_table
from .validation import InvalidChatError, Location, validate
from .weights import SHIPPED

__all__ = ["Chat", "Classifier", "Explanation", "InvalidChatError", "Prediction", "Predictions"]

BATCH = 64  # chats that are scored at a time; more gain nothing and take more memory


class Prediction(types.Prediction):
    """The answer for one chat; a notebook shows it as a table."""

    def _repr_html_(self) -> str:
        return prediction_table([self])


class Predictions(list[Prediction]):
    """The answers for many chats, in order; a notebook shows them as one table."""

    def _repr_html_(self) -> str:
        return prediction_table(self)


class Explanation(types.Explanation):
    """The answer for one chat and what moved each score; a notebook shows it as tables."""

    _chat: Chat = PrivateAttr()

    def _repr_html_(self) -> str:
        return explanation_table(self, self._chat)


class Classifier:
    """Scores chats: each participant's probability of being a bot."""

    def __init__(self, core: classifier.Classifier) -> None:
        self._core = core

    @classmethod
    def load(cls, folder: str | PathLike[str] = SHIPPED, expected_bot_share: float | None = None) -> Self:
        """Load the model that comes with the package, or that of a model folder.

        `expected_bot_share` is the share of bots among the participants, between 0 and 1; by default that of the game.
        Raises `ModelError` if the folder holds no artifact that this version can use.
        """
        return cls(classifier.Classifier.load(Path(folder), expected_bot_share))

    @property
    def version(self) -> str:
        """The version of the model, `model_version` of each prediction."""
        return self._core.version

    @overload
    def predict(self, chat: Chat | Mapping[str, Any], /, *, expected_bot_share: float | None = None) -> Prediction: ...

    @overload
    def predict(
        self, chat: Iterable[Chat | Mapping[str, Any]], /, *, expected_bot_share: float | None = None
    ) -> Predictions: ...

    def predict(
        self,
        chat: Chat | Mapping[str, Any] | Iterable[Chat | Mapping[str, Any]],
        /,
        *,
        expected_bot_share: float | None = None,
    ) -> Prediction | Predictions:
        """Score one chat, or many of them.

        A chat is a `Chat`, or a dict with the JSON of a request to `/predict`. Returns one prediction, or a list of
        them in order; the participants of each are in the order of their first message. Raises `InvalidChatError`,
        which names the invalid fields, before anything is scored. `expected_bot_share` is as for `load`.
        """
        if isinstance(chat, Chat | Mapping):
            return self._predict([_validate(chat)], expected_bot_share)[0]
        if isinstance(chat, str | bytes) or not isinstance(chat, Iterable):
            raise TypeError(f"a chat, a dict or a list of them is needed, not {type(chat).__name__}")
        return self._predict([_validate(one, ("chats", number)) for number, one in enumerate(chat)], expected_bot_share)

    def _predict(self, chats: Sequence[Chat], expected_bot_share: float | None) -> Predictions:
        return Predictions(
            Prediction.model_construct(**vars(prediction))
            for start in range(0, len(chats), BATCH)
            for prediction in self._core.predict(chats[start : start + BATCH], expected_bot_share)
        )

    def explain(self, chat: Chat | Mapping[str, Any], /) -> Explanation:
        """Score one chat, and say what moved each participant's score; raises `InvalidChatError`."""
        valid = validate(types.ChatToExplain, _validate(chat))
        explanation = Explanation.model_construct(**vars(explain.explain(self._core, valid)))
        explanation._chat = valid
        return explanation


def _validate(chat: Any, within: Location = ()) -> Chat:
    return validate(Chat, dict(chat) if isinstance(chat, Mapping) else chat, within)
