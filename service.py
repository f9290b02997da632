"""The service: a chat comes in, each participant's probability of being a bot goes out.

`/predict` scores a chat that comes alone at once; chats that come together are joined and go through the batched
`/predict_joined`, which the edge chooses (see `serving/edge.py`).
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated

import bentoml
from bentoml.validators import ContentType

from models.chat import EXAMPLE_CHAT, Answer, Chat, ChatList, ChatOrMessage, Chats, Explanation, Prediction, Predictions
from models.classifier import SHIPPED, Classifier
from models.explain import explain
from serving.dialogs import Dialogs
from serving.edge import Edge

MAX_BATCH_SIZE = 64  # chats scored at once; a larger batch gains nothing and holds up the others
MAX_LATENCY_MS = 10_000  # BentoML answers 503 to what it expects to take longer, so this is no target but a last resort

WORKERS = int(os.environ.get("WORKERS") or min(2, os.cpu_count() or 1))  # processes that serve, each with the model
# BentoML starts them with this environment. The model's matrices are small: threads for them only take cores away.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# The content type is named so that BentoML does not work it out from the schema for each answer.
JoinedPredictions = Annotated[list[Prediction], ContentType("application/json")]

DIALOGS = Dialogs.from_environment()  # connects when it is first asked


@bentoml.service(
    name="turing_test_service",
    # distro="none": the image gets no compiler and no git, which BentoML would install for packages without wheels
    image=bentoml.images.Image(base_image="python:3.11-slim", distro="none").run(
        "install -d -o bentoml -g bentoml /history"  # where a volume for the dialogs goes
    ),
    workers=WORKERS,
    http={"port": 8000},
    traffic={"timeout": 15},  # BentoML keeps a timer of each request so long: at 3,500 a second, 60 s took 130 MB
    tracing={"excluded_urls": ".*"},
    logging={"access": {"enabled": False}},
)
class TuringTestService:
    """Tells people and bots apart by their chat."""

    def __init__(self) -> None:
        self.classifier = Classifier.load(Path(os.environ.get("MODEL_FOLDER") or SHIPPED))
        self.classifier.predict([Chat.model_validate(EXAMPLE_CHAT)])
        self.ready = True

    async def __is_ready__(self) -> bool:
        return self.ready and await DIALOGS.is_ready()

    @bentoml.api
    async def predict(self, request: ChatOrMessage, /) -> Answer:
        """Score one chat, or one message together with all that its dialog holds so far (the edge puts it in)."""
        return Answer.model_construct(root=self.classifier.predict([request.chat()])[0])

    @bentoml.api(batchable=True, max_batch_size=MAX_BATCH_SIZE, max_latency_ms=MAX_LATENCY_MS, input_spec=ChatList)
    async def predict_joined(self, chats: list[Chat]) -> JoinedPredictions:
        """Score a list of chats together with those that arrive at the same time; `/predict` goes here by itself."""
        return self.classifier.predict(chats)

    @bentoml.api
    async def predict_batch(self, request: Chats, /) -> Predictions:
        """Score many chats in one request, in order."""
        predictions: list[Prediction] = []
        for start in range(0, len(request.chats), MAX_BATCH_SIZE):
            predictions += self.classifier.predict(request.chats[start : start + MAX_BATCH_SIZE])
            await asyncio.sleep(0)  # let other requests in
        return Predictions.model_construct(predictions=predictions)

    @bentoml.api
    async def explain(self, chat: Chat, /) -> Explanation:
        """Score one chat, and say what moved each participant's score."""
        return explain(self.classifier, chat)


TuringTestService.add_asgi_middleware(  # type: ignore[attr-defined]  # the decorator's return type is the class
    Edge,
    bodies={"/predict": ChatOrMessage, "/predict_joined": ChatList, "/predict_batch": Chats, "/explain": Chat},
    joined={"/predict": "/predict_joined"},
    largest=MAX_BATCH_SIZE,
    largest_body=int(os.environ.get("MAX_BODY_BYTES") or 2**20),
    dialogs=DIALOGS,
)
