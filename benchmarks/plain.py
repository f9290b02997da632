"""A plain scikit-learn pipeline, as a first attempt would be written; the other servers use it as their scorer."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.compose import make_column_transformer
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from models.chat import Chat


class PlainPipeline:
    """`HashingVectorizer(char_wb, 1-4)` on the texts of a participant and of the others, and `LogisticRegression`."""

    def __init__(self, chats: Sequence[Chat]) -> None:
        vectorizer = HashingVectorizer(analyzer="char_wb", ngram_range=(1, 4))
        texts = make_column_transformer((vectorizer, "own"), (vectorizer, "others"))
        labels = np.random.default_rng(1).integers(0, 2, 2 * len(chats))  # the labels do not affect the speed
        self._pipeline = make_pipeline(texts, LogisticRegression(max_iter=200)).fit(self._table(chats), labels)

    def predict(self, chats: Sequence[Chat]) -> NDArray[np.float64]:
        """Return each side's probability of being a bot, (sides,)."""
        return np.asarray(self._pipeline.predict_proba(self._table(chats))[:, 1])

    def _table(self, chats: Sequence[Chat]) -> pd.DataFrame:
        own, others = [], []
        for chat in chats:
            participants = dict.fromkeys(message.participant_id for message in chat.messages)
            for participant in participants:
                own.append(" ".join(m.text for m in chat.messages if m.participant_id == participant))
                others.append(" ".join(m.text for m in chat.messages if m.participant_id != participant))
        return pd.DataFrame({"own": own, "others": others})
