"""The service: a chat comes in, each participant's probability of being a bot comes out.

Every prediction is made by one of the three API methods at the end, both over HTTP and in Python.
"""

from __future__ import annotations

import asyncio
import gc

import bentoml

from models.chat import Chat, ChatToExplain, Explanation
from models.classifier import Classifier
from serving.base_image import read_base
from serving.dialogs.dialogs import Dialogs
from serving.errors import TIMEOUT_SECONDS
from serving.http.app import PredictionService, check_start
from serving.http.connections import install_protocol
from serving.http.shutdown import Shutdown
from serving.log import configure_log
from serving.process import configure_process
from serving.schemas import Answer, ChatOrMessage, Chats, MessageAnswer, PlatformMessage, Predictions
from serving.scoring.batching import Scorer
from serving.scoring.monitoring import Monitoring
from serving.settings import read_settings

configure_process()
SETTINGS = read_settings()
configure_log(SETTINGS.log_format)
install_protocol(SETTINGS.keep_alive_seconds)
SHUTDOWN = Shutdown()


@bentoml.service(
    name="turing_test_service",
    service_class=PredictionService,
    # distro="none": without it BentoML installs a compiler and git into the image
    image=bentoml.images.Image(**read_base(), distro="none").run(
        # for any user of group 0: where dialogs are stored, and BENTOML_HOME, where a model store can be mounted
        "install -d -o bentoml -g 0 -m 2775 /history /bentoml"
        " && install -d -o bentoml -g 0 -m 2775 /bentoml/bentos /bentoml/envs /bentoml/models /bentoml/tmp"
    ),
    workers=SETTINGS.workers,
    http={"port": 8000},
    traffic={"timeout": TIMEOUT_SECONDS, "max_concurrency": SETTINGS.max_concurrency},
    tracing=SETTINGS.tracing,
    logging={"access": {"enabled": False}},
)
class TuringTestService:
    """Tells people and bots apart by their chat."""

    def __init__(self) -> None:
        self.monitoring = Monitoring.open(SETTINGS.monitoring, SETTINGS.monitoring_max_mb, SETTINGS.workers)
        classifier = Classifier.load(SETTINGS.folder_of_model, SETTINGS.expected_bot_share)
        self.scorer = Scorer(classifier, self.monitoring)
        self.dialogs = Dialogs(SETTINGS.store, SETTINGS.history_days)  # connects when it is first used

    @bentoml.on_deployment
    @staticmethod
    def check() -> None:
        """Fail at the start if the model, the API document, the store of dialogs or the monitoring log is unusable."""
        check_start(TuringTestService)

    @bentoml.on_startup
    async def start(self) -> None:
        """Let `/readyz` answer 503 before the worker stops; keep the garbage collector from what stays."""
        SHUTDOWN.watch()
        self.dialogs.start_upkeep()
        gc.collect()
        gc.freeze()  # each full collection went through the model and all of BentoML: 90 ms without an answer

    @bentoml.on_shutdown
    async def close(self) -> None:
        """Write the last lines of the monitoring log, and close the connection to the store."""
        if self.monitoring:
            await asyncio.to_thread(self.monitoring.close)
        await self.dialogs.close()

    async def __is_ready__(self) -> bool:
        return not SHUTDOWN.begun and self.scorer.is_ready() and await self.dialogs.is_ready()

    # Over HTTP, `PredictionRoutes` (`serving/http/predictions.py`) calls these with a validated body, which
    # `model_validate` returns as it is. In Python they take dicts as well.

    @bentoml.api
    async def predict(self, request: ChatOrMessage, /) -> Answer:
        """Score one chat, or one message together with its dialog so far."""
        match ChatOrMessage.model_validate(request).root:
            case PlatformMessage() as message:
                dialog = await self.dialogs.store_message(message)
                (prediction,) = await self.scorer.predict([dialog], are_dialogs=True)
                return Answer.model_construct(root=MessageAnswer.to(message, prediction))
            case Chat() as chat:
                (prediction,) = await self.scorer.predict([chat])
                return Answer.model_construct(root=prediction)

    @bentoml.api
    async def predict_batch(self, request: Chats, /) -> Predictions:
        """Score many chats in one request, in order."""
        chats = Chats.model_validate(request).chats
        return Predictions.model_construct(predictions=await self.scorer.predict(chats))

    @bentoml.api
    async def explain(self, chat: ChatToExplain, /) -> Explanation:
        """Score one chat, and say what moved each participant's score."""
        return await self.scorer.explain(ChatToExplain.model_validate(chat))
