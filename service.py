"""The service: a chat comes in, each participant's probability of being a bot goes out.

`/predict` scores a chat that comes alone at once; chats that come together are joined and go through the batched
`/predict_joined`, which the edge chooses (see `serving/edge.py`).
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import bentoml
from bentoml._internal.utils.analytics.usage_stats import do_not_track
from bentoml.exceptions import BentoMLException
from bentoml.validators import ContentType
from starlette.middleware.cors import CORSMiddleware

from models.chat import (
    EXAMPLE_CHAT,
    Answer,
    Chat,
    ChatList,
    ChatOrMessage,
    Chats,
    ChatToExplain,
    Explanation,
    Prediction,
    Predictions,
)
from models.classifier import SHIPPED, Classifier, ModelError
from models.explain import explain
from serving.access import Access
from serving.connections import bound_connections
from serving.dialogs import Dialogs
from serving.edge import ANSWER_SECONDS, Edge
from serving.environment import read_list, read_number
from serving.gate import Gate
from serving.history import prepare_sqlite, resolve_history_folder
from serving.shutdown import Shutdown
from serving.swagger import swagger

MAX_BATCH_SIZE = 64  # chats scored at once; a larger batch gains nothing and holds up the others
MAX_LATENCY_MS = 10_000  # BentoML answers 503 to what it expects to take longer, so this is no target but a last resort
LARGE = 50_000  # characters; to score so many of unknown words takes 0.1 s, in which a process answers nobody else
MESSAGE_SIZE = 20  # characters that a message counts for by itself

WORKERS = read_number("WORKERS", min(2, os.cpu_count() or 1))  # processes that serve, each with the model
MAX_CONCURRENCY = read_number("MAX_CONCURRENCY", 512)  # requests answered at a time, by all workers; the rest gets 429
# BentoML starts them with this environment. The model's matrices are small: threads for them only take cores away.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("MALLOC_ARENA_MAX", "1")  # a heap for each thread holds 10 MB more, and is no faster here
os.environ.pop("BENTOML_CONTAINERIZED", None)  # with it BentoML does not replace a worker that has died
os.environ["BENTOML_DO_NOT_TRACK"] = "True"
do_not_track.cache_clear()  # BentoML's command has asked before the service is loaded
bound_connections()

# The content type is named so that BentoML does not work it out from the schema for each answer.
JoinedPredictions = Annotated[list[Prediction], ContentType("application/json")]

ACCESS = Access.from_environment()
DIALOGS = Dialogs.from_environment()  # connects when it is first asked
SHUTDOWN = Shutdown()

logger = logging.getLogger("bentoml.service")


def load_classifier() -> Classifier:
    """Load the model and score once with it; raises BentoMLException, which says in one line what is wrong with it."""
    try:
        classifier = Classifier.load(Path(os.environ.get("MODEL_FOLDER") or SHIPPED))
    except ModelError as error:
        raise BentoMLException(f"the model cannot be served: {error}") from None
    classifier.predict([Chat.model_validate(EXAMPLE_CHAT)])
    return classifier


def size(chat: Chat) -> int:
    """Return the characters that a chat counts for."""
    return sum([len(message.text) + MESSAGE_SIZE for message in chat.messages])


def slices(chats: list[Chat]) -> Iterator[list[Chat]]:
    """Cut a list into parts that are scored in one go: of at most `MAX_BATCH_SIZE` chats, and `LARGE` or one chat."""
    part: list[Chat] = []
    filled = 0
    for chat in chats:
        if part and (len(part) == MAX_BATCH_SIZE or filled + size(chat) > LARGE):
            yield part
            part, filled = [], 0
        part.append(chat)
        filled += size(chat)
    yield part


@bentoml.service(
    name="turing_test_service",
    # distro="none": the image gets no compiler and no git, which BentoML would install for packages without wheels
    image=bentoml.images.Image(base_image=os.environ.get("BASE_IMAGE") or "python:3.11-slim", distro="none").run(
        "install -d -o bentoml -g 0 -m 2775 /history"  # for a volume with the dialogs; group 0 for any user id
    ),
    workers=WORKERS,
    http={"port": 8000},
    # longer than the edge's, which answers first; BentoML keeps a timer of each request so long, answered or not
    traffic={"timeout": ANSWER_SECONDS + 1},
    tracing={"excluded_urls": ".*"},
    logging={"access": {"enabled": False}},
)
class TuringTestService:
    """Tells people and bots apart by their chat."""

    def __init__(self) -> None:
        self.classifier = load_classifier()
        self.aside = ThreadPoolExecutor(1)  # for what takes long, so that others are answered meanwhile
        self.classifier_aside = Classifier(self.classifier.weights, self.classifier.version)  # its cache is its own

    @bentoml.on_deployment
    @staticmethod
    def check() -> None:
        """Stop before any worker starts if the model or the dialogs cannot be served; say who may ask."""
        load_classifier()
        folder = resolve_history_folder(os.environ.get("HISTORY_FOLDER") or "history")
        os.environ["HISTORY_FOLDER"] = str(folder)  # for the workers, which start in another folder
        prepare_sqlite(os.environ.get("HISTORY_URL") or f"sqlite:///{folder / 'dialogs.sqlite'}")
        logger.info("Access: %s", ACCESS)

    @bentoml.on_startup
    async def watch(self) -> None:
        """Watch for the end of the process."""
        SHUTDOWN.watch()

    async def __is_ready__(self) -> bool:
        return not SHUTDOWN.begun and await DIALOGS.is_ready()

    async def score(self, chats: list[Chat]) -> list[Prediction]:
        """Score chats: small ones at once, large ones aside."""
        if sum(map(size, chats)) <= LARGE:
            return self.classifier.predict(chats)
        return await asyncio.get_running_loop().run_in_executor(self.aside, self.classifier_aside.predict, chats)

    @bentoml.api
    async def predict(self, request: ChatOrMessage, /) -> Answer:
        """Score one chat, or one message together with all that its dialog holds so far (the edge puts it in)."""
        return Answer.model_construct(root=(await self.score([request.chat()]))[0])

    @bentoml.api(batchable=True, max_batch_size=MAX_BATCH_SIZE, max_latency_ms=MAX_LATENCY_MS, input_spec=ChatList)
    async def predict_joined(self, chats: list[Chat]) -> JoinedPredictions:
        """Score a list of chats together with those that arrive at the same time; `/predict` goes here by itself."""
        predictions: list[Prediction] = []
        for group in slices(chats):  # never aside: the next batch waits for this one
            predictions += self.classifier.predict(group)
            await asyncio.sleep(0)  # let other requests in
        return predictions

    @bentoml.api
    async def predict_batch(self, request: Chats, /) -> Predictions:
        """Score many chats in one request, in order."""
        predictions: list[Prediction] = []
        for group in slices(request.chats):
            predictions += await self.score(group)
            await asyncio.sleep(0)
        return Predictions.model_construct(predictions=predictions)

    @bentoml.api
    async def explain(self, chat: ChatToExplain, /) -> Explanation:
        """Score one chat, and say what moved each participant's score."""
        return await asyncio.get_running_loop().run_in_executor(self.aside, explain, self.classifier_aside, chat)


# In the order in which a request passes them.
if origins := read_list("CORS_ORIGINS"):
    TuringTestService.add_asgi_middleware(  # type: ignore[attr-defined]  # the decorator's return type is the class
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=["GET", "POST"],
        allow_headers=["Authorization", "Content-Type"],
        expose_headers=["Retry-After"],
    )
TuringTestService.add_asgi_middleware(Gate, access=ACCESS)  # type: ignore[attr-defined]
TuringTestService.add_asgi_middleware(  # type: ignore[attr-defined]
    Edge,
    bodies={"/predict": ChatOrMessage, "/predict_joined": ChatList, "/predict_batch": Chats, "/explain": ChatToExplain},
    joined={"/predict": "/predict_joined"},
    largest=MAX_BATCH_SIZE,
    largest_body=read_number("MAX_BODY_BYTES", 2**20),
    most=max(1, MAX_CONCURRENCY // WORKERS),
    dialogs=DIALOGS,
)
TuringTestService.mount_asgi_app(swagger(TuringTestService, needs_key=bool(ACCESS.digests)))  # type: ignore[attr-defined]
